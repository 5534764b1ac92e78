//! The life of a core's thread: it waits for its packets to start, polls them (a replay's or live ones), delivers what ends with it.

use super::affinity;
use super::cancel;
use super::context::Context;
use super::devices::Devices;
use super::enter;
use super::gate;
use super::registry;
use super::{live_loop, replay_loop};
use crate::flow::record::CLI;
use crate::flow::token::Token;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use super::replay_loop::{Round, round};

/// So many rounds that panic one after the other end the core.
pub(super) const MOST_PANICS: u32 = 1000;

/// The thread of a context.
pub fn run(context: Arc<Context>, devices: &Devices) {
    /// Whatever happens, nobody waits for this core for ever.
    struct Finish(Arc<Context>);
    impl Drop for Finish {
        fn drop(&mut self) {
            self.0.finish();
        }
    }
    let _finish = Finish(context.clone());
    // To the thread's end: callbacks must return.
    let _whole = cancel::Off::here();
    if !affinity::pin(context.core) {
        log::info!("core {} is not there to be pinned to", context.core);
    }
    if devices.is_live() {
        live_loop::run(&context);
        live_loop::drain(&context);
    } else if let Some(sharing) = gate::wait(&context) {
        match devices.source(context.core, &sharing) {
            Ok(source) => {
                let _running = enter::running(&context);
                with_token(&context, |t| {
                    let st = context.monitor.state(t);
                    st.host = devices.host(&source.ports);
                    st.io = source;
                });
                replay_loop::run(&context, sharing.first() == Some(&context.core));
            }
            Err(message) => log::error!("core {}: {message}", context.core),
        }
    }
    {
        let _running = enter::running(&context);
        guarded(&context, |t| context.monitor.end_all(t));
        if devices.has_ports() {
            live_loop::end(&context);
        }
        publish(&context);
        publish_ports(&context);
        if let Some(live) = with_token(&context, |t| context.monitor.state(t).io.take_live()) {
            devices.give_back(context.core, live);
        }
        with_token(&context, |t| context.monitor.state(t).io.close());
    }
    if context.free_at_end.load(Ordering::Acquire) {
        registry::remove(&context);
    }
}

/// Runs `work` with the core's lock held. Not from within: the lock is not re-entrant.
#[allow(unsafe_code)]
pub(crate) fn with_token<R>(context: &Context, work: impl FnOnce(&mut Token) -> R) -> R {
    let _held = context.baton.take();
    // SAFETY: the lock was taken a line ago, and this thread has no other token for the core.
    let mut token = unsafe { Token::new() };
    work(&mut token)
}

/// As [`with_token`]; a panic ends the flow in process and is counted. `None`: it panicked.
pub(super) fn guarded<R>(context: &Context, work: impl FnOnce(&mut Token) -> R) -> Option<R> {
    with_token(context, |t| match catch_unwind(AssertUnwindSafe(|| work(t))) {
        Ok(result) => {
            context.waits.deliver(context, t);
            Some(result)
        }
        Err(_) => {
            let m = &context.monitor;
            m.in_callout.store(false, Ordering::Relaxed);
            let st = m.state(t);
            st.depth = 0;
            st.jump = None;
            st.raising = None;
            st.raised.clear();
            st.stats.panics += 1;
            st.settle_fault();
            let flow = st.cur.flow.take();
            st.cur.end();
            log::error!("core {}: a fault was contained; the flow in process ends", context.core);
            if let Some((id, _)) = flow {
                let _ = catch_unwind(AssertUnwindSafe(|| m.end_flow(t, id, CLI, true)));
            }
            None
        }
    })
}

/// Too many rounds panicked one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GaveUp;

/// Drives a context without a thread to its end on the calling thread: packets, the flows' expiry, CONN_END of those that
/// are left, outputs closed. `stop` is asked before each round. Returns the messages about what was skipped.
pub(crate) fn drive(context: &Context, stop: impl Fn() -> bool) -> Result<Vec<String>, GaveUp> {
    let m = &context.monitor;
    let live = with_token(context, |t| m.state(t).io.is_live());
    let result = if live { live_loop::drive(context, stop) } else { replay_loop::drive(context, stop) };
    guarded(context, |t| m.end_all(t));
    if live {
        live_loop::end(context);
    }
    let messages = with_token(context, |t| {
        let st = m.state(t);
        let (skipped, messages) = st.io.skipped();
        st.stats.skipped = skipped;
        st.io.close();
        *m.published.lock() = st.stats;
        messages
    });
    result.map(|()| messages)
}

fn publish(context: &Context) {
    with_token(context, |t| {
        let st = context.monitor.state(t);
        *context.monitor.published.lock() = st.stats;
    });
}

/// Makes the port counters readable for other threads.
pub(super) fn publish_ports(context: &Context) {
    with_token(context, |t| {
        let st = context.monitor.state(t);
        *context.ports.lock() = st.io.ports.iter().map(|p| (p.name.clone(), p.counters)).collect();
    });
}
