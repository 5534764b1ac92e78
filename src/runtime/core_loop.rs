//! The poll loop of a core that replays: packets and deadlines in the order of virtual time (design E).

use super::affinity;
use super::context::Context;
use super::devices::Devices;
use super::enter;
use super::gate;
use super::registry;
use super::report::{Lines, ReplayStats};
use crate::flow::record::CLI;
use crate::flow::token::Token;
use crate::io::progress::Progress;
use crate::io::replay::Fill;
use crate::monitor::Monitor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many rounds that panic one after the other end the core.
const MOST_PANICS: u32 = 1000;

/// What a round found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Packets were handled.
    Packets,
    /// Time passed without packets.
    Silence,
    /// No packet will come any more; flows are still to end by themselves.
    Draining,
    /// Nothing is left to do.
    Done,
}

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
    if !affinity::pin(context.core) {
        log::info!("core {} is not there to be pinned to", context.core);
    }
    if let Some((rank, cores)) = gate::wait(&context) {
        match devices.source(rank, cores) {
            Ok(source) => {
                let _running = enter::running(&context);
                with_token(&context, |t| {
                    let st = context.monitor.state(t);
                    st.host = devices.host(&source.ports);
                    st.io = source;
                });
                poll(&context, rank == 0 && cores > 0);
            }
            Err(message) => log::error!("core {}: {message}", context.core),
        }
    }
    {
        let _running = enter::running(&context);
        guarded(&context, |t| context.monitor.end_all(t));
        publish(&context);
        publish_ports(&context);
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
fn guarded<R>(context: &Context, work: impl FnOnce(&mut Token) -> R) -> Option<R> {
    with_token(context, |t| match catch_unwind(AssertUnwindSafe(|| work(t))) {
        Ok(result) => Some(result),
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

fn poll(context: &Arc<Context>, first: bool) {
    let m = &context.monitor;
    let mut progress = first.then(Progress::on_stderr);
    let mut lines = Lines::new(context);
    let mut stats = ReplayStats::start();
    let mut between = true;
    let mut panics = 0;
    while !context.stop.load(Ordering::Acquire) {
        let round = guarded(context, |t| {
            let round = round(m, t, &mut between);
            let st = m.state(t);
            *m.published.lock() = st.stats;
            stats.sample(st);
            if let (Some(progress), Some(replay)) = (&mut progress, st.io.as_replay()) {
                progress.update(replay.position(), replay.packets());
            }
            round
        });
        match round {
            Some(Round::Done) => break,
            Some(Round::Draining) => stats.drain(),
            Some(_) => panics = 0,
            None => {
                between = true;
                panics += 1;
                if panics == MOST_PANICS {
                    log::error!("core {}: {MOST_PANICS} faults in a row, giving up", context.core);
                    break;
                }
            }
        }
        lines.print(context);
    }
    if let Some(progress) = &mut progress {
        progress.finish();
    }
    with_token(context, |t| {
        let st = m.state(t);
        let skipped = st.io.skipped();
        st.stats.skipped = skipped.0;
        for message in skipped.1 {
            log::warn!("{message}");
        }
        stats.finish(st);
    });
}

/// Too many rounds panicked one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GaveUp;

/// Drives a context without a thread to its end on the calling thread: packets, the flows' expiry, CONN_END of those that
/// are left, outputs closed. `stop` is asked before each round. Returns the messages about what was skipped.
pub(crate) fn drive(context: &Context, stop: impl Fn() -> bool) -> Result<Vec<String>, GaveUp> {
    let m = &context.monitor;
    let mut between = true;
    let mut panics = 0;
    while !stop() && panics < MOST_PANICS {
        match guarded(context, |t| round(m, t, &mut between)) {
            Some(Round::Done) => break,
            Some(_) => panics = 0,
            None => {
                between = true;
                panics += 1;
            }
        }
    }
    guarded(context, |t| m.end_all(t));
    let messages = with_token(context, |t| {
        let st = m.state(t);
        let (skipped, messages) = st.io.skipped();
        st.stats.skipped = skipped;
        st.io.close();
        *m.published.lock() = st.stats;
        messages
    });
    if panics < MOST_PANICS { Ok(messages) } else { Err(GaveUp) }
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

/// One step: the packets of (a part of) an iteration, or the next deadline in the silence before them.
/// `between`: no iteration is open.
pub fn round(m: &Monitor, t: &mut Token, between: &mut bool) -> Round {
    if *between {
        let next = m.state(t).io.next_at().map(|ns| ns / 1_000_000);
        if m.clock_ms.load(Ordering::Relaxed) == u64::MAX {
            // Virtual time starts at the first stamp.
            let start = next.unwrap_or(0);
            m.set_time(t, start * 1_000_000);
            m.start_timers(start);
        }
        let due = m.next_deadline_ms(t);
        match (next, due) {
            (Some(next), Some(due)) if due < next => {
                silence(m, t, due, next);
                return Round::Silence;
            }
            (Some(_), _) => {}
            (None, _) if m.state(t).flows.is_empty() => return Round::Done,
            (None, Some(due)) if m.state(t).wheel.next_due().is_some_and(|d| d < 1 << 61) => {
                silence(m, t, due, u64::MAX / 1_000_000);
                return Round::Draining;
            }
            (None, _) => {
                // Flows that never expire end as by destroy.
                m.end_all(t);
                return Round::Done;
            }
        }
    }
    let st = m.state(t);
    let Fill::Batch { now_ns, ends_iteration } = st.io.fill(&mut st.batch) else {
        *between = true;
        m.end_iteration(t);
        return Round::Silence;
    };
    m.set_time(t, now_ns / 1_000_000 * 1_000_000);
    m.packets(t);
    *between = ends_iteration;
    if ends_iteration {
        let st = m.state(t);
        st.more_waits = st.io.more_waits();
        m.end_iteration(t);
    }
    Round::Packets
}

/// An iteration without packets, at a deadline in a silence that lasts until `end`.
fn silence(m: &Monitor, t: &mut Token, due_ms: u64, end_ms: u64) {
    m.set_time(t, due_ms.saturating_mul(1_000_000));
    m.state(t).jump = Some(end_ms);
    m.end_iteration(t);
    m.state(t).jump = None;
}
