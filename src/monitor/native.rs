//! Rust closures as callbacks and predicates (used by `api`), and what they keep with a flow.
//!
//! Numbers are the monitor's own. A closure is out of its place while it runs, so that nothing is borrowed; a panic
//! in it is contained here: counted, and the flow it was called for ends without further callbacks (decision A).

use super::event::{BOTH, EventId, Hook};
use super::state::{Monitor, State};
use crate::flow::record::CLI;
use crate::flow::token::Token;
use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a closure is called with.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The socket id (the timer's id for a timer).
    pub sock: u32,
    /// CLI, SVR or BOTH.
    pub side: usize,
    /// The hook the closure was registered on.
    pub hook: Hook,
    /// The node's own event id; 0 for a timer.
    pub event: EventId,
}

/// A closure that is called for an event.
pub type NativeCallback = Box<dyn FnMut(&Monitor, &mut Token, Call) + Send>;
/// A closure that decides whether a user event fires.
pub type NativeFilter = Box<dyn FnMut(&Monitor, &mut Token, Call) -> bool + Send>;
/// What an application keeps with a flow.
pub type Kept = Box<dyn Any + Send>;

/// The place of a closure.
enum Place<F> {
    /// It is here.
    Here(F, Hook),
    /// It is being called.
    Out(Hook),
    /// The number is free.
    Free,
}

impl<F> Place<F> {
    fn take(&mut self) -> Option<(F, Hook)> {
        match std::mem::replace(self, Place::Free) {
            Place::Here(closure, hook) => {
                *self = Place::Out(hook);
                Some((closure, hook))
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// Puts a closure back, or returns it when it was removed meanwhile.
    fn put_back(&mut self, closure: F) -> Option<F> {
        match *self {
            Place::Out(hook) => {
                *self = Place::Here(closure, hook);
                None
            }
            _ => Some(closure),
        }
    }
}

/// The closures of one monitor, by number, and the data of its flows.
#[derive(Default)]
pub struct Natives {
    callbacks: Vec<Place<NativeCallback>>,
    free: Vec<u32>,
    /// Callbacks without a user that a dispatch in progress may still call.
    retired: Vec<u32>,
    /// Callbacks registered on single flows, by socket.
    owned: HashMap<u32, Vec<u32>>,
    filters: Vec<Place<NativeFilter>>,
    /// What is kept with flows; a socket's `uctx` is the place + 1.
    kept: Vec<Option<Kept>>,
    kept_free: Vec<u32>,
    /// What is to be dropped when nothing of the monitor is borrowed: the application's code runs then.
    gone: Vec<Kept>,
}

impl std::fmt::Debug for Natives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Natives({} callbacks, {} filters)", self.callbacks.len(), self.filters.len())
    }
}

impl Natives {
    /// Adds a callback and returns its number; `None`: out of memory.
    pub fn add_callback(&mut self, hook: Hook, callback: NativeCallback) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            self.callbacks[number as usize] = Place::Here(callback, hook);
            return Some(number);
        }
        self.callbacks.try_reserve(1).ok()?;
        // Room for every later removal, so that removing never allocates.
        let all = self.callbacks.len() + 1;
        self.free.try_reserve(all - self.free.len()).ok()?;
        self.retired.try_reserve(all).ok()?;
        self.callbacks.push(Place::Here(callback, hook));
        Some((self.callbacks.len() - 1) as u32)
    }

    /// Frees a callback's number at once and returns the closure, to be dropped by the caller.
    #[must_use]
    pub fn remove_callback(&mut self, number: u32) -> Option<NativeCallback> {
        let place = self.callbacks.get_mut(number as usize)?;
        match std::mem::replace(place, Place::Free) {
            Place::Here(callback, _) => {
                self.free.push(number);
                Some(callback)
            }
            Place::Out(_) => {
                self.free.push(number);
                None
            }
            Place::Free => None,
        }
    }

    /// Notes that a callback belongs to one flow's socket: it goes with the flow. `false`: out of memory.
    pub fn own(&mut self, sock: u32, number: u32) -> bool {
        if self.owned.try_reserve(1).is_err() {
            return false;
        }
        let list = self.owned.entry(sock).or_default();
        list.try_reserve(1).is_ok() && {
            list.push(number);
            true
        }
    }

    /// A callback of one flow's socket was unregistered: it is dropped when no dispatch is in progress.
    pub fn disown(&mut self, sock: u32, number: u32) {
        if let Some(list) = self.owned.get_mut(&sock)
            && let Some(at) = list.iter().position(|&n| n == number)
        {
            list.swap_remove(at);
            self.retired.push(number);
        }
    }

    /// Drops retired callbacks; called when no dispatch is in progress.
    pub fn sweep(&mut self) {
        while let Some(number) = self.retired.pop() {
            if let Some(callback) = self.remove_callback(number) {
                self.gone.push(Box::new(callback));
            }
        }
    }

    /// Adds a predicate and returns its number; `None`: out of memory.
    pub fn add_filter(&mut self, filter: NativeFilter) -> Option<u32> {
        self.filters.try_reserve(1).ok()?;
        self.filters.push(Place::Here(filter, Hook::Null));
        Some((self.filters.len() - 1) as u32)
    }

    /// What is kept under a socket's `uctx`.
    pub fn kept(&self, uctx: usize) -> Option<&Kept> {
        self.kept.get(uctx.checked_sub(1)?)?.as_ref()
    }

    /// What is kept under a socket's `uctx`.
    pub fn kept_mut(&mut self, uctx: usize) -> Option<&mut Kept> {
        self.kept.get_mut(uctx.checked_sub(1)?)?.as_mut()
    }

    /// Takes out what is kept under a socket's `uctx`; its place stays the socket's.
    pub fn take_kept(&mut self, uctx: usize) -> Option<Kept> {
        self.kept.get_mut(uctx.checked_sub(1)?)?.take()
    }

    /// Keeps something under a socket's `uctx` (0: none yet); the new `uctx` and what was there before.
    ///
    /// # Errors
    /// Out of memory: the value comes back.
    pub fn keep(&mut self, uctx: usize, value: Kept) -> std::result::Result<(usize, Option<Kept>), Kept> {
        if let Some(slot) = uctx.checked_sub(1).and_then(|at| self.kept.get_mut(at)) {
            return Ok((uctx, slot.replace(value)));
        }
        if let Some(at) = self.kept_free.pop() {
            self.kept[at as usize] = Some(value);
            return Ok((at as usize + 1, None));
        }
        // Room to free every place without allocating.
        let free = self.kept.len() + 1 - self.kept_free.len();
        if self.kept.try_reserve(1).is_err() || self.kept_free.try_reserve(free).is_err() {
            return Err(value);
        }
        self.kept.push(Some(value));
        Ok((self.kept.len(), None))
    }

    /// A socket's flow has ended.
    pub fn forget(&mut self, sock: u32, uctx: usize) {
        if !self.owned.is_empty()
            && let Some(list) = self.owned.remove(&sock)
        {
            self.retired.extend(list);
        }
        if let Some(at) = uctx.checked_sub(1)
            && let Some(slot) = self.kept.get_mut(at)
        {
            self.gone.extend(slot.take());
            self.kept_free.push(at as u32);
        }
    }
}

impl State {
    /// Frees what no dispatch in progress can use any more.
    #[cold]
    pub(super) fn sweep(&mut self) {
        self.sets.sweep();
        self.natives.sweep();
    }
}

impl Monitor {
    /// Runs a closure.
    pub(super) fn call_native(&self, t: &mut Token, number: u32, sock: u32, side: usize, event: EventId) {
        let taken = self.state(t).natives.callbacks.get_mut(number as usize).and_then(Place::take);
        let Some((mut callback, hook)) = taken else { return };
        let call = Call { sock, side, hook, event };
        let outcome = catch_unwind(AssertUnwindSafe(|| callback(self, t, call)));
        let place = self.state(t).natives.callbacks.get_mut(number as usize);
        let removed = place.and_then(|p| p.put_back(callback));
        self.drop_foreign(t, removed);
        if outcome.is_err() {
            self.fault(t, call, Some(number));
        }
    }

    /// Asks a closure; `false` when it is already being asked, or is not of this monitor.
    pub(super) fn ask_native(&self, t: &mut Token, number: u32, call: Call) -> bool {
        let taken = self.state(t).natives.filters.get_mut(number as usize).and_then(Place::take);
        let Some((mut filter, _)) = taken else { return false };
        let outcome = catch_unwind(AssertUnwindSafe(|| filter(self, t, call)));
        if let Some(place) = self.state(t).natives.filters.get_mut(number as usize) {
            place.put_back(filter);
        }
        outcome.unwrap_or_else(|_| {
            self.fault(t, call, None);
            false
        })
    }

    /// A closure panicked: its flow ends, nobody is told.
    #[cold]
    fn fault(&self, t: &mut Token, call: Call, number: Option<u32>) {
        let st = self.state(t);
        st.stats.panics += 1;
        log::error!(
            "a callback panicked; {}",
            if call.side == BOTH || call.event == 0 { "it was contained" } else { "its flow ends" }
        );
        if call.event == 0 {
            // A timer fires once; it had no chance to be set again.
            let removed = number.and_then(|n| st.natives.remove_callback(n));
            self.drop_foreign(t, removed);
        } else if call.side != BOTH
            && let Some(flow) = st.sockets.get(call.sock).map(|s| s.flow)
        {
            self.end_flow(t, flow, CLI, true);
        }
    }

    /// Drops what ended flows kept: now nothing is borrowed, and the application's code may run.
    #[inline]
    pub(super) fn bury(&self, t: &mut Token) {
        if !self.state(t).natives.gone.is_empty() {
            let gone = std::mem::take(&mut self.state(t).natives.gone);
            for kept in gone {
                self.drop_foreign(t, Some(kept));
            }
        }
    }

    /// Drops something of the application's, whose destructor may panic.
    pub fn drop_foreign<T>(&self, t: &mut Token, value: Option<T>) {
        let Some(value) = value else { return };
        if catch_unwind(AssertUnwindSafe(|| drop(value))).is_err() {
            self.state(t).stats.panics += 1;
            log::error!("a destructor panicked; it was contained");
        }
    }
}
