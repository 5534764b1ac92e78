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

    fn count_all<'a>(&mut self, packets: impl IntoIterator<Item = &'a Outgoing>) {
        packets.into_iter().for_each(|p| self.count(p));
    }
}

/// Packets for one next hop.
#[derive(Debug)]
struct Queue {
    hop: Hop,
    packets: VecDeque<Outgoing>,
}

/// Next hops waited for at most.
pub const MOST_HOPS: usize = 256;
/// Packets for one of them at most.
pub const MOST_PACKETS: usize = 16;
/// Bytes of all of them at most.
pub const MOST_BYTES: usize = 4 << 20;

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

    /// Lets a packet wait. Where there is no room, an older one for the same next hop gives way, or this one is lost.
    pub fn push(&mut self, hop: Hop, packet: Outgoing, lost: &mut Lost) {
        let room = self.bytes + packet.frame.len() <= MOST_BYTES;
        let at = match self.queues.iter().position(|q| q.hop == hop) {
            Some(at) => at,
            None if room && self.queues.len() < MOST_HOPS && self.queues.try_reserve(1).is_ok() => {
                self.queues.push(Queue { hop, packets: VecDeque::new() });
                self.queues.len() - 1
            }
            None => return lost.count(&packet),
        };
        let queue = &mut self.queues[at].packets;
        if (!room || queue.len() >= MOST_PACKETS)
            && let Some(oldest) = queue.pop_front()
        {
            self.bytes -= oldest.frame.len();
            self.forwarded -= u64::from(oldest.forwarded);
            lost.count(&oldest);
        }
        if self.bytes + packet.frame.len() > MOST_BYTES || queue.try_reserve(1).is_err() {
            lost.count(&packet);
        } else {
            self.bytes += packet.frame.len();
            self.forwarded += u64::from(packet.forwarded);
            queue.push_back(packet);
        }
        if self.queues[at].packets.is_empty() {
            self.queues.swap_remove(at);
        }
    }

    /// The packets that waited for `hop`, in the order they came.
    pub fn take(&mut self, hop: Hop) -> VecDeque<Outgoing> {
        let Some(at) = self.queues.iter().position(|q| q.hop == hop) else { return VecDeque::new() };
        let packets = self.queues.swap_remove(at).packets;
        self.bytes -= packets.iter().map(|p| p.frame.len()).sum::<usize>();
        self.forwarded -= packets.iter().filter(|p| p.forwarded).count() as u64;
        packets
    }

    /// Gives up what waits for `hop`.
    pub fn give_up(&mut self, hop: Hop, lost: &mut Lost) {
        lost.count_all(&self.take(hop));
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
            waiting.push(hop(1), packet(n, 100, n % 2 == 0), &mut lost);
        }
        assert_eq!(lost, Lost { forwarded: 2, own: 2 });
        assert_eq!(waiting.forwarded(), 8);
        let taken: Vec<u8> = waiting.take(hop(1)).iter().map(|p| p.frame[0]).collect();
        assert_eq!(taken, (4..20).collect::<Vec<u8>>());
        assert!(waiting.is_empty() && waiting.forwarded() == 0);
        assert!(waiting.take(hop(1)).is_empty());
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
        assert_eq!(waiting.take(hop(0)).pop_front().map(|p| p.frame[0]), Some(1), "the older one gives way");
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
