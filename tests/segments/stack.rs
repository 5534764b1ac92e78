//! The driver of the whole stack: sockets, epoll, TCP and IP output of a host with one port on a link in memory.
//!
//! What arrives is a frame, what leaves is a frame with right checksums, calls are those of sockets. An epoll object watches the
//! socket all the time: after every step it must report exactly what the socket is ready for.

use crate::connection::{IRS, ISS, cause_name, config_of, pattern, shifted_options, state_name};
use crate::driver::{Driver, Packet, Ret, Settings};
use crate::lab::{Link, Node, START, at, ip};
use mos::config::Mos;
use mos::endpoint::epoll::Change;
use mos::endpoint::events::{ERR, HUP, IN, OUT, RDHUP};
use mos::endpoint::socket::Wishes;
use mos::flow::arena::Id;
use mos::flow::key::ShortKey;
use mos::monitor::{Errno, Result as Called};
use mos::tcp::tcb::calls::Shutdown;
use mos::tcp::tcb::{State, Tcb};
use mos::wire::{checksum, ipv4, tcp};
use std::net::SocketAddrV4;

/// The peer's hardware address.
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The names of readiness, in the order of [`crate::connection`].
const BITS: [(u32, &str); 5] = [(IN, "IN"), (OUT, "OUT"), (RDHUP, "RDHUP"), (HUP, "HUP"), (ERR, "ERR")];

pub struct Stack {
    node: Node,
    wishes: Wishes,
    /// Where we listen or connect from, and the scripted peer.
    local: SocketAddrV4,
    peer: SocketAddrV4,
    listener: Option<u32>,
    sock: Option<u32>,
    epoll: Option<u32>,
    /// There was a connection.
    opened: bool,
    /// What the script's numbers count from: our last SYN's.
    base: u32,
    reopened: bool,
    /// What is to be added to the script's timestamps of ours, once one was seen.
    clock: Option<u32>,
    written: usize,
    read: usize,
}

impl Stack {
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let (mut config, open) = config_of(settings)?;
        config.iss = Some(ISS);
        let link = Link { mtu: open.mtu, neighbour: Some((ip(1), 32, PEER)) };
        let mos = Mos { max_concurrency: 100, ..Mos::default() };
        let node = Node::on_link(link, 0, mos, |tcp| *tcp = config, |_, _, _, _, _, _| {});
        node.round(START, Vec::new());
        let wishes = Wishes {
            nodelay: open.nodelay,
            keepalive: open.keepalive,
            send_buffer: open.send_limit,
            recv_buffer: open.recv_limit,
            ..Wishes::default()
        };
        // Whoever has no stream socket answers nobody.
        node.socket();
        Ok(Stack {
            node,
            wishes,
            local: at(0, 80),
            peer: at(1, 5000),
            listener: None,
            sock: None,
            epoll: None,
            opened: false,
            base: ISS,
            reopened: false,
            clock: None,
            written: 0,
            read: 0,
        })
    }

    /// Looks at the connection, as long as there is one.
    fn tcb<R>(&self, look: impl FnOnce(&Tcb) -> R) -> Option<R> {
        self.node.on(|st| st.stack()?.tcb(self.conn(st)?).map(look))
    }

    fn conn(&self, st: &mos::endpoint::State) -> Option<Id> {
        let of_socket = self.sock.and_then(|sock| st.stream(sock)).map(|s| s.conn);
        of_socket.or_else(|| self.of_tuple(st))
    }

    /// The connection that segments reach.
    fn of_tuple(&self, st: &mos::endpoint::State) -> Option<Id> {
        let (l, p) = (self.local, self.peer);
        let (key, _) = ShortKey::new(l.ip().to_bits(), p.ip().to_bits(), l.port(), p.port(), 0);
        st.stack()?.find(&key)
    }

    /// A round of the core, with what arrives.
    fn round(&mut self, now: u64, frames: Vec<Vec<u8>>) {
        self.node.round(START + now, frames);
        if let (None, Some(listener)) = (self.sock, self.listener)
            && let Some(sock) = self.node.accept(listener)
        {
            self.begin(sock);
        }
        self.check();
    }

    /// A socket that scripts know of from now on.
    fn begin(&mut self, sock: u32) {
        let epoll = self.node.with(|e, m, t| e.epoll_create(m, t)).expect("an id");
        let all = Change::Add(IN | OUT | RDHUP | HUP, 7);
        self.node.on(|st| st.control(epoll, sock, all)).expect("watched");
        (self.sock, self.epoll, self.written, self.read) = (Some(sock), Some(epoll), 0, 0);
    }

    /// Epoll reports what the socket is ready for, and the connection is in order.
    fn check(&self) {
        self.tcb(Tcb::check);
        let (Some(sock), Some(epoll)) = (self.sock, self.epoll) else { return };
        let ready = self.node.readiness(sock);
        let mut told = 0;
        self.node.on(|st| st.report(epoll, 8, |_, bit, _| told |= bit));
        // ERR is reported alone.
        let expected = if ready & ERR != 0 { ERR } else { ready };
        assert_eq!(told, expected, "epoll's bits, of {}", bits(ready));
    }

    fn sock(&self) -> Result<u32, Ret> {
        self.sock.ok_or(Ret::Errno("EBADF"))
    }

    fn frame(&self, proto: u8, body: &[u8]) -> Vec<u8> {
        let total = (ipv4::MIN_HEADER_LEN + body.len()) as u16;
        let mut packet = vec![0; ipv4::MIN_HEADER_LEN];
        ipv4::emit(&mut packet, *self.peer.ip(), *self.local.ip(), proto, 64, total).expect("room");
        packet.extend_from_slice(body);
        checksum::fill_ipv4(&mut packet);
        if proto == ipv4::PROTO_TCP {
            checksum::fill_tcp(&mut packet);
        }
        [&[2, 0, 0, 0, 0, 1][..], &PEER, &[8, 0], &packet].concat()
    }

    /// What left, as scripts count it. `None`: no TCP.
    fn segment(&mut self, now: u64, frame: &[u8]) -> Option<Packet> {
        let packet = &frame[14..];
        let ip = ipv4::Ipv4::new(packet).expect("an IP packet");
        assert!(checksum::ipv4_header_ok(&packet[..20]) && ip.header_len() == 20, "IP header");
        assert_eq!(usize::from(ip.total_len()), packet.len());
        assert_eq!((ip.src(), ip.dst()), (*self.local.ip(), *self.peer.ip()));
        assert_eq!(frame[..12], [&PEER[..], &[2, 0, 0, 0, 0, 1]].concat());
        if ip.proto() != ipv4::PROTO_TCP {
            return None;
        }
        assert!(checksum::tcp_ok(packet, 5, ip.total_len()), "TCP checksum");
        let seg = tcp::Tcp::new(ip.payload()).expect("a TCP segment");
        assert_eq!((seg.sport(), seg.dport()), (self.local.port(), self.peer.port()));
        let flags = seg.flags();
        if flags & 2 != 0 {
            self.base = seg.seq();
        }
        let payload = seg.payload();
        // A reset in answer to what has no connection says 0 (RFC 9293 3.10.7.1).
        let stray = flags & 4 != 0 && seg.seq() == 0;
        let seq = if stray { 0 } else { seg.seq().wrapping_sub(self.base) };
        for (i, byte) in payload.iter().enumerate() {
            assert_eq!(*byte, pattern(seq as usize - 1 + i), "wrong byte sent at {}", seq as usize + i);
        }
        let mut options = shifted_options(seg.options(), IRS.wrapping_neg(), 0, 0);
        if let Some(val) = timestamp(&options) {
            // The clock of a connection begins anywhere (RFC 7323 5.4), and then goes on.
            let ours = (now / 1000) as u32 + 100;
            let clock = *self.clock.get_or_insert(val.wrapping_sub(ours));
            options = shifted_options(&options, 0, clock.wrapping_neg(), 0);
        }
        Some(Packet {
            seq,
            ack: if flags & 16 != 0 { seg.ack().wrapping_sub(IRS) } else { 0 },
            flags,
            window: seg.window(),
            options,
            len: payload.len(),
        })
    }
}

/// Our timestamp among options.
fn timestamp(options: &[u8]) -> Option<u32> {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        match kind {
            0 => return None,
            1 => at += 1,
            8 => return Some(u32::from_be_bytes(options.get(at + 2..at + 6)?.try_into().ok()?)),
            _ => at += usize::from(*options.get(at + 1)?).max(1),
        }
    }
    None
}

fn bits(ready: u32) -> String {
    let names = BITS.iter().filter(|(bit, _)| ready & bit != 0).map(|(_, name)| *name);
    names.collect::<Vec<_>>().join(" ")
}

/// What a call gave, as scripts say it.
fn ret(result: Called<Option<usize>>) -> Ret {
    Ret::Errno(match result {
        Ok(Some(count)) => return Ret::Count(count),
        Ok(None) => "EAGAIN",
        Err(Errno(libc::EPIPE)) => "EPIPE",
        Err(Errno(libc::ENOTCONN)) => "ENOTCONN",
        Err(Errno(libc::ENOMEM)) => "ENOMEM",
        Err(Errno(libc::ECONNREFUSED)) => "ECONNREFUSED",
        Err(Errno(libc::ECONNRESET)) => "ECONNRESET",
        Err(Errno(libc::ETIMEDOUT)) => "ETIMEDOUT",
        Err(Errno(libc::EHOSTUNREACH)) => "EHOSTUNREACH",
        Err(Errno(libc::ENETUNREACH)) => "ENETUNREACH",
        Err(Errno(libc::ECONNABORTED)) => "ECONNABORTED",
        Err(Errno(_)) => "another errno",
    })
}

impl Driver for Stack {
    fn listen(&mut self, now: u64) {
        let sock = self.node.socket();
        let (local, wishes) = (self.local, self.wishes);
        self.node.on(|st| st.set_wishes(sock, wishes)).expect("a socket");
        self.node.on(|st| st.bind(sock, local)).expect("bound");
        self.node.on(|st| st.listen(sock, 10)).expect("listens");
        self.listener = Some(sock);
        self.round(now, Vec::new());
    }

    fn connect(&mut self, _now: u64) {
        (self.local, self.peer) = (at(0, 5000), at(1, 80));
        let sock = self.node.socket();
        let (local, peer, wishes) = (self.local, self.peer, self.wishes);
        self.node.on(|st| st.set_wishes(sock, wishes)).expect("a socket");
        self.node.on(|st| st.bind(sock, local)).expect("bound");
        assert_eq!(self.node.with(|e, m, t| e.connect(m, t, sock, peer, false)), Ok(false));
        self.opened = true;
        self.begin(sock);
    }

    fn inject(&mut self, now: u64, packet: &Packet) {
        let first = packet.seq.wrapping_add(u32::from(packet.flags & 2 != 0)).wrapping_sub(1);
        let options = shifted_options(&packet.options, self.base, 0, self.clock.unwrap_or(0));
        let ack = if packet.flags & 16 != 0 { packet.ack.wrapping_add(self.base) } else { 0 };
        let mut body = vec![0; tcp::MIN_HEADER_LEN];
        body[..2].copy_from_slice(&self.peer.port().to_be_bytes());
        body[2..4].copy_from_slice(&self.local.port().to_be_bytes());
        body[tcp::OFF_SEQ..][..4].copy_from_slice(&packet.seq.wrapping_add(IRS).to_be_bytes());
        body[tcp::OFF_ACK..][..4].copy_from_slice(&ack.to_be_bytes());
        body[tcp::OFF_DOFF] = (((tcp::MIN_HEADER_LEN + options.len()) / 4) << 4) as u8;
        body[tcp::OFF_FLAGS] = packet.flags;
        body[tcp::OFF_WINDOW..][..2].copy_from_slice(&packet.window.to_be_bytes());
        body.extend_from_slice(&options);
        body.extend((0..packet.len).map(|i| pattern(first as usize + i)));
        let frame = self.frame(ipv4::PROTO_TCP, &body);
        let before = self.node.on(|st| self.of_tuple(st));
        self.round(now, vec![frame]);
        let after = self.node.on(|st| self.of_tuple(st));
        self.opened |= after.is_some();
        self.reopened |= before.is_some() && after.is_some() && before != after;
    }

    fn drain(&mut self, now: u64) -> Vec<Packet> {
        while self.node.on(|st| st.has_output()) {
            self.round(now, Vec::new());
        }
        let frames = self.node.left();
        let packets = frames.iter().filter_map(|frame| self.segment(now, frame)).collect();
        self.check();
        packets
    }

    fn deadline(&self) -> Option<u64> {
        self.node.due().map(|due| due.saturating_sub(START))
    }

    fn expire(&mut self, now: u64) {
        self.round(now, Vec::new());
    }

    fn write(&mut self, _now: u64, len: usize) -> Ret {
        let sock = match self.sock() {
            Ok(sock) => sock,
            Err(e) => return e,
        };
        let bytes: Vec<u8> = (self.written..self.written + len).map(pattern).collect();
        let result = ret(self.node.write(sock, &bytes));
        if let Ret::Count(count) = result {
            self.written += count;
        }
        result
    }

    fn read(&mut self, _now: u64, len: usize) -> Ret {
        let sock = match self.sock() {
            Ok(sock) => sock,
            Err(e) => return e,
        };
        let mut bytes = vec![0; len];
        let result = ret(self.node.read(sock, &mut bytes));
        if let Ret::Count(count) = result {
            for (i, byte) in bytes[..count].iter().enumerate() {
                let place = self.read + i;
                assert_eq!(*byte, pattern(place), "wrong byte received at {place}");
            }
            self.read += count;
        }
        result
    }

    fn shutdown(&mut self, _now: u64, how: &str) -> Ret {
        let sock = match self.sock() {
            Ok(sock) => sock,
            Err(e) => return e,
        };
        let how = match how {
            "read" => Shutdown::Read,
            "write" => Shutdown::Write,
            _ => Shutdown::Both,
        };
        ret(self.node.on(|st| st.shutdown(sock, how)).map(|()| Some(0)))
    }

    fn close(&mut self, _now: u64) -> Result<(), String> {
        let sock = self.sock.take().ok_or("there is no socket to close")?;
        self.node.close(sock).map_err(|e| format!("{e:?}"))
    }

    fn abort(&mut self, _now: u64) -> Result<(), String> {
        let sock = self.sock.take().ok_or("there is no socket to abort")?;
        self.node.abort(sock).map_err(|e| format!("{e:?}"))
    }

    fn set(&mut self, _now: u64, name: &str, value: u32) -> Result<(), String> {
        let sock = self.sock.ok_or("there is no socket yet")?;
        let mut wishes = self.node.on(|st| st.wishes(sock)).map_err(|e| format!("{e:?}"))?;
        match name {
            "nodelay" => wishes.nodelay = value != 0,
            "keepalive" => wishes.keepalive = value != 0,
            "rcvbuf" => wishes.recv_buffer = value,
            "sndbuf" => wishes.send_buffer = value,
            _ => return Err(format!("no socket option sets {name}")),
        }
        self.node.on(|st| st.set_wishes(sock, wishes)).map_err(|e| format!("{e:?}"))
    }

    fn icmp(&mut self, now: u64, name: &str, mtu: u16, seq: u32) -> Result<(), String> {
        let code = match name {
            "too_big" => 4,
            "port" => 3,
            "host" => 1,
            "net" => 0,
            _ => return Err(format!("icmp {name}?")),
        };
        // Destination unreachable, and the first 28 bytes of our packet (RFC 792).
        let mut body = vec![3, code, 0, 0, 0, 0];
        body.extend(mtu.to_be_bytes());
        let mut quoted = [0; 28];
        ipv4::emit(&mut quoted, *self.local.ip(), *self.peer.ip(), ipv4::PROTO_TCP, 63, 40).expect("room");
        checksum::fill_ipv4(&mut quoted);
        quoted[20..22].copy_from_slice(&self.local.port().to_be_bytes());
        quoted[22..24].copy_from_slice(&self.peer.port().to_be_bytes());
        quoted[24..].copy_from_slice(&seq.wrapping_add(self.base).to_be_bytes());
        body.extend(quoted);
        let sum = checksum::checksum(&body);
        body[2..4].copy_from_slice(&sum.to_ne_bytes());
        let frame = self.frame(ipv4::PROTO_ICMP, &body);
        self.round(now, vec![frame]);
        Ok(())
    }

    fn observe(&mut self, name: &str) -> Option<String> {
        if name == "state" {
            let none = match self.listener {
                _ if self.at_rest() => State::TimeWait,
                Some(_) if !self.opened => State::Listen,
                _ => State::Closed,
            };
            return Some(state_name(self.tcb(Tcb::state).unwrap_or(none)).into());
        }
        if name == "reopened" {
            return Some(if self.reopened { "yes" } else { "no" }.into());
        }
        if name == "ready" {
            return self.sock.map(|sock| bits(self.node.readiness(sock)));
        }
        self.tcb(|tcb| {
            Some(match name {
                "error" => tcb.cause().map_or("none", cause_name).into(),
                "cwnd" => tcb.congestion_window().0.to_string(),
                "ssthresh" => tcb.congestion_window().1.to_string(),
                "rto" => format!("{}", tcb.rto() as f64 / 1e6),
                "memory" => tcb.allocated_bytes().to_string(),
                "mss" => tcb.max_payload().to_string(),
                "unread" => tcb.unread().to_string(),
                "unacked" => tcb.unacknowledged().to_string(),
                // What happened is the sockets' to know: epoll reports it.
                _ => return None,
            })
        })?
    }
}

impl Stack {
    /// All that is left of the connection is its TIME_WAIT.
    fn at_rest(&self) -> bool {
        self.node.on(|st| {
            let conn = self.conn(st);
            conn.and_then(|conn| st.stack()?.conn(conn)).is_some_and(|c| c.rest.get().is_some())
        })
    }
}
