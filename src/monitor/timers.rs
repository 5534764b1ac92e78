//! User timers (`mtcp_settimer`, monitor.md §7.5): one-shot, per core, any number.
//!
//! They lie behind a leaf lock: any thread may set one at any time.

use super::hookset::Callback;
use super::state::Monitor;
use super::{Errno, Result};
use crate::flow::token::Token;
use std::cmp::Reverse;
use std::collections::BTreeMap;
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

/// Timers that have not fired.
#[derive(Debug, Default)]
pub struct Timers {
    /// By expiry in µs; equal ones in reverse order of registration.
    armed: BTreeMap<(u64, Reverse<u64>), Timer>,
    /// Set before the clock started: delays in µs.
    waiting: Vec<(u64, Timer)>,
    count: u64,
    /// The firing timer's `fired`, while its callback runs in a jump.
    chain: Option<(u32, u64)>,
}

impl Timers {
    /// Virtual milliseconds at which the next timer is due (rounded up).
    pub fn next_due_ms(&self) -> Option<u64> {
        self.armed.first_key_value().map(|(k, _)| k.0.div_ceil(1000))
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty() && self.waiting.is_empty()
    }

    fn arm(&mut self, expiry_us: u64, timer: Timer) {
        self.count += 1;
        self.armed.insert((expiry_us, Reverse(self.count)), timer);
    }
}

impl Monitor {
    /// Sets a one-shot timer that fires `delay_us` from now, as `callback(mctx, id, 0, 0, NULL)`.
    pub fn set_timer(&self, id: i32, delay_us: u64, callback: Callback) -> Result<()> {
        let mut timers = self.timers.lock();
        let now = self.clock_ms.load(Ordering::Acquire);
        let mut timer = Timer { id, callback, fired: 0 };
        if now == u64::MAX {
            timers.waiting.try_reserve(1).map_err(|_| Errno(libc::ENOMEM))?;
            timers.waiting.push((delay_us, timer));
            return Ok(());
        }
        let mut expiry = now.saturating_mul(1000).saturating_add(delay_us);
        if let Some((fired, jump_end)) = timers.chain {
            // In one jump over silence: at most once a second, and not for ever.
            timer.fired = fired + 1;
            let earliest = if timer.fired >= MOST_IN_JUMP { jump_end } else { now + 1000 };
            expiry = expiry.max(earliest.min(jump_end).saturating_mul(1000));
        }
        timers.arm(expiry, timer);
        Ok(())
    }

    /// The clock starts: timers set before count from here.
    pub fn start_timers(&self, now_ms: u64) {
        let mut timers = self.timers.lock();
        for (delay, timer) in std::mem::take(&mut timers.waiting) {
            timers.arm((now_ms * 1000).saturating_add(delay), timer);
        }
        self.clock_ms.store(now_ms, Ordering::Release);
    }

    /// Fires what is due now. A timer set by one of these callbacks waits for the next iteration.
    pub fn fire_timers(&self, t: &mut Token) {
        let (now_ms, jump) = {
            let st = self.state(t);
            (st.now_ms, st.jump)
        };
        let newest = {
            let timers = self.timers.lock();
            match timers.next_due_ms() {
                Some(due) if due <= now_ms => timers.count,
                _ => return,
            }
        };
        loop {
            let timer = {
                let mut timers = self.timers.lock();
                let due = now_ms * 1000;
                let next = timers.armed.iter().take_while(|(k, _)| k.0 <= due).find(|(k, _)| k.1.0 <= newest);
                let Some(key) = next.map(|(k, _)| *k) else { break };
                let Some(timer) = timers.armed.remove(&key) else { break };
                timers.chain = jump.map(|end| (timer.fired, end));
                timer
            };
            self.call(t, timer.callback, timer.id as u32, 0, 0, 0);
            self.timers.lock().chain = None;
        }
    }
}
