//! Opening flows: which listeners want the packet's flow, room for it, its record and its sockets.

use super::event::{ON_CONN_START, ON_STATE_CHANGE};
use super::listener::Kind;
use super::lookup::hash_of;
use super::socket::{FlowSocket, NO_SOCKET};
use super::state::{Monitor, State};
use crate::flow::arena::Id;
use crate::flow::record::{CLI, Flow, SVR};
use crate::flow::token::Token;
use crate::tcp::machine::{self, Segment};
use crate::tcp::side::Side;

/// What a flow is opened with.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// The listeners that want it, by view.
    listeners: Vec<usize>,
    /// The ids of its sockets, one for each.
    ids: Vec<u32>,
}

impl Monitor {
    /// Makes a flow for the packet `at`, if a listener wants it and there is room.
    pub(super) fn open(&self, t: &mut Token, at: usize, from: usize) -> Option<Id> {
        // Kept for the next flow: nothing is allocated to open one.
        let mut new = std::mem::take(&mut self.state(t).opening);
        let opened = self.open_with(t, at, from, &mut new);
        self.state(t).opening = new;
        opened
    }

    fn open_with(&self, t: &mut Token, at: usize, from: usize, new: &mut Opening) -> Option<Id> {
        let st = self.state(t);
        if st.accepting(&mut new.listeners) == 0 {
            return None;
        }
        if !self.take_ids(st, new) {
            let room = self.make_room(t, new.listeners.len() as u32);
            self.refresh_views(t);
            let st = self.state(t);
            // Callbacks of those that made room may have changed the listeners.
            if !room || st.accepting(&mut new.listeners) == 0 || !self.take_ids(st, new) {
                st.stats.flows_refused += 1;
                return None;
            }
        }
        let st = self.state(t);
        let opened = self.attach(st, at, from, new);
        match opened {
            Some(_) => {
                self.flow_count.store(st.stats.flows_now as u32, std::sync::atomic::Ordering::Relaxed);
            }
            None => {
                let mut setup = self.setup.lock();
                for id in new.ids.drain(..) {
                    setup.ids.free(id);
                }
                st.stats.flows_refused += 1;
            }
        }
        opened
    }

    /// An id for each listener, with room for its socket. `false`: there are not enough, and none is taken.
    fn take_ids(&self, st: &mut State, new: &mut Opening) -> bool {
        new.ids.clear();
        if new.ids.try_reserve(new.listeners.len()).is_err() {
            return false;
        }
        let mut setup = self.setup.lock();
        for _ in &new.listeners {
            match setup.ids.alloc() {
                Some(id) if st.sockets.reserve(id) => new.ids.push(id),
                got => {
                    new.ids.extend(got);
                    for id in new.ids.drain(..) {
                        setup.ids.free(id);
                    }
                    return false;
                }
            }
        }
        true
    }

    fn attach(&self, st: &mut State, at: usize, from: usize, new: &Opening) -> Option<Id> {
        let Opening { listeners, ids } = new;
        let hash = st.prepared[at].hash;
        let (key, forward) = st.prepared[at].key();
        let mut flow =
            Flow { key, last_seen: st.now_ms as u32, socket: ids.first().copied()?, ..Flow::default() };
        // The canonical key is the same both ways; remember which end is the client's.
        if forward != (from == CLI) {
            flow.set(Flow::REVERSED);
        }
        flow.sides[CLI].set(Side::ATTACHED);
        for side in [CLI, SVR] {
            if listeners.iter().all(|&l| st.views[l].buffer[side] == Some(0)) {
                flow.sides[side].set(Side::NO_BUFFER);
            }
        }
        for &l in listeners.iter() {
            flow.interest |= st.sets.get(st.views[l].set).map_or(0, |s| s.interest);
        }
        if !st.alternate.is_empty() {
            st.give_up_tuple(hash, &key, forward == (from == CLI));
        }
        let room = st.flows.insert(flow).ok().and_then(|id| {
            let State { table, flows, hasher, alternate, .. } = st;
            let rehash = |value: u32| hash_of(flows, alternate, hasher, value);
            if table.insert(hash, id.index, rehash).is_ok() {
                return Some(id);
            }
            flows.remove(id);
            None
        });
        let Some(id) = room else {
            st.stats.no_memory += 1;
            return None;
        };
        for (n, &l) in listeners.iter().enumerate() {
            let set = st.views[l].set;
            st.sets.share(set);
            let next = ids.get(n + 1).copied().unwrap_or(NO_SOCKET);
            let socket = FlowSocket::new(id, next, set, st.views[l].follows_mask());
            st.sockets.put(ids[n], socket);
        }
        for side in [CLI, SVR] {
            let largest = listeners.iter().filter_map(|&l| st.views[l].buffer[side]).max().unwrap_or(0);
            let default = listeners.iter().any(|&l| st.views[l].buffer[side].is_none());
            let size = if default { largest.max(st.rmem) } else { largest };
            if size > 0
                && size != st.rmem
                && let Some(cold) = st.cold_of(id, side)
            {
                cold.stream.resize(0, size);
            }
        }
        if let Some(timeout) = self.settings.timeout_ms {
            st.arm(id, st.now_ms + timeout as u64, &self.settings);
        }
        st.note_age(id);
        st.note_stations(at);
        st.stats.flows_created += 1;
        st.stats.flows_now += 1;
        st.stats.flows_peak = st.stats.flows_peak.max(st.stats.flows_now);
        Some(id)
    }
}

impl State {
    /// Finds the listeners (by view) whose SYN filter accepts the packet in process; how many.
    fn accepting(&self, found: &mut Vec<usize>) -> usize {
        found.clear();
        for (n, l) in self.views.iter().enumerate() {
            if l.kind == Kind::Stream && l.syn.as_ref().is_none_or(|f| self.stream_filter_matches(f)) {
                if found.try_reserve(1).is_err() {
                    break;
                }
                found.push(n);
            }
        }
        found.len()
    }

    /// Remembers which hardware addresses a flow's packets carry, where they are passed on as they are (D16).
    fn note_stations(&mut self, at: usize) {
        let prep = &self.prepared[at];
        if self.io.mate(self.batch[at].dev).is_some()
            && let Some(macs) = self.io.frame(&self.batch[at]).first_chunk::<12>()
        {
            let (key, forward) = prep.key();
            self.stations.note(key.addresses(), forward, *macs);
        }
    }

    /// Starts a flow in the middle (X3): both sides exist at once. The events that tell of it.
    pub(super) fn pick_up(&mut self, id: Id, from: usize, seg: &Segment) -> u16 {
        let Some(flow) = self.flows.get_mut(id) else { return 0 };
        flow.set(Flow::MIDSTREAM);
        flow.sides[SVR].set(Side::ATTACHED);
        let (x, y) = flow.pair(from);
        machine::midstream(x, y, seg);
        ON_CONN_START | ON_STATE_CHANGE
    }
}
