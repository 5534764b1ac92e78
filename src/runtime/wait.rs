//! Threads that wait for end-host sockets: they sleep until the socket they wait for has changed, their time is over, SIGINT
//! came, or the context ends (decision A, second half).
//!
//! No wake-up is lost: a thread looks at what it waits for, and enters the list of sleepers, under the core's lock; changes happen
//! under the same lock, and who makes them wakes the sleepers before letting go of it. Ends and signals come without the
//! lock: they are announced first and then wake everyone, while a thread enters the list first and then looks for them.

use super::context::Context;
use super::core_loop::with_token;
use super::sync::{Condvar, Mutex};
use crate::flow::token::Token;
use crate::monitor::{Errno, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What one look at a socket gives.
#[derive(Debug)]
pub enum Look<R> {
    /// The call is done.
    Done(R),
    /// Nothing to do yet, and the socket is a blocking one.
    Later,
}

/// The threads that wait for sockets of one context.
#[derive(Debug, Default)]
pub struct Waits {
    sleepers: Mutex<Vec<Sleeper>>,
    /// Counts the interrupts: who waits through one gets EINTR.
    interrupts: AtomicU64,
}

/// A thread, and the socket it waits for.
#[derive(Debug)]
struct Sleeper {
    sock: u32,
    bed: Arc<Bed>,
}

/// Where a thread sleeps.
#[derive(Debug, Default)]
struct Bed {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Bed {
    fn wake(&self) {
        *self.woken.lock() = true;
        self.changed.notify_one();
    }

    /// Sleeps until woken, or until a time.
    fn sleep(&self, until: Option<Instant>) {
        let mut woken = self.woken.lock();
        while !*woken {
            match until {
                Some(until) if self.changed.wait_until(&mut woken, until).timed_out() => return,
                Some(_) => {}
                None => self.changed.wait(&mut woken),
            }
        }
    }
}

impl Waits {
    /// Everyone who waits looks up: the context ends.
    pub fn wake_all(&self) {
        for sleeper in self.sleepers.lock().iter() {
            sleeper.bed.wake();
        }
    }

    /// Everyone who waits gets EINTR.
    pub fn interrupt(&self) {
        self.interrupts.fetch_add(1, Ordering::AcqRel);
        self.wake_all();
    }

    /// Wakes those whose sockets have changed. At the end of each round and of each call, under the core's lock.
    #[inline]
    pub fn deliver(&self, context: &Context, t: &mut Token) {
        if context.endpoint.view(t).has_woken() {
            self.deliver_now(context, t);
        }
    }

    #[cold]
    fn deliver_now(&self, context: &Context, t: &mut Token) {
        let st = context.endpoint.state(t);
        for sleeper in self.sleepers.lock().iter().filter(|s| st.is_woken(s.sock)) {
            sleeper.bed.wake();
        }
        st.clear_woken();
    }

    fn enter(&self, sock: u32) -> Result<Arc<Bed>> {
        let bed = Arc::new(Bed::default());
        let mut sleepers = self.sleepers.lock();
        sleepers.try_reserve(1).map_err(|_| Errno(libc::ENOMEM))?;
        sleepers.push(Sleeper { sock, bed: bed.clone() });
        Ok(bed)
    }

    fn leave(&self, bed: &Arc<Bed>) {
        self.sleepers.lock().retain(|s| !Arc::ptr_eq(&s.bed, bed));
    }
}

/// When a time-out of so many milliseconds is over; negative: never.
pub fn deadline(timeout_ms: i32) -> Option<Instant> {
    let ms = u64::try_from(timeout_ms).ok()?;
    Some(Instant::now() + Duration::from_millis(ms))
}

/// Looks at a socket, and again each time it has changed, until `look` is done, an error, or `until`. `None`: it was not done by
/// then.
///
/// # Errors
/// What `look` says; EBADF: the socket was closed; EINTR: SIGINT came, or the context ends; ENOMEM.
pub fn wait<R>(
    context: &Context,
    sock: u32,
    until: Option<Instant>,
    mut look: impl FnMut(&Context, &mut Token) -> Result<Look<R>>,
) -> Result<Option<R>> {
    let waits = &context.waits;
    let interrupts = waits.interrupts.load(Ordering::Acquire);
    let mut generation = None;
    let mut bed: Option<Arc<Bed>> = None;
    let result = loop {
        let last = until.is_some_and(|until| Instant::now() >= until);
        let looked = with_token(context, |t| {
            // From here on nobody else changes anything.
            if let Some(bed) = bed.take() {
                waits.leave(&bed);
                context.endpoint.state(t).sleepers -= 1;
            }
            let here = context.endpoint.view(t).sockets.generation(sock);
            if *generation.get_or_insert(here) != here {
                return Err(Errno(libc::EBADF));
            }
            context.tell_time_inside(t);
            let looked = look(context, t)?;
            if matches!(looked, Look::Later) && !last {
                bed = Some(waits.enter(sock)?);
                context.endpoint.state(t).sleepers += 1;
            }
            waits.deliver(context, t);
            Ok(looked)
        });
        match looked {
            Ok(Look::Done(result)) => break Ok(Some(result)),
            Ok(Look::Later) => context.ready.store(true, Ordering::Release),
            Err(e) => break Err(e),
        }
        if waits.interrupts.load(Ordering::Acquire) != interrupts || !context.alive() {
            break Err(Errno(libc::EINTR));
        }
        match &bed {
            Some(bed) => bed.sleep(until),
            None => break Ok(None),
        }
    };
    if let Some(bed) = bed.take() {
        with_token(context, |t| {
            waits.leave(&bed);
            context.endpoint.state(t).sleepers -= 1;
        });
    }
    result
}

#[cfg(test)]
mod tests;
