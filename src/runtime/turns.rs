//! Whose turn it is to poll a live core: a waiting application thread's, or the core's own.
//!
//! A thread that waits takes the turn if no other has it, and keeps it until it has what it waited for. The core's own thread
//! stays out of the way while that goes on, and resumes when nobody has polled for a millisecond: a server that comes
//! back to wait at once runs to completion, without a context switch. Before it polls itself it wakes a thread
//! that sleeps, which then polls.
//!
//! The two sides notice each other by flags that each sets before it looks at the other's: no order of events lets both go on.
//! Who waits for the right to poll never waits longer than a round, because whoever has it is woken.

use super::context::Context;
use super::live_loop::{Poller, Turn};
use super::sync::{Condvar, Mutex, MutexGuard};
use crate::io::clock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So long after an application thread polled the core's own thread resumes.
const AWAY: Duration = Duration::from_millis(1);
/// How long the core's own thread sleeps while another keeps on polling; the end of that wakes it.
const DEEP: Duration = Duration::from_millis(100);

/// See the file's head.
#[derive(Debug, Default)]
pub struct Turns {
    /// An application thread polls, or is about to.
    taken: AtomicBool,
    /// How often one began to.
    count: AtomicU64,
    /// The count at which a sleeper was last asked to poll.
    asked: AtomicU64,
    /// When one last had, ns; 0: never.
    polled_ns: AtomicU64,
    /// The core's own thread polls, or is about to.
    own: AtomicBool,
    /// The core's own thread sleeps until the turn is given back.
    deep: AtomicBool,
    bed: Mutex<()>,
    given_back: Condvar,
}

/// The turn, while it lives.
#[derive(Debug)]
pub struct Mine<'a> {
    context: &'a Context,
    poller: MutexGuard<'a, Poller>,
}

impl Turns {
    /// Takes the turn, if no application thread has it; then [`begin`](Self::begin).
    pub fn take(&self) -> bool {
        let mine = !self.taken.load(Ordering::Relaxed) && !self.taken.swap(true, Ordering::SeqCst);
        if mine {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        mine
    }

    /// Who has taken the turn gets the right to poll. Without the core's lock: a round takes that after this.
    pub fn begin<'a>(&self, context: &'a Context) -> Mine<'a> {
        if self.own.load(Ordering::SeqCst) {
            context.sleeper.wake();
        }
        Mine { context, poller: context.poller.lock() }
    }

    /// Whether an application thread wants to poll.
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::SeqCst)
    }

    /// For the core's own thread: waits until it is its turn, or the core is to end.
    pub fn wait_for_own(&self, context: &Context) {
        while !context.stop.load(Ordering::Acquire) {
            let count = self.count.load(Ordering::Relaxed);
            let polled = self.polled_ns.load(Ordering::Acquire);
            let away = polled == 0 || clock::now_ns().saturating_sub(polled) >= AWAY.as_nanos() as u64;
            if !self.is_taken() && away {
                // Whoever sleeps may rather poll itself; asked once, until somebody has polled again.
                if polled != 0
                    && self.asked.swap(count, Ordering::Relaxed) != count
                    && context.waits.wake_one()
                {
                    self.nap(AWAY);
                    continue;
                }
                self.own.store(true, Ordering::SeqCst);
                if !self.is_taken() {
                    return;
                }
            }
            self.own.store(false, Ordering::SeqCst);
            self.nap(AWAY);
            if self.is_taken() && self.count.load(Ordering::Relaxed) == count {
                self.nap_deeply(count);
            }
        }
    }

    fn nap(&self, time: Duration) {
        self.given_back.wait_for(&mut self.bed.lock(), time);
    }

    /// Sleeps while the turn stays where it is.
    fn nap_deeply(&self, count: u64) {
        let mut bed = self.bed.lock();
        self.deep.store(true, Ordering::SeqCst);
        if self.is_taken() && self.count.load(Ordering::Relaxed) == count {
            self.given_back.wait_for(&mut bed, DEEP);
        }
        self.deep.store(false, Ordering::SeqCst);
    }
}

impl Mine<'_> {
    /// Runs a round.
    pub fn round(&mut self) -> Turn {
        self.poller.round(self.context)
    }

    /// Waits for something to do, at most until a time.
    pub fn idle(&mut self, until: Option<Instant>) {
        let most = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        self.poller.wait(self.context, most);
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        let turns = &self.context.waits.turns;
        turns.polled_ns.store(clock::now_ns(), Ordering::Release);
        turns.taken.store(false, Ordering::SeqCst);
        if turns.deep.load(Ordering::SeqCst) {
            drop(turns.bed.lock());
            turns.given_back.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
