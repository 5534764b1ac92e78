//! What a running core tells: the statistics lines (endpoint-io.md §7) and, with MOS_REPLAY_STATS=1, a replay's figures.

use super::affinity::{process_cpu_ns, thread_cpu_ns};
use super::context::Context;
use super::log::say;
use super::registry;
use crate::io::replay::ReplayOptions;
use crate::io::source::PortCounters;
use crate::monitor::State;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Preamble, gap and frame check sequence: bytes a frame takes on the wire besides its own.
const FRAMING: u64 = 24;

/// Between two times the lines are printed.
const EVERY: Duration = Duration::from_secs(1);

/// Prints the statistics lines once a second; the first context of the process does.
#[derive(Debug)]
pub struct Lines {
    last: Instant,
    before: Vec<(usize, String, PortCounters, u64)>,
    peak: (f64, f64),
    average: Option<(f64, f64)>,
    wanted: Vec<String>,
    rounds: u32,
}

impl Lines {
    /// Lines for the devices that `stat_print` names.
    pub fn new(stat_print: Vec<String>) -> Self {
        Lines {
            last: Instant::now(),
            before: Vec::new(),
            peak: (0.0, 0.0),
            average: None,
            wanted: stat_print,
            rounds: 0,
        }
    }

    /// Prints when a second has passed, looking at the clock seldom: for many short rounds.
    pub fn print(&mut self, context: &Context) {
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(256) {
            self.print_now(context);
        }
    }

    /// Prints when a second has passed. Cheap otherwise.
    pub fn print_now(&mut self, context: &Context) {
        if self.wanted.is_empty() {
            return;
        }
        let elapsed = self.last.elapsed();
        if elapsed < EVERY {
            return;
        }
        self.last = Instant::now();
        super::core_loop::publish_ports(context);
        let contexts = registry::all();
        if contexts.first().is_none_or(|c| c.core != context.core) {
            return;
        }
        self.report(&contexts, elapsed.as_secs_f64());
    }

    /// Until the next lines are due.
    pub fn due_in(&self) -> Duration {
        if self.wanted.is_empty() { Duration::MAX } else { EVERY.saturating_sub(self.last.elapsed()) }
    }

    fn report(&mut self, contexts: &[Arc<Context>], seconds: f64) {
        let mut now = Vec::new();
        let mut flows_all = 0;
        for c in contexts {
            let errors = {
                let s = c.monitor.published.lock();
                s.bad_eth
                    + s.bad_ip_len
                    + s.bad_ip_version
                    + s.bad_ip_checksum
                    + s.bad_tcp_len
                    + s.bad_tcp_checksum
            };
            flows_all += c.monitor.flow_count.load(std::sync::atomic::Ordering::Relaxed);
            for (name, counters) in c.ports.lock().iter() {
                if self.wanted.iter().any(|w| name.starts_with(w.as_str())) {
                    now.push((c.core, name.clone(), *counters, errors));
                }
            }
        }
        let mut all: Vec<(String, [f64; 5])> = Vec::new();
        for (core, name, counters, errors) in &now {
            let zero = (PortCounters::default(), 0);
            let (was, errors_was) = self
                .before
                .iter()
                .find(|(c, n, ..)| c == core && n == name)
                .map_or(zero, |(_, _, p, e)| (*p, *e));
            let gbps = |packets: u64, bytes: u64| (bytes + packets * FRAMING) as f64 * 8.0 / 1e9 / seconds;
            // A core's counters begin anew with its context.
            let rx = counters.rx_packets.saturating_sub(was.rx_packets);
            let tx = counters.tx_packets.saturating_sub(was.tx_packets);
            let values = [
                rx as f64 / seconds,
                errors.saturating_sub(errors_was) as f64 / seconds,
                gbps(rx, counters.rx_bytes.saturating_sub(was.rx_bytes)),
                tx as f64 / seconds,
                gbps(tx, counters.tx_bytes.saturating_sub(was.tx_bytes)),
            ];
            let flows = contexts
                .iter()
                .find(|c| c.core == *core)
                .map_or(0, |c| c.monitor.flow_count.load(std::sync::atomic::Ordering::Relaxed));
            say!(
                "[CPU{core:2}] {name} flows: {flows:6}, RX: {:7.0}(pps) (err: {:5.0}), {:5.2}(Gbps), TX: {:7.0}(pps), {:5.2}(Gbps)",
                values[0],
                values[1],
                values[2],
                values[3],
                values[4]
            );
            match all.iter_mut().find(|(n, _)| n == name) {
                Some((_, sum)) => sum.iter_mut().zip(values).for_each(|(s, v)| *s += v),
                None => all.push((name.clone(), values)),
            }
        }
        self.before = now;
        if all.is_empty() {
            return;
        }
        let (mut rx, mut tx) = (0.0, 0.0);
        for (name, v) in &all {
            say!(
                "[ ALL ] {name}, RX: {:7.0}(pps) (err: {:5.0}), {:5.2}(Gbps), TX: {:7.0}(pps), {:5.2}(Gbps)",
                v[0],
                v[1],
                v[2],
                v[3],
                v[4]
            );
            rx += v[2];
            tx += v[4];
        }
        self.peak = (self.peak.0.max(rx), self.peak.1.max(tx));
        let (rx_avg, tx_avg) =
            self.average.map_or((rx, tx), |(r, t)| (0.6 * r + 0.4 * rx, 0.6 * t + 0.4 * tx));
        self.average = Some((rx_avg, tx_avg));
        say!("[ ALL ] flows: {flows_all:6}");
        say!("[ PEAK ] RX: {:5.2}(Gbps), TX: {:5.2}(Gbps)", self.peak.0, self.peak.1);
        say!("[ RECENT AVG ] RX: {rx_avg:5.2}(Gbps), TX: {tx_avg:5.2}(Gbps)");
    }
}

/// The figures of a replay, printed at its end when MOS_REPLAY_STATS=1. The first MOS_REPLAY_WARMUP packets of the core are not
/// in them.
#[derive(Debug)]
pub struct ReplayStats {
    wanted: bool,
    /// Packets before the clock starts; 0 when it has.
    warmup: u64,
    /// Packets and bytes before it did.
    before: (u64, u64),
    thread_start: u64,
    process_start: u64,
    loop_end: Option<(u64, u64)>,
    held_start: u64,
    held_peak: u64,
    sampled_at: u64,
}

impl ReplayStats {
    /// The loop begins.
    pub fn start() -> Self {
        let wanted = std::env::var("MOS_REPLAY_STATS").is_ok_and(|v| v == "1");
        let warmup = ReplayOptions::from_env().map_or(0, |options| options.warmup.into());
        ReplayStats {
            wanted,
            warmup: if wanted { warmup } else { 0 },
            before: (0, 0),
            thread_start: thread_cpu_ns(),
            process_start: process_cpu_ns(),
            loop_end: None,
            held_start: if wanted { held_bytes() } else { 0 },
            held_peak: 0,
            sampled_at: 0,
        }
    }

    /// After a round: samples memory when the number of flows has grown by a fiftieth.
    pub fn sample(&mut self, st: &State) {
        if self.warmup > 0 && st.stats.rx_packets >= self.warmup {
            self.warmup = 0;
            self.before = (st.stats.rx_packets, st.stats.rx_bytes);
            (self.thread_start, self.process_start) = (thread_cpu_ns(), process_cpu_ns());
        }
        if self.wanted && st.stats.flows_now > self.sampled_at + self.sampled_at / 50 {
            self.sampled_at = st.stats.flows_now;
            self.held_peak = self.held_peak.max(held_bytes());
        }
    }

    /// The packets have ended; what follows is the drain.
    pub fn drain(&mut self) {
        if self.wanted && self.loop_end.is_none() {
            self.loop_end = Some((thread_cpu_ns(), process_cpu_ns()));
            self.held_peak = self.held_peak.max(held_bytes());
        }
    }

    /// The replay is over.
    pub fn finish(&mut self, core: usize, st: &State) {
        if !self.wanted {
            return;
        }
        self.drain();
        let end = thread_cpu_ns();
        let (thread, process) = self.loop_end.unwrap_or((end, process_cpu_ns()));
        if self.warmup > 0 {
            // It never got warm.
            self.before = (st.stats.rx_packets, st.stats.rx_bytes);
            (self.thread_start, self.process_start) = (thread, process);
        }
        let s = &st.stats;
        let loop_ns = thread - self.thread_start;
        let (packets, bytes) = (s.rx_packets - self.before.0, s.rx_bytes - self.before.1);
        let per_packet = loop_ns as f64 / packets.max(1) as f64;
        let per_flow = self.held_peak.saturating_sub(self.held_start) as f64 / s.flows_peak.max(1) as f64;
        say!(
            "MOS_REPLAY_STATS core={core} packets={packets} bytes={bytes} flows={} peak_flows={} loop_ns_per_packet={per_packet:.2} \
             loop_thread_ns={loop_ns} loop_process_ns={} drain_ns={} held_start={} held_peak={} \
             bytes_per_flow={per_flow:.1} peak_rss_bytes={}",
            s.flows_created,
            s.flows_peak,
            process - self.process_start,
            end - thread,
            self.held_start,
            self.held_peak,
            peak_rss_bytes()
        );
    }
}

/// Bytes the process's allocations hold, the application's included.
fn held_bytes() -> u64 {
    // SAFETY: mallinfo2 has no preconditions.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// The process's peak resident set.
fn peak_rss_bytes() -> u64 {
    // SAFETY: `usage` is plain data, valid when zeroed, and lives through the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    usage.ru_maxrss as u64 * 1024
}
