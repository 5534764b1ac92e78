//! When no socket id is free, a new SYN takes the place of the oldest half-open flow, else of the one idle longest (D13).
//!
//! No list is re-ordered per packet: ages are kept only once ids have run out, and an entry whose flow was
//! active since goes back in line when its turn comes. Exact to a second, as D13 has it: of flows last active within the same
//! second of virtual time, any may be the first to go.

use super::state::{Monitor, State};
use crate::flow::arena::{Arena, Id};
use crate::flow::record::{CLI, Flow, SVR};
use crate::flow::token::Token;
use crate::tcp::state::State as Tcp;
use std::collections::VecDeque;

/// A flow active within this many milliseconds is never evicted.
const FRESH_MS: u32 = 1000;

/// Entries of flows that have ended are swept out when there are so many more entries than twice the flows.
const STALE: usize = 1024;

/// Flows by the second they were last known active.
#[derive(Debug, Default)]
pub struct Ages {
    /// Half-open flows in order of creation.
    half_open: VecDeque<Id>,
    /// All flows by second of virtual time, ascending.
    idle: VecDeque<(u64, VecDeque<Id>)>,
    /// Entries in `idle`.
    idle_count: usize,
}

impl Ages {
    /// Adds a new flow, last seen at `seen_ms`.
    fn add(&mut self, id: Id, seen_ms: u64) {
        if self.half_open.try_reserve(1).is_ok() {
            self.half_open.push_back(id);
        }
        self.put(id, seen_ms);
    }

    fn put(&mut self, id: Id, seen_ms: u64) {
        let second = seen_ms / 1000;
        let at = match self.idle.binary_search_by_key(&second, |(s, _)| *s) {
            Ok(at) => at,
            Err(at) => {
                if self.idle.try_reserve(1).is_err() {
                    return;
                }
                self.idle.insert(at, (second, VecDeque::new()));
                at
            }
        };
        let line = &mut self.idle[at].1;
        if line.try_reserve(1).is_ok() {
            line.push_back(id);
            self.idle_count += 1;
        }
    }

    /// Sweeps out flows that have ended: whoever opens flows and never lets one be evicted from here must not make this grow.
    fn sweep(&mut self, flows: &Arena<Flow>) {
        let most = 2 * flows.len() + STALE;
        if self.half_open.len() > most {
            self.half_open.retain(|&id| flows.get(id).is_some());
        }
        if self.idle_count > most {
            self.idle.retain_mut(|(_, line)| {
                line.retain(|&id| flows.get(id).is_some());
                !line.is_empty()
            });
            self.idle_count = self.idle.iter().map(|(_, line)| line.len()).sum();
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
    /// Adds a new flow to the ages, if they are kept.
    pub(super) fn note_age(&mut self, id: Id) {
        if let Some(ages) = &mut self.ages {
            ages.add(id, self.now_ms);
            ages.sweep(&self.flows);
        }
    }

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
                let seen = self.flows.get(id).map_or(0, |f| f.seen_ms(self.now_ms));
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
            let (second, line) = ages.idle.front_mut()?;
            let second = *second;
            let Some(id) = line.pop_front() else {
                ages.idle.pop_front();
                continue;
            };
            ages.idle_count -= 1;
            let Some(flow) = self.flows.get(id) else { continue };
            let seen = flow.seen_ms(self.now_ms);
            if seen / 1000 != second {
                ages.put(id, seen);
                continue;
            }
            if self.may_go(flow) {
                return Some(id);
            }
            line.push_front(id);
            ages.idle_count += 1;
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_that_come_and_go_do_not_pile_up() {
        let mut flows = Arena::new();
        let mut ages = Ages::default();
        let stays = flows.insert(Flow::default()).expect("room");
        ages.add(stays, 0);
        for n in 0..100_000 {
            let id = flows.insert(Flow::default()).expect("room");
            ages.add(id, n);
            ages.sweep(&flows);
            flows.remove(id);
            let held: usize = ages.idle.iter().map(|(_, line)| line.len()).sum();
            assert_eq!(held, ages.idle_count);
            assert!(held <= STALE + 4 && ages.half_open.len() <= STALE + 4);
        }
        assert_eq!(ages.half_open.front(), Some(&stays));
        assert_eq!(ages.idle.front().and_then(|(_, line)| line.front()), Some(&stays));
    }
}
