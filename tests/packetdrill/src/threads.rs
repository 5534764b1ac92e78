//! Calls that block, and the passing of time.
//!
//! packetdrill runs a script on the thread that made the table; a call that is to block comes from a second one. Time passes only
//! where that first thread asks for it, and only while everyone else rests: who sleeps here has looked at the latest state, and
//! no other thread of the process is running. So a call that ends at a moment of virtual time has returned, and packetdrill has
//! noted when, before the next moment comes. A call that blocks on the first thread itself moves time on until it is done.

use crate::Result;
use crate::world::World;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// How long other threads are given to come to rest, of real time.
const PATIENCE: Duration = Duration::from_secs(2);
/// How far `netdev_receive` looks ahead, µs: beyond the two hours of a keep-alive.
const HORIZON: u64 = 4 * 3600 * 1_000_000;
/// Rounds at one moment after which something is wrong: time goes on.
const MOST_ROUNDS: u32 = 1000;

/// A thread that waits.
#[derive(Debug)]
pub struct Sleeper {
    thread: ThreadId,
    /// What it has looked at.
    seen: u64,
    /// Until when, µs.
    until: Option<u64>,
}

/// The stack, shared by the threads of packetdrill.
pub struct Shared {
    world: Mutex<World>,
    /// Who waits is to look again.
    changed: Condvar,
    /// Somebody has looked.
    looked: Condvar,
    /// Threads that wait for the lock: they sleep, as the kernel sees it, and yet are not at rest.
    entering: AtomicU32,
    first: ThreadId,
}

type Held<'a> = MutexGuard<'a, World>;

impl Shared {
    /// Made by the thread that runs the script.
    pub fn new(world: World) -> Self {
        Shared {
            world: Mutex::new(world),
            changed: Condvar::new(),
            looked: Condvar::new(),
            entering: AtomicU32::new(0),
            first: std::thread::current().id(),
        }
    }

    fn lock(&self) -> Held<'_> {
        self.entering.fetch_add(1, Ordering::SeqCst);
        let world = self.world.lock();
        self.entering.fetch_sub(1, Ordering::SeqCst);
        world
    }

    /// A call that does not block.
    pub fn now<R>(&self, call: impl FnOnce(&mut World) -> Result<R>) -> Result<R> {
        let mut world = self.lock();
        let result = call(&mut world);
        world.changed();
        self.changed.notify_all();
        result
    }

    /// A call that waits until `look` gives something, or time is over (`None`).
    ///
    /// # Errors
    /// What `look` says; EDEADLK: nothing can end the wait.
    pub fn waiting<R>(
        &self,
        until: impl FnOnce(&World) -> Option<u64>,
        mut look: impl FnMut(&mut World) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let me = std::thread::current().id();
        let mut world = self.lock();
        let until = until(&world);
        let result = loop {
            let looked = look(&mut world);
            if !matches!(looked, Ok(None)) {
                world.changed();
                self.changed.notify_all();
                break looked;
            }
            // What it did before it could go no further takes effect, too.
            world.settle();
            if until.is_some_and(|until| world.now >= until) {
                break Ok(None);
            }
            if me == self.first {
                if !self.step(&mut world, until) {
                    eprintln!("libmos_packetdrill: a call on the script's own thread would block for ever");
                    break Err(libc::EDEADLK);
                }
                continue;
            }
            let seen = world.version;
            match world.sleepers.iter_mut().find(|s| s.thread == me) {
                Some(sleeper) => sleeper.seen = seen,
                None => world.sleepers.push(Sleeper { thread: me, seen, until }),
            }
            self.looked.notify_all();
            while world.version == seen {
                self.changed.wait(&mut world);
            }
        };
        world.sleepers.retain(|s| s.thread != me);
        self.looked.notify_all();
        result
    }

    /// Lets everyone else come to rest.
    fn rest(&self, world: &mut Held<'_>) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.changed.notify_all();
            while world.sleepers.iter().any(|s| s.seen != world.version) && Instant::now() < end {
                self.looked.wait_for(world, Duration::from_millis(10));
            }
            // In this order: who does not run any more waits for the lock by now, if it does.
            let rest = !others_run() && self.entering.load(Ordering::SeqCst) == 0;
            if rest || Instant::now() >= end {
                return;
            }
            MutexGuard::unlocked_fair(world, || std::thread::sleep(Duration::from_micros(20)));
        }
    }

    /// Goes to the next moment at which something is due, at most to `to`. `false`: nothing ever is.
    fn step(&self, world: &mut Held<'_>, to: Option<u64>) -> bool {
        self.rest(world);
        let now = world.now;
        let ends = world.sleepers.iter().filter_map(|s| s.until).filter(|&until| until > now);
        let Some(next) = ends.chain(world.due()).chain(to).min() else { return false };
        world.pass(next);
        self.changed.notify_all();
        true
    }

    /// Time passes to `to`, or until a packet has left when `packet` is what is waited for.
    fn pass<'a>(&'a self, world: &mut Held<'a>, to: u64, packet: bool) {
        let mut rounds = 0;
        loop {
            if packet {
                self.rest(world);
                if !world.left.is_empty() {
                    return;
                }
                // Nothing will ever leave.
                if world.due().is_none() && world.sleepers.iter().all(|s| s.until.is_none()) {
                    return;
                }
            }
            if world.now >= to {
                break;
            }
            let before = world.now;
            self.step(world, Some(to));
            rounds = if world.now == before { rounds + 1 } else { 0 };
            if rounds > MOST_ROUNDS {
                world.now += 1000;
            }
        }
        self.rest(world);
    }

    /// A packet arrives.
    pub fn send(&self, packet: &[u8]) {
        let mut world = self.lock();
        world.arrive(packet);
        self.changed.notify_all();
    }

    /// The next packet that leaves, and when; time passes until then.
    pub fn receive(&self) -> Option<(u64, Vec<u8>)> {
        let mut world = self.lock();
        let horizon = world.now + HORIZON;
        self.pass(&mut world, horizon, true);
        world.left.pop_front()
    }

    /// Time passes.
    pub fn sleep(&self, us: u64) {
        let mut world = self.lock();
        let to = world.now + us;
        self.pass(&mut world, to, false);
    }

    /// The time, µs. packetdrill spins on the clock for the last bit of a wait: each look takes a microsecond.
    pub fn time(&self) -> u64 {
        let mut world = self.lock();
        world.now += 1;
        if world.due().is_some_and(|due| due <= world.now) {
            let now = world.now;
            world.pass(now);
            self.changed.notify_all();
        }
        world.now
    }
}

/// Whether a thread of the process other than this one is running, or about to, as the kernel sees it.
fn others_run() -> bool {
    // SAFETY: no preconditions.
    let me = unsafe { libc::gettid() }.to_string();
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return false };
    tasks.flatten().filter(|task| task.file_name().to_str() != Some(&me)).any(|task| {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { return false };
        // The name, in parentheses, may hold anything; the state follows it.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['R', 'D']))
    })
}
