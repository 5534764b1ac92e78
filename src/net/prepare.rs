//! Decision C: the headers of a burst are parsed and its flows looked up before the first packet is processed.
//!
//! What is found early is a hint: a flow that ends meanwhile, or a packet that a callback edited, is looked up again.

use crate::flow::hash::FlowHash;
use crate::flow::key::{Direction, ShortKey};
use crate::flow::record::{CLI, Flow, SVR};
use crate::flow::table::Table;
use crate::io::device::Vouch;
use crate::io::replay::{BATCH, Fill, RxFrame};
use crate::monitor::State;
use crate::monitor::event::{ON_NEW_DATA, ON_PKT_IN, on_null, on_rcv, on_snd};
use crate::monitor::segment::{SegmentOptions, common_options, options_of, segment_of};
use crate::tcp::machine::{ACK, FIN, RST, SYN, Segment};
use crate::wire::checksum;
use crate::wire::parse::{self, Class, Parsed, Plain};
use crate::wire::udp;

/// What the checksums said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Right, or not to be verified.
    Good,
    /// The IP header's is wrong.
    BadIp,
    /// TCP's is wrong.
    BadTcp,
    /// TCP's or UDP's is left to the sender's network card: right as far as it goes.
    Unfinished,
}

/// A packet's headers and where its flow likely is, in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Prepared {
    /// Header offsets and fields.
    pub parsed: Parsed,
    /// The hash of the canonical tuple.
    pub hash: u64,
    /// Index of the record that is likely the flow's; checked at the packet's turn. Before [`batch`], its bucket.
    pub hint: u32,
    /// What of the options the TCP machines need.
    options: SegmentOptions,
    /// What the checksums said.
    pub sum: Sum,
}

const _: () = assert!(size_of::<Prepared>() == 64);

impl Prepared {
    /// Parses a frame and verifies its checksums, as far as its device does not vouch for them.
    #[inline(never)]
    pub fn new(frame: &[u8], wire_len: u32, verify: bool, vouch: Vouch, hasher: &FlowHash) -> Self {
        let parsed = parse::parse(frame, wire_len);
        let tcp = parsed.class == Class::Tcp;
        Prepared {
            hash: if tcp { hasher.short(&key_of(&parsed).0) } else { 0 },
            hint: u32::MAX,
            options: if tcp { options_of(&parsed, frame) } else { SegmentOptions::NONE },
            sum: match verify {
                true if parsed.is_ipv4() => verify_sums(&parsed, frame, vouch),
                false if vouch == Vouch::Local => unverified(&parsed, frame),
                _ => Sum::Good,
            },
            parsed,
        }
    }

    /// Puts other headers in place of those of the packet as it came.
    pub fn reread(&mut self, parsed: Parsed, frame: &[u8]) {
        self.parsed = parsed;
        self.options = options_of(&parsed, frame);
    }

    /// What the TCP machines need of the packet.
    #[inline(always)]
    pub fn segment(&self) -> Segment {
        segment_of(&self.parsed, self.options)
    }

    /// The canonical tuple of a TCP packet, and whether the packet goes from its first end to its second.
    #[inline(always)]
    pub fn key(&self) -> (ShortKey, bool) {
        key_of(&self.parsed)
    }

    /// Whether this is a TCP segment that was captured whole, with nothing wrong.
    #[inline(always)]
    pub fn is_sound(&self) -> bool {
        matches!(self.sum, Sum::Good | Sum::Unfinished)
            && self.parsed.class == Class::Tcp
            && !self.parsed.truncated
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
}

#[inline(always)]
fn key_of(p: &Parsed) -> (ShortKey, bool) {
    let (key, direction) =
        ShortKey::new(u32::from_be(p.src), u32::from_be(p.dst), p.src_port(), p.dst_port(), 0);
    (key, direction == Direction::Forward)
}

#[inline(always)]
fn verify_sums(p: &Parsed, frame: &[u8], vouch: Vouch) -> Sum {
    if vouch != Vouch::Unknown
        && let Some(sum) = vouched(p, vouch)
    {
        return sum;
    }
    let packet = frame.get(p.l3 as usize..).unwrap_or(&[]);
    let tcp = p.class == Class::Tcp && !p.truncated;
    match checksum::verify(packet, p.ihl, p.ip_len, tcp) {
        (true, true) if vouch == Vouch::Local && !tcp => unverified(p, frame),
        (true, true) => Sum::Good,
        (false, _) => Sum::BadIp,
        (true, false) if vouch == Vouch::Local && checksum::tcp_unfinished(packet, p.ihl, p.ip_len) => {
            Sum::Unfinished
        }
        (true, false) => Sum::BadTcp,
    }
}

/// What is not verified is right, but what is to be completed on the way through is seen all the same.
#[inline(never)]
fn unverified(p: &Parsed, frame: &[u8]) -> Sum {
    let packet = frame.get(p.l3 as usize..).unwrap_or(&[]);
    let unfinished = match p.class {
        Class::Tcp => checksum::tcp_unfinished(packet, p.ihl, p.ip_len),
        Class::OtherIpv4 => udp::is_unfinished(packet),
        _ => false,
    };
    if unfinished { Sum::Unfinished } else { Sum::Good }
}

/// What the device found, if it did look.
#[inline(never)]
fn vouched(p: &Parsed, vouch: Vouch) -> Option<Sum> {
    match vouch {
        Vouch::Unknown | Vouch::Local => None,
        Vouch::Good => Some(Sum::Good),
        Vouch::BadIp => Some(Sum::BadIp),
        Vouch::BadTcp => Some(if p.class == Class::Tcp { Sum::BadTcp } else { Sum::Good }),
    }
}

/// Takes the next packets from the source. Those of a replay are prepared on the way, in one pass over the file's bytes.
pub fn receive(st: &mut State, verify: bool) -> Fill {
    let State { io, batch, prepared, table, hasher, .. } = st;
    prepared.clear();
    // Without memory they are counted as dropped in `batch`.
    let _ = prepared.try_reserve(BATCH);
    let with = With { verify, hasher, table };
    io.fill(batch, |frame, rx| note(prepared, frame, rx, &with))
}

/// What a frame is looked at with.
struct With<'a> {
    verify: bool,
    hasher: &'a FlowHash,
    table: &'a Table,
}

/// Parses a frame, sums it, and asks for its flow's bucket. Room was made before.
#[inline(never)]
fn note(prepared: &mut Vec<Prepared>, frame: &[u8], rx: &RxFrame, with: &With<'_>) {
    let (common, sum) = match (rx.vouch, with.verify) {
        (Vouch::Unknown | Vouch::Local, true) => (true, true),
        (Vouch::Good, true) => (true, false),
        (Vouch::BadIp | Vouch::BadTcp, true) | (Vouch::Local, false) => (false, false),
        (_, false) => (true, false),
    };
    let Some(plain) = Plain::new(frame).filter(|_| common) else {
        return note_odd(prepared, frame, rx, with);
    };
    let Some(options) = common_options(plain.rest(), plain.options_len(), plain.flags()) else {
        return note_odd(prepared, frame, rx, with);
    };
    if prepared.len() == prepared.capacity() {
        return;
    }
    let parsed = plain.parsed();
    let hash = with.hasher.short(&key_of(&parsed).0);
    let hint = with.table.prefetch(hash);
    prepared.push(Prepared { parsed, hash, hint, options, sum: Sum::Good });
    // The sum last: its memory is waited for, and what comes before it need not be kept out of the call's way.
    let (headers, rest) = plain.packet();
    if sum && !checksum::is_right(headers, rest) {
        prepared.pop();
        note_odd(prepared, frame, rx, with);
    }
}

/// [`note`] for any frame.
#[inline(never)]
fn note_odd(prepared: &mut Vec<Prepared>, frame: &[u8], rx: &RxFrame, with: &With<'_>) {
    if prepared.len() < prepared.capacity() {
        let mut p = Prepared::new(frame, rx.wire_len, with.verify, rx.vouch, with.hasher);
        if p.parsed.class == Class::Tcp {
            p.hint = with.table.prefetch(p.hash);
        }
        prepared.push(p);
    }
}

/// Looks the flows of the batch up, with their cache lines asked for in advance; parses the packets, if that is not done yet.
pub fn batch(st: &mut State, verify: bool) {
    let State { io, batch, prepared, table, hasher, flows, cold, sockets, packets_heard, .. } = st;
    if prepared.len() != batch.len() {
        prepared.clear();
        if prepared.try_reserve(batch.len()).is_err() {
            st.stats.rx_packets += batch.len() as u64;
            st.stats.rx_bytes += batch.iter().map(|rx| u64::from(rx.cap_len)).sum::<u64>();
            st.stats.in_fault += batch.len() as u64;
            st.stats.drop_memory += batch.len() as u64;
            batch.clear();
            return;
        }
        let with = With { verify, hasher, table };
        for rx in batch.iter() {
            note(prepared, io.frame(rx), rx, &with);
        }
    }
    for p in prepared.iter_mut() {
        let value = if p.parsed.class == Class::Tcp { table.candidate_in(p.hint, p.hash) } else { None };
        // The marks of second tuples lie above all indices; no flow has the greatest.
        p.hint = value.unwrap_or(u32::MAX) & !crate::monitor::lookup::ALT;
        flows.prefetch(p.hint, 2);
    }
    if cold.is_unused() && !*packets_heard {
        // No side keeps bytes, and nobody hears of packets.
        return;
    }
    for p in prepared.iter() {
        if let Some(flow) = flows.at(p.hint) {
            let mut wanted = on_snd(ON_PKT_IN) | on_rcv(ON_PKT_IN);
            if p.parsed.wire_payload_len > 0 {
                let to = if p.key().1 != flow.has(Flow::REVERSED) { SVR } else { CLI };
                cold.prefetch(flow.sides[to].cold);
                wanted |= on_null(ON_NEW_DATA);
            } else if p.parsed.flags & (FIN | RST) != 0 {
                for side in &flow.sides {
                    cold.prefetch(side.cold);
                }
            }
            if flow.interest & wanted != 0 {
                sockets.prefetch(flow.socket);
            }
        }
    }
    if cold.is_unused() {
        return;
    }
    for p in prepared.iter() {
        if p.parsed.wire_payload_len > 0
            && let Some(flow) = flows.at(p.hint)
        {
            let to = if p.key().1 != flow.has(Flow::REVERSED) { SVR } else { CLI };
            if let Some(cold) = cold.get(flow.sides[to].cold) {
                cold.stream.prefetch(p.parsed.wire_payload_len as usize);
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
    st.prepared[at] = Prepared::new(st.current_frame(), rx.wire_len, verify, vouch, &st.hasher);
}
