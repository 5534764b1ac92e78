//! Rust closures as callbacks and predicates (used by `api`).

use super::event::EventId;
use super::state::Monitor;
use crate::flow::token::Token;
use std::any::Any;
use std::collections::HashMap;

/// What a closure is called with.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The socket id (the timer's id for a timer).
    pub sock: u32,
    /// CLI, SVR or BOTH.
    pub side: usize,
    /// The node's own event id.
    pub event: EventId,
}

/// A closure that is called for an event.
pub type NativeCallback = Box<dyn FnMut(&Monitor, &mut Token, Call) + Send>;
/// A closure that decides whether a user event fires.
pub type NativeFilter = Box<dyn FnMut(&Monitor, &mut Token, Call) -> bool + Send>;

/// The closures of one monitor, by number.
#[derive(Default)]
pub struct Natives {
    callbacks: Vec<Option<NativeCallback>>,
    filters: Vec<Option<NativeFilter>>,
    /// What a Rust application keeps with a flow socket.
    data: HashMap<u32, Box<dyn Any + Send>>,
    /// Free numbers of one-shot callbacks (timers).
    free: Vec<u32>,
}

impl std::fmt::Debug for Natives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Natives({} callbacks, {} filters)", self.callbacks.len(), self.filters.len())
    }
}

impl Natives {
    /// Adds a callback and returns its number.
    pub fn add_callback(&mut self, callback: NativeCallback) -> u32 {
        if let Some(number) = self.free.pop() {
            self.callbacks[number as usize] = Some(callback);
            return number;
        }
        self.callbacks.push(Some(callback));
        (self.callbacks.len() - 1) as u32
    }

    /// Drops a callback; its number may be used again.
    pub fn remove_callback(&mut self, number: u32) {
        if let Some(slot) = self.callbacks.get_mut(number as usize) {
            *slot = None;
            self.free.push(number);
        }
    }

    /// Keeps `data` with a flow socket until its flow has ended.
    pub fn set_data(&mut self, sock: u32, data: Box<dyn Any + Send>) {
        self.data.insert(sock, data);
    }

    /// What is kept with a flow socket.
    pub fn data(&mut self, sock: u32) -> Option<&mut Box<dyn Any + Send>> {
        self.data.get_mut(&sock)
    }

    /// The flow of a socket has ended.
    pub fn forget(&mut self, sock: u32) {
        if !self.data.is_empty() {
            self.data.remove(&sock);
        }
    }

    /// Adds a predicate and returns its number.
    pub fn add_filter(&mut self, filter: NativeFilter) -> u32 {
        self.filters.push(Some(filter));
        (self.filters.len() - 1) as u32
    }
}

impl Monitor {
    /// Runs a closure; it is out of its place meanwhile, so that nothing is borrowed.
    pub(super) fn call_native(&self, t: &mut Token, number: u32, sock: u32, side: usize, event: EventId) {
        let taken = self.state(t).natives.callbacks.get_mut(number as usize).and_then(Option::take);
        let Some(mut callback) = taken else { return };
        callback(self, t, Call { sock, side, event });
        if let Some(slot) = self.state(t).natives.callbacks.get_mut(number as usize)
            && slot.is_none()
        {
            *slot = Some(callback);
        }
    }

    /// Asks a closure; `false` when it is already being asked.
    pub(super) fn ask_native(
        &self,
        t: &mut Token,
        number: u32,
        sock: u32,
        side: usize,
        event: EventId,
    ) -> bool {
        let taken = self.state(t).natives.filters.get_mut(number as usize).and_then(Option::take);
        let Some(mut filter) = taken else { return false };
        let answer = filter(self, t, Call { sock, side, event });
        if let Some(slot) = self.state(t).natives.filters.get_mut(number as usize) {
            *slot = Some(filter);
        }
        answer
    }
}
