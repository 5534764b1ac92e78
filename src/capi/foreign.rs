//! Calling the application's functions.

use super::abi::{Callback, Filter, FilterArg, Mctx, SigHandler};
use crate::monitor::event::EventId;
use crate::monitor::state::ForeignCalls;

/// What a built-in event's callback gets as its argument: an empty one.
struct Empty(FilterArg);
// SAFETY: it holds no address; nothing writes to it.
unsafe impl Sync for Empty {}
static EMPTY: Empty = Empty(FilterArg { arg: std::ptr::null_mut(), len: 0 });

/// The way the monitor calls C.
pub const CALLS: ForeignCalls = ForeignCalls { callback, filter };

fn argument(event: EventId, arg: usize) -> *mut FilterArg {
    match (event, arg) {
        (0, _) => std::ptr::null_mut(),
        (_, 0) => (&raw const EMPTY.0).cast_mut(),
        (_, address) => address as *mut FilterArg,
    }
}

fn callback(ctx: usize, function: usize, sock: i32, side: i32, event: EventId, arg: usize) {
    // SAFETY: the address was taken from a `callback_t` in `mtcp_register_callback` or `mtcp_settimer`, and `Callback` is
    // a nullable function pointer of the same size.
    let function: Callback = unsafe { std::mem::transmute::<usize, Callback>(function) };
    if let Some(function) = function {
        // SAFETY: the application gave this function to be called so.
        unsafe { function(ctx as Mctx, sock, side, event, argument(event, arg)) };
    }
}

fn filter(ctx: usize, function: usize, sock: i32, side: i32, event: EventId, arg: usize) -> bool {
    // SAFETY: as in `callback`, from a `filter_t` in `mtcp_define_event`.
    let function: Filter = unsafe { std::mem::transmute::<usize, Filter>(function) };
    // SAFETY: the application gave this function to be called so.
    function.is_some_and(|f| unsafe { f(ctx as Mctx, sock, side, event, argument(event, arg)) } != 0)
}

/// Runs a signal handler, given its address.
pub fn signal_handler(function: usize, signal: i32) {
    // SAFETY: the address was taken from a handler in `mtcp_register_signal`.
    let function: SigHandler = unsafe { std::mem::transmute::<usize, SigHandler>(function) };
    if let Some(function) = function {
        // SAFETY: the application gave this function to be called so.
        unsafe { function(signal) };
    }
}
