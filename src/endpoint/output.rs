//! Segments on their way out: from the connections that have some, in frames made one after the other in one buffer.

use super::conn::Conn;
use super::reply::Reply;
use super::stack::Stack;
use crate::flow::reserve;
use crate::net::output::Path;
use crate::net::route::Hop;
use crate::tcp::tcb::{Payload, State, Tcb, Transmit};
use crate::wire::ethernet::{self, HEADER_LEN};
use crate::wire::{checksum, ipv4, tcp};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Time to live of our packets.
pub const TTL: u8 = 64;
/// Segments a connection sends in a row while others wait.
const BURST: usize = 64;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is on its way (or lost on it).
    Yes,
    /// The port takes no more just now: this frame neither.
    Full,
}

/// Both ends of a connection, and what else the IP header of its packet says.
#[derive(Clone, Copy, Debug)]
struct Ends {
    local: SocketAddrV4,
    peer: SocketAddrV4,
    ip_id: u16,
    /// 0: the usual.
    ttl: u8,
    tos: u8,
}

/// Writes a frame without hardware addresses to the start of `frame`; its length.
fn write(frame: &mut Vec<u8>, ends: &Ends, seg: &Transmit<'_>) -> Option<usize> {
    let header = tcp::MIN_HEADER_LEN + seg.options.len();
    let packet_len = ipv4::MIN_HEADER_LEN + header + seg.payload.len();
    let total = u16::try_from(packet_len).ok()?;
    let len = HEADER_LEN + packet_len;
    if frame.len() < len {
        let more = len - frame.len();
        reserve(frame, more).ok()?;
        frame.resize(len, 0);
    }
    let frame = &mut frame[..len];
    frame[ethernet::OFF_TYPE..HEADER_LEN].copy_from_slice(&ethernet::TYPE_IPV4.to_be_bytes());
    let packet = &mut frame[HEADER_LEN..];
    let ttl = if ends.ttl == 0 { TTL } else { ends.ttl };
    ipv4::emit(packet, *ends.local.ip(), *ends.peer.ip(), ipv4::PROTO_TCP, ttl, total)?;
    packet[ipv4::OFF_TOS] = ends.tos;
    packet[ipv4::OFF_ID..][..2].copy_from_slice(&ends.ip_id.to_be_bytes());
    let (head, body) = packet[ipv4::MIN_HEADER_LEN..].split_at_mut(header);
    head[..2].copy_from_slice(&ends.local.port().to_be_bytes());
    head[2..4].copy_from_slice(&ends.peer.port().to_be_bytes());
    head[tcp::OFF_SEQ..][..4].copy_from_slice(&seg.seq.to_be_bytes());
    head[tcp::OFF_ACK..][..4].copy_from_slice(&seg.ack.to_be_bytes());
    head[tcp::OFF_DOFF] = ((header / 4) << 4) as u8;
    head[tcp::OFF_FLAGS] = seg.flags;
    head[tcp::OFF_WINDOW..][..2].copy_from_slice(&seg.window.to_be_bytes());
    head[tcp::OFF_CHECKSUM..][..4].fill(0);
    head[tcp::MIN_HEADER_LEN..].copy_from_slice(seg.options);
    seg.payload.copy_to(body);
    checksum::fill_ipv4(packet);
    checksum::fill_tcp(packet);
    Some(len)
}

/// What lies below: ways to destinations, and what takes frames.
pub trait Below {
    /// The way to a destination.
    fn path(&self, dst: Ipv4Addr) -> Option<Path>;
    /// Sends a frame to a next hop; hardware addresses are filled in.
    fn send(&mut self, hop: Hop, frame: &mut [u8]) -> Taken;
}

impl Stack {
    /// Whether something may be there to send.
    #[inline]
    pub fn has_output(&self) -> bool {
        !self.dirty.is_empty() || !self.replies.is_empty()
    }

    /// Sends what connections have to send, each at most a burst in a row, until nothing is left or a port is full.
    pub fn transmit(&mut self, below: &mut impl Below) {
        let now = self.now;
        self.answer(below);
        // A connection whose port is full has its next turn in the next round.
        let mut full = 0;
        while full < self.dirty.len()
            && let Some(id) = self.dirty.pop_front()
        {
            self.busy = Some(id);
            let Stack { conns, frame, .. } = self;
            let Some(conn) = conns.get_mut(id) else { continue };
            let (local, peer) = conn.ends();
            let hop = conn.hop;
            let Some(tcb) = conn.tcb.get_mut() else {
                // At rest there is nothing to send; what wakes it puts it in the list again.
                conn.flags &= !Conn::DIRTY;
                continue;
            };
            // Also with nothing to send: what waits for a closed window needs its timer.
            let mut ends = Ends { local, peer, ip_id: conn.ip_id, ttl: conn.ttl, tos: conn.tos };
            let mut stuck = false;
            let count = tcb.poll_transmit(now, BURST, |seg| {
                let Some(len) = write(frame, &ends, seg) else {
                    stuck = true;
                    return false;
                };
                stuck = below.send(hop, &mut frame[..len]) == Taken::Full;
                ends.ip_id = ends.ip_id.wrapping_add(1);
                !stuck
            });
            conn.ip_id = conn.ip_id.wrapping_add(count as u16);
            if stuck || count == BURST {
                // Goes on behind the others.
                self.dirty.push_back(id);
                full += usize::from(stuck);
                continue;
            }
            conn.flags &= !Conn::DIRTY;
            self.changed_by_output(id);
        }
        self.busy = None;
    }

    /// What was sent set timers, and may have been the last of a connection.
    fn changed_by_output(&mut self, id: crate::flow::arena::Id) {
        self.arm(id);
        match self.tcb(id).map(Tcb::state) {
            Some(State::Closed) => self.bury(id),
            Some(State::TimeWait) => self.put_to_rest(id),
            _ => {}
        }
    }

    /// Sends the answers that no connection makes.
    fn answer(&mut self, below: &mut impl Below) {
        if self.replies.is_empty() {
            return;
        }
        let list = self.replies.take();
        for &Reply { local, peer, seq, ack, flags, window, ttl, tos, ref options } in &list {
            let Some(path) = below.path(*peer.ip()) else { continue };
            let ends = Ends { local, peer, ip_id: self.draw() as u16, ttl, tos };
            let options = options.as_slice();
            let seg =
                Transmit { seq, ack, flags, window, options, payload: Payload::EMPTY, retransmission: false };
            let Some(len) = write(&mut self.frame, &ends, &seg) else { continue };
            below.send(path.hop, &mut self.frame[..len]);
        }
        self.replies.give_back(list);
    }
}
