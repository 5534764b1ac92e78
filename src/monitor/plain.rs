//! The common packet in one go: the next bytes, or an acknowledgement, of an open connection.
//!
//! Eleven of a short HTTP exchange's seventeen packets and nearly all of a long transfer's are of this kind. `process.rs` would
//! do the same with them, step by step: whatever is out of the ordinary is left to it, before anything is changed.

use super::event::{Hook, ON_PKT_IN, on_rcv, on_snd};
use super::state::{Monitor, State};
use super::stats::Stats;
use crate::flow::arena::Id;
use crate::flow::record::Flow;
use crate::flow::token::Token;
use crate::tcp::machine::{self, Segment, Verdict};
use crate::tcp::side::{NO_COLD, Side};
use std::sync::atomic::Ordering;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is not the common one, and nothing was done.
    No,
    /// It passed the monitor without anybody hearing of it: nothing but its forwarding is left to do.
    Silently,
    /// It passed the monitor.
    Heard,
}

impl Monitor {
    /// Takes packet `at` through the monitor if it is the common one.
    #[inline]
    pub(super) fn plain(&self, t: &mut Token, at: usize) -> Taken {
        let st = self.state(t);
        let prep = &st.prepared[at];
        if st.has_raw || !prep.is_sound() {
            return Taken::No;
        }
        let Some((id, from)) = st.hinted(prep) else { return Taken::No };
        let seg = prep.segment();
        let now = st.now_ms as u32;
        let State { io, batch, flows, cold, stats, .. } = st;
        let Some(flow) = flows.at_mut(id.index) else { return Taken::No };
        let interest = flow.interest;
        let idle = now.wrapping_sub(flow.last_seen);
        let (x, y) = flow.pair(from);
        if !machine::is_plain(x, y, &seg) {
            return if self.quiet(t, at, id, from) { Taken::Heard } else { Taken::No };
        }
        // What only the receiver's cold part knows: nothing of the payload can have come before.
        if seg.len > 0 && y.cold != NO_COLD && cold.get(y.cold).is_some_and(|cold| !cold.stream.is_unbroken())
        {
            return Taken::No;
        }
        flow.last_seen = now;
        let (x, y) = flow.pair(from);
        x.come_by(io.port_of(batch[at].dev));
        machine::send_plain(x, &seg);
        stats.in_flow += 1;
        let heard = interest & (on_snd(ON_PKT_IN) | on_rcv(ON_PKT_IN)) != 0;
        if !heard && (arrive_plain(x, y, &seg, stats) || st.store_plain(id, 1 - from, at, seg.seq, seg.len)) {
            return Taken::Silently;
        }
        self.state(t).cur.begin(at);
        self.plain_heard(t, id, from, at, idle);
        Taken::Heard
    }

    /// The rest of a plain packet's way, with callbacks on it or a payload that is not simply stored.
    #[inline(never)]
    fn plain_heard(&self, t: &mut Token, id: Id, from: usize, at: usize, idle: u32) {
        let st = self.state(t);
        let seg = &st.prepared[at].segment();
        let Some(flow) = st.flows.get_mut(id) else { return };
        flow.set(Flow::BUSY);
        let (first, interest) = (flow.socket, flow.interest);
        st.cur.flow = Some((id, from as u8));
        self.called_back.store(false, Ordering::Relaxed);
        if interest & on_snd(ON_PKT_IN) != 0 {
            self.raise_one(t, first, Hook::Snd, from, ON_PKT_IN.trailing_zeros());
        }
        // What called nothing has changed nothing.
        let as_it_was = !self.called_back.load(Ordering::Relaxed);
        let st = self.state(t);
        if st.cur.edited {
            let (seg, verdict) = self.judge_again(t, id, from, at, Verdict::Good);
            return self.reach_receiver(t, id, from, at, &seg, verdict, 0, idle);
        }
        let Some(flow) = st.flows.get_mut(id) else { return };
        let over = flow.has(Flow::SILENT_END);
        let (x, y) = flow.pair(from);
        let arrives = as_it_was || (!over && machine::is_plain(x, y, seg));
        if !(arrives
            && (arrive_plain(x, y, seg, &mut st.stats) || st.store_plain(id, 1 - from, at, seg.seq, seg.len)))
        {
            return self.reach_receiver(t, id, from, at, seg, Verdict::Good, 0, idle);
        }
        let Some(flow) = st.flows.get_mut(id) else { return };
        if flow.interest & on_rcv(ON_PKT_IN) != 0 {
            let first = flow.socket;
            self.raise_one(t, first, Hook::Rcv, 1 - from, ON_PKT_IN.trailing_zeros());
        }
        self.leave(t, id);
    }
}

/// A plain packet reaches its receiver; `false`: its payload is still to be stored. A second time changes nothing.
#[inline(always)]
fn arrive_plain(x: &Side, y: &mut Side, seg: &Segment, stats: &mut Stats) -> bool {
    machine::receive_plain(y, x, seg);
    if !(y.has(Side::NO_BUFFER) && y.cold == NO_COLD) {
        return seg.len == 0;
    }
    y.set_tail(y.tail() + seg.len as u64);
    stats.stream_bytes += seg.len as u64;
    true
}
