//! The poll loop of a core that replays, or receives on its packets' clock: packets and deadlines in the order of virtual time
//! (design E).

use super::context::Context;
use super::core_loop::{GaveUp, MOST_PANICS, guarded, with_token};
use super::report::{Lines, ReplayStats};
use crate::endpoint::Endpoint;
use crate::flow::token::Token;
use crate::io::progress::Progress;
use crate::io::replay::{Ahead, Fill};
use crate::monitor::Monitor;
use crate::net::forward;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Rounds without packets before the first nap, and its length.
const SPINS: u32 = 256;
const NAP: Duration = Duration::from_micros(50);

/// What a round found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Packets were handled.
    Packets,
    /// Time passed without packets.
    Silence,
    /// Nothing is there, and no time passes until a packet says so.
    Nothing,
    /// No packet will come any more; flows are still to end by themselves.
    Draining,
    /// Nothing is left to do.
    Done,
}

/// Polls until the replay is over or the core is to end. `first`: of those that share the packets, this one shows progress.
pub(super) fn run(context: &Context, first: bool) {
    let m = &context.monitor;
    let mut progress = first.then(Progress::on_stderr);
    let mut lines = Lines::new(context.config.mos.stat_print.clone());
    let mut stats = ReplayStats::start();
    let mut between = true;
    let mut panics = 0;
    let mut empty = 0;
    while !context.stop.load(Ordering::Acquire) {
        let round = guarded(context, |t| {
            let round = round(m, &context.endpoint, t, &mut between);
            let st = m.state(t);
            *m.published.lock() = st.stats;
            stats.sample(st);
            if let (Some(progress), Some((bytes, packets))) = (&mut progress, st.io.position()) {
                progress.update(bytes, packets);
            }
            round
        });
        match round {
            Some(Round::Done) => break,
            Some(Round::Draining) => stats.drain(),
            Some(Round::Nothing) => nap(&mut empty),
            Some(_) => (panics, empty) = (0, 0),
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
        stats.finish(context.core, st);
    });
}

/// As [`run`] for a context without a thread, on the calling one; `stop` is asked before each round.
pub(super) fn drive(context: &Context, stop: impl Fn() -> bool) -> Result<(), GaveUp> {
    let m = &context.monitor;
    let mut between = true;
    let mut panics = 0;
    let mut empty = 0;
    while !stop() && panics < MOST_PANICS {
        match guarded(context, |t| round(m, &context.endpoint, t, &mut between)) {
            Some(Round::Done) => break,
            Some(Round::Nothing) => nap(&mut empty),
            Some(_) => (panics, empty) = (0, 0),
            None => {
                between = true;
                panics += 1;
            }
        }
    }
    if panics < MOST_PANICS { Ok(()) } else { Err(GaveUp) }
}

/// After a round without anything; `empty` counts them.
fn nap(empty: &mut u32) {
    *empty = empty.saturating_add(1);
    if *empty < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::sleep(NAP);
    }
}

/// One step: the packets of (a part of) an iteration, or the next deadline in the silence before them.
/// `between`: no iteration is open.
pub fn round(m: &Monitor, ours: &Endpoint, t: &mut Token, between: &mut bool) -> Round {
    if *between {
        let next = match m.state(t).io.ahead() {
            Ahead::At(ns) => Some(ns / 1_000_000),
            Ahead::End => None,
            Ahead::Nothing => {
                // What a device did not take is tried again.
                forward::outbox(m.state(t));
                return Round::Nothing;
            }
        };
        if m.clock_ms.load(Ordering::Relaxed) == u64::MAX {
            // Virtual time starts at the first stamp.
            let start = next.unwrap_or(0);
            m.set_time(t, start * 1_000_000);
            m.start_timers(start);
        }
        let due = [m.next_deadline_ms(t), ours.next_due_ms(t)].into_iter().flatten().min();
        match (next, due) {
            (Some(next), Some(due)) if due < next => {
                silence(m, ours, t, due, next);
                return Round::Silence;
            }
            (Some(_), _) => {}
            (None, _) if m.state(t).flows.is_empty() => return Round::Done,
            (None, Some(due)) if m.state(t).wheel.next_due().is_some_and(|d| d < 1 << 61) => {
                silence(m, ours, t, due, u64::MAX / 1_000_000);
                return Round::Draining;
            }
            (None, _) => {
                // Flows that never expire end as by destroy.
                m.end_all(t);
                return Round::Done;
            }
        }
    }
    let Fill::Batch { now_ns, ends_iteration } = m.receive(t) else {
        *between = true;
        end_iteration(m, ours, t);
        return Round::Silence;
    };
    let now_ms = now_ns / 1_000_000;
    m.set_time(t, now_ms * 1_000_000);
    ours.set_time(t, now_ms * 1000);
    m.packets(t, ours);
    *between = ends_iteration;
    if ends_iteration {
        let st = m.state(t);
        st.more_waits = st.io.more_waits();
        end_iteration(m, ours, t);
    }
    Round::Packets
}

/// What follows the packets of an iteration.
fn end_iteration(m: &Monitor, ours: &Endpoint, t: &mut Token) {
    ours.end_round(m, t);
    m.end_iteration(t);
}

/// An iteration without packets, at a deadline in a silence that lasts until `end`.
fn silence(m: &Monitor, ours: &Endpoint, t: &mut Token, due_ms: u64, end_ms: u64) {
    m.set_time(t, due_ms.saturating_mul(1_000_000));
    ours.set_time(t, due_ms.saturating_mul(1000));
    m.state(t).jump = Some(end_ms);
    end_iteration(m, ours, t);
    m.state(t).jump = None;
}
