//! One core's place in the network: own addresses, routes and neighbours, and what follows from them for packets in
//! both directions. No I/O: frames to be sent are left in [`Host::ready`]; time is an argument.

use super::arp::{self, Arp};
use super::icmp::{self, IcmpError, Message};
use super::limit::Limit;
use super::local::Local;
use super::neighbours::{Answer, Neighbours, RETRY_MS};
use super::route::{Hop, Routes};
use super::waiting::{Lost, Outgoing, Waiting};
use crate::wire::ethernet::{self, Ethernet, Mac};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// ARP requests, ARP replies, echo replies a second at most, each.
const MOST_PER_SECOND: u32 = 1000;
/// While packets wait: so often a core looks whether another one heard the answer.
const HEARD_MS: u64 = 10;
/// Reports nobody has fetched at most.
const MOST_REPORTS: usize = 256;

/// Whether a next hop can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At this hardware address.
    Mac(Mac),
    /// Not yet: it has been asked for.
    Wait,
    /// Not at all: nobody can ask for it, or it does not answer.
    Never,
}

/// A next hop found a moment ago.
#[derive(Clone, Copy, Debug)]
struct Recent {
    hop: Hop,
    mac: Mac,
    until_ms: u64,
    generation: u32,
}

const RECENT: usize = 64;

/// See the file's head.
#[derive(Debug)]
pub struct Host {
    /// The ports.
    pub local: Arc<Local>,
    /// The routes.
    pub routes: Arc<Routes>,
    neighbours: Arc<Neighbours>,
    recent: Box<[Option<Recent>; RECENT]>,
    waiting: Waiting,
    /// When to look after what waits, by what was known then.
    look_ms: u64,
    ticked_ms: u64,
    generation: u32,
    requests: Limit,
    replies: Limit,
    echoes: Limit,
    /// Secret and counters of IP identifications ([`super::output`]).
    pub(super) ids: super::output::Ids,
    /// Frames to be sent now.
    pub ready: Vec<Outgoing>,
    /// Packets lost since the last look.
    pub lost: Lost,
    /// Destinations that packets of ours waited for in vain: for their connections to hear.
    pub unreachable: Vec<Ipv4Addr>,
    /// ICMP errors about packets of ours.
    pub errors: Vec<IcmpError>,
}

impl Default for Host {
    fn default() -> Self {
        Host::new(Arc::default(), Arc::default(), Arc::default(), 0)
    }
}

impl Host {
    /// A core's view of what all cores share. `secret`: unknown to others.
    pub fn new(local: Arc<Local>, routes: Arc<Routes>, neighbours: Arc<Neighbours>, secret: u64) -> Self {
        Host {
            local,
            routes,
            neighbours,
            recent: Box::new([None; RECENT]),
            waiting: Waiting::default(),
            look_ms: u64::MAX,
            ticked_ms: 0,
            generation: 0,
            requests: Limit::new(MOST_PER_SECOND),
            replies: Limit::new(MOST_PER_SECOND),
            echoes: Limit::new(MOST_PER_SECOND),
            ids: super::output::Ids::new(secret),
            ready: Vec::new(),
            lost: Lost::default(),
            unreachable: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The next hop towards an address. `None`: no route, or the address of a group.
    pub fn next_hop(&self, dst: Ipv4Addr) -> Option<Hop> {
        if self.local.is_group(dst) { None } else { self.routes.find(dst) }
    }

    /// Whether a next hop's hardware address is to be had: it is fixed, or the port has an address to ask from.
    pub fn can_resolve(&self, hop: Hop) -> bool {
        self.local.own(hop.port).is_some() || self.neighbours.fixed(hop.addr).is_some()
    }

    /// The hardware address of a next hop; asks for it when it is not known.
    #[inline]
    pub fn resolve(&mut self, hop: Hop, now_ms: u64) -> Next {
        let slot = (u32::from(hop.addr).wrapping_mul(0x9e37_79b1) >> 26) as usize % RECENT;
        if let Some(recent) = &self.recent[slot]
            && recent.hop == hop
            && now_ms < recent.until_ms
            && recent.generation == self.neighbours.generation()
        {
            return Next::Mac(recent.mac);
        }
        self.look_up(hop, slot, now_ms)
    }

    #[inline(never)]
    fn look_up(&mut self, hop: Hop, slot: usize, now_ms: u64) -> Next {
        let generation = self.neighbours.generation();
        let Some(own) = self.local.own(hop.port) else {
            // Nobody to ask in the name of.
            return self.neighbours.fixed(hop.addr).map_or(Next::Never, Next::Mac);
        };
        let (next, ask) = match self.neighbours.resolve((hop.port, hop.addr), now_ms) {
            Answer::Known { mac, until_ms, ask } => {
                self.recent[slot] = Some(Recent { hop, mac, until_ms, generation });
                (Next::Mac(mac), ask)
            }
            Answer::Wait { ask } => (Next::Wait, ask),
            Answer::Silent => (Next::Never, false),
        };
        if ask
            && self.requests.allows(now_ms)
            && let Some(port) = self.local.port(hop.port)
        {
            let frame = arp::request(port.mac, own.addr, hop.addr);
            self.send_now(hop.port, &frame);
        }
        next
    }

    /// Leaves a frame of our own to be sent.
    fn send_now(&mut self, port: u8, frame: &[u8]) {
        let mut copy = Vec::new();
        if copy.try_reserve_exact(frame.len()).is_err() || self.ready.try_reserve(1).is_err() {
            self.lost.own += 1;
            return;
        }
        copy.extend_from_slice(frame);
        self.ready.push(Outgoing { port, frame: copy, forwarded: false });
    }

    /// Sends a frame to a next hop, now or when its hardware address is known; the frame has room for a link header.
    pub fn send_to(&mut self, hop: Hop, mut frame: Vec<u8>, forwarded: bool, now_ms: u64) -> Next {
        let next = self.resolve(hop, now_ms);
        match next {
            Next::Mac(mac) => {
                self.write_macs(hop.port, mac, &mut frame);
                self.push_ready(Outgoing { port: hop.port, frame, forwarded });
            }
            Next::Wait => self.hold(hop, frame, forwarded, now_ms),
            Next::Never => self.count_lost(forwarded),
        }
        next
    }

    /// Writes the addresses of a frame that leaves by `port` for hardware address `mac`.
    pub fn write_macs(&self, port: u8, mac: Mac, frame: &mut [u8]) {
        if let (Some(local), Some(head)) = (self.local.port(port), frame.first_chunk_mut::<12>()) {
            head[..6].copy_from_slice(&mac);
            head[6..].copy_from_slice(&local.mac);
        }
    }

    fn push_ready(&mut self, packet: Outgoing) {
        if self.ready.try_reserve(1).is_err() {
            self.count_lost(packet.forwarded);
        } else {
            self.ready.push(packet);
        }
    }

    fn count_lost(&mut self, forwarded: bool) {
        if forwarded {
            self.lost.forwarded += 1;
        } else {
            self.lost.own += 1;
        }
    }

    /// Lets a frame wait until its next hop's hardware address is known.
    pub fn hold(&mut self, hop: Hop, frame: Vec<u8>, forwarded: bool, now_ms: u64) {
        self.waiting.push(hop, Outgoing { port: hop.port, frame, forwarded }, &mut self.lost);
        self.look_ms = self.look_ms.min(now_ms.saturating_add(RETRY_MS));
    }

    /// Received packets that wait for their next hop now.
    pub fn waiting(&self) -> u64 {
        self.waiting.forwarded()
    }

    /// When [`tick`](Self::tick) has something to do. `None`: not before other packets come.
    #[inline]
    pub fn deadline_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then(|| self.look_ms.min(self.ticked_ms.saturating_add(HEARD_MS)))
    }

    /// Looks after what waits: sends it when another core heard the answer, asks again, or gives up.
    #[inline]
    pub fn tick(&mut self, now_ms: u64) {
        self.ticked_ms = now_ms;
        if !self.waiting.is_empty()
            && (now_ms >= self.look_ms || self.generation != self.neighbours.generation())
        {
            self.look_after(now_ms);
        }
    }

    #[inline(never)]
    fn look_after(&mut self, now_ms: u64) {
        self.generation = self.neighbours.generation();
        self.look_ms = now_ms.saturating_add(RETRY_MS);
        for hop in self.waiting.hops() {
            match self.resolve(hop, now_ms) {
                Next::Mac(mac) => self.release(hop, mac),
                Next::Wait => {}
                Next::Never => self.give_up(hop),
            }
        }
        if self.waiting.is_empty() {
            self.look_ms = u64::MAX;
        }
    }

    fn release(&mut self, hop: Hop, mac: Mac) {
        for mut packet in self.waiting.take(hop) {
            self.write_macs(hop.port, mac, &mut packet.frame);
            self.push_ready(packet);
        }
    }

    fn give_up(&mut self, hop: Hop) {
        for packet in self.waiting.take(hop) {
            self.count_lost(packet.forwarded);
            let dst = packet.frame.get(30..34).and_then(|b| <[u8; 4]>::try_from(b).ok());
            if !packet.forwarded
                && let Some(dst) = dst.map(Ipv4Addr::from)
                && self.unreachable.len() < MOST_REPORTS
                && !self.unreachable.contains(&dst)
            {
                self.unreachable.push(dst);
            }
        }
    }

    /// Gives up everything that waits: the core ends.
    pub fn abandon(&mut self) {
        for hop in self.waiting.hops() {
            self.waiting.give_up(hop, &mut self.lost);
        }
        self.look_ms = u64::MAX;
    }

    /// An ARP frame came in by `port`: learns from it, answers it. Whether it is for the port itself.
    pub fn arp(&mut self, port: u8, frame: &[u8], now_ms: u64) -> bool {
        let Some(arp) = arp::parse(frame) else { return false };
        let Some(own) = self.local.own(port) else { return false };
        if arp.sender == own.addr {
            // Somebody else with our address: never believed.
            return arp.target == own.addr;
        }
        if self.neighbours.learn(port, &arp, now_ms) {
            self.answered(port, &arp);
        }
        if arp.target != own.addr {
            return false;
        }
        if arp.op == arp::Op::Request
            && !own.kernel
            && self.replies.allows(now_ms)
            && let Some(local) = self.local.port(port)
        {
            let reply = arp.reply(local.mac);
            self.send_now(port, &reply);
        }
        true
    }

    fn answered(&mut self, port: u8, arp: &Arp) {
        self.release(Hop { port, addr: arp.sender }, arp.sender_mac);
    }

    /// An ICMP message for one of our addresses came in by `port`: answers an echo request, keeps an error. `packet` is
    /// the IP packet in `frame`. `false`: an echo request that the rate limit left unanswered.
    pub fn icmp(&mut self, port: u8, frame: &[u8], packet: &[u8], now_ms: u64) -> bool {
        match icmp::read(packet) {
            Message::Echo => return self.echo(port, frame, packet, now_ms),
            Message::Error(error) => {
                let src = u32::from_ne_bytes(error.src.octets());
                if self.local.is_own(src) && self.errors.len() < MOST_REPORTS {
                    self.errors.push(error);
                }
            }
            Message::Other => {}
        }
        true
    }

    /// Answers by the way the request came, so that a flood of requests can neither make us ask for hardware addresses
    /// nor wait for them.
    fn echo(&mut self, port: u8, frame: &[u8], packet: &[u8], now_ms: u64) -> bool {
        let (Some(eth), Some(local)) = (Ethernet::new(frame), self.local.port(port)) else { return true };
        let (to, from) = (eth.src(), local.mac);
        let src = packet.get(12..16).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(Ipv4Addr::from);
        let askable = src.is_some_and(|src| {
            !self.local.is_group(src)
                && !src.is_loopback()
                && !self.local.is_own(u32::from_ne_bytes(src.octets()))
        });
        if to[0] & 1 != 0 || !askable {
            return true;
        }
        if !self.echoes.allows(now_ms) {
            return false;
        }
        let Some(mut reply) = icmp::echo_reply(packet, ethernet::HEADER_LEN) else {
            self.lost.own += 1;
            return true;
        };
        reply[..6].copy_from_slice(&to);
        reply[6..12].copy_from_slice(&from);
        crate::wire::put16(&mut reply, ethernet::OFF_TYPE, ethernet::TYPE_IPV4);
        self.push_ready(Outgoing { port, frame: reply, forwarded: false });
        true
    }
}
