//! Holes that are given up: those the receiver acknowledged, and the first where a buffer ends (D5).

use super::event::{Hook, ON_ERROR};
use super::state::{Monitor, State};
use crate::flow::arena::Id;
use crate::flow::token::Token;
use crate::tcp::side::{NO_COLD, Side};

impl Monitor {
    /// What the end of the iteration (or of the flow) owes a side: NEW_DATA, and holes the receiver acknowledged.
    pub(super) fn settle(&self, t: &mut Token, id: Id, side: usize) {
        self.skip_acknowledged(t, id, side);
        self.deliver(t, id, side);
    }

    /// Gives up the holes that the receiver's acknowledgement covers (D5).
    fn skip_acknowledged(&self, t: &mut Token, id: Id, side: usize) {
        let Some(flow) = self.state(t).flows.get_mut(id) else { return };
        let s = &mut flow.sides[side];
        if s.more & Side::SKIP_DUE == 0 {
            return;
        }
        s.more &= !Side::SKIP_DUE;
        let Some((tail, target)) = self.state(t).acknowledged_hole(id, side) else { return };
        if target > tail {
            self.skip(t, id, side, target);
        }
    }

    /// Gives up the hole in front of the first out-of-order range; `false` when there is none.
    pub(super) fn skip_first_hole(&self, t: &mut Token, id: Id, side: usize) -> bool {
        let st = self.state(t);
        let Some(flow) = st.flows.get(id) else { return false };
        let s = &flow.sides[side];
        let Some(cold) = st.cold.get(s.cold) else { return false };
        let Some(next) = cold.stream.fragments(s.data_tail()).map(|f| f.start).find(|&f| f > s.data_tail())
        else {
            return false;
        };
        self.skip(t, id, side, next)
    }

    /// Pending NEW_DATA; ERROR once; the tail moves; NEW_DATA (D5).
    fn skip(&self, t: &mut Token, id: Id, side: usize, target: u64) -> bool {
        self.deliver(t, id, side);
        let st = self.state(t);
        let Some(flow) = st.flows.get(id) else { return false };
        if !flow.sides[side].has(Side::NO_BUFFER) {
            let outer = st.cur.active;
            st.cur.active = false;
            self.raise(t, id, Hook::Null, side, ON_ERROR);
            self.state(t).cur.active = outer;
        }
        let moved = self.state(t).skip_to(id, side, target);
        self.deliver(t, id, side);
        moved
    }

    /// The end of the iteration for a side whose receiver acknowledged beyond its in-order tail.
    #[inline(never)]
    pub(super) fn flush_hole(&self, t: &mut Token, id: Id, side: usize) {
        let st = self.state(t);
        if let Some(flow) = st.flows.get_mut(id) {
            flow.sides[side].clear(Side::QUEUED);
        }
        if st.more_waits {
            st.look_later(id, side);
        } else {
            self.skip_acknowledged(t, id, side);
        }
        self.deliver(t, id, side);
    }
}

impl State {
    /// The in-order tail of a side, and up to where the receiver acknowledged what its peer was seen to send.
    fn acknowledged_hole(&self, id: Id, side: usize) -> Option<(u64, u64)> {
        let flow = self.flows.get(id)?;
        let (y, x) = (&flow.sides[side], &flow.sides[1 - side]);
        if !y.state.receives() || y.has(Side::FIN_DUE) || !x.has(Side::ISS) {
            return None;
        }
        let tail = y.tail();
        let acked = y.acked_offset()?;
        if acked <= tail as i64 {
            return None;
        }
        let data_end = x.snd_max.wrapping_sub(x.has(Side::FIN_SENT) as u32);
        let sent = y.offset_of(data_end.wrapping_sub(x.iss).wrapping_add(y.irs));
        Some((tail, acked.min(sent).max(tail as i64) as u64))
    }

    /// Moves the tail over a hole; `false` when nothing moved.
    fn skip_to(&mut self, id: Id, side: usize, target: u64) -> bool {
        if let Some(flow) = self.flows.get_mut(id) {
            let y = &mut flow.sides[side];
            if y.has(Side::NO_BUFFER) && y.cold == NO_COLD {
                self.stats.missing_bytes += target.saturating_sub(y.tail());
                y.set_tail(target.max(y.tail()));
                return true;
            }
        }
        if self.cold_of(id, side).is_none() {
            return false;
        }
        let State { flows, cold, sockets, .. } = self;
        let Some(flow) = flows.get_mut(id) else { return false };
        let first = flow.socket;
        let y = &mut flow.sides[side];
        let tail = y.tail();
        let Some(cold) = cold.get_mut(y.cold) else { return false };
        let held = cold.stream.allocated_bytes();
        let Ok(skip) = cold.stream.skip_to(tail, target) else { return false };
        if skip.tail == tail {
            return false;
        }
        y.set_tail(skip.tail);
        // What precedes the hole stays for those who have not read it; when all have, the head moves behind the hole.
        if sockets.all_read(first, side, tail) {
            cold.stream.release_hole(tail, skip.tail);
        }
        if !y.has(Side::NO_BUFFER) {
            y.set(Side::NEW_DATA);
        }
        if cold.stream.take_fin(skip.tail) {
            y.set(Side::FIN_DUE);
        }
        let holds = cold.stream.allocated_bytes();
        self.account(held, holds);
        self.stats.missing_bytes += skip.missing;
        true
    }
}
