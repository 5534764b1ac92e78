//! Decision C: the headers of a burst are parsed and its flows looked up before the first packet is processed.
//!
//! What is found early is a hint: a flow that ends meanwhile, or a packet that a callback edited, is looked up again.

use crate::flow::key::{Direction, ShortKey};
use crate::flow::record::{CLI, Flow, SVR};
use crate::io::device::Vouch;
use crate::monitor::State;
use crate::monitor::event::{ON_NEW_DATA, on_null};
use crate::monitor::segment::segment_of;
use crate::tcp::machine::{ACK, SYN, Segment};
use crate::wire::checksum;
use crate::wire::parse::{self, Class, Parsed};

/// What the checksums said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Right, or not to be verified.
    Good,
    /// The IP header's is wrong.
    BadIp,
    /// TCP's is wrong.
    BadTcp,
    /// TCP's is left to the sender's network card: right as far as it goes.
    Unfinished,
}

/// A packet's headers, key and flow.
#[derive(Clone, Copy, Debug)]
pub struct Prepared {
    /// Header offsets and fields.
    pub parsed: Parsed,
    /// Canonical tuple.
    pub key: ShortKey,
    /// Its hash.
    pub hash: u64,
    /// Whether the packet goes from the key's first end to its second.
    pub forward: bool,
    /// What the checksums said.
    pub sum: Sum,
    /// Index of the record that is likely the flow's; checked at the packet's turn.
    pub hint: u32,
    /// What the TCP machines need.
    pub seg: Segment,
}

impl Prepared {
    /// Parses a frame and verifies its checksums, as far as its device does not vouch for them.
    #[inline]
    pub fn new(frame: &[u8], wire_len: u32, verify: bool, vouch: Vouch) -> Self {
        let parsed = parse::parse(frame, wire_len);
        let mut prepared = Prepared {
            parsed,
            key: ShortKey::default(),
            hash: 0,
            forward: true,
            sum: Sum::Good,
            hint: u32::MAX,
            seg: Segment::default(),
        };
        if parsed.class == Class::Tcp {
            prepared.seg = segment_of(&parsed, frame);
            (prepared.key, prepared.forward) = Self::key_of(&parsed);
        }
        if verify && parsed.is_ipv4() {
            prepared.sum = verify_sums(&parsed, frame, vouch);
        }
        prepared
    }

    /// Who sends the first packet seen of a flow: the client its SYN, the server its SYN/ACK; in the middle the end with
    /// the lower port is taken for the server, and for equal ports the sender for the client.
    pub fn likely_sender(&self) -> usize {
        let p = &self.parsed;
        let from_server = match p.flags & (SYN | ACK) {
            SYN => false,
            flags if flags == SYN | ACK => true,
            _ => p.src_port() < p.dst_port(),
        };
        if from_server { SVR } else { CLI }
    }

    /// The canonical tuple of a TCP packet, and whether the packet goes from its first end to its second.
    #[inline]
    pub fn key_of(p: &Parsed) -> (ShortKey, bool) {
        let (key, direction) =
            ShortKey::new(u32::from_be(p.src), u32::from_be(p.dst), p.src_port(), p.dst_port(), 0);
        (key, direction == Direction::Forward)
    }
}

#[inline]
fn verify_sums(p: &Parsed, frame: &[u8], vouch: Vouch) -> Sum {
    match vouch {
        Vouch::Unknown | Vouch::Local => {}
        Vouch::Good => return Sum::Good,
        Vouch::BadIp => return Sum::BadIp,
        Vouch::BadTcp if p.class == Class::Tcp => return Sum::BadTcp,
        Vouch::BadTcp => return Sum::Good,
    }
    let l3 = p.l3 as usize;
    if !checksum::ipv4_header_ok(&frame[l3..l3 + p.ihl as usize * 4]) {
        return Sum::BadIp;
    }
    if p.class == Class::Tcp && !p.truncated && !checksum::tcp_ok(&frame[l3..], p.ihl, p.ip_len) {
        let unfinished = vouch == Vouch::Local && checksum::tcp_unfinished(&frame[l3..], p.ihl, p.ip_len);
        return if unfinished { Sum::Unfinished } else { Sum::BadTcp };
    }
    Sum::Good
}

/// Parses the packets of the batch and looks their flows up, with their cache lines asked for in advance.
pub fn batch(st: &mut State, verify: bool) {
    let State { io, batch, prepared, table, hasher, flows, cold, sockets, .. } = st;
    prepared.clear();
    for rx in batch.iter() {
        let mut p = Prepared::new(io.frame(rx), rx.wire_len, verify, rx.vouch);
        if p.parsed.class == Class::Tcp {
            p.hash = hasher.short(&p.key);
            table.prefetch(p.hash);
        }
        prepared.push(p);
    }
    for p in prepared.iter_mut() {
        if p.parsed.class == Class::Tcp
            && let Some(value) = table.candidate(p.hash)
        {
            p.hint = value & !crate::monitor::lookup::ALT;
            flows.prefetch(p.hint, 2);
        }
    }
    if cold.is_unused() {
        // No side keeps bytes.
        return;
    }
    for p in prepared.iter() {
        if p.seg.len > 0
            && let Some(flow) = flows.at(p.hint)
        {
            let to = if p.forward != flow.has(Flow::REVERSED) { SVR } else { CLI };
            cold.prefetch(flow.sides[to].cold);
            if flow.interest & on_null(ON_NEW_DATA) != 0 {
                sockets.prefetch(flow.socket);
            }
        }
    }
}

/// Parses the packet in process again, after a callback edited it before its flow was looked up.
pub fn again(st: &mut State, verify: bool) {
    let at = st.cur.at;
    let rx = st.batch[at];
    // What the device said was about the bytes as they came.
    let vouch = if rx.vouch == Vouch::Local { Vouch::Local } else { Vouch::Unknown };
    let mut p = Prepared::new(st.current_frame(), rx.wire_len, verify, vouch);
    if p.parsed.class == Class::Tcp {
        p.hash = st.hasher.short(&p.key);
    }
    st.prepared[at] = p;
}
