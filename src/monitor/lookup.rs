//! From a packet to its flow: the table's entries, and the second tuple a flow may have.
//!
//! One flow is one record under one entry. When the first SYN's SND callbacks changed the tuple (NAT), that entry matches only
//! the client's packets, and a second one, under the edited tuple, only the server's (decision C).
//!
//! Nothing keeps callbacks from giving two flows one tuple, or one that a flow has by itself. The server's packets on it belong to
//! the newest: a NAT that gives out a port again has done with the flow before, and the server takes the new SYN for the tuple's
//! connection. The older flow keeps its client's packets, and ends as it would without the server's.

use super::state::State;
use crate::flow::arena::{Arena, Id};
use crate::flow::hash::FlowHash;
use crate::flow::key::ShortKey;
use crate::flow::record::{CLI, Flow, SVR};
use crate::net::prepare::Prepared;
use std::collections::HashMap;

/// Marks a table entry of a flow's second, edited tuple.
pub(crate) const ALT: u32 = 1 << 31;

/// The hash a table entry's key has.
pub(super) fn hash_of(
    flows: &Arena<Flow>,
    alternate: &HashMap<u32, (ShortKey, bool)>,
    hasher: &FlowHash,
    value: u32,
) -> u64 {
    if value & ALT != 0 {
        return alternate.get(&(value & !ALT)).map_or(0, |(key, _)| hasher.short(key));
    }
    flows.at(value).map_or(0, |f| hasher.short(&f.key))
}

impl State {
    /// The flow of a packet and the side that sent it, by the burst's hint; `None`: the hint does not hold.
    #[inline(always)]
    pub(super) fn hinted(&self, prep: &Prepared) -> Option<(Id, usize)> {
        let (key, forward) = prep.key();
        let flow = self.flows.at(prep.hint)?;
        if flow.key != key || flow.flags & (Flow::ALT_KEY | Flow::RESET_DUE) != 0 {
            // Found the long way, and never taken for a common packet.
            return None;
        }
        let from = if forward != flow.has(Flow::REVERSED) { CLI } else { SVR };
        Some((Id { index: prep.hint, generation: flow.generation }, from))
    }

    /// The flow of a packet and the side that sent it.
    #[inline]
    pub(super) fn find_hinted(&self, at: usize) -> Option<(Id, usize)> {
        let prep = &self.prepared[at];
        self.hinted(prep).or_else(|| self.find(prep))
    }

    /// The flow of a packet and the side that sent it.
    pub(crate) fn find(&self, prep: &Prepared) -> Option<(Id, usize)> {
        let mut from = CLI;
        let (tuple, forward) = prep.key();
        let value = self.table.find(prep.hash, |value| {
            let index = value & !ALT;
            if value & ALT != 0 {
                // The server's packets, under the tuple the SND callbacks made of the first SYN.
                return match self.alternate.get(&index) {
                    Some((key, client_forward)) if *key == tuple && forward != *client_forward => {
                        from = SVR;
                        true
                    }
                    _ => false,
                };
            }
            let Some(flow) = self.flows.at(index) else { return false };
            if flow.key != tuple {
                return false;
            }
            // Equal ends: always the client's.
            let client_forward = !flow.has(Flow::REVERSED);
            from = if forward == client_forward { CLI } else { SVR };
            from == CLI || !flow.has(Flow::ALT_KEY)
        })?;
        Some((self.flows.id_of(value & !ALT)?, from))
    }

    /// The server's packets carry the tuple the SND callbacks made of the first SYN: a second table entry.
    pub(super) fn rekey_server(&mut self, id: Id, at: usize) {
        let (key, forward) = self.prepared[at].key();
        let Some(flow) = self.flows.get(id) else { return };
        if flow.key == key {
            return;
        }
        let hash = self.hasher.short(&key);
        self.give_up_tuple(hash, &key, forward);
        if self.alternate.try_reserve(1).is_err() {
            self.stats.no_memory += 1;
            return;
        }
        self.alternate.insert(id.index, (key, forward));
        let State { table, flows, hasher, alternate, .. } = self;
        if table.insert(hash, id.index | ALT, |v| hash_of(flows, alternate, hasher, v)).is_err() {
            self.alternate.remove(&id.index);
            self.stats.no_memory += 1;
            return;
        }
        if let Some(flow) = self.flows.get_mut(id) {
            flow.set(Flow::ALT_KEY);
        }
    }

    /// A new flow has the tuple `key` on the server's side: a flow that had it gets no more of the server's packets.
    pub(super) fn give_up_tuple(&mut self, hash: u64, key: &ShortKey, client_forward: bool) {
        let older = self.table.find(hash, |value| {
            let index = value & !ALT;
            if value & ALT != 0 {
                return self.alternate.get(&index).is_some_and(|(k, f)| k == key && *f == client_forward);
            }
            self.flows.at(index).is_some_and(|f| {
                f.key == *key && f.has(Flow::REVERSED) != client_forward && !f.has(Flow::ALT_KEY)
            })
        });
        let Some(value) = older else { return };
        let index = value & !ALT;
        if value & ALT != 0 {
            self.table.remove(hash, value);
            self.alternate.remove(&index);
        } else if let Some(flow) = self.flows.id_of(index).and_then(|id| self.flows.get_mut(id)) {
            // Without a second entry: only its client's packets are its own.
            flow.set(Flow::ALT_KEY);
        }
        log::debug!("two flows have the same tuple after edits: the server's packets go to the newer one");
    }
}
