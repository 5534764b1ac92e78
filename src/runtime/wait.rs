//! Threads that wait for end-host sockets, and who polls the core meanwhile (decision A, second half).
//!
//! Whoever waits, polls: on a live core without monitors and user timers, one of the waiting threads runs the rounds itself
//! until what it waits for has come about ([`super::turns`] decides which). Everyone else sleeps until the socket they wait for has
//! changed, their time is over, SIGINT came, or the context ends.
//!
//! No wake-up is lost: a thread looks at what it waits for, and enters the list of sleepers, under the core's lock; changes happen
//! under the same lock, and who makes them wakes the sleepers before letting go of it. Ends and signals come without the
//! lock: they are announced first and then wake everyone, while a thread enters the list first and then looks for them.

use super::context::Context;
use super::core_loop::with_token;
use super::live_loop::Turn;
use super::sync::{Condvar, Mutex};
use super::turns::Turns;
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
    /// Who polls.
    pub turns: Turns,
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

    /// The thread that sleeps longest looks up: it may poll. `false`: nobody sleeps.
    pub fn wake_one(&self) -> bool {
        let sleepers = self.sleepers.lock();
        sleepers.first().inspect(|s| s.bed.wake()).is_some()
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

/// How a thread waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until when; `None`: for ever.
    pub until: Option<Instant>,
    /// Whether the core is polled once before the first look: who asks what has happened wants to know of the latest.
    pub polls_first: bool,
}

impl Patience {
    /// For ever.
    pub const ENDLESS: Patience = Patience { until: None, polls_first: false };
}

/// Whether any thread may run this core's rounds: it receives live, and no callback can come of them.
fn is_free(context: &Context, t: &Token) -> bool {
    let m = &context.monitor;
    context.live
        && m.view(t).flows.is_empty()
        && m.setup.lock().listeners.is_empty()
        && m.timers.lock().is_empty()
}

/// One look, and what follows when it was for nothing.
enum Next<R> {
    Over(Result<Option<R>>),
    /// The calling thread has the turn to poll.
    Poll,
    Sleep(Arc<Bed>),
}

/// Looks at a socket, and again each time it has changed, until `look` is done, an error, or time is over. `None`: it was not
/// done by then.
///
/// # Errors
/// What `look` says; EBADF: the socket was closed; EINTR: SIGINT came, or the context ends; ENOMEM.
pub fn wait<R>(
    context: &Context,
    sock: u32,
    patience: Patience,
    mut look: impl FnMut(&Context, &mut Token) -> Result<Look<R>>,
) -> Result<Option<R>> {
    let waits = &context.waits;
    let interrupts = waits.interrupts.load(Ordering::Acquire);
    let interrupted = || waits.interrupts.load(Ordering::Acquire) != interrupts || !context.alive();
    let is_late = || patience.until.is_some_and(|until| Instant::now() >= until);
    let mut generation = None;
    let mut bed: Option<Arc<Bed>> = None;
    let mut turn = None;
    if patience.polls_first && with_token(context, |t| is_free(context, t)) && waits.turns.take() {
        turn.insert(waits.turns.begin(context)).round();
    }
    let result = loop {
        let late = is_late();
        let next = with_token(context, |t| {
            // From here on nobody else changes anything.
            if let Some(bed) = bed.take() {
                waits.leave(&bed);
                context.endpoint.state(t).sleepers -= 1;
            }
            let here = context.endpoint.view(t).sockets.generation(sock);
            if *generation.get_or_insert(here) != here {
                return Next::Over(Err(Errno(libc::EBADF)));
            }
            context.tell_time_inside(t);
            let looked = look(context, t);
            waits.deliver(context, t);
            if turn.is_none() && context.endpoint.view(t).has_output() {
                // Somebody else polls, and may be asleep.
                context.sleeper.wake();
            }
            match looked {
                Ok(Look::Done(result)) => return Next::Over(Ok(Some(result))),
                Err(e) => return Next::Over(Err(e)),
                Ok(Look::Later) => {}
            }
            context.ready.store(true, Ordering::Release);
            if late {
                return Next::Over(Ok(None));
            }
            let free = is_free(context, t);
            if free && (turn.is_some() || waits.turns.take()) {
                return Next::Poll;
            }
            turn = None;
            match waits.enter(sock) {
                Ok(bed) => {
                    context.endpoint.state(t).sleepers += 1;
                    Next::Sleep(bed)
                }
                Err(e) => Next::Over(Err(e)),
            }
        });
        match next {
            Next::Over(result) => break result,
            Next::Sleep(entered) => {
                bed = Some(entered);
                if interrupted() {
                    break Err(Errno(libc::EINTR));
                }
                if let Some(bed) = &bed {
                    bed.sleep(patience.until);
                }
            }
            Next::Poll => {
                let turn = turn.get_or_insert_with(|| waits.turns.begin(context));
                if interrupted() {
                    break Err(Errno(libc::EINTR));
                }
                match turn.round() {
                    Turn::Worked => {}
                    Turn::Idle => turn.idle(patience.until),
                    Turn::Over => {
                        context.stop_soon();
                        break Err(Errno(libc::EINTR));
                    }
                }
            }
        }
    };
    drop(turn);
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
