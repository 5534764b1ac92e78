//! Packets of our own: `mtcp_sendpkt` and the resets of `mtcp_reset_conn` (monitor.md §7.3, D9, D20).
//!
//! Between the two ports of a pair they leave with the hardware addresses of the packet in process, or of the flow's first
//! one, as if an end of the connection had sent them; elsewhere, and for a connection whose addresses were translated, by
//! route and ARP.

use super::state::{Monitor, State};
use super::{Errno, Result};
use crate::flow::arena::Id;
use crate::flow::record::{CLI, Flow, SVR};
use crate::flow::token::Token;
use crate::net::route::Hop;
use crate::net::waiting::Outgoing;
use crate::tcp::side::Side;
use crate::wire::checksum;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// What `mtcp_sendpkt` is given.
#[derive(Clone, Copy, Debug)]
pub struct Send<'a> {
    /// Header to take addresses and identification from.
    pub ip: [u8; 20],
    /// Header to take ports and flags from.
    pub tcp: [u8; 20],
    /// Destination and source MAC address, when given.
    pub macs: Option<[u8; 12]>,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, unscaled.
    pub window: u16,
    /// Payload.
    pub payload: &'a [u8],
}

/// Fields of a segment to build.
struct Build<'a> {
    src: [u8; 4],
    dst: [u8; 4],
    ports: [u8; 4],
    id: [u8; 2],
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    stamps: Option<(u32, u32)>,
    payload: &'a [u8],
}

/// Builds a frame without hardware addresses: 20-byte IP header, TTL 64, don't fragment, checksums filled in.
fn build(b: &Build<'_>) -> Option<Vec<u8>> {
    let options = if b.stamps.is_some() { 12 } else { 0 };
    let total = 40 + options + b.payload.len();
    let mut frame = Vec::new();
    frame.try_reserve_exact(14 + total).ok()?;
    frame.extend_from_slice(&[0; 12]);
    frame.extend_from_slice(&[0x08, 0x00, 0x45, 0]);
    frame.extend_from_slice(&u16::try_from(total).ok()?.to_be_bytes());
    frame.extend_from_slice(&b.id);
    frame.extend_from_slice(&[0x40, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&b.src);
    frame.extend_from_slice(&b.dst);
    frame.extend_from_slice(&b.ports);
    frame.extend_from_slice(&b.seq.to_be_bytes());
    frame.extend_from_slice(&b.ack.to_be_bytes());
    frame.extend_from_slice(&[((5 + options / 4) << 4) as u8, b.flags]);
    frame.extend_from_slice(&b.window.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    if let Some((val, ecr)) = b.stamps {
        frame.extend_from_slice(&[1, 1, 8, 10]);
        frame.extend_from_slice(&val.to_be_bytes());
        frame.extend_from_slice(&ecr.to_be_bytes());
    }
    frame.extend_from_slice(b.payload);
    checksum::fill_ipv4(&mut frame[14..])?;
    checksum::fill_tcp(&mut frame[14..])?;
    Some(frame)
}

/// How a packet to one side of a flow leaves.
enum Way {
    /// By this port, with these hardware addresses.
    Wire(u8, [u8; 12]),
    /// By route.
    Hop(Hop),
    /// There is a port, but nothing says which hardware addresses: those of the flow's next packet.
    Later,
    /// There is none.
    None,
}

impl State {
    /// MAC addresses for a frame to side `to`: those of the packet in process, turned round if it came from there, else
    /// of the flow's first packet.
    fn macs_towards(&self, id: Id, to: usize) -> Option<[u8; 12]> {
        if let Some((flow, from)) = self.cur.flow
            && flow == id
            && self.batch.get(self.cur.at).is_some()
        {
            let mut macs = *self.current_frame().first_chunk::<12>()?;
            if from as usize == to {
                macs.rotate_left(6);
            }
            return Some(macs);
        }
        let flow = self.flows.get(id)?;
        self.stations.macs(flow.key.addresses(), (to == SVR) != flow.has(Flow::REVERSED))
    }

    /// The port packets to side `to` leave by: where that side's packets come in, or the mate of the other side's.
    fn port_towards(&self, flow: &Flow, to: usize) -> Option<u8> {
        let seen = |s: &Side| s.has(Side::ATTACHED) && s.has(Side::ISS);
        let (near, far) = (&flow.sides[to], &flow.sides[1 - to]);
        if seen(near) && self.io.ports.get(near.dev as usize).is_some_and(|p| p.output.is_some()) {
            return Some(near.dev);
        }
        self.io.ports.get(far.dev as usize)?.mate
    }

    fn way_towards(&self, id: Id, to: usize, dst: Ipv4Addr, given: Option<[u8; 12]>) -> Way {
        let Some(flow) = self.flows.get(id) else { return Way::None };
        let port = self.port_towards(flow, to);
        let macs = given.or_else(|| self.macs_towards(id, to));
        let paired = port.is_some_and(|p| self.io.ports[p as usize].mate.is_some());
        if !paired || macs.is_none() || flow.has(Flow::ALT_KEY) {
            let hop = self.host.next_hop(dst).filter(|&hop| self.host.can_resolve(hop));
            if let Some(hop) = hop {
                return Way::Hop(hop);
            }
        }
        match (port, macs) {
            (Some(port), Some(macs)) => Way::Wire(port, macs),
            (Some(_), None) => Way::Later,
            (None, _) => Way::None,
        }
    }

    /// Leaves a packet to be sent when the iteration ends.
    fn queue(&mut self, way: &Way, packet: &Build<'_>) -> Result<()> {
        let mut packet = build(packet).ok_or(Errno(libc::ENOMEM))?;
        match *way {
            Way::Wire(port, macs) => {
                if self.io.ports.get(port as usize).is_none_or(|p| p.output.is_none()) {
                    return Err(Errno(libc::ENETUNREACH));
                }
                self.host.ready.try_reserve(1).map_err(|_| Errno(libc::ENOMEM))?;
                packet[..12].copy_from_slice(&macs);
                self.host.ready.push(Outgoing { port, frame: packet, forwarded: false });
                Ok(())
            }
            Way::Hop(hop) => {
                // A packet lost here is counted by the host.
                let _ = self.host.send_on(hop, packet, self.now_ms);
                Ok(())
            }
            Way::Later | Way::None => Err(Errno(libc::ENETUNREACH)),
        }
    }

    /// Client and server as the packets to side `to` name them: behind a translation (NAT) the server knows another
    /// client than the one that sent the first SYN.
    fn ends_towards(&self, id: Id, to: usize) -> Option<[SocketAddrV4; 2]> {
        let flow = self.flows.get(id)?;
        let (key, reversed) = match self.alternate.get(&id.index) {
            Some((key, client_forward)) if to == SVR && flow.has(Flow::ALT_KEY) => (*key, !client_forward),
            _ => (flow.key, flow.has(Flow::REVERSED)),
        };
        let (SocketAddr::V4(low), SocketAddr::V4(high)) = key.ends() else { return None };
        Some(if reversed { [high, low] } else { [low, high] })
    }

    /// The resets of a flow that are due: one to each end, with the sequence number that end expects (D20). What cannot
    /// leave yet waits for the flow's next packet.
    pub(super) fn send_resets(&mut self, id: Id) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.clear(Flow::RESET_DUE);
        let ways = [CLI, SVR].map(|to| {
            let ends = self.ends_towards(id, to);
            (ends, ends.map_or(Way::None, |ends| self.way_towards(id, to, *ends[to].ip(), None)))
        });
        let Some(flow) = self.flows.get_mut(id) else { return };
        if !flow.has(Flow::ENDING) && ways.iter().any(|(_, way)| matches!(way, Way::Later)) {
            flow.set(Flow::RESET_DUE);
            return;
        }
        for (to, (ends, way)) in ways.iter().enumerate() {
            let (Some(ends), Some((seq, ack))) = (ends, self.expected_by(id, to)) else { continue };
            let mut ports = [0; 4];
            ports[..2].copy_from_slice(&ends[1 - to].port().to_be_bytes());
            ports[2..].copy_from_slice(&ends[to].port().to_be_bytes());
            let reset = Build {
                src: ends[1 - to].ip().octets(),
                dst: ends[to].ip().octets(),
                ports,
                id: [0; 2],
                seq,
                ack,
                flags: 0x14,
                window: 0,
                stamps: None,
                payload: &[],
            };
            if self.queue(way, &reset).is_err() {
                self.stats.sent_lost += 1;
            }
        }
    }

    /// The sequence number side `to` expects next, and what it has sent. One that expects nothing yet takes a reset
    /// that acknowledges its SYN.
    fn expected_by(&self, id: Id, to: usize) -> Option<(u32, u32)> {
        let near = &self.flows.get(id)?.sides[to];
        if !near.has(Side::IRS) {
            return Some((0, near.snd_max));
        }
        // A packet that a callback drops never reaches it.
        let dropped = self.cur.active
            && self.cur.dropped
            && self.cur.flow.is_some_and(|(flow, from)| flow == id && from as usize != to);
        let seg = if dropped { self.prepared.get(self.cur.at).map(|p| p.segment()) } else { None };
        let lost = seg.filter(|s| s.len > 0 && near.rcv_nxt.wrapping_sub(s.seq) <= s.len);
        Some((lost.map_or(near.rcv_nxt, |s| s.seq), near.snd_max))
    }
}

impl Monitor {
    /// Sends a packet of the application's by the output of its destination's side. ENETUNREACH: there is none.
    pub fn send_packet(&self, t: &mut Token, sock: u32, send: &Send<'_>) -> Result<()> {
        let Some([client, _]) = self.peers(t, sock) else { return Ok(()) };
        if send.payload.len() > 1460 {
            return Err(Errno(libc::EMSGSIZE));
        }
        let dst = [send.ip[16], send.ip[17], send.ip[18], send.ip[19]];
        let dport = u16::from_be_bytes([send.tcp[2], send.tcp[3]]);
        let to_client = match client {
            SocketAddr::V4(c) => c.ip().octets() == dst && c.port() == dport,
            SocketAddr::V6(_) => false,
        };
        let to = if to_client { CLI } else { SVR };
        let st = self.state(t);
        let id = st.sockets.get(sock).ok_or(Errno(libc::EBADF))?.flow;
        let flow = st.flows.get(id).ok_or(Errno(libc::EBADF))?;
        let stamps =
            flow.sides[to].has(Side::TS).then(|| (flow.sides[to].ts_recent, flow.sides[1 - to].ts_recent));
        let way = st.way_towards(id, to, dst.into(), send.macs);
        let packet = Build {
            src: [send.ip[12], send.ip[13], send.ip[14], send.ip[15]],
            dst,
            ports: [send.tcp[0], send.tcp[1], send.tcp[2], send.tcp[3]],
            id: [send.ip[4], send.ip[5]],
            seq: send.seq,
            ack: send.ack,
            flags: send.tcp[13] & 0x3f,
            window: send.window,
            stamps,
            payload: send.payload,
        };
        st.queue(&way, &packet)
    }

    /// One RST to each end (D20): at once, or, while a packet of the flow is in process, behind it, when it is known what
    /// its receiver expects next.
    pub fn reset(&self, t: &mut Token, sock: u32) -> Result<()> {
        let st = self.state(t);
        let id = st.sockets.get(sock).ok_or(Errno(libc::EBADF))?.flow;
        let flow = st.flows.get_mut(id).ok_or(Errno(libc::EBADF))?;
        let in_process = st.cur.active && st.cur.flow.is_some_and(|(flow, _)| flow == id);
        if in_process && flow.has(Flow::BUSY) && !flow.has(Flow::ENDING) {
            flow.set(Flow::RESET_DUE);
        } else {
            st.send_resets(id);
        }
        Ok(())
    }
}
