//! A context: one core's monitor and end-host sockets, its lock, its thread, and its life from creation to the last callback (§3 of
//! endpoint-io.md, D14, D18).

use super::core_loop;
use super::enter;
use super::live_loop::Poller;
use super::registry;
use super::sleep::Sleeper;
use super::surroundings::Surroundings;
use super::sync::{Baton, Condvar, Mutex};
use super::wait::Waits;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::endpoint::ports::Steering;
use crate::flow::hash::FlowHash;
use crate::flow::token::Token;
use crate::io::clock;
use crate::io::interface::Kernel;
use crate::io::source::{PortCounters, Source};
use crate::monitor::state::ForeignCalls;
use crate::monitor::{Errno, Monitor, Result, Settings};
use crate::tcp::tcb;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One core's context.
#[derive(Debug)]
pub struct Context {
    /// Core id.
    pub core: usize,
    /// The monitor.
    pub monitor: Monitor,
    /// The end-host sockets.
    pub endpoint: Endpoint,
    /// The threads that wait for those.
    pub waits: Waits,
    /// The core's lock.
    pub baton: Baton,
    /// Live: who holds it polls the core.
    pub poller: Mutex<Poller>,
    /// Live: wakes whoever polls.
    pub sleeper: Sleeper,
    /// Its packets come from live devices: time is the machine's.
    pub live: bool,
    /// The configuration it was made with.
    pub config: Arc<Config>,
    /// Number of the thread that made it.
    pub creator: u64,
    /// The application has set it up: packets may flow.
    pub ready: AtomicBool,
    /// Made when packets flowed already: gets none of that replay.
    pub late: AtomicBool,
    /// Last call that set something up.
    pub last_setup: Mutex<Option<Instant>>,
    /// The core is to end.
    pub stop: AtomicBool,
    /// The context is to be freed when the core has ended, because a callback asked for it.
    pub free_at_end: AtomicBool,
    /// Packets and bytes by port, as of the last round.
    pub ports: Mutex<Vec<(String, PortCounters)>>,
    finished: Mutex<bool>,
    finished_changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the monitor needs of a configuration.
pub fn settings_of(config: &Config) -> Settings {
    let mos = &config.mos;
    // Stamps of flows are 32-bit milliseconds: half their range, 24 days, is the longest time to be told apart.
    let ms = |seconds: i32| seconds.max(0).saturating_mul(1000) as u32;
    Settings {
        max_ids: mos.max_concurrency.max(1) as u32,
        rmem: mos.rmem_size.max(1024) as usize,
        timeout_ms: (mos.tcp_timeout > 0).then(|| ms(mos.tcp_timeout)),
        time_wait_ms: ms(mos.tcp_tw_interval),
        forward: mos.forward,
        verify: mos.verify_checksums,
        midstream: mos.midstream,
        memory_limit: mos.memory_limit,
    }
}

/// What connections of this host are made with.
pub fn tcp_of(config: &Config) -> tcb::Config {
    let mos = &config.mos;
    let seconds = |s: i32| s.max(0) as u64 * tcb::config::SECOND;
    let (recv, send) = (mos.rmem_size.max(2048) as u32, mos.wmem_size.max(2048) as u32);
    let default = tcb::Config::default();
    tcb::Config {
        idle: seconds(mos.tcp_timeout),
        time_wait: seconds(mos.tcp_tw_interval),
        send_limit: send,
        recv_limit: recv,
        recv_initial: default.recv_initial.min(recv),
        ..default
    }
}

impl Context {
    /// Makes a context that is not known to the process and has no thread: the caller drives it.
    pub fn detached(core: usize, config: Arc<Config>, foreign: ForeignCalls, source: Source) -> Context {
        let settings = settings_of(&config);
        Self::with_settings(core, config, settings, foreign, source)
    }

    /// As [`detached`](Self::detached), with other settings than the configuration's.
    pub fn with_settings(
        core: usize,
        config: Arc<Config>,
        settings: Settings,
        foreign: ForeignCalls,
        source: Source,
    ) -> Context {
        let hasher = match std::env::var("MOS_HASH_SEED").ok().and_then(|s| s.parse().ok()) {
            Some(seed) => FlowHash::with_seed(seed),
            None => FlowHash::random(),
        };
        let live = source.is_live();
        let host = Surroundings::new(&config, Kernel::default()).host(&source.ports);
        let mut monitor = Monitor::new(registry::handle(core), settings, foreign, hasher, source);
        monitor.cell.get_mut().host = host;
        if live {
            monitor.start_timers(clock::now_ns() / 1_000_000);
        }
        let mut endpoint = Endpoint::new(tcp_of(&config), settings.max_ids);
        endpoint.limit_memory(settings.memory_limit);
        Context {
            core,
            monitor,
            endpoint,
            waits: Waits::default(),
            baton: Baton::default(),
            poller: Mutex::new(Poller::new(config.mos.stat_print.clone())),
            sleeper: Sleeper::default(),
            live,
            config,
            creator: enter::thread_number(),
            ready: AtomicBool::new(false),
            late: AtomicBool::new(false),
            last_setup: Mutex::new(None),
            stop: AtomicBool::new(false),
            free_at_end: AtomicBool::new(false),
            ports: Mutex::new(Vec::new()),
            finished: Mutex::new(false),
            finished_changed: Condvar::new(),
            thread: Mutex::new(None),
        }
    }

    /// `mtcp_create_context`: makes a context for a core and starts its thread.
    ///
    /// # Errors
    /// EINVAL: no configuration, or no such core; EEXIST: the core has a context; EAGAIN: no thread.
    pub fn create(core: i32, foreign: ForeignCalls) -> Result<Arc<Context>> {
        let (config, devices, cores) = {
            let r = registry::REGISTRY.read();
            (r.config.clone(), r.devices.clone(), r.num_cores)
        };
        let (Some(config), Some(devices)) = (config, devices) else {
            log::error!("mtcp_create_context({core}) before mtcp_init()");
            return Err(Errno(libc::EINVAL));
        };
        let cores = cores.unwrap_or_else(|| config.num_cores());
        if core < 0 || core >= cores || core as usize >= registry::MAX_CORES {
            log::error!("mtcp_create_context({core}): expected a core id from 0 to {}", cores - 1);
            return Err(Errno(libc::EINVAL));
        }
        let exists = || {
            log::error!("mtcp_create_context({core}): the core has a context already");
            Errno(libc::EEXIST)
        };
        if registry::context(core).is_ok() {
            return Err(exists());
        }
        let sharing: Vec<usize> =
            (0..cores as usize).filter(|&c| config.mos.cpu_mask >> c & 1 == 1).collect();
        let source = if devices.is_live() {
            devices.live_source(core as usize, &sharing).map_err(|message| {
                log::error!("mtcp_create_context({core}): {message}");
                Errno(libc::ENODEV)
            })?
        } else {
            Source::none(Vec::new())
        };
        let host = devices.host(&source.ports);
        let mut context = Context::detached(core as usize, config, foreign, source);
        context.monitor.cell.get_mut().host = host;
        if let Some(rank) = sharing.iter().position(|&c| c == core as usize) {
            let steering = Steering { rss: devices.rss(), rank: rank as u32, cores: sharing.len() as u32 };
            context.endpoint.get_mut().steer(steering);
        }
        let context = Arc::new(context);
        let back = |context: &Context| {
            if let Some(live) = core_loop::with_token(context, |t| context.monitor.state(t).io.take_live()) {
                devices.give_back(context.core, live);
            }
        };
        if !registry::add(context.clone()) {
            back(&context);
            return Err(exists());
        }
        let (run, of_run) = (context.clone(), devices.clone());
        let spawned = std::thread::Builder::new()
            .name(format!("mos-{core}"))
            .spawn(move || core_loop::run(run, &of_run));
        match spawned {
            Ok(thread) => {
                *context.thread.lock() = Some(thread);
                Ok(context)
            }
            Err(e) => {
                log::error!("mtcp_create_context({core}): no thread: {e}");
                back(&context);
                registry::remove(&context);
                Err(Errno(libc::EAGAIN))
            }
        }
    }

    /// Asks the core to end, without a lock.
    pub fn stop_soon(&self) {
        self.stop.store(true, Ordering::Release);
        self.sleeper.wake();
    }

    /// A call from outside comes: it finds the time as it is now, not as of the last round.
    pub fn tell_time(&self) {
        if self.live {
            self.monitor.clock_ms.fetch_max(clock::now_ns() / 1_000_000, Ordering::AcqRel);
        }
    }

    /// As [`tell_time`](Self::tell_time) for a call on the core's own state.
    pub fn tell_time_inside(&self, t: &mut Token) {
        if self.live {
            let now_ns = clock::now_ns();
            self.monitor.clock_ms.fetch_max(now_ns / 1_000_000, Ordering::AcqRel);
            self.endpoint.set_time(t, now_ns / 1000);
        }
    }

    /// Whether calls from outside are still served.
    pub fn alive(&self) -> bool {
        !self.stop.load(Ordering::Acquire) && !self.is_finished()
    }

    /// Whether the last callback has run.
    pub fn is_finished(&self) -> bool {
        *self.finished.lock()
    }

    /// Notes a call that sets something up: an implicit start waits two seconds after the last one.
    pub fn touch(&self) {
        *self.last_setup.lock() = Some(Instant::now());
    }

    /// Asks the core to end; who waits for its sockets gets EINTR.
    pub fn request_stop(&self) {
        self.stop_soon();
        self.waits.wake_all();
    }

    /// The core's last callback has run.
    pub fn finish(&self) {
        *self.finished.lock() = true;
        self.finished_changed.notify_all();
        self.waits.wake_all();
    }

    /// Waits for the last callback and for the thread.
    pub fn join(&self) {
        let mut finished = self.finished.lock();
        while !*finished {
            self.finished_changed.wait_for(&mut finished, Duration::from_secs(1));
        }
        drop(finished);
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && !enter::in_round()
        {
            // A panic of the core's thread has been counted where it was caught.
            let _ = thread.join();
        }
    }
}

/// `mtcp_app_join`: makes ready what the calling thread's creator set up, then waits for the core's last callback.
pub fn app_join(context: &Arc<Context>) {
    let _inside = enter::Inside::enter();
    for other in registry::all() {
        if other.creator == context.creator {
            other.ready.store(true, Ordering::Release);
        }
    }
    context.ready.store(true, Ordering::Release);
    context.join();
}

/// `mtcp_destroy_context` from outside the core: ends it, waits, frees it.
pub fn destroy(context: &Arc<Context>) {
    let _inside = enter::Inside::enter();
    context.request_stop();
    context.join();
    registry::remove(context);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    static HEARD: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn handler(_: libc::c_int) {
        HEARD.store(1 + enter::in_library() as usize, Ordering::Release);
    }

    #[test]
    fn the_longest_timeout_can_still_be_told_from_the_shortest() {
        let mut config = Config { apps: Vec::new(), mos: crate::config::Mos::default() };
        config.mos.tcp_timeout = i32::MAX;
        assert_eq!(settings_of(&config).timeout_ms, Some(i32::MAX as u32));
        config.mos.tcp_timeout = -1;
        assert_eq!(settings_of(&config).timeout_ms, None);
    }

    #[test]
    #[allow(unsafe_code)]
    fn a_signal_handler_that_interrupts_a_join_is_inside_the_library() {
        let config = Arc::new(Config { apps: Vec::new(), mos: crate::config::Mos::default() });
        let calls = ForeignCalls { callback: |_, _, _, _, _, _| {}, filter: |_, _, _, _, _, _| false };
        let context = Arc::new(Context::detached(0, config, calls, Source::none(Vec::new())));
        let joined = context.clone();
        let (tell, told) = std::sync::mpsc::channel();
        // SAFETY: the handler only reads and writes atomics and thread-local cells.
        unsafe { libc::signal(libc::SIGUSR2, handler as extern "C" fn(libc::c_int) as usize) };
        let waiter = std::thread::spawn(move || {
            // SAFETY: no preconditions.
            let _ = tell.send(unsafe { libc::pthread_self() });
            app_join(&joined);
            enter::in_library()
        });
        let thread = told.recv().expect("the thread runs");
        while !context.ready.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        // SAFETY: the thread lives until `finish`.
        unsafe { libc::pthread_kill(thread, libc::SIGUSR2) };
        while HEARD.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(HEARD.load(Ordering::Acquire), 2);
        context.finish();
        assert!(!waiter.join().expect("no panic"));
    }
}
