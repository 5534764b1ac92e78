//! A connection: its state machine, its addresses, and where it stands with its socket or listener.

use super::socket::{NONE, Wishes};
use crate::flow::arena::{Arena, Record};
use crate::flow::key::ShortKey;
use crate::flow::wheel::Links;
use crate::net::route::Hop;
use crate::tcp::one::One;
use crate::tcp::tcb::{Rest, Tcb};
use std::net::{Ipv4Addr, SocketAddrV4};

/// One connection. The state machine lies apart, so that what has ended gives its memory back.
#[derive(Debug)]
pub struct Conn {
    /// The state machine, unless it is at rest.
    pub tcb: One<Tcb>,
    /// What is left of it in TIME_WAIT.
    pub rest: One<Rest>,
    /// Both ends, in canonical order.
    pub key: ShortKey,
    /// Bytes of memory that it is counted with.
    pub charged: u32,
    /// When the wheel comes to it, in ms; `u64::MAX`: it is not in the wheel.
    pub armed: u64,
    /// Where its packets go.
    pub hop: Hop,
    /// Generation of this slot (odd while live).
    pub generation: u32,
    /// Neighbours in the timer wheel; the free list when the slot is free.
    pub links: (u32, u32),
    /// The application's socket, or none.
    pub sock: u32,
    /// The listening socket it came from, until it is accepted.
    pub listener: u32,
    /// IP identification of the next packet.
    pub ip_id: u16,
    /// The flags below.
    pub flags: u8,
    /// `IP_TTL`, `IP_TOS`, as in [`Wishes`].
    pub ttl: u8,
    pub tos: u8,
}

impl Conn {
    /// Our end is the key's second.
    pub const REVERSED: u8 = 1;
    /// In the list of those that may have something to send.
    pub const DIRTY: u8 = 1 << 1;
    /// Its listener waits for the end of the handshake.
    pub const HALF_OPEN: u8 = 1 << 2;
    /// In its listener's queue.
    pub const QUEUED: u8 = 1 << 3;
    /// The table does not know it any more: it is over.
    pub const UNLISTED: u8 = 1 << 4;
    /// In the list of those at rest.
    pub const RESTING: u8 = 1 << 5;
    /// Its last write found no memory.
    pub const STARVED: u8 = 1 << 6;

    /// A connection between two ends; `key` and `reversed` say which.
    pub fn new(tcb: One<Tcb>, key: ShortKey, reversed: bool, hop: Hop) -> Self {
        let flags = if reversed { Conn::REVERSED } else { 0 };
        Conn { tcb, key, hop, flags, ..Conn::default() }
    }

    /// Its packets look as its socket wishes.
    pub fn look(&mut self, wishes: &Wishes) {
        (self.ttl, self.tos) = (wishes.ttl, wishes.tos);
    }

    /// Whether a flag is set.
    #[inline]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Our end and the peer's.
    pub fn ends(&self) -> (SocketAddrV4, SocketAddrV4) {
        let ((low, high), (low_port, high_port)) = (self.key.addresses(), self.key.ports());
        let low = SocketAddrV4::new(Ipv4Addr::from_bits(low), low_port);
        let high = SocketAddrV4::new(Ipv4Addr::from_bits(high), high_port);
        if self.has(Conn::REVERSED) { (high, low) } else { (low, high) }
    }

    /// When it wants to be looked at, in ms.
    #[inline]
    pub fn due_ms(&self) -> u64 {
        let due = match self.rest.get() {
            Some(rest) => Some(rest.deadline()),
            None => self.tcb.get().and_then(Tcb::deadline),
        };
        due.map_or(u64::MAX, |us| us.div_ceil(1000))
    }
}

impl Default for Conn {
    fn default() -> Self {
        Conn {
            tcb: One::none(),
            rest: One::none(),
            key: ShortKey::default(),
            charged: 0,
            armed: u64::MAX,
            hop: Hop { port: 0, addr: Ipv4Addr::UNSPECIFIED },
            generation: 0,
            links: (0, 0),
            sock: NONE,
            listener: NONE,
            ip_id: 0,
            flags: 0,
            ttl: 0,
            tos: 0,
        }
    }
}

impl Record for Conn {
    fn generation(&self) -> u32 {
        self.generation
    }
    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }
    fn next_free(&self) -> u32 {
        self.links.0
    }
    fn set_next_free(&mut self, index: u32) {
        self.links.0 = index;
    }
}

/// What the wheel asks of connections.
#[derive(Debug)]
pub struct Deadlines<'a>(pub &'a mut Arena<Conn>);

impl Links for Deadlines<'_> {
    fn links(&self, index: u32) -> (u32, u32) {
        self.0.at(index).map_or((0, 0), |c| c.links)
    }
    fn set_links(&mut self, index: u32, links: (u32, u32)) {
        if let Some(conn) = self.0.at_mut(index) {
            conn.links = links;
        }
    }
    fn due(&self, index: u32) -> u64 {
        // The wheel keeps to what it was told: what has become later meanwhile is seen when it comes up.
        self.0.at(index).map_or(u64::MAX, |c| c.armed)
    }
}
