//! What a core's round does for this host's connections: packets that are for them, their timers, the segments they send.

use super::output::{Below, Taken};
use super::stack::Stack;
use super::{Endpoint, State};
use crate::flow::token::Token;
use crate::io::source::Source;
use crate::monitor::iteration::Terminal;
use crate::monitor::stats::Stats;
use crate::monitor::{self, Monitor};
use crate::net::host::{Host, Next};
use crate::net::icmp::Kind;
use crate::net::output::Path;
use crate::net::prepare::{Prepared, Sum};
use crate::net::route::Hop;
use crate::tcp::tcb::{Icmp, Segment};
use crate::wire::Class;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

impl Terminal for Endpoint {
    #[inline]
    fn wants(&self, m: &Monitor, t: &mut Token, at: usize) -> bool {
        // Where no stream socket was ever made, addresses of ours are the monitors' (NAT).
        self.view(t).stack.is_some() && self.is_for_us(m, t, at)
    }

    fn take(&self, m: &Monitor, t: &mut Token, at: usize) {
        self.with_stack(m, t, |stack, st| take(stack, st, at));
        self.state(t).pass_on();
    }
}

/// A packet for this host reaches its connection.
fn take(stack: &mut Stack, st: &mut monitor::State, at: usize) {
    let p = st.prepared[at].parsed;
    let frame = st.current_frame();
    let host = &st.host;
    let (local, peer) = ends(&p);
    let payload = usize::from(p.payload);
    if is_whole(&st.prepared[at]) {
        let seg = Segment {
            seq: p.seq,
            ack: p.ack,
            flags: p.flags,
            window: p.window,
            options: &frame[usize::from(p.l4) + crate::wire::tcp::MIN_HEADER_LEN..payload],
            payload: &frame[payload..payload + usize::from(p.payload_len)],
        };
        let path = || host.path(*peer.ip()).ok();
        stack.arrive(local, peer, &seg, path, host.local.answers(p.dst));
    }
}

/// Whether a packet is a TCP segment that arrived as it was sent.
fn is_whole(prep: &Prepared) -> bool {
    let right = matches!(prep.sum, Sum::Good | Sum::Unfinished);
    prep.parsed.class == Class::Tcp && right && !prep.parsed.truncated
}

/// Destination and source of a TCP packet: our end and the peer's.
fn ends(p: &crate::wire::Parsed) -> (SocketAddrV4, SocketAddrV4) {
    (SocketAddrV4::new(p.dst_addr(), p.dst_port()), SocketAddrV4::new(p.src_addr(), p.src_port()))
}

/// What leaves goes straight to the ports.
struct Direct<'a> {
    host: &'a mut Host,
    io: &'a mut Source,
    stats: &'a mut Stats,
    now_ns: u64,
}

impl Below for Direct<'_> {
    fn path(&self, dst: Ipv4Addr) -> Option<Path> {
        self.host.path(dst).ok()
    }

    fn send(&mut self, hop: Hop, frame: &mut [u8]) -> Taken {
        let now_ms = self.now_ns / 1_000_000;
        match self.host.resolve(hop, now_ms) {
            Next::Mac(mac) => {
                if self.io.is_full(hop.port, frame.len()) {
                    return Taken::Full;
                }
                self.host.write_macs(hop.port, mac, frame);
                match self.io.send(hop.port, self.now_ns, frame) {
                    Some(sent) => {
                        self.stats.sent_packets += 1;
                        self.stats.sent_bytes += sent as u64;
                    }
                    None => self.stats.sent_lost += 1,
                }
            }
            Next::Wait => match copy(frame) {
                Some(frame) => self.host.hold(hop, frame, false, now_ms),
                None => self.stats.no_memory += 1,
            },
            Next::Never => self.stats.sent_lost += 1,
        }
        Taken::Yes
    }
}

/// What leaves is put aside: monitors see it first.
struct Aside<'a> {
    host: &'a mut Host,
    frames: &'a mut Vec<(Hop, Vec<u8>)>,
    now_ms: u64,
}

impl Below for Aside<'_> {
    fn path(&self, dst: Ipv4Addr) -> Option<Path> {
        self.host.path(dst).ok()
    }

    fn send(&mut self, hop: Hop, frame: &mut [u8]) -> Taken {
        if let Next::Mac(mac) = self.host.resolve(hop, self.now_ms) {
            self.host.write_macs(hop.port, mac, frame);
        } else {
            frame[..12].fill(0);
        }
        if let Some(frame) = copy(frame)
            && self.frames.try_reserve(1).is_ok()
        {
            self.frames.push((hop, frame));
        }
        Taken::Yes
    }
}

fn copy(frame: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(frame.len()).ok()?;
    copy.extend_from_slice(frame);
    Some(copy)
}

impl Endpoint {
    /// Whether a TCP packet is for this host: for an address of ours that nobody else answers for, or for a socket that took
    /// the address by itself or shares it with the kernel. Apart, so that where there is no stack nothing of it is computed.
    #[inline(never)]
    fn is_for_us(&self, m: &Monitor, t: &Token, at: usize) -> bool {
        let st = m.view(t);
        let Some(prep) = st.prepared.get(at) else { return false };
        let p = &prep.parsed;
        if !is_whole(prep) {
            return false;
        }
        if st.host.local.answers(p.dst) {
            return true;
        }
        let ours = self.view(t);
        if !st.host.local.is_own(p.dst) && !ours.foreign.contains(p.dst_addr()) {
            return false;
        }
        let (local, peer) = ends(p);
        ours.stack().is_some_and(|stack| stack.wants(local, peer))
    }

    /// The time as it is now, µs.
    #[inline]
    pub fn set_time(&self, t: &mut Token, now_us: u64) {
        let ours = self.state(t);
        ours.now = ours.now.max(now_us);
        let now = ours.now;
        if let Some(stack) = ours.stack_mut() {
            stack.now = now;
        }
    }

    /// When a timer may be due, in ms.
    pub fn next_due_ms(&self, t: &Token) -> Option<u64> {
        self.view(t).stack().and_then(|s| s.next_due())
    }

    /// After a round's packets: errors from below, timers, and what is to be sent leaves. `true`: some of it waits for a port.
    pub fn end_round(&self, m: &Monitor, t: &mut Token) -> bool {
        let ended = self.with_stack(m, t, end_round);
        let Some((frames, waits)) = ended else { return false };
        let ours = self.state(t);
        let connections = ours.stack().map_or(0, |s| s.len());
        self.connections.store(connections as u32, Ordering::Relaxed);
        ours.pass_on();
        if !frames.is_empty() {
            m.outgoing(t, frames);
        }
        waits
    }

    /// Lends the stack together with the monitor's state. A fault in it ends the connection in process.
    fn with_stack<R>(
        &self,
        m: &Monitor,
        t: &mut Token,
        work: impl FnOnce(&mut Stack, &mut monitor::State) -> R,
    ) -> Option<R> {
        let mut stack = self.state(t).stack.take()?;
        let st = m.state(t);
        stack.memory.others = st.stream_memory;
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut stack, st)));
        if result.is_err() {
            stack.drop_busy();
        }
        st.endpoint_memory = stack.memory.claim(stack.active());
        st.stats.no_memory +=
            std::mem::take(&mut stack.memory.refused) + std::mem::take(&mut stack.no_memory);
        self.state(t).stack = Some(stack);
        result.map_err(|fault| resume_unwind(fault)).ok()
    }
}

/// See [`Endpoint::end_round`]: frames that monitors are to see before they leave, and whether others wait for a port.
fn end_round(stack: &mut Stack, st: &mut monitor::State) -> (Vec<(Hop, Vec<u8>)>, bool) {
    stack.now = stack.now.max(st.now_ns / 1000);
    stack.relieve();
    for e in st.host.errors.drain(..) {
        let (local, peer) = (SocketAddrV4::new(e.src, e.sport), SocketAddrV4::new(e.dst, e.dport));
        if let Some(error) = icmp_of(e.kind) {
            stack.icmp(local, peer, e.seq, error);
        }
    }
    for dst in st.host.unreachable.drain(..) {
        stack.unreachable(dst);
    }
    // What the packets called for leaves before timers run: a TIME_WAIT of no length still acknowledges.
    let mut frames = Vec::new();
    transmit(stack, st, &mut frames);
    stack.expire(st.now_ns / 1000);
    transmit(stack, st, &mut frames);
    (frames, stack.has_output())
}

/// Sends what there is to be sent, or, when there are monitors, puts it aside for them.
fn transmit(stack: &mut Stack, st: &mut monitor::State, frames: &mut Vec<(Hop, Vec<u8>)>) {
    if !stack.has_output() {
        return;
    }
    let monitored = st.has_stream || st.has_raw || !st.flows.is_empty();
    let monitor::State { host, io, stats, now_ns, now_ms, .. } = st;
    if monitored {
        stack.transmit(&mut Aside { host, frames, now_ms: *now_ms });
    } else {
        stack.transmit(&mut Direct { host, io, stats, now_ns: *now_ns });
    }
}

impl State {
    /// Whether there is something to be sent, or to be answered.
    pub fn has_output(&self) -> bool {
        self.stack().is_some_and(|s| s.has_output())
    }
}

/// What an ICMP error means to a connection (RFC 5927 2, RFC 1122 4.2.3.9).
fn icmp_of(kind: Kind) -> Option<Icmp> {
    match kind {
        Kind::Unreachable(2 | 3 | 9 | 10 | 13) => Some(Icmp::PortUnreachable),
        Kind::Unreachable(0 | 6 | 11) => Some(Icmp::NetUnreachable),
        Kind::Unreachable(_) | Kind::TimeExceeded(_) => Some(Icmp::HostUnreachable),
        Kind::TooLong { mtu } => Some(Icmp::TooBig(mtu.unwrap_or(0))),
        Kind::ParameterProblem => None,
    }
}
