//! `memory_limit` for connections (X5): what they may hold, and who gives way when it is scarce.
//!
//! Three quarters are for whoever comes first. The last one belongs to all connections in equal parts, half of a part for each
//! direction, and no connection is taken whose part would be less than two segments. So those that let bytes lie keep no other
//! from going on, and the limit holds. Those at rest in TIME_WAIT hold no bytes and have no part; what they take themselves
//! they give up when a new connection needs it.

use super::conn::Conn;
use super::events::OUT;
use super::socket::NONE;
use super::stack::Stack;
use crate::flow::arena::Id;
use crate::monitor::{Errno, Result};
use crate::tcp::tcb::{Rest, Segment, Tcb};

/// What a connection costs without bytes: record, state machine, table entry.
pub const EACH: u64 = (size_of::<Conn>() + size_of::<Tcb>() + 16) as u64;
/// What one costs that rests in TIME_WAIT.
const AT_REST: u64 = EACH - size_of::<Tcb>() as u64 + size_of::<Rest>() as u64;
/// The least part of the last quarter: a segment of usual size each way, with what lies around it.
pub const LEAST_PART: u64 = 4096;

/// The memory of all connections of a core.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    limit: u64,
    used: u64,
    /// Bytes that monitored streams hold, under the same limit.
    pub others: u64,
    /// The first three quarters were gone, and nobody was told yet that they are back.
    scarce: bool,
    /// Writes, payloads and connections that there was no room for.
    pub refused: u64,
}

impl Memory {
    /// With a limit in bytes; `None`: none.
    pub fn new(limit: Option<u64>) -> Self {
        Memory { limit: limit.unwrap_or(u64::MAX), used: 0, others: 0, scarce: false, refused: 0 }
    }

    /// Whether there is a limit.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.limit != u64::MAX
    }

    /// Bytes in use by connections.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that monitored streams are to leave: those in use by `count` connections, and their last quarter.
    pub fn claim(&self, count: usize) -> u64 {
        if count == 0 || !self.is_limited() { self.used } else { self.used + self.limit / 4 }
    }

    fn total(&self) -> u64 {
        self.used + self.others
    }

    fn first(&self) -> u64 {
        self.limit - self.limit / 4
    }

    /// Payload that one of `count` connections may add to a direction that holds `held` bytes of memory.
    pub fn room(&self, held: usize, count: usize) -> usize {
        if !self.is_limited() {
            return usize::MAX;
        }
        let part = self.limit / 4 / count.max(1) as u64 / 2;
        let room = self.first().saturating_sub(self.total()).max(part.saturating_sub(held as u64));
        let room = room.min(self.limit.saturating_sub(self.total()));
        // Stores take up to a quarter more than what they hold, and a list.
        (room - room / 4).saturating_sub(64) as usize
    }

    /// Whether there may be another connection beside `count`, once `freed` bytes are given up for it.
    pub fn admits(&self, count: usize, freed: u64) -> bool {
        !self.is_limited()
            || ((self.total() + EACH).saturating_sub(freed) <= self.first()
                && self.limit / 4 / (count as u64 + 1) >= LEAST_PART)
    }

    /// Half-open connections that may be kept, of at most `most`: a quarter of all there may be.
    pub fn half_open(&self, most: usize) -> usize {
        usize::try_from(self.limit / 16 / LEAST_PART).map_or(most, |n| n.min(most))
    }

    fn charge(&mut self, before: u32, after: u32) {
        self.used = (self.used + u64::from(after)).saturating_sub(before.into());
        self.look();
    }

    /// Whether the first three quarters are gone, but for a rest that is no use.
    #[inline]
    fn look(&mut self) {
        self.scarce |= self.is_limited() && self.total() + 1024 >= self.first();
    }
}

/// What a connection takes now.
fn weight(conn: &Conn) -> u32 {
    let bytes = match conn.tcb.get() {
        Some(tcb) => EACH as usize + tcb.allocated_bytes(),
        None => AT_REST as usize,
    };
    bytes.try_into().unwrap_or(u32::MAX)
}

impl Stack {
    /// ENOMEM: there may be no more connections just now, even if those at rest made room.
    pub(super) fn admit(&mut self) -> Result<()> {
        let count = self.active();
        if self.memory.admits(count, self.rested as u64 * AT_REST) {
            while !self.memory.admits(count, 0) && self.evict() {}
        }
        if self.memory.admits(count, 0) {
            return Ok(());
        }
        self.memory.refused += 1;
        Err(Errno(libc::ENOMEM))
    }

    /// A write found no memory. Who waits for some looks again and again: that counts once.
    pub(super) fn refuse_write(&mut self, id: Id) {
        if let Some(conn) = self.conns.get_mut(id)
            && !conn.has(Conn::STARVED)
        {
            conn.flags |= Conn::STARVED;
            self.memory.refused += 1;
        }
    }

    /// A write found some: the next one that finds none counts again.
    pub(super) fn feed_writer(&mut self, id: Id) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.flags &= !Conn::STARVED;
        }
    }

    /// A connection's memory is counted as it is now.
    #[inline]
    pub(super) fn charge(&mut self, id: Id) {
        if let Some(conn) = self.conns.get_mut(id) {
            let now = weight(conn);
            let before = std::mem::replace(&mut conn.charged, now);
            if before != now {
                self.memory.charge(before, now);
            }
        }
    }

    /// It is no more.
    pub(super) fn discharge(&mut self, id: Id) {
        let charged = self.conns.get(id).map_or(0, |c| c.charged);
        self.memory.charge(charged, 0);
    }

    /// A connection hears how much it may receive. While memory was scarce, its peer and its writer hear of what is free again.
    #[inline]
    pub(super) fn give_room(&mut self, id: Id) {
        if self.memory.is_limited() {
            self.give_room_of(id, self.memory.scarce);
        }
    }

    fn give_room_of(&mut self, id: Id, tell: bool) {
        let (count, memory) = (self.active(), self.memory);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let sock = conn.sock;
        let Some(tcb) = conn.tcb.get_mut() else { return };
        let (sends, receives) = tcb.held();
        tcb.set_room(memory.room(receives, count), memory.scarce);
        if !tell {
            return;
        }
        tcb.tell_room();
        let writes = tcb.write_room() > 0 && memory.room(sends, count) > 0;
        if sock != NONE && writes {
            self.tell(sock, OUT);
        }
    }

    /// A segment is about to reach a connection: room is made for it as far as may be, and it is counted if there is none.
    #[inline]
    pub(super) fn expect(&mut self, id: Id, seg: &Segment<'_>) {
        if !self.memory.is_limited() {
            return;
        }
        self.give_room(id);
        if self.tcb_mut(id).is_some_and(|tcb| tcb.make_room(seg)) {
            self.charge(id);
            self.give_room(id);
        }
        if self.tcb(id).is_some_and(|tcb| tcb.room() < seg.payload.len()) {
            self.memory.refused += 1;
        }
    }

    /// Bytes that a write to a connection may add, whatever its own buffer takes.
    pub(super) fn room_to_write(&self, id: Id) -> usize {
        if !self.memory.is_limited() {
            return usize::MAX;
        }
        let held = self.tcb(id).map_or(0, |tcb| tcb.held().0);
        self.memory.room(held, self.active())
    }

    /// What is in use, counted anew. For tests.
    #[doc(hidden)]
    pub fn weigh(&self) -> u64 {
        (0..self.conns.slots()).filter_map(|index| self.conns.at(index)).map(|c| u64::from(weight(c))).sum()
    }

    /// Once memory is no longer scarce, everyone hears of it. A walk over all connections, for a sixteenth of the limit given
    /// back, of which each that does not rest has a share of at least a kilobyte.
    pub(super) fn relieve(&mut self) {
        let m = &mut self.memory;
        m.look();
        if !m.scarce || m.total() >= m.first().saturating_sub(m.limit / 16 + 1024) {
            return;
        }
        m.scarce = false;
        for index in 0..self.conns.slots() {
            if let Some(id) = self.conns.id_of(index)
                && self.tcb(id).is_some()
            {
                self.give_room_of(id, true);
                self.mark(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_nothing_is_scarce() {
        let mut memory = Memory::new(None);
        memory.charge(0, u32::MAX);
        assert!(memory.admits(1 << 30, 0) && !memory.scarce);
        assert_eq!((memory.room(1 << 30, 1), memory.half_open(4096)), (usize::MAX, 4096));
    }

    /// Whoever takes all it can get, in whatever order, the sum stays below the limit, and who holds nothing has room for a segment.
    #[test]
    fn the_last_quarter_is_shared() {
        let mut memory = Memory::new(Some(1 << 20));
        let mut held = Vec::new();
        while memory.admits(held.len(), 0) {
            memory.charge(0, EACH as u32);
            held.push([0u64; 2]);
        }
        assert_eq!(held.len(), 64);
        for turn in 0..1000 {
            let n = turn * 7 % 63;
            for side in [0, 1] {
                let room = memory.room(held[n][side] as usize, held.len()) as u64;
                let taken = room + room / 4;
                held[n][side] += taken;
                memory.charge(0, taken as u32);
            }
        }
        assert!(memory.used > (1 << 20) * 7 / 10 && memory.used <= 1 << 20 && memory.scarce);
        assert!(memory.room(0, held.len()) >= 1460);
        assert!(!memory.admits(0, 0));
    }
}
