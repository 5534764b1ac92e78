//! Answers that no connection makes: resets for what reached no socket (D20), and SYN/ACKs that keep nothing (SYN cookies).
//! Both answer what anybody can send, so they are bounded and, the resets, rate-limited.

use crate::net::limit::Limit;
use crate::tcp::tcb::segment::OptionBytes;
use std::net::SocketAddrV4;

/// Resets a second at most.
const RESETS: u32 = 1000;
/// Answers that wait for the end of the round at most.
const MOST: usize = 4096;

/// A segment without payload.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Our end.
    pub local: SocketAddrV4,
    /// The peer's.
    pub peer: SocketAddrV4,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Control bits.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// `IP_TTL` (0: the usual), `IP_TOS`.
    pub ttl: u8,
    pub tos: u8,
    /// Options.
    pub options: OptionBytes,
}

/// Answers to be sent when the round ends.
#[derive(Debug)]
pub struct Replies {
    waiting: Vec<Reply>,
    resets: Limit,
}

impl Default for Replies {
    fn default() -> Self {
        Replies { waiting: Vec::new(), resets: Limit::new(RESETS) }
    }
}

impl Replies {
    /// Adds an answer, if there is room.
    pub fn add(&mut self, reply: Reply) {
        if self.waiting.len() < MOST && self.waiting.try_reserve(1).is_ok() {
            self.waiting.push(reply);
        }
    }

    /// Whether one more reset may be sent now.
    pub fn may_reset(&mut self, now_ms: u64) -> bool {
        self.resets.allows(now_ms)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes them all; [`give_back`](Self::give_back) returns the memory.
    pub fn take(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.waiting)
    }

    /// Returns what [`take`](Self::take) gave.
    pub fn give_back(&mut self, mut list: Vec<Reply>) {
        list.clear();
        if self.waiting.is_empty() {
            self.waiting = list;
        }
    }
}
