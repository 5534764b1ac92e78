//! Configuration, contexts, signals, counters (endpoint-io.md §3).

use super::abi::{MOS_APP, MOS_APP_ARGC, Mctx, MosStats, MtcpConf, SigHandler};
use super::{ACCESS, cpu_of, entry, foreign};
use crate::config::{Config, round_rmem_size, round_wmem_size};
use crate::monitor::listener::Kind;
use crate::monitor::stats::Stats;
use crate::monitor::{Errno, Result};
use crate::runtime::context::{self, Context};
use crate::runtime::registry::{self, REGISTRY};
use crate::runtime::{affinity, devices, enter, log as logging, signals};
use parking_lot::Mutex;
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The words of each application's `run` line, where `mtcp_getconf` points.
static WORDS: Mutex<Vec<Vec<CString>>> = Mutex::new(Vec::new());

entry! {
    /// Reads the configuration. 0, or -1 with EINVAL (the reason on stderr) or EBUSY while contexts exist.
    fn mtcp_init(config_file: *const c_char) -> c_int, fails -1; {
        logging::install();
        if config_file.is_null() {
            return Err(Errno(libc::EINVAL));
        }
        // SAFETY: not NULL, so a C string by the caller's promise.
        let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(config_file) }.to_bytes()));
        if registry::all().iter().any(|c| !c.is_finished()) {
            log::error!("mtcp_init(): contexts of the configuration before are still running");
            return Err(Errno(libc::EBUSY));
        }
        let (config, devices) = devices::configure(path).map_err(|message| {
            for line in message.lines() {
                log::error!("{line}");
            }
            Errno(libc::EINVAL)
        })?;
        for line in config.dump().lines() {
            log::info!("{line}");
        }
        *WORDS.lock() = words_of(&config);
        signals::install(foreign::signal_handler);
        let mut r = REGISTRY.write();
        r.config = Some(Arc::new(config));
        r.devices = Some(Arc::new(devices));
        r.num_cores = None;
        Ok(0)
    }
}

fn words_of(config: &Config) -> Vec<Vec<CString>> {
    let words = |run: &[String]| run.iter().filter_map(|w| CString::new(w.as_str()).ok()).collect();
    config.apps.iter().map(|a| words(&a.run)).collect()
}

entry! {
    /// Ends all contexts that are left and forgets the configuration. 0.
    fn mtcp_destroy() -> c_int, fails -1; {
        if enter::in_library() {
            return Err(Errno(libc::EPERM));
        }
        for context in registry::all() {
            context::destroy(&context);
        }
        signals::remove();
        let mut r = REGISTRY.write();
        r.config = None;
        r.devices = None;
        drop(r);
        devices::shut_down();
        *WORDS.lock() = Vec::new();
        Ok(0)
    }
}

fn config() -> Result<Arc<Config>> {
    REGISTRY.read().config.clone().ok_or(Errno(libc::EPERM))
}

entry! {
    /// Fills `conf`; times in milliseconds. NULL: EINVAL; before mtcp_init: EPERM.
    fn mtcp_getconf(conf: *mut MtcpConf) -> c_int, fails -1; {
        if conf.is_null() {
            return Err(Errno(libc::EINVAL));
        }
        let c = config()?;
        let cores = REGISTRY.read().num_cores.unwrap_or_else(|| c.num_cores());
        // SAFETY: not NULL, so a whole struct by the caller's promise.
        let out = unsafe { &mut *conf };
        out.num_cores = cores;
        out.max_concurrency = c.mos.max_concurrency;
        out.cpu_mask = c.mos.cpu_mask;
        out.rcvbuf_size = c.mos.rmem_size;
        out.sndbuf_size = c.mos.wmem_size;
        out.tcp_timewait = c.mos.tcp_tw_interval.saturating_mul(1000);
        out.tcp_timeout = c.mos.tcp_timeout.saturating_mul(1000);
        let words = WORDS.lock();
        out.num_app = words.len().min(MOS_APP) as c_int;
        for (n, (app, words)) in c.apps.iter().zip(words.iter()).take(MOS_APP).enumerate() {
            out.app_cpu_mask[n] = app.cpu_mask;
            // The row ends with a NULL, so one word less than it has places.
            let count = words.len().min(MOS_APP_ARGC - 1);
            out.app_argc[n] = count as c_int;
            for (slot, word) in out.app_argv[n].iter_mut().zip(&words[..count]) {
                *slot = word.as_ptr().cast_mut();
            }
            out.app_argv[n][count] = std::ptr::null_mut();
        }
        Ok(0)
    }
}

entry! {
    /// Changes cores, ids, buffer sizes and times (milliseconds) of contexts to come. NULL: -1.
    fn mtcp_setconf(conf: *const MtcpConf) -> c_int, fails -1; {
        if conf.is_null() {
            return Err(Errno::UNTOUCHED);
        }
        let mut c = (*config()?).clone();
        // SAFETY: not NULL, so a whole struct by the caller's promise.
        let new = unsafe { &*conf };
        if new.max_concurrency > 0 {
            c.mos.max_concurrency = new.max_concurrency;
        }
        if new.rcvbuf_size > 0 {
            c.mos.rmem_size = round_rmem_size(new.rcvbuf_size);
        }
        if new.sndbuf_size > 0 {
            c.mos.wmem_size = round_wmem_size(new.sndbuf_size);
        }
        c.mos.tcp_tw_interval = new.tcp_timewait.max(0) / 1000;
        c.mos.tcp_timeout = if new.tcp_timeout > 0 { (new.tcp_timeout / 1000).max(1) } else { new.tcp_timeout };
        let mut r = REGISTRY.write();
        if new.num_cores > 0 {
            r.num_cores = Some(new.num_cores.min(registry::MAX_CORES as i32));
        }
        r.config = Some(Arc::new(c));
        log::info!("configuration changed by mtcp_setconf()");
        Ok(0)
    }
}

entry! {
    /// Pins the calling thread to a core. 0, or -1 with EINVAL (no such core) or the system's reason.
    fn mtcp_core_affinitize(cpu: c_int) -> c_int, fails -1; {
        if cpu < 0 || cpu >= affinity::online_cores() {
            return Err(Errno(libc::EINVAL));
        }
        if affinity::pin(cpu as usize) { Ok(0) } else { Err(Errno::UNTOUCHED) }
    }
}

entry! {
    /// Makes the context of a core. NULL: no configuration, no such core (EINVAL), or it has one (EEXIST).
    fn mtcp_create_context(cpu: c_int) -> Mctx, fails std::ptr::null_mut(); {
        let context = Context::create(cpu, foreign::CALLS)?;
        Ok(registry::handle(context.core) as Mctx)
    }
}

entry! {
    /// Ends a context and frees it; from a callback a request that takes effect after the dispatch. A context that is gone: 0.
    fn mtcp_destroy_context(mctx: Mctx) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let context = match registry::context(cpu) {
            Ok(context) => context,
            Err(Errno(libc::EPERM)) => return Ok(0),
            Err(e) => return Err(e),
        };
        if enter::in_library() {
            context.free_at_end.store(true, Ordering::Release);
            // No lock: this may be a signal handler that interrupted the library. The core's end wakes who waits.
            context.stop_soon();
        } else {
            context::destroy(&context);
        }
        Ok(0)
    }
}

entry! {
    /// Waits for the core's last callback. From a callback: EDEADLK.
    fn mtcp_app_join(mctx: Mctx) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        if enter::in_callback() {
            return Err(Errno(libc::EDEADLK));
        }
        if enter::in_library() {
            return Err(Errno(libc::EPERM));
        }
        let context = registry::context(cpu)?;
        context::app_join(&context);
        Ok(0)
    }
}

entry! {
    /// Installs a signal handler; SIGINT's runs on an ordinary thread (D17). The handler before, SIG_ERR on failure.
    fn mtcp_register_signal(signum: c_int, handler: SigHandler) -> usize, fails libc::SIG_ERR; {
        let address = handler.map_or(0, |h| h as usize);
        if signum == libc::SIGINT {
            return Ok(signals::set_handler(address));
        }
        // SAFETY: the application's handler, installed as it asks.
        let before = unsafe { libc::signal(signum, address) };
        if before == libc::SIG_ERR { Err(Errno::UNTOUCHED) } else { Ok(before) }
    }
}

entry! {
    /// Flows and connections of a context now: with a STREAM monitor, connections are flows. (uint32_t)-1 with EACCES when it is not there.
    fn mtcp_get_connection_cnt(mctx: Mctx) -> u32, fails u32::MAX; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::even_finished(cpu, ACCESS, |c| {
            let (flows, connections) = (&c.monitor.flow_count, &c.endpoint.connections);
            let flows = flows.load(Ordering::Relaxed);
            let monitored = c.monitor.setup.lock().listeners.iter().any(|l| l.kind == Kind::Stream);
            let connections = connections.load(Ordering::Relaxed);
            Ok(if monitored { flows.max(connections) } else { flows + connections })
        })
    }
}

entry! {
    /// Copies a context's counters, at most `size` bytes. EINVAL: no struct, or a size that is 0 or no multiple of 8.
    fn mtcp_get_stats(mctx: Mctx, stats: *mut MosStats, size: usize) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        if stats.is_null() || size == 0 || !size.is_multiple_of(8) {
            return Err(Errno(libc::EINVAL));
        }
        // Inside a callback the counters of this very moment, elsewhere those of the last round.
        let now = match enter::on_core(cpu, None, |c, t| Ok(c.monitor.state(t).stats)) {
            Ok(now) => now,
            Err(_) => enter::even_finished(cpu, None, |c| Ok(*c.monitor.published.lock()))?,
        };
        let filled = stats_of(&now);
        let known = size.min(size_of::<MosStats>());
        // SAFETY: `stats` has `size` bytes by the caller's promise, and the source is a whole struct of u64.
        unsafe {
            std::ptr::copy_nonoverlapping((&raw const filled).cast::<u8>(), stats.cast::<u8>(), known);
            std::ptr::write_bytes(stats.cast::<u8>().add(known), 0, size - known);
        }
        Ok(0)
    }
}

fn stats_of(s: &Stats) -> MosStats {
    MosStats {
        rx_packets: s.rx_packets,
        rx_bytes: s.rx_bytes,
        in_flow: s.in_flow,
        in_orphan: s.in_orphan,
        in_non_tcp: s.in_non_tcp,
        in_non_ip: s.in_non_ip,
        in_fragment: s.in_fragment,
        in_local: s.in_local,
        in_malformed_eth: s.bad_eth,
        in_malformed_ip_len: s.bad_ip_len,
        in_malformed_ip_version: s.bad_ip_version,
        in_malformed_ip_checksum: s.bad_ip_checksum,
        in_malformed_tcp_len: s.bad_tcp_len,
        in_malformed_tcp_checksum: s.bad_tcp_checksum,
        in_unmonitored: s.in_unmonitored,
        fwd_packets: s.forwarded,
        consumed: s.consumed,
        drop_config: s.drop_config,
        drop_callback: s.drop_callback,
        drop_no_route: s.drop_no_route,
        drop_malformed: s.drop_malformed,
        drop_tx_full: s.drop_tx,
        drop_no_memory: s.drop_memory,
        fwd_bytes: s.forwarded_bytes,
        sent_packets: s.sent_packets,
        sent_bytes: s.sent_bytes,
        flows_created: s.flows_created,
        flows_ended: s.flows_ended,
        flows_now: s.flows_now,
        flows_peak: s.flows_peak,
        flows_evicted: s.flows_evicted,
        flows_timed_out: s.flows_timed_out,
        flows_refused: s.flows_refused,
        bytes_reassembled: s.stream_bytes,
        bytes_missing: s.missing_bytes,
        bytes_out_of_window: s.refused_bytes,
        events: s.events,
        truncated_packets: s.truncated,
        capture_skipped: s.skipped,
        no_memory: s.no_memory,
        callback_panics: s.panics,
        sent_lost: s.sent_lost,
        rx_missed: s.missed,
        rx_no_buffer: s.no_buffer,
        rx_errors: s.rx_errors,
        resteered: s.resteered,
        resteer_lost: s.resteer_lost,
        in_fault: s.in_fault,
        drop_fault: s.drop_fault,
        drop_unresolved: s.drop_unresolved,
        drop_too_long: s.drop_too_long,
        waiting: s.waiting,
        echo_unanswered: s.echo_limited,
    }
}
