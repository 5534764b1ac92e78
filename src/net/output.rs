//! IPv4 packets of our own on their way out: source, next hop, identification, largest size.
//!
//! A sender asks [`Host::path`] once for a destination (its source address and the MTU its segments are cut to), then
//! calls [`Host::send`] for each packet. What can go at once lies in [`Host::ready`] afterwards; what has to wait for its
//! next hop goes by itself, or is reported in [`Host::unreachable`].

use super::host::{Host, Next};
use super::local::ETHERNET_MTU;
use super::route::Hop;
use crate::wire::checksum;
use crate::wire::ethernet::{self, HEADER_LEN};
use crate::wire::ipv4::{self, MIN_HEADER_LEN};
use crate::wire::put16;
use std::net::Ipv4Addr;

/// A way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Port and next hop.
    pub hop: Hop,
    /// Our address there; `None`: the port has none, so that a sender has to bring its own.
    pub source: Option<Ipv4Addr>,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
}

/// The header fields a sender decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Source address; unspecified: that of the port it leaves by.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol number.
    pub proto: u8,
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It lies in [`Host::ready`].
    Ready,
    /// It waits for its next hop.
    Waiting,
}

/// Why a packet was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// No route, or the address of a group (ENETUNREACH).
    NoRoute,
    /// The destination is one of our own addresses, or in 127.0.0.0/8, which never leaves a host (RFC 1122 3.2.1.3): nothing for
    /// the wire.
    Own,
    /// No source given, and the port has none (EADDRNOTAVAIL).
    NoSource,
    /// The next hop does not answer, or nobody can ask for it (EHOSTUNREACH).
    Unreachable,
    /// Larger than the port takes; nothing is fragmented here (EMSGSIZE).
    TooLong {
        /// What it takes.
        mtu: u16,
    },
    /// No memory (ENOMEM).
    NoMemory,
}

/// IP identifications: a counter for each of a few groups of destinations, so that what one peer sees tells little of
/// the traffic with others (RFC 7739). Packets that are not to be fragmented need nothing more (RFC 6864 4.1).
#[derive(Debug)]
pub struct Ids {
    secret: u64,
    counters: [u16; 64],
}

impl Ids {
    pub(super) fn new(secret: u64) -> Self {
        Ids { secret, counters: [0; 64] }
    }

    fn next(&mut self, src: Ipv4Addr, dst: Ipv4Addr) -> u16 {
        let pair = u64::from(u32::from(src)) << 32 | u64::from(u32::from(dst));
        let mixed = (pair ^ self.secret).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let counter = &mut self.counters[(mixed >> 58) as usize];
        *counter = counter.wrapping_add(1);
        counter.wrapping_add(mixed as u16)
    }
}

impl Host {
    /// The way to a destination.
    ///
    /// # Errors
    /// [`Unsent::NoRoute`], [`Unsent::Own`].
    pub fn path(&self, dst: Ipv4Addr) -> Result<Path, Unsent> {
        if dst.is_loopback() || self.local.is_own(u32::from_ne_bytes(dst.octets())) {
            return Err(Unsent::Own);
        }
        let hop = self.next_hop(dst).ok_or(Unsent::NoRoute)?;
        let port = self.local.port(hop.port).ok_or(Unsent::NoRoute)?;
        Ok(Path { hop, source: port.own.map(|o| o.addr), mtu: port.mtu.unwrap_or(ETHERNET_MTU) })
    }

    /// Sends an IPv4 packet with a payload of `len` bytes that `write` appends to what it is given (the frame so far).
    /// Header and, for TCP, the checksum are filled in here; fragments are forbidden.
    ///
    /// # Errors
    /// All of [`Unsent`].
    pub fn send(
        &mut self,
        datagram: &Datagram,
        len: usize,
        now_ms: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Sent, Unsent> {
        let path = self.path(datagram.dst)?;
        let src = if datagram.src.is_unspecified() { path.source } else { Some(datagram.src) };
        let src = src.ok_or(Unsent::NoSource)?;
        let total = u16::try_from(MIN_HEADER_LEN + len).ok().filter(|&total| total <= path.mtu);
        let total = total.ok_or(Unsent::TooLong { mtu: path.mtu })?;
        let mut frame = Vec::new();
        frame.try_reserve_exact(HEADER_LEN + usize::from(total)).map_err(|_| Unsent::NoMemory)?;
        frame.resize(HEADER_LEN + MIN_HEADER_LEN, 0);
        write(&mut frame);
        // Whatever was written, the packet is as long as was said.
        frame.resize(HEADER_LEN + usize::from(total), 0);
        let id = self.ids.next(src, datagram.dst);
        let packet = &mut frame[HEADER_LEN..];
        ipv4::emit(packet, src, datagram.dst, datagram.proto, datagram.ttl, total);
        packet[ipv4::OFF_TOS] = datagram.tos;
        put16(packet, ipv4::OFF_ID, id);
        checksum::fill_ipv4(packet);
        if datagram.proto == ipv4::PROTO_TCP {
            checksum::fill_tcp(packet);
        }
        self.send_on(path.hop, frame, now_ms)
    }

    /// Sends an IPv4 packet that is complete, behind room for a link header, to a next hop.
    ///
    /// # Errors
    /// [`Unsent::Unreachable`].
    pub fn send_on(&mut self, hop: Hop, mut frame: Vec<u8>, now_ms: u64) -> Result<Sent, Unsent> {
        let Some(head) = frame.get_mut(..HEADER_LEN) else { return Err(Unsent::NoRoute) };
        put16(head, ethernet::OFF_TYPE, ethernet::TYPE_IPV4);
        match self.send_to(hop, frame, false, now_ms) {
            Next::Mac(_) => Ok(Sent::Ready),
            Next::Wait => Ok(Sent::Waiting),
            Next::Never => Err(Unsent::Unreachable),
        }
    }
}
