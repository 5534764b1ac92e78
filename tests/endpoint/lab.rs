//! Two hosts and the link between them: Ethernet frames in memory, virtual time, losses by a seed.

use mos::config::{Config, Mos};
use mos::endpoint::{Endpoint, State};
use mos::flow::token::Token;
use mos::io::output::{Frames, Output};
use mos::io::source::{Port, Source};
use mos::monitor::state::ForeignCalls;
use mos::monitor::stats::Stats;
use mos::monitor::{Errno, Monitor, Result};
use mos::net::host::Host;
use mos::net::local::{Local, LocalPort, OwnAddr};
use mos::net::neighbours::Neighbours;
use mos::net::route::{Origin, Route, Routes};
use mos::runtime::context::{Context, tcp_of};
use mos::tcp::tcb;
use mos::tcp::tcb::calls::Shutdown;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// Where virtual time begins, µs.
pub const START: u64 = 1_000_000_000;

/// The address of host `n`.
pub fn ip(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 1 + n as u8)
}

/// A place on host `n`.
pub fn at(n: usize, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip(n), port)
}

/// Numbers from a seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    /// Whether something of a probability of so many in a thousand happens.
    pub fn per_mille(&mut self, n: u64) -> bool {
        n > 0 && self.below(1000) < n
    }
}

/// See [`ForeignCalls`].
pub type Call = fn(usize, usize, i32, i32, u64, usize);

/// What a host's port is on.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// Neighbours (address and prefix length) whose hardware address need not be asked for.
    pub neighbour: Option<(Ipv4Addr, u8, [u8; 6])>,
}

impl Default for Link {
    fn default() -> Self {
        Link { mtu: 1500, neighbour: None }
    }
}

/// One host: a context with one port, own address, and ARP.
pub struct Node {
    context: Context,
    out: Frames,
}

impl Node {
    /// Host `n`, with a configuration and settings of its connections; `callback` is what callbacks call.
    pub fn new(n: usize, mos: Mos, tcp: impl FnOnce(&mut tcb::Config), callback: Call) -> Self {
        Node::on_link(Link::default(), n, mos, tcp, callback)
    }

    /// As [`new`](Self::new), on a certain link.
    pub fn on_link(
        link: Link,
        n: usize,
        mos: Mos,
        tcp: impl FnOnce(&mut tcb::Config),
        callback: Call,
    ) -> Self {
        let limit = mos.memory_limit;
        let config = Arc::new(Config { apps: Vec::new(), mos });
        let calls = ForeignCalls { callback, filter: |_, _, _, _, _, _| false };
        let out = Frames::default();
        let port = Port { name: "p0".into(), output: Some(Output::Memory(out.clone())), ..Port::default() };
        let mut settings = tcp_of(&config);
        tcp(&mut settings);
        let mut context = Context::detached(n, config, calls, Source::script(vec![port]));
        context.endpoint = Endpoint::new(settings, context.monitor.settings.max_ids);
        context.endpoint.limit_memory(limit);
        let own = Some(OwnAddr { addr: ip(n), prefix: 24, kernel: false });
        let local =
            Local::new(vec![LocalPort { mac: [2, 0, 0, 0, 0, 1 + n as u8], own, mtu: Some(link.mtu) }]);
        let route = |net: [u8; 4], prefix| Route {
            net: net.into(),
            prefix,
            port: 0,
            gateway: None,
            origin: Origin::File,
        };
        // Everything is on the link: a scripted peer may have any address.
        let routes = Routes::new([route([10, 0, 0, 0], 24), route([0; 4], 0)]);
        context.monitor.cell.get_mut().host =
            Host::new(Arc::new(local), Arc::new(routes), Arc::new(Neighbours::new(link.neighbour)), 7);
        Node { context, out }
    }

    /// Works on the core's state.
    #[allow(unsafe_code)]
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

    /// A round at a time, with frames that arrive.
    pub fn round(&self, now_us: u64, frames: Vec<Vec<u8>>) {
        self.with(|e, m, t| {
            let now_ns = now_us * 1000;
            m.set_time(t, now_ns);
            e.set_time(t, now_us);
            if !frames.is_empty() {
                let st = m.state(t);
                let frames = frames.into_iter().map(|f| (0, f)).collect();
                st.io.script_mut().expect("a script").waiting.push_back((now_ns, frames));
                m.receive(t);
                m.packets(t, e);
            }
            e.end_round(m, t);
            m.end_iteration(t);
            assert_eq!(
                m.state(t).stats.inspected(),
                m.state(t).stats.rx_packets,
                "every packet is counted once"
            );
        });
    }

    /// Frames that left since the last call.
    pub fn left(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.out.lock()).into_iter().map(|(_, f)| f).collect()
    }

    /// When it wants to be looked at again, µs.
    pub fn due(&self) -> Option<u64> {
        self.with(|e, m, t| {
            let due = [e.next_due_ms(t), m.next_deadline_ms(t)];
            // What has no deadline any more may stay in a wheel, years ahead.
            due.into_iter().flatten().min().filter(|&ms| ms < 100_000_000_000).map(|ms| ms * 1000)
        })
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.with(|_, m, t| m.state(t).stats)
    }

    /// Connections there are.
    pub fn connections(&self) -> usize {
        self.on(|st| st.stack().map_or(0, |s| s.len()))
    }

    pub fn socket(&self) -> u32 {
        self.with(|e, m, t| e.socket(m, t)).expect("an id")
    }

    /// A listener on a port.
    pub fn listen(&self, port: u16, backlog: usize) -> u32 {
        let id = self.socket();
        self.on(|st| st.bind(id, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))).expect("bound");
        self.on(|st| st.listen(id, backlog)).expect("listens");
        id
    }

    pub fn accept(&self, listener: u32) -> Option<u32> {
        self.with(|e, m, t| e.accept(m, t, listener)).expect("a listener").map(|(id, _)| id)
    }

    /// Begins to connect a new socket.
    pub fn connect(&self, to: SocketAddrV4) -> u32 {
        let id = self.socket();
        assert_eq!(self.with(|e, m, t| e.connect(m, t, id, to, false)), Ok(false));
        id
    }

    pub fn read(&self, id: u32, out: &mut [u8]) -> Result<Option<usize>> {
        self.on(|st| st.read(id, out, false))
    }

    pub fn write(&self, id: u32, from: &[u8]) -> Result<Option<usize>> {
        self.on(|st| st.write(id, from))
    }

    pub fn shutdown(&self, id: u32) {
        self.on(|st| st.shutdown(id, Shutdown::Write)).expect("connected");
    }

    pub fn close(&self, id: u32) -> Result<()> {
        self.with(|e, m, t| e.close(m, t, id)).expect("a socket")
    }

    pub fn abort(&self, id: u32) -> Result<()> {
        self.with(|e, m, t| e.abort(m, t, id))
    }

    /// `SO_ERROR`.
    pub fn error(&self, id: u32) -> i32 {
        self.on(|st| st.socket_error(id)).expect("a connection")
    }

    pub fn readiness(&self, id: u32) -> u32 {
        self.on(|st| st.readiness(id))
    }
}

/// What a link does to frames, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub lost: u64,
    pub doubled: u64,
    /// Held back by up to ten times the delay.
    pub late: u64,
}

/// Two hosts and a link.
pub struct Lab {
    pub now: u64,
    pub nodes: [Node; 2],
    pub weather: Weather,
    /// One way, µs.
    pub delay: u64,
    pub random: Random,
    /// The next frame from this host is lost.
    pub drop_next: Option<usize>,
    /// Frames on their way, by arrival: to which host.
    flying: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    count: u64,
}

impl Lab {
    /// Two hosts with a configuration.
    pub fn new(mos: Mos, tcp: impl Fn(&mut tcb::Config)) -> Self {
        Lab::with_callback(mos, tcp, |_, _, _, _, _, _| {})
    }

    /// As [`new`](Self::new); `callback` is what callbacks call.
    pub fn with_callback(mos: Mos, tcp: impl Fn(&mut tcb::Config), callback: Call) -> Self {
        let nodes = [0, 1].map(|n| Node::new(n, mos.clone(), &tcp, callback));
        for node in &nodes {
            node.round(START, Vec::new());
        }
        Lab {
            now: START,
            nodes,
            weather: Weather::default(),
            delay: 500,
            random: Random::new(1),
            drop_next: None,
            flying: BTreeMap::new(),
            count: 0,
        }
    }

    /// As [`new`](Self::new) with buffers of `bytes`.
    pub fn with_buffers(bytes: i32) -> Self {
        Lab::new(Mos { rmem_size: bytes, wmem_size: bytes, tcp_timeout: 0, ..Mos::default() }, |_| {})
    }

    fn fly(&mut self, to: usize, frame: Vec<u8>) {
        if self.random.per_mille(self.weather.lost) || self.drop_next.take_if(|n| *n == 1 - to).is_some() {
            return;
        }
        let late =
            if self.random.per_mille(self.weather.late) { self.random.below(10 * self.delay) } else { 0 };
        self.count += 1;
        self.flying.insert((self.now + self.delay + late, self.count), (to, frame));
    }

    /// One step of time: what arrives next arrives, and who has something to do does it. `false`: nothing will ever happen.
    pub fn step(&mut self) -> bool {
        for n in [0, 1] {
            let output = self.nodes[n].on(|st| st.has_output());
            if output {
                self.nodes[n].round(self.now, Vec::new());
            }
            self.collect(n);
        }
        let arrival = self.flying.keys().next().map(|k| k.0);
        let due = [0, 1].map(|n| self.nodes[n].due());
        let Some(next) = [arrival, due[0], due[1]].into_iter().flatten().min() else { return false };
        self.now = self.now.max(next);
        let mut frames = [Vec::new(), Vec::new()];
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let (to, frame) = entry.remove();
            frames[to].push(frame);
        }
        for (n, mut frames) in frames.into_iter().enumerate() {
            if !frames.is_empty() || due[n].is_some_and(|due| due <= self.now) {
                while frames.len() > 64 {
                    let later = frames.split_off(64);
                    self.nodes[n].round(self.now, std::mem::replace(&mut frames, later));
                }
                self.nodes[n].round(self.now, frames);
            }
            self.collect(n);
        }
        true
    }

    fn collect(&mut self, n: usize) {
        for frame in self.nodes[n].left() {
            if self.random.per_mille(self.weather.doubled) {
                self.fly(1 - n, frame.clone());
            }
            self.fly(1 - n, frame);
        }
    }

    /// Steps for so long.
    pub fn run(&mut self, us: u64) {
        let until = self.now + us;
        while self.now < until && self.step() {}
    }

    /// Steps until something holds; panics after an hour of the link's time.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Lab) -> bool) {
        let end = self.now + 3_600_000_000;
        let mut more = true;
        while !holds(self) {
            if !more || self.now >= end {
                for node in &self.nodes {
                    println!("{}", node.on(|st| st.stack().map_or(String::new(), |s| s.describe())));
                }
                panic!("never: {what}");
            }
            more = self.step();
        }
    }

    /// The hosts get to know each other's hardware addresses: later losses are not ARP's.
    pub fn introduce(&mut self) {
        // Who has no sockets refuses nobody.
        self.nodes[1].listen(8, 1);
        let c = self.nodes[0].connect(at(1, 9));
        self.until("refused", |lab| lab.nodes[0].error(c) == libc::ECONNREFUSED);
        assert_eq!(self.nodes[0].close(c), Ok(()));
    }

    /// A connection from host 0 to a listener on port 80 of host 1: both sockets.
    pub fn connected(&mut self, listener: u32) -> [u32; 2] {
        let client = self.nodes[0].connect(at(1, 80));
        let mut server = None;
        self.until("accepted", |lab| {
            server = lab.nodes[1].accept(listener);
            server.is_some()
        });
        [client, server.expect("accepted")]
    }
}

/// The error of a call.
pub fn errno<T>(number: i32) -> Result<T> {
    Err(Errno(number))
}
