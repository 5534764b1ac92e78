//! When no socket id is free, a new SYN takes the place of the oldest half-open flow, else of the one idle longest (D13).
//!
//! No list is re-ordered per packet: ages are kept only once ids have run out, and an entry whose flow was
//! active since goes back in line when its turn comes. Exact to a second.

use super::state::{Monitor, State};
use crate::flow::arena::Id;
use crate::flow::record::{CLI, Flow, SVR};
use crate::flow::token::Token;
use crate::tcp::state::State as Tcp;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// A flow active within this many milliseconds is never evicted.
const FRESH_MS: u32 = 1000;

/// Flows by the second they were last known active.
#[derive(Debug, Default)]
pub struct Ages {
    /// Half-open flows in order of creation, with their last-seen second at that time.
    half_open: VecDeque<Id>,
    /// All flows by second.
    idle: BTreeMap<u32, VecDeque<Id>>,
}

impl Ages {
    /// Adds a new flow.
    pub fn add(&mut self, id: Id, last_seen: u32) {
        if self.half_open.try_reserve(1).is_ok() {
            self.half_open.push_back(id);
        }
        self.put(id, last_seen);
    }

    fn put(&mut self, id: Id, last_seen: u32) {
        let line = self.idle.entry(last_seen / 1000).or_default();
        if line.try_reserve(1).is_ok() {
            line.push_back(id);
        }
    }
}

impl Monitor {
    /// Sees to it that `wanted` ids are free, by evicting flows if need be.
    pub(super) fn make_room(&self, t: &mut Token, wanted: u32) -> bool {
        loop {
            if self.setup.lock().ids.available() >= wanted {
                return true;
            }
            let st = self.state(t);
            if st.depth > 0 {
                return false;
            }
            let Some(victim) = st.victim() else { return false };
            st.stats.flows_evicted += 1;
            self.end_flow(t, victim, CLI, false);
        }
    }
}

impl State {
    fn victim(&mut self) -> Option<Id> {
        if self.ages.is_none() {
            let mut ages = Ages::default();
            let mut all: Vec<Id> = Vec::new();
            all.try_reserve(self.flows.len()).ok()?;
            all.extend((0..self.flows.slots()).filter_map(|i| self.flows.id_of(i)));
            all.sort_by_key(|&id| {
                self.flows.get(id).map_or(0, |f| (self.now_ms as u32).wrapping_sub(f.last_seen))
            });
            for id in all.into_iter().rev() {
                let seen = self.flows.get(id).map_or(0, |f| f.last_seen);
                ages.add(id, seen);
            }
            self.ages = Some(ages);
        }
        let mut ages = self.ages.take()?;
        let victim = self.oldest_half_open(&mut ages).or_else(|| self.idlest(&mut ages));
        self.ages = Some(ages);
        victim
    }

    fn may_go(&self, flow: &Flow) -> bool {
        !flow.has(Flow::BUSY) && (self.now_ms as u32).wrapping_sub(flow.last_seen) >= FRESH_MS
    }

    fn oldest_half_open(&self, ages: &mut Ages) -> Option<Id> {
        while let Some(&id) = ages.half_open.front() {
            let flow = self.flows.get(id);
            let half_open = flow
                .is_some_and(|f| f.sides[CLI].state == Tcp::SynSent || f.sides[SVR].state == Tcp::SynRcvd);
            if !half_open {
                ages.half_open.pop_front();
                continue;
            }
            // Created in this order: if the oldest may not go, no younger one is older.
            return flow.filter(|f| self.may_go(f)).map(|_| id);
        }
        None
    }

    fn idlest(&self, ages: &mut Ages) -> Option<Id> {
        loop {
            let (&second, line) = ages.idle.iter_mut().next()?;
            let Some(id) = line.pop_front() else {
                ages.idle.remove(&second);
                continue;
            };
            let Some(flow) = self.flows.get(id) else { continue };
            if flow.last_seen / 1000 != second {
                let seen = flow.last_seen;
                ages.put(id, seen);
                continue;
            }
            if self.may_go(flow) {
                return Some(id);
            }
            line.push_front(id);
            return None;
        }
    }
}
