//! Packets of one core that wait for the hardware address of their next hop: few, and not for long (RFC 1122 2.3.2.2).

use super::route::Hop;
use std::collections::VecDeque;

/// A frame to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Port to leave by.
    pub port: u8,
    /// From the Ethernet header on.
    pub frame: Vec<u8>,
    /// A packet that was received and is sent on; else one of our own.
    pub forwarded: bool,
}

/// Packets that were not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Of those received.
    pub forwarded: u64,
    /// Of our own.
    pub own: u64,
}

impl Lost {
    fn count(&mut self, packet: &Outgoing) {
        if packet.forwarded {
            self.forwarded += 1;
        } else {
            self.own += 1;
        }
    }
}

/// Packets for one next hop.
#[derive(Debug)]
struct Queue {
    hop: Hop,
    /// Our own, and those received: each in the order they came.
    own: VecDeque<Outgoing>,
    forwarded: VecDeque<Outgoing>,
}

impl Queue {
    fn of(&mut self, packet: &Outgoing) -> &mut VecDeque<Outgoing> {
        if packet.forwarded { &mut self.forwarded } else { &mut self.own }
    }
}

/// Next hops waited for at most.
pub const MOST_HOPS: usize = 256;
/// Received packets for one of them at most.
pub const MOST_FORWARDED: usize = 16;
/// Packets of our own for one of them at most. They are far more, because a SYN lost here is missed for a second only
/// afterwards, and a client that starts opens all its connections by one next hop; no more than a transmit ring takes at once.
pub const MOST_OWN: usize = 1024;
/// Bytes of all of them at most, with what it takes to keep them.
pub const MOST_BYTES: usize = 4 << 20;

/// What a packet counts for.
fn cost(packet: &Outgoing) -> usize {
    packet.frame.len() + size_of::<Outgoing>()
}

/// All packets that wait.
#[derive(Debug, Default)]
pub struct Waiting {
    queues: Vec<Queue>,
    bytes: usize,
    forwarded: u64,
}

impl Waiting {
    /// Nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Received packets that wait.
    pub fn forwarded(&self) -> u64 {
        self.forwarded
    }

    /// The next hops waited for.
    pub fn hops(&self) -> Vec<Hop> {
        self.queues.iter().map(|q| q.hop).collect()
    }

    /// Lets a packet wait. Where there is no room, an older one of its kind for the same next hop gives way, or this one is lost.
    pub fn push(&mut self, hop: Hop, packet: Outgoing, lost: &mut Lost) {
        let cost = cost(&packet);
        let room = self.bytes + cost <= MOST_BYTES;
        let at = match self.queues.iter().position(|q| q.hop == hop) {
            Some(at) => at,
            None if room && self.queues.len() < MOST_HOPS && self.queues.try_reserve(1).is_ok() => {
                self.queues.push(Queue { hop, own: VecDeque::new(), forwarded: VecDeque::new() });
                self.queues.len() - 1
            }
            None => return lost.count(&packet),
        };
        let most = if packet.forwarded { MOST_FORWARDED } else { MOST_OWN };
        let queue = self.queues[at].of(&packet);
        if (!room || queue.len() >= most)
            && let Some(oldest) = queue.pop_front()
        {
            self.bytes -= self::cost(&oldest);
            self.forwarded -= u64::from(oldest.forwarded);
            lost.count(&oldest);
        }
        if self.bytes + cost > MOST_BYTES || queue.try_reserve(1).is_err() {
            lost.count(&packet);
        } else {
            self.bytes += cost;
            self.forwarded += u64::from(packet.forwarded);
            queue.push_back(packet);
        }
        if self.queues[at].own.is_empty() && self.queues[at].forwarded.is_empty() {
            self.queues.swap_remove(at);
        }
    }

    /// The packets that waited for `hop`: our own and those received, each in the order they came.
    pub fn take(&mut self, hop: Hop) -> impl Iterator<Item = Outgoing> + use<> {
        let (mut own, mut forwarded) = (VecDeque::new(), VecDeque::new());
        if let Some(at) = self.queues.iter().position(|q| q.hop == hop) {
            Queue { own, forwarded, .. } = self.queues.swap_remove(at);
        }
        self.bytes -= own.iter().chain(&forwarded).map(cost).sum::<usize>();
        self.forwarded -= forwarded.len() as u64;
        own.into_iter().chain(forwarded)
    }

    /// Gives up what waits for `hop`.
    pub fn give_up(&mut self, hop: Hop, lost: &mut Lost) {
        self.take(hop).for_each(|packet| lost.count(&packet));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hop(n: u32) -> Hop {
        Hop { port: 0, addr: n.into() }
    }

    fn packet(n: u8, len: usize, forwarded: bool) -> Outgoing {
        Outgoing { port: 0, frame: vec![n; len], forwarded }
    }

    #[test]
    fn the_newest_packets_of_a_next_hop_stay_in_order() {
        let (mut waiting, mut lost) = (Waiting::default(), Lost::default());
        for n in 0..20 {
            waiting.push(hop(1), packet(n, 100, true), &mut lost);
        }
        assert_eq!(lost, Lost { forwarded: 4, own: 0 });
        assert_eq!(waiting.forwarded(), 16);
        let taken: Vec<u8> = waiting.take(hop(1)).map(|p| p.frame[0]).collect();
        assert_eq!(taken, (4..20).collect::<Vec<u8>>());
        assert!(waiting.is_empty() && waiting.forwarded() == 0);
        assert_eq!(waiting.take(hop(1)).count(), 0);
    }

    #[test]
    fn our_own_wait_in_greater_numbers_and_neither_kind_displaces_the_other() {
        let (mut waiting, mut lost) = (Waiting::default(), Lost::default());
        for n in 0..1100u32 {
            waiting.push(hop(1), packet((n % 251) as u8, 74, false), &mut lost);
            waiting.push(hop(1), packet(0, 74, true), &mut lost);
        }
        assert_eq!(lost, Lost { forwarded: 1100 - 16, own: 1100 - 1024 });
        let own: Vec<u8> = waiting.take(hop(1)).filter(|p| !p.forwarded).map(|p| p.frame[0]).collect();
        assert_eq!(own, (76..1100u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
        assert!(waiting.is_empty() && waiting.bytes == 0 && waiting.forwarded() == 0);
    }

    #[test]
    fn next_hops_and_bytes_are_bounded() {
        let (mut waiting, mut lost) = (Waiting::default(), Lost::default());
        for n in 0..1000 {
            waiting.push(hop(n), packet(0, 60, true), &mut lost);
        }
        assert_eq!((waiting.hops().len(), lost.forwarded), (MOST_HOPS, 1000 - MOST_HOPS as u64));
        let (mut waiting, mut lost) = (Waiting::default(), Lost::default());
        for n in 0..200 {
            waiting.push(hop(n), packet(0, 65_000, false), &mut lost);
        }
        assert!(waiting.bytes <= MOST_BYTES);
        assert_eq!(waiting.hops().len() as u64 + lost.own, 200);
        waiting.push(hop(0), packet(1, 65_000, false), &mut lost);
        assert_eq!(waiting.take(hop(0)).next().map(|p| p.frame[0]), Some(1), "the older one gives way");
    }

    proptest! {
        #[test]
        fn every_packet_is_somewhere(
            steps in prop::collection::vec((0u32..6, 0usize..3_000_000, any::<bool>(), 0u8..4), 0..80)
        ) {
            let (mut waiting, mut lost) = (Waiting::default(), Lost::default());
            let (mut put, mut got) = ([0u64; 2], [0u64; 2]);
            for (n, len, forwarded, what) in steps {
                match what {
                    0 => for p in waiting.take(hop(n)) { got[usize::from(p.forwarded)] += 1 },
                    1 => waiting.give_up(hop(n), &mut lost),
                    _ => {
                        put[usize::from(forwarded)] += 1;
                        waiting.push(hop(n), packet(0, len, forwarded), &mut lost);
                    }
                }
                prop_assert!(waiting.bytes <= MOST_BYTES);
                prop_assert_eq!(put[1], got[1] + lost.forwarded + waiting.forwarded());
            }
            for n in 0..6 {
                waiting.give_up(hop(n), &mut lost);
            }
            prop_assert_eq!(put, [got[0] + lost.own, got[1] + lost.forwarded]);
            prop_assert!(waiting.is_empty() && waiting.bytes == 0);
        }
    }
}
