//! The end of a flow: what is pending is delivered, both sides are told, everything is freed (monitor.md §3.7, D6, D7).

use super::cold::Cold;
use super::event::{Hook, ON_CONN_END, ON_STATE_CHANGE};
use super::lookup::ALT;
use super::state::{Monitor, Settings, State};
use crate::flow::arena::{Arena, Id};
use crate::flow::record::{CLI, Flow, SVR, full_stamp};
use crate::flow::slab::Slab;
use crate::flow::token::Token;
use crate::flow::wheel::Links;
use crate::tcp::side::{NO_COLD, Side};
use crate::tcp::state::State as Tcp;
use std::sync::atomic::Ordering;

impl Monitor {
    /// Ends a flow: side `first` is told first. `silent`: nobody is told.
    pub fn end_flow(&self, t: &mut Token, id: Id, first: usize, silent: bool) {
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return };
        if flow.has(Flow::ENDING) {
            return;
        }
        flow.set(Flow::ENDING);
        // Callbacks of the end see no packet; one that is in process is current again afterwards.
        let outer = st.cur.active;
        st.cur.active = false;
        if !silent {
            let due = if flow.has(Flow::SVR_DUE_FIRST) { SVR } else { CLI };
            if flow.sides.iter().any(Side::is_owed) {
                for side in [due, 1 - due] {
                    self.settle(t, id, side);
                }
            }
            for side in [first, 1 - first] {
                self.tell_end(t, id, side);
            }
        }
        let st = self.state(t);
        st.cur.active = outer;
        self.free_flow(st, id);
        self.bury(t);
    }

    fn tell_end(&self, t: &mut Token, id: Id, side: usize) {
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return };
        if !flow.sides[side].has(Side::ATTACHED) {
            return;
        }
        flow.sides[side].state = Tcp::Closed;
        let (first, interest) = (flow.socket, flow.interest);
        let events = ON_STATE_CHANGE | ON_CONN_END;
        let (on_rcv, on_snd) = (super::event::on_rcv(events), super::event::on_snd(events));
        if interest & (on_rcv | on_snd) == 0 {
            return;
        }
        let mut at = first;
        while let Some(socket) = self.state(t).sockets.get(at) {
            let next = socket.next;
            if interest & on_rcv != 0 {
                self.tell(t, at, Hook::Rcv, side, events);
            }
            if interest & on_snd != 0 {
                self.tell(t, at, Hook::Snd, side, events);
            }
            at = next;
        }
    }

    fn free_flow(&self, st: &mut State, id: Id) {
        let Some(flow) = st.flows.get(id) else { return };
        let hash = st.hasher.short(&flow.key);
        let (flags, mut socket, cold) =
            (flow.flags, flow.socket, [flow.sides[CLI].cold, flow.sides[SVR].cold]);
        st.table.remove(hash, id.index);
        if flags & Flow::ALT_KEY != 0
            && let Some((key, _)) = st.alternate.remove(&id.index)
        {
            st.table.remove(st.hasher.short(&key), id.index | ALT);
        }
        st.disarm(id, &self.settings);
        for number in cold {
            if number != NO_COLD {
                st.drop_cold(number);
            }
        }
        {
            let mut setup = self.setup.lock();
            while let Some(s) = st.sockets.get_mut(socket) {
                s.flow = Id::NONE;
                let (next, set, uctx) = (s.next, s.set(), s.uctx);
                st.sets.release(set);
                st.natives.forget(socket, uctx);
                setup.ids.free(socket);
                socket = next;
            }
        }
        if st.depth == 0 && st.sets.dirty() {
            st.sweep();
        }
        st.flows.remove(id);
        st.stats.flows_ended += 1;
        st.stats.flows_now -= 1;
        self.flow_count.store(st.stats.flows_now as u32, Ordering::Relaxed);
    }

    /// Ends every flow, as `mtcp_destroy_context` does (D18); each gets its CONN_END.
    pub fn end_all(&self, t: &mut Token) {
        let mut index = 0;
        while index < self.state(t).flows.slots() {
            if let Some(id) = self.state(t).flows.id_of(index) {
                self.end_flow(t, id, CLI, false);
            }
            index += 1;
        }
        // What the callbacks of the end sent: no iteration follows that would. Nor will an answer come.
        crate::net::forward::abandon(self.state(t));
    }

    /// Ends the flows whose time is over.
    pub fn expire(&self, t: &mut Token) {
        loop {
            let st = self.state(t);
            let now = st.now_ms;
            let State { flows, cold, wheel, .. } = st;
            let mut due = Deadlines { flows, cold, settings: &self.settings, now };
            let Some(index) = wheel.pop_due(&mut due, now) else { return };
            let Some(id) = st.flows.id_of(index) else { continue };
            let (_, first) = st.deadline(id, &self.settings);
            let idle =
                |f: &Flow| self.settings.timeout_ms.is_some_and(|ms| f.seen_ms(now) + ms as u64 <= now);
            // The end of a TIME_WAIT is no silence.
            st.stats.flows_timed_out += st.flows.get(id).is_some_and(idle) as u64;
            self.end_flow(t, id, first, false);
        }
    }
}

/// What the wheel asks of flows: when each is due by what is known now (design E: lazily re-armed).
struct Deadlines<'a> {
    flows: &'a mut Arena<Flow>,
    cold: &'a Slab<Cold>,
    settings: &'a Settings,
    now: u64,
}

impl Links for Deadlines<'_> {
    fn links(&self, index: u32) -> (u32, u32) {
        self.flows.at(index).map_or((0, 0), |f| f.links)
    }
    fn set_links(&mut self, index: u32, links: (u32, u32)) {
        if let Some(flow) = self.flows.at_mut(index) {
            flow.links = links;
        }
    }
    fn due(&self, index: u32) -> u64 {
        let Some(flow) = self.flows.at(index) else { return u64::MAX };
        deadline(flow, self.cold, self.settings, self.now).0.unwrap_or(u64::MAX)
    }
}

/// When a flow ends by itself, and the side that is told first.
fn deadline(flow: &Flow, cold: &Slab<Cold>, settings: &Settings, now: u64) -> (Option<u64>, usize) {
    let mut best = (settings.timeout_ms.map(|timeout| flow.seen_ms(now) + timeout as u64), CLI);
    if settings.time_wait_ms == 0 {
        return best;
    }
    for side in [CLI, SVR] {
        let (this, peer) = (&flow.sides[side], &flow.sides[1 - side]);
        if this.state != Tcp::TimeWait || !matches!(peer.state, Tcp::TimeWait | Tcp::Closed) {
            continue;
        }
        let entered = cold.get(this.cold).map_or(flow.last_seen, |c| c.time_wait_since);
        let at = full_stamp(now, entered) + settings.time_wait_ms as u64;
        if best.0.is_none_or(|b| at < b) {
            best = (Some(at), side);
        }
    }
    best
}

impl State {
    fn deadline(&self, id: Id, settings: &Settings) -> (Option<u64>, usize) {
        self.flows.get(id).map_or((None, CLI), |f| deadline(f, &self.cold, settings, self.now_ms))
    }

    /// Puts a flow into the wheel, or moves it there.
    pub(super) fn arm(&mut self, id: Id, at: u64, settings: &Settings) {
        let State { flows, cold, wheel, .. } = self;
        wheel.insert(&mut Deadlines { flows, cold, settings, now: self.now_ms }, id.index, at);
    }

    fn disarm(&mut self, id: Id, settings: &Settings) {
        let State { flows, cold, wheel, .. } = self;
        wheel.remove(&mut Deadlines { flows, cold, settings, now: self.now_ms }, id.index);
    }

    /// A side entered TIME_WAIT, or a packet restarted it, or its peer closed: the deadline moves.
    pub(super) fn note_time_wait(&mut self, id: Id, side: usize, settings: &Settings) {
        let now = self.now_ms as u32;
        let Some(flow) = self.flows.get(id) else { return };
        let time_wait = flow.sides.iter().any(|s| s.state == Tcp::TimeWait);
        if !time_wait {
            return;
        }
        if flow.sides[side].state == Tcp::TimeWait
            && let Some(cold) = self.cold_of(id, side)
        {
            cold.time_wait_since = now;
        }
        if let (Some(at), _) = self.deadline(id, settings) {
            self.arm(id, at, settings);
        }
    }
}
