//! Dispatch: one built-in event set of one flow to the callbacks of its sockets.
//!
//! Sockets in chain order (K3); for each, events in ascending bit order; for each, the parent's callback, then the
//! user events below it whose filters say yes, depth first, in registration order (monitor.md §4.4, D3).

use super::event::{BOTH, EventId, Hook, interest};
use super::hookset::{Filter, NONE, Node};
use super::listener::Kind;
use super::native::Call;
use super::socket::NO_SOCKET;
use super::state::Monitor;
use crate::flow::arena::Id;
use crate::flow::record::CLI;
use crate::flow::token::Token;

/// A walk that is this deep into user events goes no deeper.
const MOST_DEPTH: usize = 4096;

/// One event of a walk, its filter passed.
pub(super) struct Frame {
    node: u16,
    next_child: u16,
    raised: Vec<u16>,
}

impl Monitor {
    /// Raises `events` for side `side` of a flow on `hook`, if any attached socket listens.
    #[inline]
    pub(super) fn raise(&self, t: &mut Token, id: Id, hook: Hook, side: usize, events: u16) {
        let wanted = interest(hook, events);
        let st = self.state(t);
        let Some(flow) = st.flows.get(id) else { return };
        if flow.interest & wanted == 0 {
            return;
        }
        let first = flow.socket;
        self.raise_wanted(t, first, hook, side, events);
    }

    /// Raises to the sockets of a flow, whose first is `first`, knowing that one listens.
    pub(super) fn raise_wanted(&self, t: &mut Token, first: u32, hook: Hook, side: usize, events: u16) {
        match self.state(t).sockets.get(first) {
            Some(only) if only.next == NO_SOCKET => {
                if only.follows_side(side) {
                    let set = only.set();
                    self.run_set(t, set, first, hook, side, events);
                }
            }
            _ => self.raise_to_all(t, first, hook, side, events, reversed(hook, side)),
        }
    }

    /// As [`Monitor::raise_wanted`] for one event, its number `bit`, for whose sake alone a flow was looked up: mostly one socket
    /// has one callback for it.
    #[inline]
    pub(super) fn raise_one(&self, t: &mut Token, first: u32, hook: Hook, side: usize, bit: u32) {
        let st = self.state(t);
        if let Some(only) = st.sockets.get(first)
            && only.next == NO_SOCKET
            && only.follows_side(side)
            && let Some(root) = st.sets.get(only.set()).and_then(|hooks| hooks.root(hook, bit))
            && root.child == NONE
            && let Some(callback) = root.callback
        {
            st.depth += 1;
            st.stats.events[bit as usize] += 1;
            self.call(t, callback, first, side, 1 << bit, 0);
            return self.end_dispatch(t);
        }
        self.raise_wanted(t, first, hook, side, 1 << bit);
    }

    fn raise_to_all(&self, t: &mut Token, first: u32, hook: Hook, side: usize, events: u16, reverse: bool) {
        let mut chain = self.chain(t, first);
        if reverse {
            chain.reverse();
        }
        for sock in chain {
            self.tell(t, sock, hook, side, events);
        }
    }

    /// The sockets of a flow in creation order.
    pub(super) fn chain(&self, t: &mut Token, first: u32) -> Vec<u32> {
        let st = self.state(t);
        let mut chain = Vec::new();
        let mut at = first;
        while let Some(socket) = st.sockets.get(at) {
            if chain.try_reserve(1).is_err() {
                st.stats.no_memory += 1;
                break;
            }
            chain.push(at);
            at = socket.next;
        }
        chain
    }

    /// Raises `events` to one socket of a flow.
    #[inline]
    pub(super) fn tell(&self, t: &mut Token, sock: u32, hook: Hook, side: usize, events: u16) {
        let Some(socket) = self.state(t).sockets.get(sock) else { return };
        if !socket.follows_side(side) {
            return;
        }
        let set = socket.set();
        self.run_set(t, set, sock, hook, side, events);
    }

    /// Runs the callbacks of a set for each event of `events`, in ascending order.
    fn run_set(&self, t: &mut Token, set: u32, sock: u32, hook: Hook, side: usize, events: u16) {
        self.state(t).depth += 1;
        let mut left = events;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let st = self.state(t);
            let Some(hooks) = st.sets.get(set) else { break };
            let Some(root) = hooks.root(hook, bit) else { continue };
            st.stats.events[bit as usize] += 1;
            let (callback, child) = (root.callback, root.child);
            if child == NONE {
                if let Some(callback) = callback {
                    self.call(t, callback, sock, side, 1 << bit, 0);
                }
            } else {
                let node = hooks.root_index(hook, bit);
                self.walk(t, set, node, sock, hook, side);
            }
        }
        self.end_dispatch(t);
    }

    /// A dispatch is over: with the outermost, sets that nobody uses any more go.
    #[inline]
    fn end_dispatch(&self, t: &mut Token) {
        let st = self.state(t);
        st.depth -= 1;
        if st.depth == 0 && st.sets.dirty() {
            st.sweep();
            self.bury(t);
        }
    }

    /// Visits the tree below a built-in event.
    fn walk(&self, t: &mut Token, set: u32, root: u16, sock: u32, hook: Hook, side: usize) {
        // Kept for the next walk; a walk inside of this one has another.
        let mut path = std::mem::take(&mut self.state(t).path);
        self.walk_with(t, set, root, sock, hook, side, &mut path);
        path.clear();
        self.state(t).path = path;
    }

    #[allow(clippy::too_many_arguments)]
    fn walk_with(
        &self,
        t: &mut Token,
        set: u32,
        root: u16,
        sock: u32,
        hook: Hook,
        side: usize,
        path: &mut Vec<Frame>,
    ) {
        let Some(first) = self.enter(t, set, root, sock, side, Vec::new()) else { return };
        if path.try_reserve(1).is_err() {
            return;
        }
        path.push(first);
        while let Some(top) = path.last_mut() {
            let (child, was_raised) = if top.next_child != NONE {
                (top.next_child, false)
            } else if !top.raised.is_empty() {
                (top.raised.remove(0), true)
            } else {
                path.pop();
                continue;
            };
            let Some(node) = self.state(t).sets.get(set).and_then(|h| h.node(child)).copied() else { break };
            if !was_raised {
                top.next_child = node.next;
                if node.raised_only {
                    continue;
                }
            }
            let mut raised = Vec::new();
            let passes = match node.filter {
                Some(filter) => self.ask(t, set, child, &node, filter, sock, hook, side, &mut raised),
                None => true,
            };
            if passes
                && path.len() < MOST_DEPTH
                && path.try_reserve(1).is_ok()
                && let Some(frame) = self.enter(t, set, child, sock, side, raised)
            {
                path.push(frame);
            }
        }
    }

    /// Calls a node's own callback; `raised` is what its filter raised.
    fn enter(
        &self,
        t: &mut Token,
        set: u32,
        at: u16,
        sock: u32,
        side: usize,
        mut raised: Vec<u16>,
    ) -> Option<Frame> {
        let node = *self.state(t).sets.get(set)?.node(at)?;
        if let Some(callback) = node.callback {
            self.begin_raising(t, set, at);
            self.call(t, callback, sock, side, node.event, node.arg);
            self.end_raising(t, &mut raised);
        }
        Some(Frame { node: at, next_child: node.child, raised })
    }

    #[allow(clippy::too_many_arguments)]
    fn ask(
        &self,
        t: &mut Token,
        set: u32,
        at: u16,
        node: &Node,
        filter: Filter,
        sock: u32,
        hook: Hook,
        side: usize,
        raised: &mut Vec<u16>,
    ) -> bool {
        self.begin_raising(t, set, at);
        let answer = match filter {
            Filter::Foreign(function) => {
                let outer = self.in_callout.load(std::sync::atomic::Ordering::Relaxed);
                self.in_callout.store(true, std::sync::atomic::Ordering::Relaxed);
                let yes =
                    (self.foreign.filter)(self.ctx, function, sock as i32, side as i32, node.event, node.arg);
                self.in_callout.store(outer, std::sync::atomic::Ordering::Relaxed);
                yes
            }
            Filter::Native(number) => {
                self.called_back.store(true, std::sync::atomic::Ordering::Relaxed);
                self.ask_native(t, number, Call { sock, side, hook, event: node.event })
            }
        };
        self.end_raising(t, raised);
        answer
    }

    fn begin_raising(&self, t: &mut Token, set: u32, node: u16) {
        let st = self.state(t);
        st.raising = st.sets.get(set).filter(|h| h.raises).map(|_| (set, node));
    }

    fn end_raising(&self, t: &mut Token, raised: &mut Vec<u16>) {
        let st = self.state(t);
        st.raising = None;
        for child in st.raised.drain(..) {
            if !raised.contains(&child) {
                raised.push(child);
            }
        }
    }

    /// `mtcp_raise_event`: the running filter or callback raises an allocated event below its own.
    pub fn raise_event(&self, t: &mut Token, event: EventId) -> super::Result<()> {
        let st = self.state(t);
        let child = st.raising.and_then(|(set, node)| st.sets.get(set)?.raisable(node, event));
        let child = child.ok_or(super::Errno::UNTOUCHED)?;
        if !st.raised.contains(&child) {
            st.raised.try_reserve(1).map_err(|_| super::Errno(libc::ENOMEM))?;
            st.raised.push(child);
        }
        Ok(())
    }

    /// Raises an event on NULL to every listener that wants it, in creation order, with the listener's own id.
    /// `kind`: only these listeners. `matches`: by the listener's filter on the packet in process.
    pub(super) fn tell_listeners(&self, t: &mut Token, event: u16, only: Option<Kind>) {
        let count = self.state(t).views.len();
        let mut told: Vec<(u32, u32)> = Vec::new();
        for at in 0..count {
            let st = self.state(t);
            let Some(view) = st.views.get(at) else { break };
            if view.on_null & event == 0 || only.is_some_and(|k| k != view.kind) {
                continue;
            }
            let (id, set) = (view.id, view.set);
            if st.view_matches(at, event) {
                if told.try_reserve(1).is_err() {
                    st.stats.no_memory += 1;
                    break;
                }
                st.sets.share(set);
                told.push((id, set));
            }
        }
        // Filters first, callbacks then: a callback may change the listeners.
        for (id, set) in told {
            self.run_set(t, set, id, Hook::Null, BOTH, event);
            self.state(t).sets.release(set);
        }
    }
}

/// Server packets and what the client receives visit the chain backwards (K3).
fn reversed(hook: Hook, side: usize) -> bool {
    match hook {
        Hook::Snd => side != CLI,
        Hook::Rcv | Hook::Null => side == CLI,
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({})", self.node)
    }
}
