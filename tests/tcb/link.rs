//! Two connections over a link that loses, delays, reorders and duplicates segments, in virtual time.

use crate::random::Random;
use mos::tcp::tcb::{Outcome, Segment, Tcb, Transmit};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A segment under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wire {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Wire {
    pub fn from(t: &Transmit<'_>) -> Self {
        let mut payload = vec![0; t.payload.len()];
        assert_eq!(t.payload.copy_to(&mut payload), payload.len());
        assert_eq!(t.payload.slices().collect::<Vec<_>>().concat(), payload);
        assert_eq!(t.options.len() % 4, 0);
        let options = t.options.to_vec();
        Wire { seq: t.seq, ack: t.ack, flags: t.flags, window: t.window, options, payload }
    }

    pub fn segment(&self) -> Segment<'_> {
        Segment {
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: self.window,
            options: &self.options,
            payload: &self.payload,
        }
    }
}

/// How bad the link is.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub loss: u64,
    pub duplication: u64,
    pub reordering: u64,
    /// One way, µs.
    pub delay: u64,
    /// µs a byte takes, in hundredths.
    pub per_byte: u64,
    /// Bytes that may wait; beyond, segments are lost.
    pub queue: u64,
}

/// Both ends and what is between.
pub struct World {
    pub now: u64,
    pub ends: [Tcb; 2],
    pub link: Link,
    pub random: Random,
    under_way: BinaryHeap<Reverse<(u64, u64, usize, Wire)>>,
    busy: [u64; 2],
    serial: u64,
    pub carried: u64,
    pub lost: u64,
}

impl World {
    pub fn new(now: u64, ends: [Tcb; 2], link: Link, random: Random) -> Self {
        let under_way = BinaryHeap::new();
        World { now, ends, link, random, under_way, busy: [0; 2], serial: 0, carried: 0, lost: 0 }
    }

    /// Puts a segment for end `to` on the link.
    pub fn put(&mut self, to: usize, wire: Wire) {
        let link = self.link;
        self.carried += 1;
        let size = 40 + wire.options.len() as u64 + wire.payload.len() as u64;
        let start = self.busy[to].max(self.now);
        if self.random.chance(link.loss) || (start - self.now) * 100 > link.queue * link.per_byte.max(1) {
            self.lost += 1;
            return;
        }
        self.busy[to] = start + size * link.per_byte / 100;
        let mut at = self.busy[to] + link.delay;
        if self.random.chance(link.reordering) {
            at += self.random.below(link.delay * 2 + 1000);
        }
        self.serial += 1;
        if self.random.chance(link.duplication) {
            let again = at + self.random.below(link.delay + 1);
            self.under_way.push(Reverse((again, self.serial, to, wire.clone())));
            self.serial += 1;
        }
        self.under_way.push(Reverse((at, self.serial, to, wire)));
    }

    /// Lets both ends send what they have.
    pub fn transmit(&mut self) {
        for from in 0..2 {
            let mut out = Vec::new();
            loop {
                let sent = self.ends[from].poll_transmit(self.now, 64, |t| {
                    out.push(Wire::from(t));
                    true
                });
                if sent < 64 {
                    break;
                }
            }
            out.into_iter().for_each(|wire| self.put(1 - from, wire));
        }
    }

    /// Goes on to the next arrival or deadline; `false`: there is none.
    pub fn step(&mut self) -> bool {
        let arrival = self.under_way.peek().map(|Reverse(next)| next.0);
        let deadline = self.ends.iter().filter_map(Tcb::deadline).min();
        let Some(next) = arrival.into_iter().chain(deadline).min() else { return false };
        self.now = self.now.max(next);
        while self.under_way.peek().is_some_and(|Reverse(next)| next.0 <= self.now) {
            let Some(Reverse((_, _, to, wire))) = self.under_way.pop() else { break };
            assert_eq!(self.ends[to].on_segment(self.now, &wire.segment()), Outcome::Done);
        }
        for end in &mut self.ends {
            end.on_deadline(self.now);
        }
        true
    }
}

impl World {
    /// Whether a segment arrives before `at`.
    pub fn arrives_before(&self, at: u64) -> bool {
        self.under_way.peek().is_some_and(|Reverse(next)| next.0 < at)
    }
}
