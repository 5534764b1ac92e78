//! The flow's record: two cache lines that hold everything a packet of the flow always touches.

use super::arena::Record;
use super::key::ShortKey;
use crate::tcp::side::Side;
use crate::tcp::state::State;

/// Index of the client's side.
pub const CLI: usize = 0;
/// Index of the server's side.
pub const SVR: usize = 1;

/// One monitored flow.
#[derive(Clone, Debug, Default)]
#[repr(C, align(64))]
pub struct Flow {
    /// Canonical tuple of the client's packets.
    pub key: ShortKey,
    /// Generation of this slot (odd while live).
    pub generation: u32,
    /// Neighbours in the timer wheel; the free list when the slot is free.
    pub links: (u32, u32),
    /// First attached monitor socket id, in creation order.
    pub socket: u32,
    /// When the flow was last active: virtual milliseconds, truncated.
    pub last_seen: u32,
    /// Events any attached socket listens to (see `monitor::event::Interest`).
    pub interest: u16,
    /// The flags below.
    pub flags: u16,
    /// Client and server.
    pub sides: [Side; 2],
}

impl Flow {
    /// The client is the canonical key's second end.
    pub const REVERSED: u16 = 1;
    /// A packet of this flow is being processed, or its END callbacks run.
    pub const BUSY: u16 = 1 << 1;
    /// The flow is to end when its packet has been processed, without END callbacks.
    pub const SILENT_END: u16 = 1 << 2;
    /// The server side has a tuple of its own, edited one: a second table entry, unless a newer flow has taken it over. Only the
    /// client's packets are found under `key`.
    pub const ALT_KEY: u16 = 1 << 3;
    /// END callbacks are running or have run.
    pub const ENDING: u16 = 1 << 4;
    /// Of the two sides' pending deliveries, the server's came first.
    pub const SVR_DUE_FIRST: u16 = 1 << 5;
    /// Picked up in the middle (X3).
    pub const MIDSTREAM: u16 = 1 << 6;
    /// Both ends are to be sent a reset when this packet, or the next, has been processed (D20).
    pub const RESET_DUE: u16 = 1 << 7;

    /// Whether all bits of `flag` are set.
    #[inline]
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag == flag
    }

    /// Sets the bits of `flag`.
    #[inline]
    pub fn set(&mut self, flag: u16) {
        // As `Side::set`.
        if self.flags & flag != flag {
            self.flags |= flag;
        }
    }

    /// Clears the bits of `flag`.
    #[inline]
    pub fn clear(&mut self, flag: u16) {
        if self.flags & flag != 0 {
            self.flags &= !flag;
        }
    }

    /// Whether both sides are finished: closed, in a TIME_WAIT of no length, or followed by nobody.
    #[inline]
    pub fn is_over(&self, no_time_wait: bool) -> bool {
        let done = |s: &Side| {
            let last = s.state == State::Closed || (no_time_wait && s.state == State::TimeWait);
            (last && s.has(Side::ATTACHED)) || s.has(Side::UNTRACKED)
        };
        done(&self.sides[CLI]) && done(&self.sides[SVR])
    }

    /// When the flow was last active, at `now_ms` of virtual time: right while that is less than 49 days ago.
    #[inline]
    pub fn seen_ms(&self, now_ms: u64) -> u64 {
        full_stamp(now_ms, self.last_seen)
    }

    /// Sender and receiver of a packet that side `from` emitted.
    #[inline]
    pub fn pair(&mut self, from: usize) -> (&mut Side, &mut Side) {
        // Exchanged, not chosen between: no guess.
        let [mut x, mut y] = self.sides.each_mut();
        if from != CLI {
            std::mem::swap(&mut x, &mut y);
        }
        (x, y)
    }
}

/// The time before `now_ms` that a truncated stamp stands for.
#[inline]
pub fn full_stamp(now_ms: u64, stamp: u32) -> u64 {
    now_ms.saturating_sub((now_ms as u32).wrapping_sub(stamp) as u64)
}

impl Record for Flow {
    fn generation(&self) -> u32 {
        self.generation
    }
    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }
    fn next_free(&self) -> u32 {
        self.links.0
    }
    fn set_next_free(&mut self, next: u32) {
        self.links.0 = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_right_when_its_32_bits_wrap() {
        for now in [5_000u64, (7 << 32) + 5_000, (7 << 32) - 1] {
            for ago in [0, 1, 4_999, 1 << 31, u32::MAX as u64] {
                let seen = now.saturating_sub(ago);
                assert_eq!(full_stamp(now, seen as u32), seen, "{now} {ago}");
            }
        }
    }

    #[test]
    fn a_flow_is_two_cache_lines() {
        assert_eq!(size_of::<Side>(), 44);
        assert_eq!(size_of::<Flow>(), 128);
        assert_eq!(align_of::<Flow>(), 64);
    }
}
