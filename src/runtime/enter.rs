//! The way in for calls from applications: on which core's behalf, and whether its state may be touched.
//!
//! A call from a callback runs under the lock its core holds already; a call from another thread takes it. A call
//! from a signal handler that interrupted the library, or about another core from a callback, gets EPERM.

use super::context::Context;
use super::registry;
use super::wait::{self, Look, Patience};
use crate::flow::token::Token;
use crate::monitor::{Errno, Result};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

thread_local! {
    /// The context whose round this thread is running.
    static CURRENT: Cell<*const Context> = const { Cell::new(std::ptr::null()) };
    /// This thread is inside the library on behalf of a call from outside.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// See [`thread_number`].
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// A number that is the calling thread's alone. Unlike `std::thread::current`, nothing is allocated that an
/// application's main thread would keep to its end.
pub fn thread_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    if NUMBER.get() == 0 {
        NUMBER.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
    }
    NUMBER.get()
}

/// Marks the calling thread as running a context's rounds until dropped.
#[derive(Debug)]
pub struct Running<'a> {
    outer: *const Context,
    _context: &'a Context,
}

/// The calling thread runs `context`'s rounds from now on.
pub fn running(context: &Context) -> Running<'_> {
    let outer = CURRENT.replace(context);
    Running { outer, _context: context }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

/// Where a call comes from.
enum From<'a> {
    /// A callback of the core it is about.
    Callback(&'a Context),
    /// Any other thread.
    Outside,
}

fn from<'a>(cpu: i32) -> Result<From<'a>> {
    let current = CURRENT.get();
    if current.is_null() {
        return if INSIDE.get() { Err(Errno(libc::EPERM)) } else { Ok(From::Outside) };
    }
    // SAFETY: `Running` keeps the context borrowed for as long as the pointer is set on this thread, and a callback's
    // calls return before that.
    let context = unsafe { &*current };
    if !context.monitor.in_callout.load(Ordering::Relaxed) {
        return Err(Errno(libc::EPERM));
    }
    if context.core as i64 == cpu as i64 { Ok(From::Callback(context)) } else { Err(Errno(libc::EPERM)) }
}

/// Whether the calling thread runs a callback (of any core), or was interrupted inside the library.
pub fn in_library() -> bool {
    in_round() || INSIDE.get()
}

/// Whether the calling thread runs a core's rounds.
pub fn in_round() -> bool {
    !CURRENT.get().is_null()
}

/// Checks a core id (the reference's first check): EINVAL outside the possible ones.
fn check_cpu(cpu: i32) -> Result<()> {
    if (0..registry::MAX_CORES as i32).contains(&cpu) { Ok(()) } else { Err(Errno(libc::EINVAL)) }
}

fn alive(cpu: i32) -> Result<Arc<Context>> {
    let context = registry::context(cpu)?;
    if context.alive() { Ok(context) } else { Err(Errno(libc::EPERM)) }
}

/// What a call gets for an impossible core id: the number given, or the look-up's own. A context that is gone gets EPERM (K9).
pub type Gone = Option<Errno>;

/// Runs `call` on the core's state; only from a callback of that core. EPERM elsewhere.
#[inline]
pub fn on_core<R>(cpu: i32, gone: Gone, call: impl FnOnce(&Context, &mut Token) -> Result<R>) -> Result<R> {
    check_cpu(cpu).map_err(|e| gone.unwrap_or(e))?;
    match from(cpu)? {
        From::Callback(context) => inside(context, call),
        From::Outside => {
            let _inside = Inside::enter();
            alive(cpu)?;
            Err(Errno(libc::EPERM))
        }
    }
}

/// Runs `call` on the core's state, from a callback or from any thread.
pub fn locked<R>(cpu: i32, gone: Gone, call: impl FnOnce(&Context, &mut Token) -> Result<R>) -> Result<R> {
    check_cpu(cpu).map_err(|e| gone.unwrap_or(e))?;
    match from(cpu)? {
        From::Callback(context) => inside(context, call),
        From::Outside => {
            let _inside = Inside::enter();
            let context = alive(cpu)?;
            let _held = context.baton.take();
            // SAFETY: this thread took the lock a line ago, and has no other token for this core.
            let mut token = unsafe { Token::new() };
            context.tell_time_inside(&mut token);
            let result = call(&context, &mut token);
            context.waits.deliver(&context, &mut token);
            // What it queued leaves in the next round.
            context.sleeper.wake();
            result
        }
    }
}

/// Looks at end-host socket `sock` until it is done, an error, or time is over; see [`wait::wait`]. From a callback it looks once.
pub fn waiting<R>(
    cpu: i32,
    gone: Gone,
    sock: i32,
    patience: Patience,
    mut look: impl FnMut(&Context, &mut Token) -> Result<Look<R>>,
) -> Result<Option<R>> {
    check_cpu(cpu).map_err(|e| gone.unwrap_or(e))?;
    match from(cpu)? {
        From::Callback(context) => inside(context, |c, t| match look(c, t)? {
            Look::Done(result) => Ok(Some(result)),
            Look::Later => Ok(None),
        }),
        From::Outside => {
            let _inside = Inside::enter();
            wait::wait(&*alive(cpu)?, u32::try_from(sock).unwrap_or(u32::MAX), patience, look)
        }
    }
}

/// Runs `call` on the state of the core whose callback the calling thread is in.
#[inline]
fn inside<R>(context: &Context, call: impl FnOnce(&Context, &mut Token) -> Result<R>) -> Result<R> {
    // SAFETY: this thread holds the core's lock, and the token of the round in progress is lent to the call-out this
    // call comes from.
    let mut token = unsafe { Token::new() };
    leave_callout(context, || call(context, &mut token))
}

/// Runs `call` on what of a context lies behind leaf locks: for any core, from anywhere but a signal handler.
pub fn anywhere<R>(cpu: i32, gone: Gone, call: impl FnOnce(&Context) -> Result<R>) -> Result<R> {
    reach(cpu, gone, true, call)
}

/// As [`anywhere`], also after the core's end: counters stay readable until the context is destroyed.
pub fn even_finished<R>(cpu: i32, gone: Gone, call: impl FnOnce(&Context) -> Result<R>) -> Result<R> {
    reach(cpu, gone, false, call)
}

fn reach<R>(cpu: i32, gone: Gone, must_live: bool, call: impl FnOnce(&Context) -> Result<R>) -> Result<R> {
    check_cpu(cpu).map_err(|e| gone.unwrap_or(e))?;
    let found = || if must_live { alive(cpu) } else { registry::context(cpu) };
    match from(cpu) {
        Ok(From::Callback(context)) => leave_callout(context, || call(context)),
        Ok(From::Outside) => {
            let _inside = Inside::enter();
            let context = found()?;
            context.tell_time();
            let result = call(&context);
            context.sleeper.wake();
            result
        }
        Err(e) => match caller() {
            // From a callback, about another core.
            Some(own) => leave_callout(own, || call(&*found()?)),
            None => Err(e),
        },
    }
}

/// The context whose callback the calling thread is in.
fn caller<'a>() -> Option<&'a Context> {
    // SAFETY: as in `from`.
    let context = unsafe { CURRENT.get().as_ref() }?;
    context.monitor.in_callout.load(Ordering::Relaxed).then_some(context)
}

/// Whether the calling thread is inside a callback.
pub fn in_callback() -> bool {
    caller().is_some()
}

/// While the library works for a callback, a signal handler that interrupts it must not get in.
#[inline]
fn leave_callout<R>(context: &Context, work: impl FnOnce() -> R) -> R {
    struct Back<'a>(&'a Context);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            compiler_fence(Ordering::SeqCst);
            self.0.monitor.in_callout.store(true, Ordering::Relaxed);
        }
    }
    context.monitor.called_back.store(true, Ordering::Relaxed);
    context.monitor.in_callout.store(false, Ordering::Relaxed);
    // A signal handler on this thread must see the flag before any of the work.
    compiler_fence(Ordering::SeqCst);
    let _back = Back(context);
    work()
}

/// While it lives, a signal handler that interrupts the calling thread does not get in.
#[derive(Debug)]
pub(super) struct Inside {
    outer: bool,
}

impl Inside {
    /// A call from outside any round begins its work.
    pub(super) fn enter() -> Self {
        let outer = INSIDE.replace(true);
        compiler_fence(Ordering::SeqCst);
        Inside { outer }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        INSIDE.set(self.outer);
    }
}
