//! Timers: closures called once, at a time of the capture's clock.

use super::Error;
use crate::flow::token::Token;
use crate::monitor::Monitor;
use crate::monitor::event::Hook;
use crate::monitor::hookset::Callback;
use std::time::Duration;

/// What a timer's closure is given.
pub struct TimerCtx<'a> {
    monitor: &'a Monitor,
    token: &'a mut Token,
    again: Option<Duration>,
}

impl std::fmt::Debug for TimerCtx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TimerCtx({:?})", self.now())
    }
}

fn micros(after: Duration) -> u64 {
    u64::try_from(after.as_micros()).unwrap_or(u64::MAX).min(i64::MAX as u64)
}

/// Sets a timer.
pub(super) fn set(
    monitor: &Monitor,
    token: &mut Token,
    after: Duration,
    mut f: impl FnMut(&mut TimerCtx<'_>) + Send + 'static,
) -> Result<(), Error> {
    let closure =
        Box::new(move |monitor: &Monitor, token: &mut Token, call: crate::monitor::native::Call| {
            let mut ctx = TimerCtx { monitor, token, again: None };
            f(&mut ctx);
            let number = call.sock;
            let again = ctx.again.is_some_and(|after| {
                monitor.set_timer(number as i32, micros(after), Callback::Native(number)).is_ok()
            });
            if !again {
                // It is running: its place is freed, and the closure dropped on return.
                let removed = monitor.state(token).natives.remove_callback(number);
                monitor.drop_foreign(token, removed);
            }
        });
    let number = monitor.state(token).natives.add_callback(Hook::Null, closure).ok_or(Error::OutOfMemory)?;
    // The timer's id is its closure's number.
    monitor.set_timer(number as i32, micros(after), Callback::Native(number)).map_err(|_| {
        let removed = monitor.state(token).natives.remove_callback(number);
        drop(removed);
        Error::OutOfMemory
    })
}

impl TimerCtx<'_> {
    /// The time, since 1970: of the capture.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.monitor.view(self.token).now_ns)
    }

    /// Calls the same closure again, `after` from now. Over a silence of the capture a re-armed timer fires at most once
    /// a second of the capture's time, and 100 times; no timer fires after the last flow has ended.
    pub fn rearm(&mut self, after: Duration) {
        self.again = Some(after);
    }

    /// Sets another timer; over a silence of the capture, the limits of [`rearm`](TimerCtx::rearm) apply.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn timer(
        &mut self,
        after: Duration,
        f: impl FnMut(&mut TimerCtx<'_>) + Send + 'static,
    ) -> Result<(), Error> {
        set(self.monitor, self.token, after, f)
    }

    /// The counters, as of now.
    pub fn counters(&self) -> super::Counters {
        self.monitor.view(self.token).stats
    }
}
