//! The poll loop of a core that receives live.
//!
//! One thread at a time has the right to poll a core: it holds [`Context::poller`]. Its loop is [`Poller::round`], which takes the
//! baton for one round (a burst of each device, timers, expiry, NEW_DATA, what is queued goes out), and, when that found
//! nothing to do, [`Poller::wait`], which sleeps in the kernel without the baton. The core's own thread does so for its whole
//! life ([`run`]). Any other thread may, for as long as it has the right, if callbacks may run on it: a thread that waits for
//! something of the core's (decision A) takes the right with `try_lock`, calls `round` and `wait` until what it waits for
//! has come about, and lets go. Everything a round needs is in the context, and devices may be used by any thread.

use super::context::Context;
use super::core_loop::{self, MOST_PANICS, guarded, with_token};
use super::enter;
use super::report::Lines;
use crate::flow::token::Token;
use crate::io::clock;
use crate::io::replay::Fill;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest sleep.
const MOST_SLEEP: Duration = Duration::from_secs(1);
/// What a device takes no more is tried again after so long.
const RETRY: Duration = Duration::from_millis(1);
/// Devices that must be polled: so many rounds without packets before the first nap.
const SPINS: u32 = 256;
/// Length of a nap between rounds. (The kernel adds its timer slack, usually as much again.)
const NAP: Duration = Duration::from_micros(50);
/// How long connections may take to end when the core does (D18).
const DRAIN: Duration = Duration::from_millis(500);
/// Between two looks at the devices' own counters.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);

/// What a round found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Packets: there may be more.
    Worked,
    /// Nothing: it is time to wait.
    Idle,
    /// The core is to end.
    Over,
}

/// The right to poll a core, and what its loop remembers.
#[derive(Debug)]
pub struct Poller {
    lines: Lines,
    panics: u32,
    /// Devices' descriptors; `None` before the first round.
    fds: Option<Vec<RawFd>>,
    /// A device without descriptor: it must be asked.
    polled: bool,
    entries: Vec<libc::pollfd>,
    /// Rounds without packets in a row.
    empty: u32,
    /// Next deadline.
    due_ms: Option<u64>,
    /// Frames wait for their device.
    waiting: bool,
    counters_at: Option<Instant>,
}

/// One round's findings.
struct Found {
    packets: bool,
    waiting: bool,
    due_ms: Option<u64>,
}

impl Poller {
    /// The loop at its beginning.
    pub fn new(stat_print: Vec<String>) -> Self {
        Poller {
            lines: Lines::new(stat_print),
            panics: 0,
            fds: None,
            polled: false,
            entries: Vec::new(),
            empty: 0,
            due_ms: None,
            waiting: false,
            counters_at: None,
        }
    }

    /// One round, on the calling thread: it must neither be in a round already nor hold the core's baton.
    pub fn round(&mut self, context: &Context) -> Turn {
        context.sleeper.note();
        if context.stop.load(Ordering::Acquire) {
            return Turn::Over;
        }
        let _running = enter::running(context);
        let looks = self.counters_at.is_none_or(|at| at.elapsed() >= COUNTERS_EVERY);
        let found = guarded(context, |t| {
            let found = round(context, t);
            let st = context.monitor.state(t);
            if self.fds.is_none() {
                let mut fds = Vec::new();
                self.polled = !st.io.wait_on(&mut fds);
                self.fds = Some(fds);
            }
            if looks {
                note_devices(context, t);
            }
            let st = context.monitor.state(t);
            *context.monitor.published.lock() = st.stats;
            found
        });
        if looks {
            self.counters_at = Some(Instant::now());
        }
        let Some(found) = found else {
            self.panics += 1;
            if self.panics < MOST_PANICS {
                return Turn::Worked;
            }
            log::error!("core {}: {MOST_PANICS} faults in a row, giving up", context.core);
            return Turn::Over;
        };
        self.panics = 0;
        self.waiting = found.waiting;
        self.due_ms = found.due_ms;
        self.lines.print_now(context);
        if found.packets {
            self.empty = 0;
            Turn::Worked
        } else {
            Turn::Idle
        }
    }

    /// Waits until there may be something to do, at most `most`. Without the baton.
    pub fn wait(&mut self, context: &Context, most: Duration) {
        let mut time = most.min(MOST_SLEEP).min(self.lines.due_in());
        if let Some(due) = self.due_ms {
            let left = due.saturating_mul(1_000_000).saturating_sub(clock::now_ns());
            time = time.min(Duration::from_nanos(left));
        }
        if self.waiting {
            time = time.min(RETRY);
        }
        if self.polled {
            self.empty = self.empty.saturating_add(1);
            if self.empty < SPINS {
                std::hint::spin_loop();
                return;
            }
            time = time.min(NAP);
        }
        let own = self.fds.as_deref().unwrap_or_default();
        context.sleeper.sleep(&mut self.entries, own, time);
    }
}

/// The core's own thread: polls until the core is to end.
pub fn run(context: &Context) {
    let turns = &context.waits.turns;
    loop {
        turns.wait_for_own(context);
        let mut poller = context.poller.lock();
        match poller.round(context) {
            // Whoever else polls has noticed, or will before it looks at a device.
            Turn::Over => break,
            // Another that wants to poll has woken this thread before it asked for the right.
            Turn::Idle if !turns.is_taken() => poller.wait(context, MOST_SLEEP),
            Turn::Idle | Turn::Worked => {}
        }
    }
}

/// The core ends (D18): connections are closed, for which their peers have a bounded time; what is left then is reset.
pub(super) fn drain(context: &Context) {
    let _running = enter::running(context);
    guarded(context, |t| context.endpoint.state(t).stack_mut().map(|s| s.close_all()));
    let end = Instant::now() + DRAIN;
    let busy = |t: &mut Token| context.endpoint.state(t).stack().is_some_and(|s| s.is_busy());
    while guarded(context, busy) == Some(true) && Instant::now() < end {
        if guarded(context, |t| round(context, t).packets) != Some(true) {
            std::thread::sleep(RETRY);
        }
    }
    guarded(context, |t| {
        if let Some(stack) = context.endpoint.state(t).stack_mut() {
            stack.abort_all();
        }
        round(context, t);
    });
}

/// As [`run`] for a context without a thread, on the calling one; `stop` is asked before each round and a few times a second.
pub(crate) fn drive(context: &Context, stop: impl Fn() -> bool) -> Result<(), core_loop::GaveUp> {
    let mut poller = context.poller.lock();
    while !stop() {
        match poller.round(context) {
            Turn::Over => return Err(core_loop::GaveUp),
            Turn::Worked => {}
            Turn::Idle => poller.wait(context, Duration::from_millis(100)),
        }
    }
    Ok(())
}

/// Last of all: what is queued leaves, and the devices' counters are read.
pub(super) fn end(context: &Context) {
    with_token(context, |t| {
        crate::net::forward::outbox(context.monitor.state(t));
        note_devices(context, t);
    });
}

/// One iteration: a burst of every device, then what follows the packets.
fn round(context: &Context, t: &mut Token) -> Found {
    let (m, ours) = (&context.monitor, &context.endpoint);
    let mut packets = false;
    while let Fill::Batch { now_ns, ends_iteration } = m.receive(t) {
        packets |= !m.state(t).batch.is_empty();
        m.set_time(t, now_ns);
        ours.set_time(t, now_ns / 1000);
        m.packets(t, ours);
        if ends_iteration {
            break;
        }
    }
    let st = m.state(t);
    st.more_waits = st.io.more_waits();
    packets |= st.io.holds();
    let waits = ours.end_round(m, t);
    m.end_iteration(t);
    let waiting = m.state(t).tx_waiting || waits;
    let due_ms = [m.next_deadline_ms(t), ours.next_due_ms(t)].into_iter().flatten().min();
    Found { packets, waiting, due_ms }
}

/// Takes over what only the devices know.
fn note_devices(context: &Context, t: &mut Token) {
    let st = context.monitor.state(t);
    let counters = st.io.device_counters();
    let sum = |of: fn(&crate::io::device::DeviceCounters) -> u64| counters.iter().map(|(_, c)| of(c)).sum();
    st.stats.missed = sum(|c| c.missed);
    st.stats.no_buffer = sum(|c| c.no_buffer);
    st.stats.rx_errors = sum(|c| c.errors);
    st.stats.resteered = sum(|c| c.resteered);
    st.stats.resteer_lost = sum(|c| c.resteer_lost);
}
