//! The stack under test: one context with one port, the packets that left it, its time, and its descriptors.

use crate::flags::Flags;
use crate::{Result, ready, tso};
use mos::config::{Config, Mos};
use mos::endpoint::{Endpoint, State};
use mos::flow::token::Token;
use mos::io::output::{Frames, Output};
use mos::io::source::{Port, Source};
use mos::monitor::Monitor;
use mos::monitor::state::ForeignCalls;
use mos::net::host::Host;
use mos::net::local::{Local, LocalPort, OwnAddr};
use mos::net::neighbours::Neighbours;
use mos::net::route::{Origin, Route, Routes};
use mos::runtime::context::Context;
use mos::tcp::tcb::Tcb;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Where virtual time begins, µs: a time of day, and no timer's zero.
const START: u64 = 1_000_000_000;
/// Hardware addresses of the two ends of the link.
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Bytes of the Ethernet header, which packetdrill knows nothing of.
const ETHERNET: usize = 14;
/// What has no deadline any more may stay in a wheel, years ahead.
const NEVER_MS: u64 = 1_000_000_000;

/// What a descriptor stands for, and what Linux would remember of it beside the stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fd {
    /// The stack's socket.
    pub id: u32,
    /// `O_NONBLOCK`.
    pub nonblocking: bool,
    /// A non-blocking connect is under way.
    pub connecting: bool,
    /// The connection's error was told: it is told once.
    pub error_told: bool,
    /// Shut down for reading.
    pub shut_read: bool,
    /// Shut down for writing.
    pub shut_write: bool,
}

/// See the file's head.
pub struct World {
    context: Context,
    out: Frames,
    /// The time, µs.
    pub now: u64,
    /// Packets that left, with their times.
    pub left: VecDeque<(u64, Vec<u8>)>,
    /// Segments of a moment leave as one, as far as they can.
    tso: bool,
    /// Descriptors.
    pub fds: BTreeMap<i32, Fd>,
    /// What is watched by epoll: by epoll object and socket.
    pub watched: HashMap<(u32, u32), ready::Watched>,
    /// Counts what happened: who waits looks again when it has changed.
    pub version: u64,
    /// Threads that wait.
    pub sleepers: Vec<crate::threads::Sleeper>,
    backing: Backing,
}

impl World {
    /// A stack with these settings. `Err`: the error number.
    pub fn new(flags: &Flags) -> Result<Self> {
        let config = Arc::new(Config { apps: Vec::new(), mos: Mos::default() });
        let calls = ForeignCalls { callback: |_, _, _, _, _, _| {}, filter: |_, _, _, _, _, _| false };
        let out = Frames::default();
        let port = Port { name: "p0".into(), output: Some(Output::Memory(out.clone())), ..Port::default() };
        let mut context = Context::detached(0, config, calls, Source::script(vec![port]));
        context.endpoint = Endpoint::new(flags.tcp.clone(), context.monitor.settings.max_ids);
        let own = Some(OwnAddr { addr: flags.local, prefix: 32, kernel: false });
        let local = Local::new(vec![LocalPort { mac: OURS, own, mtu: Some(flags.mtu) }]);
        let any = Ipv4Addr::UNSPECIFIED;
        let routes =
            Routes::new([Route { net: any, prefix: 0, port: 0, gateway: None, origin: Origin::File }]);
        let neighbours = Neighbours::new([(any, 0, THEIRS)]);
        context.monitor.cell.get_mut().host =
            Host::new(Arc::new(local), Arc::new(routes), Arc::new(neighbours), 7);
        let mut world = World {
            context,
            out,
            now: START,
            left: VecDeque::new(),
            tso: flags.tso,
            fds: BTreeMap::new(),
            watched: HashMap::new(),
            version: 0,
            sleepers: Vec::new(),
            backing: Backing::new()?,
        };
        world.round(Vec::new());
        Ok(world)
    }

    /// Works on the core's state.
    pub fn with<R>(&self, work: impl FnOnce(&Endpoint, &Monitor, &mut Token) -> R) -> R {
        let _held = self.context.baton.take();
        // SAFETY: the lock was taken a line ago, and this thread has no other token for the core.
        let mut token = unsafe { Token::new() };
        work(&self.context.endpoint, &self.context.monitor, &mut token)
    }

    /// Works on the end-host sockets.
    pub fn on<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        self.with(|e, _, t| work(e.state(t)))
    }

    /// Looks at a socket's connection, if there is one.
    pub fn tcb<R>(&self, id: u32, look: impl FnOnce(&Tcb) -> R) -> Option<R> {
        self.on(|st| {
            let conn = st.stream(id)?.conn;
            st.stack()?.tcb(conn).map(look)
        })
    }

    /// A round of the stack at the present time, with frames that arrive.
    fn round(&mut self, frames: Vec<Vec<u8>>) {
        let (now_us, now_ns) = (self.now, self.now * 1000);
        self.with(|e, m, t| {
            m.set_time(t, now_ns);
            e.set_time(t, now_us);
            if !frames.is_empty() {
                if let Some(script) = m.state(t).io.script_mut() {
                    script.waiting.push_back((now_ns, frames.into_iter().map(|f| (0, f)).collect()));
                }
                m.receive(t);
                m.packets(t, e);
            }
            e.end_round(m, t);
            m.end_iteration(t);
        });
        for (_, mut frame) in std::mem::take(&mut *self.out.lock()) {
            if frame.len() > ETHERNET {
                frame.drain(..ETHERNET);
                let before = self.left.back_mut().filter(|(at, _)| self.tso && *at == now_us);
                if !before.is_some_and(|(_, before)| tso::join(before, &frame)) {
                    self.left.push_back((now_us, frame));
                }
            }
        }
    }

    /// What a call did takes effect.
    pub fn settle(&mut self) {
        self.round(Vec::new());
    }

    /// As [`settle`](Self::settle), and whoever waits is to look again.
    pub fn changed(&mut self) {
        self.settle();
        self.version += 1;
    }

    /// An IP packet arrives.
    pub fn arrive(&mut self, packet: &[u8]) {
        let kind: [u8; 2] = if packet.first().is_some_and(|b| b >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
        self.round(vec![[&OURS[..], &THEIRS, &kind, packet].concat()]);
        self.version += 1;
    }

    /// When the stack wants to be looked at again, µs.
    pub fn due(&self) -> Option<u64> {
        let due = self.with(|e, m, t| [e.next_due_ms(t), m.next_deadline_ms(t)]);
        due.into_iter().flatten().min().filter(|&ms| ms < NEVER_MS).map(|ms| ms * 1000)
    }

    /// Time comes to `to`, which is not beyond the next deadline.
    pub fn pass(&mut self, to: u64) {
        self.now = self.now.max(to);
        self.changed();
    }

    /// A descriptor. EBADF: none of ours.
    pub fn fd(&self, fd: i32) -> Result<Fd> {
        self.fds.get(&fd).copied().ok_or(libc::EBADF)
    }

    /// A descriptor, to be changed.
    pub fn fd_mut(&mut self, fd: i32) -> Result<&mut Fd> {
        self.fds.get_mut(&fd).ok_or(libc::EBADF)
    }

    /// A new descriptor for a socket.
    pub fn give(&mut self, id: u32, nonblocking: bool) -> Result<i32> {
        let fd = self.backing.reserve()?;
        self.fds.insert(fd, Fd { id, nonblocking, ..Fd::default() });
        Ok(fd)
    }

    /// A descriptor is no more.
    pub fn take(&mut self, fd: i32) -> Result<Fd> {
        let taken = self.fds.remove(&fd).ok_or(libc::EBADF)?;
        self.backing.release(fd);
        self.watched.retain(|&(epoll, sock), _| epoll != taken.id && sock != taken.id);
        Ok(taken)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for &fd in self.fds.keys() {
            self.backing.release(fd);
        }
    }
}

/// Numbers of descriptors that are really open in the process: what a script leaves open packetdrill closes by `close(2)`, and it
/// must be able to.
struct Backing {
    file: i32,
    inode: u64,
}

fn inode_of(fd: i32) -> Option<u64> {
    // SAFETY: plain data, valid when zeroed; `fstat` fills it or fails.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &raw mut stat) == 0).then_some(stat.st_ino)
    }
}

impl Backing {
    fn new() -> Result<Self> {
        // SAFETY: a name without NUL inside.
        let file = unsafe { libc::memfd_create(c"libmos sockets".as_ptr(), libc::MFD_CLOEXEC) };
        let inode = inode_of(file).ok_or(libc::EMFILE)?;
        Ok(Backing { file, inode })
    }

    fn reserve(&self) -> Result<i32> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::fcntl(self.file, libc::F_DUPFD_CLOEXEC, 0) };
        if fd < 0 { Err(libc::EMFILE) } else { Ok(fd) }
    }

    /// Closes the number, unless it was closed behind our back and is somebody else's by now.
    fn release(&self, fd: i32) {
        if inode_of(fd) == Some(self.inode) {
            // SAFETY: ours, as was just seen.
            unsafe { libc::close(fd) };
        }
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        // SAFETY: opened by us.
        unsafe { libc::close(self.file) };
    }
}
