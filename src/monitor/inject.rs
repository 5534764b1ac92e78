//! Packets of our own: `mtcp_sendpkt` and the resets of `mtcp_reset_conn` (monitor.md §7.3, D9, D20).

use super::state::{Monitor, State};
use super::{Errno, Result};
use crate::flow::record::{CLI, SVR};
use crate::flow::token::Token;
use crate::tcp::side::Side;
use crate::wire::checksum;
use std::net::SocketAddr;

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
    macs: [u8; 12],
}

/// Builds an Ethernet frame: 20-byte IP header, TTL 64, don't fragment, checksums filled in.
fn build(b: &Build<'_>) -> Option<Vec<u8>> {
    let options = if b.stamps.is_some() { 12 } else { 0 };
    let total = 40 + options + b.payload.len();
    let mut frame = Vec::new();
    frame.try_reserve_exact(14 + total).ok()?;
    frame.extend_from_slice(&b.macs);
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

impl State {
    /// MAC addresses for a frame to side `to`: those of the packet in process, turned round if it came from there.
    fn macs_towards(&self, to: usize) -> [u8; 12] {
        let mut macs = [0; 12];
        if let Some((_, from)) = self.cur.flow
            && self.batch.get(self.cur.at).is_some()
            && let Some(found) = self.current_frame().first_chunk::<12>()
        {
            macs = *found;
            if from as usize == to {
                macs.rotate_left(6);
            }
        }
        macs
    }

    fn queue(&mut self, port: u8, frame: Vec<u8>) -> Result<()> {
        if self.io.ports.get(port as usize).is_none_or(|p| p.output.is_none()) {
            return Err(Errno(libc::ENETUNREACH));
        }
        self.outbox.try_reserve(1).map_err(|_| Errno(libc::ENOMEM))?;
        self.stats.sent_packets += 1;
        self.stats.sent_bytes += frame.len() as u64;
        self.outbox.push((port, frame));
        Ok(())
    }

    /// The port packets to side `to` leave by: where that side's packets come in, or the mate of the other side's.
    fn port_towards(&self, sock: u32, to: usize) -> Option<u8> {
        let flow = self.flow_of(sock)?;
        let seen = |s: &Side| s.has(Side::ATTACHED) && s.has(Side::ISS);
        let (near, far) = (&flow.sides[to], &flow.sides[1 - to]);
        if seen(near) && self.io.ports.get(near.dev as usize).is_some_and(|p| p.output.is_some()) {
            return Some(near.dev);
        }
        self.io.ports.get(far.dev as usize)?.mate
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
        let port = st.port_towards(sock, to).ok_or(Errno(libc::ENETUNREACH))?;
        let flow = st.flow_of(sock).ok_or(Errno(libc::EBADF))?;
        let stamps =
            flow.sides[to].has(Side::TS).then(|| (flow.sides[to].ts_recent, flow.sides[1 - to].ts_recent));
        let frame = build(&Build {
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
            macs: send.macs.unwrap_or_else(|| st.macs_towards(to)),
        });
        st.queue(port, frame.ok_or(Errno(libc::ENOMEM))?)
    }

    /// One RST to each end, with the sequence number that end expects (D20).
    pub fn reset(&self, t: &mut Token, sock: u32) -> Result<()> {
        let Some(ends) = self.peers(t, sock) else { return Err(Errno(libc::EBADF)) };
        let st = self.state(t);
        for to in [CLI, SVR] {
            let flow = st.flow_of(sock).ok_or(Errno(libc::EBADF))?;
            let near = &flow.sides[to];
            // A side that expects nothing yet takes a RST that acknowledges its SYN.
            let (seq, ack, flags) = if near.has(Side::IRS) {
                (near.rcv_nxt, near.snd_max, 0x14)
            } else {
                (0, near.snd_max, 0x14)
            };
            let (SocketAddr::V4(src), SocketAddr::V4(dst)) = (ends[1 - to], ends[to]) else {
                return Err(Errno(libc::EAFNOSUPPORT));
            };
            let mut ports = [0; 4];
            ports[..2].copy_from_slice(&src.port().to_be_bytes());
            ports[2..].copy_from_slice(&dst.port().to_be_bytes());
            let frame = build(&Build {
                src: src.ip().octets(),
                dst: dst.ip().octets(),
                ports,
                id: [0; 2],
                seq,
                ack,
                flags,
                window: 0,
                stamps: None,
                payload: &[],
                macs: st.macs_towards(to),
            });
            let port = st.port_towards(sock, to);
            if let (Some(port), Some(frame)) = (port, frame)
                && st.queue(port, frame).is_err()
            {
                st.stats.drop_tx += 1;
            }
        }
        Ok(())
    }
}
