//! A packet without payload that is not the common one, in one go: an open connection's beginning and end, mostly.
//!
//! Five of a short HTTP exchange's six packets that `plain.rs` leaves are of this kind. `process.rs` would do the same with
//! them, step by step: what somebody hears of before it has reached its receiver, what acknowledges bytes that were not seen, and
//! whatever else is out of the ordinary is left to it, before anything is changed.

use super::event::{Hook, ON_PKT_IN, ON_STATE_CHANGE, on_rcv, on_snd};
use super::state::Monitor;
use crate::flow::arena::Id;
use crate::flow::record::{Flow, SVR};
use crate::flow::token::Token;
use crate::tcp::machine::{self, ACK, FIN, RST, SYN, Segment, Verdict};
use crate::tcp::seq;
use crate::tcp::side::{NO_COLD, Side};
use crate::tcp::state::State as Tcp;

impl Monitor {
    /// Takes packet `at`, which side `from` of flow `id` sent, through the monitor. `false`: it is none of these, and nothing was
    /// done. The packet is sound, and no RAW socket is there.
    #[inline(never)]
    pub(super) fn quiet(&self, t: &mut Token, at: usize, id: Id, from: usize) -> bool {
        let st = self.state(t);
        let seg = st.prepared[at].segment();
        let now = st.now_ms as u32;
        let dev = st.io.port_of(st.batch[at].dev);
        let Some(flow) = st.flows.get_mut(id) else { return false };
        let idle = now.wrapping_sub(flow.last_seen);
        let (first, interest) = (flow.socket, flow.interest);
        if flow.flags & (Flow::SILENT_END | Flow::ENDING) != 0
            || interest & on_snd(ON_PKT_IN | ON_STATE_CHANGE) != 0
            || !flow.sides[SVR].has(Side::ATTACHED)
        {
            return false;
        }
        let (x, y) = flow.pair(from);
        if !is_quiet(x, y, &seg)
            || machine::judge(x, y, &seg, false) != Verdict::Good
            || machine::is_old(y, &seg, idle)
        {
            return false;
        }
        if seg.has(FIN)
            && y.cold != NO_COLD
            && st.cold.get(y.cold).is_some_and(|cold| !cold.stream.is_unbroken())
        {
            return false;
        }
        x.come_by(dev);
        let sent = machine::send(x, y, &seg);
        debug_assert!(!x.acked_ahead());
        let received = machine::receive(y, x, &seg);
        let mut events = ON_PKT_IN | received.events;
        if received.stores && seg.has(FIN) && seg.seq == y.rcv_nxt {
            events |= machine::finish(y);
        }
        flow.last_seen = now;
        st.stats.in_flow += 1;
        st.cur.begin(at);
        st.cur.flow = Some((id, from as u8));
        if interest & on_rcv(events) == 0 && self.settings.time_wait_ms == 0 {
            st.cur.ends = flow.is_over(true);
            return true;
        }
        flow.set(Flow::BUSY);
        if self.settings.time_wait_ms > 0 {
            if sent & ON_STATE_CHANGE != 0 {
                st.note_time_wait(id, from, &self.settings);
            }
            st.note_time_wait(id, 1 - from, &self.settings);
        }
        if interest & on_rcv(events) != 0 {
            self.raise_wanted(t, first, Hook::Rcv, 1 - from, events);
        }
        self.leave(t, id);
        true
    }
}

/// Whether a segment does nothing but move the two sides' states and numbers: no payload, neither reset nor first SYN, and an
/// acknowledgement of nothing that was not seen. A FIN comes in order.
#[inline(always)]
fn is_quiet(x: &Side, y: &Side, seg: &Segment) -> bool {
    const ODD: u16 = Side::FIN_DUE | Side::UNTRACKED | Side::SYN_DATA;
    let seen = if x.state == Tcp::SynSent {
        !x.has(Side::ACKED)
    } else {
        seq::le(seg.ack, x.rcv_nxt) && seq::le(x.last_ack, x.rcv_nxt)
    };
    seg.len == 0
        && seg.flags & (RST | ACK) == ACK
        && seg.flags & (SYN | FIN) != SYN | FIN
        && (x.flags | y.flags) & ODD == 0
        && (seg.flags & FIN == 0 || seg.seq == y.rcv_nxt)
        && seen
}
