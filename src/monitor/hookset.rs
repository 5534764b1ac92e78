//! The callbacks of one monitor socket: an immutable tree per hook and built-in event.
//!
//! A change makes a new set (copy on write); flows share the listener's until they change their own. A dispatch
//! in progress keeps the set it started with.

use super::event::{BUILTINS, EventId, FIRST_USER_EVENT, Hook, interest};
use super::forest::Forest;
use std::sync::Arc;

/// Something to call when an event fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    /// A C function, by address.
    Foreign(usize),
    /// A Rust closure, by its number in the monitor.
    Native(u32),
}

/// Something to ask whether a user event fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A C function, by address.
    Foreign(usize),
    /// A Rust predicate, by its number in the monitor whose own forest names it.
    Native(u32),
}

/// One registered callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registration {
    hook: Hook,
    event: EventId,
    callback: Callback,
}

/// "No node".
pub const NONE: u16 = u16::MAX;

/// One event of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// The event's own id: what filters and callbacks are told.
    pub event: EventId,
    /// The filter of a defined event.
    pub filter: Option<Filter>,
    /// The registered callback, if any.
    pub callback: Option<Callback>,
    /// Address of the `filter_arg_t`; 0 for a built-in.
    pub arg: usize,
    /// An allocated event: visited only when raised.
    pub raised_only: bool,
    /// First event below.
    pub child: u16,
    /// Next event below the same parent, in registration order.
    pub next: u16,
}

/// All callbacks of a socket.
#[derive(Debug)]
pub struct HookSet {
    registrations: Vec<Registration>,
    nodes: Vec<Node>,
    roots: [[u16; BUILTINS]; 3],
    /// Interest bits of events raised per flow.
    pub interest: u16,
    /// Built-in events registered on NULL, for RAW and ORPHAN.
    pub on_null: u16,
    /// Whether some allocated event is registered: dispatch keeps account of who may raise.
    pub raises: bool,
}

impl Default for HookSet {
    fn default() -> Self {
        HookSet {
            registrations: Vec::new(),
            nodes: Vec::new(),
            roots: [[NONE; BUILTINS]; 3],
            interest: 0,
            on_null: 0,
            raises: false,
        }
    }
}

impl HookSet {
    /// The node of a built-in event (`bit`: its number 0..12).
    #[inline]
    pub fn root(&self, hook: Hook, bit: u32) -> Option<&Node> {
        self.nodes.get(self.roots[hook as usize][bit as usize] as usize)
    }

    /// A node by its number.
    #[inline]
    pub fn node(&self, index: u16) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    /// The number of a built-in's node, [`NONE`] when nothing below it is registered.
    #[inline]
    pub fn root_index(&self, hook: Hook, bit: u32) -> u16 {
        self.roots[hook as usize][bit as usize]
    }

    /// The child of `parent` that is the allocated event `event`.
    pub fn raisable(&self, parent: u16, event: EventId) -> Option<u16> {
        let mut at = self.node(parent)?.child;
        while let Some(node) = self.node(at) {
            if node.event == event {
                return node.raised_only.then_some(at);
            }
            at = node.next;
        }
        None
    }

    /// This set with one more callback. The first of two for one event and hook stays (D3).
    pub fn with(
        &self,
        forest: &Forest,
        hook: Hook,
        event: EventId,
        callback: Callback,
    ) -> Option<Arc<HookSet>> {
        let mut registrations = self.copy_registrations(1)?;
        if !registrations.iter().any(|r| r.hook == hook && r.event == event) {
            registrations.push(Registration { hook, event, callback });
        }
        Self::build(forest, registrations)
    }

    /// This set without the callback for one event and hook.
    pub fn without(&self, forest: &Forest, hook: Hook, event: EventId) -> Option<Arc<HookSet>> {
        let mut registrations = self.copy_registrations(0)?;
        registrations.retain(|r| r.hook != hook || r.event != event);
        Self::build(forest, registrations)
    }

    /// The callback registered for one event and hook.
    pub fn registered(&self, hook: Hook, event: EventId) -> Option<Callback> {
        self.registrations.iter().find(|r| r.hook == hook && r.event == event).map(|r| r.callback)
    }

    fn copy_registrations(&self, more: usize) -> Option<Vec<Registration>> {
        let mut list = Vec::new();
        list.try_reserve_exact(self.registrations.len() + more).ok()?;
        list.extend_from_slice(&self.registrations);
        Some(list)
    }

    fn build(forest: &Forest, registrations: Vec<Registration>) -> Option<Arc<HookSet>> {
        let mut set = HookSet::default();
        for r in &registrations {
            let at = set.branch(forest, r.hook, r.event)?;
            set.nodes[at as usize].callback = Some(r.callback);
            let builtin = forest.builtin_of(r.event)? as u16;
            set.interest |= interest(r.hook, builtin);
            if r.hook == Hook::Null {
                set.on_null |= builtin;
            }
        }
        set.registrations = registrations;
        Some(Arc::new(set))
    }

    /// The node of `event`, made with all its ancestors when missing.
    fn branch(&mut self, forest: &Forest, hook: Hook, event: EventId) -> Option<u16> {
        // From the event up to its built-in, then down again: a chain may be as long as an application likes.
        let mut path = Vec::new();
        let mut at = event;
        while at >= FIRST_USER_EVENT {
            path.try_reserve(1).ok()?;
            path.push(at);
            at = forest.get(at)?.parent;
        }
        let mut node = self.root_of(hook, at)?;
        for &below in path.iter().rev() {
            node = self.child_of(forest, node, below)?;
        }
        Some(node)
    }

    /// The node of a built-in event, made when missing.
    fn root_of(&mut self, hook: Hook, event: EventId) -> Option<u16> {
        let bit = event.trailing_zeros() as usize;
        let slot = self.roots[hook as usize].get(bit).copied()?;
        if slot != NONE {
            return Some(slot);
        }
        let at = self.push(Node {
            event,
            filter: None,
            callback: None,
            arg: 0,
            raised_only: false,
            child: NONE,
            next: NONE,
        })?;
        self.roots[hook as usize][bit] = at;
        Some(at)
    }

    /// The node of `event` below `parent`, made when missing, behind its elder siblings.
    fn child_of(&mut self, forest: &Forest, parent: u16, event: EventId) -> Option<u16> {
        let defined = forest.get(event)?;
        let mut last = NONE;
        let mut at = self.nodes[parent as usize].child;
        while at != NONE {
            if self.nodes[at as usize].event == event {
                return Some(at);
            }
            last = at;
            at = self.nodes[at as usize].next;
        }
        let raised_only = defined.filter.is_none();
        self.raises |= raised_only;
        let new = self.push(Node {
            event,
            filter: defined.filter,
            callback: None,
            arg: defined.arg,
            raised_only,
            child: NONE,
            next: NONE,
        })?;
        if last == NONE {
            self.nodes[parent as usize].child = new;
        } else {
            self.nodes[last as usize].next = new;
        }
        Some(new)
    }

    fn push(&mut self, node: Node) -> Option<u16> {
        let at = self.nodes.len();
        if at >= NONE as usize || self.nodes.try_reserve(1).is_err() {
            return None;
        }
        self.nodes.push(node);
        Some(at as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forest_of(chain: usize) -> (Forest, EventId) {
        let mut forest = Forest::default();
        let mut last = 1;
        for n in 0..chain {
            last = forest.define(last, Some(Filter::Foreign(n + 1)), &[], |_| Some(1));
        }
        (forest, last)
    }

    #[test]
    fn a_very_long_chain_of_user_events_is_no_recursion() {
        let (forest, last) = forest_of(50_000);
        let set = HookSet::default().with(&forest, Hook::Snd, last, Callback::Foreign(7)).expect("fits");
        let mut depth = 0;
        let mut at = set.root_index(Hook::Snd, 0);
        while let Some(node) = set.node(at) {
            depth += 1;
            at = node.child;
        }
        assert_eq!(depth, 50_001);
        assert_eq!(set.interest, interest(Hook::Snd, 1));
    }

    #[test]
    fn a_chain_longer_than_node_numbers_is_refused() {
        let (forest, last) = forest_of(70_000);
        assert!(HookSet::default().with(&forest, Hook::Snd, last, Callback::Foreign(7)).is_none());
    }

    #[test]
    fn the_first_registration_stays_and_siblings_keep_their_order() {
        let mut forest = Forest::default();
        let ids: Vec<EventId> =
            (1..=3).map(|n| forest.define(1, Some(Filter::Foreign(n)), &[], |_| Some(1))).collect();
        let mut set = std::sync::Arc::new(HookSet::default());
        for (n, &id) in ids.iter().rev().enumerate() {
            set = set.with(&forest, Hook::Rcv, id, Callback::Foreign(n)).expect("fits");
        }
        set = set.with(&forest, Hook::Rcv, ids[2], Callback::Foreign(99)).expect("fits");
        let mut seen = Vec::new();
        let mut at = set.root(Hook::Rcv, 0).expect("root").child;
        while let Some(node) = set.node(at) {
            seen.push((node.event, node.callback));
            at = node.next;
        }
        let want: Vec<_> =
            ids.iter().rev().enumerate().map(|(n, &id)| (id, Some(Callback::Foreign(n)))).collect();
        assert_eq!(seen, want);
        let none = set.without(&forest, Hook::Rcv, ids[0]).expect("fits");
        let none = none.without(&forest, Hook::Rcv, ids[1]).expect("fits");
        let none = none.without(&forest, Hook::Rcv, ids[2]).expect("fits");
        assert_eq!(none.interest, 0);
        assert!(none.root(Hook::Rcv, 0).is_none());
    }
}
