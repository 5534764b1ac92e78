//! User timers (`mtcp_settimer`, monitor.md §7.5): one-shot, per core, any number.
//!
//! They lie behind a leaf lock: any thread may set one at any time.

use super::hookset::Callback;
use super::state::Monitor;
use super::{Errno, Result};
use crate::flow::token::Token;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

/// A re-armed timer fires at most this often in one jump of virtual time (design E).
const MOST_IN_JUMP: u32 = 100;

#[derive(Clone, Copy, Debug)]
struct Timer {
    id: i32,
    callback: Callback,
    /// How often its chain of re-armings fired in the jump in progress.
    fired: u32,
}

/// A timer and when it is due: by expiry in µs, equal ones in reverse order of registration.
#[derive(Clone, Copy, Debug)]
struct Armed {
    due: (u64, Reverse<u64>),
    timer: Timer,
}

impl PartialEq for Armed {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Armed {}

impl PartialOrd for Armed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Armed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // A heap's first is its greatest: the one due next.
        other.due.cmp(&self.due)
    }
}

/// Timers that have not fired.
#[derive(Debug, Default)]
pub struct Timers {
    /// Always with room for all that wait.
    armed: BinaryHeap<Armed>,
    /// Set before the clock started (delays in µs), or while others fire (times in µs): not yet among the armed ones.
    waiting: Vec<(u64, Timer)>,
    count: u64,
    /// While timers fire, those set meanwhile wait for the next iteration.
    firing: bool,
    /// The firing timer's `fired`, while its callback runs in a jump.
    chain: Option<(u32, u64)>,
}

impl Timers {
    /// Virtual milliseconds at which the next timer is due (rounded up).
    pub fn next_due_ms(&self) -> Option<u64> {
        self.armed.peek().map(|next| next.due.0.div_ceil(1000))
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty() && self.waiting.is_empty()
    }

    fn arm(&mut self, expiry_us: u64, timer: Timer) {
        self.count += 1;
        self.armed.push(Armed { due: (expiry_us, Reverse(self.count)), timer });
    }

    /// Keeps a timer aside, with room to arm it later.
    fn wait(&mut self, time_us: u64, timer: Timer) -> Result<()> {
        let enough =
            self.waiting.try_reserve(1).and_then(|()| self.armed.try_reserve(self.waiting.len() + 1));
        enough.map_err(|_| Errno(libc::ENOMEM))?;
        self.waiting.push((time_us, timer));
        Ok(())
    }

    /// Arms those that waited, `from_us` later than they say.
    fn arm_waiting(&mut self, from_us: u64) {
        let mut waiting = std::mem::take(&mut self.waiting);
        for (time, timer) in waiting.drain(..) {
            self.arm(time.saturating_add(from_us), timer);
        }
        self.waiting = waiting;
    }
}

impl Monitor {
    /// Sets a one-shot timer that fires `delay_us` from now, as `callback(mctx, id, 0, 0, NULL)`.
    pub fn set_timer(&self, id: i32, delay_us: u64, callback: Callback) -> Result<()> {
        let mut timers = self.timers.lock();
        let now = self.clock_ms.load(Ordering::Acquire);
        let mut timer = Timer { id, callback, fired: 0 };
        if now == u64::MAX {
            return timers.wait(delay_us, timer);
        }
        let mut expiry = now.saturating_mul(1000).saturating_add(delay_us);
        if let Some((fired, jump_end)) = timers.chain {
            // In one jump over silence: at most once a second, and not for ever.
            timer.fired = fired + 1;
            let earliest = if timer.fired >= MOST_IN_JUMP { jump_end } else { now + 1000 };
            expiry = expiry.max(earliest.min(jump_end).saturating_mul(1000));
        }
        if timers.firing {
            return timers.wait(expiry, timer);
        }
        timers.armed.try_reserve(1).map_err(|_| Errno(libc::ENOMEM))?;
        timers.arm(expiry, timer);
        Ok(())
    }

    /// The clock starts: timers set before count from here.
    pub fn start_timers(&self, now_ms: u64) {
        let mut timers = self.timers.lock();
        timers.arm_waiting(now_ms * 1000);
        self.clock_ms.store(now_ms, Ordering::Release);
    }

    /// Fires what is due now. A timer set by one of these callbacks waits for the next iteration.
    pub fn fire_timers(&self, t: &mut Token) {
        let (now_ms, jump) = {
            let st = self.state(t);
            (st.now_ms, st.jump)
        };
        {
            let mut timers = self.timers.lock();
            if timers.firing {
                // A fault cut the last firing short.
                timers.arm_waiting(0);
            }
            timers.firing = false;
            if timers.next_due_ms().is_none_or(|due| due > now_ms) {
                return;
            }
            timers.firing = true;
        }
        loop {
            let timer = {
                let mut timers = self.timers.lock();
                let due = timers.armed.peek().is_some_and(|next| next.due.0 <= now_ms * 1000);
                let next = if due { timers.armed.pop() } else { None };
                let Some(Armed { timer, .. }) = next else {
                    timers.firing = false;
                    timers.arm_waiting(0);
                    break;
                };
                timers.chain = jump.map(|end| (timer.fired, end));
                timer
            };
            self.call(t, timer.callback, timer.id as u32, 0, 0, 0);
            self.timers.lock().chain = None;
        }
    }
}
