//! Local addresses and ports of connections that are opened here (endpoint-io.md §4.4): random (RFC 6056 3.3.1), and such that
//! the answers reach this core (D21).

use super::stack::Stack;
use crate::monitor::{Errno, Result};
use crate::wire::rss::Rss;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The first port that is given out; those below are for servers.
const FIRST: u16 = 1025;
/// How many there are.
const COUNT: u32 = 65_536 - FIRST as u32;

/// Which tuples are this core's (D21).
#[derive(Clone, Copy, Debug, Default)]
pub struct Steering {
    /// The map of tuples to cores.
    pub rss: Rss,
    /// This core's rank among those that share the packets.
    pub rank: u32,
    /// How many do; 0 and 1: all packets come here.
    pub cores: u32,
}

impl Steering {
    /// Whether packets between two ends come to this core.
    #[inline]
    pub fn is_ours(&self, local: SocketAddrV4, peer: SocketAddrV4) -> bool {
        let raw = |a: SocketAddrV4| (u32::from_ne_bytes(a.ip().octets()), a.port().to_be());
        let ((l, lp), (p, pp)) = (raw(local), raw(peer));
        self.cores < 2 || self.rss.queue(l, p, lp, pp, self.cores) == self.rank
    }
}

/// Source addresses that `mtcp_init_rss` prepared.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// The first.
    pub base: Ipv4Addr,
    /// How many, one after the other.
    pub count: u32,
}

impl Stack {
    /// Our end of a connection to `peer`: `bound` as far as it says, else one of `sources`. EADDRINUSE: bound, and there is such a
    /// connection; EINVAL: bound, and the answers would reach another core; EAGAIN: no port is free.
    pub(super) fn local_end(
        &mut self,
        bound: Option<SocketAddrV4>,
        sources: Sources,
        peer: SocketAddrV4,
    ) -> Result<SocketAddrV4> {
        let ip = bound.map(|b| *b.ip()).filter(|ip| !ip.is_unspecified());
        let port = bound.map(|b| b.port()).filter(|&port| port != 0);
        if let (Some(ip), Some(port)) = (ip, port) {
            let local = SocketAddrV4::new(ip, port);
            if !self.steering.is_ours(local, peer) {
                return Err(Errno(libc::EINVAL));
            }
            return if self.is_free(local, peer) { Ok(local) } else { Err(Errno(libc::EADDRINUSE)) };
        }
        let sources = ip.map_or(sources, |base| Sources { base, count: 1 });
        let random = self.draw();
        let first = (random >> 32) as u32 % sources.count.max(1);
        for n in 0..sources.count.max(1) {
            let ip =
                Ipv4Addr::from_bits(sources.base.to_bits().wrapping_add((first + n) % sources.count.max(1)));
            let ports = port.map_or(COUNT, |_| 1);
            let start = random as u32 % COUNT;
            for n in 0..ports {
                let port = port.unwrap_or_else(|| FIRST + ((start + n) % COUNT) as u16);
                let local = SocketAddrV4::new(ip, port);
                if self.steering.is_ours(local, peer) && self.is_free(local, peer) {
                    return Ok(local);
                }
            }
        }
        Err(Errno(libc::EAGAIN))
    }

    fn is_free(&self, local: SocketAddrV4, peer: SocketAddrV4) -> bool {
        self.find(&Self::key_of(local, peer).0).is_none()
    }

    /// A port on which nobody listens, for a socket that listens unbound.
    pub(super) fn free_port(&mut self, ip: Ipv4Addr) -> Result<u16> {
        let start = self.draw() as u32 % COUNT;
        (0..COUNT)
            .map(|n| FIRST + ((start + n) % COUNT) as u16)
            .find(|&port| !self.listeners.is_taken(SocketAddrV4::new(ip, port), false))
            .ok_or(Errno(libc::EADDRINUSE))
    }
}
