//! The transition table of an observed flow: what a segment means for its sender and for its receiver.
//!
//! A segment is judged ([`judge`]), moves its sender ([`send`]), then — after callbacks may have edited it —
//! its receiver: [`overlap`] first, [`receive`] for flags and acknowledgement, [`finish`] for a FIN once the
//! payload is in. Contract: monitor.md §3.4–3.5 as changed by decisions D2, D3, D5b, D5c, D8, D10.

use super::side::Side;
use super::state::State;
use crate::tcp::seq;

/// FIN flag.
pub const FIN: u8 = 0x01;
/// SYN flag.
pub const SYN: u8 = 0x02;
/// RST flag.
pub const RST: u8 = 0x04;
/// ACK flag.
pub const ACK: u8 = 0x10;

/// What the machines need of a segment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// TCP flags.
    pub flags: u8,
    /// Window field, unscaled.
    pub window: u16,
    /// Payload bytes by the headers (captured or not).
    pub len: u32,
    /// TSval of the timestamp option (RFC 7323).
    pub tsval: Option<u32>,
    /// Window scale option of a SYN, capped at 14.
    pub wscale: Option<u8>,
}

impl Segment {
    /// Whether all of `flags` are set.
    #[inline]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// One past the last sequence number the segment takes (SYN and FIN count).
    #[inline]
    pub fn end(&self) -> u32 {
        self.seq
            .wrapping_add(self.len)
            .wrapping_add((self.flags & SYN != 0) as u32)
            .wrapping_add((self.flags & FIN != 0) as u32)
    }
}

/// What a segment may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It moves the machines.
    Good,
    /// It raises PKT_IN and changes nothing.
    Ignored,
    /// It carries data beyond the receiver's window: ERROR, nothing is stored (D8).
    Beyond,
    /// It opens a new connection on the tuple of a finished one (D8).
    NewFlow,
}

/// State-machine events of one side; bit values are those of the C ABI.
pub mod ev {
    /// MOS_ON_PKT_IN.
    pub const PKT_IN: u16 = 1;
    /// MOS_ON_CONN_START.
    pub const START: u16 = 4;
    /// MOS_ON_TCP_STATE_CHANGE.
    pub const STATE: u16 = 128;
    /// MOS_ON_REXMIT.
    pub const REXMIT: u16 = 512;
}

/// Whether the segment is the common one of an open connection: the next bytes in order, or none, and an acknowledgement of
/// bytes that came. Then it is good, [`send_plain`] does what [`send`] would and [`receive_plain`] what [`receive`] would, no
/// state changes, and the receiver is not [old](is_old). It stays so between the two, unless something else changes the sides.
#[inline(always)]
pub fn is_plain(x: &Side, y: &Side, s: &Segment) -> bool {
    const KNOWN: u16 = Side::ISS | Side::IRS | Side::ACKED | Side::ATTACHED;
    const ODD: u16 = Side::FIN_SENT | Side::FIN_DUE | Side::UNTRACKED | Side::SYN_DATA;
    s.flags & (SYN | FIN | RST | ACK) == ACK
        && x.flags & (KNOWN | ODD) == KNOWN
        && y.flags & (KNOWN | ODD) == KNOWN
        && x.state == State::Established
        && y.state == State::Established
        && x.iss == y.irs
        && s.seq == y.rcv_nxt
        && s.len <= window(x)
        && seq::le(s.ack, x.rcv_nxt)
        && seq::le(x.last_ack, x.rcv_nxt)
        && !(y.has(Side::TS) && s.tsval.is_some_and(|ts| seq::lt(ts, y.ts_recent)))
}

/// Moves the sender `x` by a [plain](is_plain) segment.
///
/// Here and in [`receive_plain`] each number is written whether it moved or not: which of a mixture of flows moves which is not to
/// be guessed, and a wrong guess costs more than the whole rest.
#[inline(always)]
pub fn send_plain(x: &mut Side, s: &Segment) {
    x.last_ack = seq::max(x.last_ack, s.ack);
    x.set(Side::HEARD);
    x.snd_max = seq::max(x.snd_max, s.seq.wrapping_add(s.len));
}

/// Moves the receiver `y` by a [plain](is_plain) segment from `x`, apart from its payload.
#[inline(always)]
pub fn receive_plain(y: &mut Side, x: &Side, s: &Segment) {
    if let Some(ts) = s.tsval {
        // It is not older than TS.Recent, or that is not known.
        let first = !y.has(Side::TS);
        y.ts_recent = if first | seq::le(s.seq, y.last_ack) { ts } else { y.ts_recent };
        y.set(Side::TS);
    }
    y.una = seq::max(y.una, s.ack);
    note_window(y, x, s);
}

/// The window `to` is known to have room for, counted from what it expects next.
/// 64 KiB until one is known with its scale (D8).
#[inline]
pub fn window(from: &Side) -> u32 {
    if from.has(Side::WND) { from.wnd } else { 65536 }
}

/// Judges a segment that `x` sends to `y`.
///
/// Before the sender update `edited` is false and sequence numbers are the sender's; after the SND callbacks
/// rewrote the packet it is judged again, `edited`, in the receiver's numbers (K2).
pub fn judge(x: &Side, y: &Side, s: &Segment, edited: bool) -> Verdict {
    // Map the sender's numbers onto the receiver's; the same unless a callback shifted them earlier.
    let shift = if !edited && x.has(Side::ISS) && y.has(Side::IRS) { y.irs.wrapping_sub(x.iss) } else { 0 };
    let sq = s.seq.wrapping_add(shift);
    if s.flags & (SYN | RST) == 0 {
        return judge_data(x, y, s, sq);
    }
    if s.has(RST) {
        return if reset_counts(x, y, s, sq, edited) { Verdict::Good } else { Verdict::Ignored };
    }
    if s.has(ACK) { judge_syn_ack(x, y, s) } else { judge_syn(x, y, s) }
}

/// Whether the receiver refuses the segment as an old duplicate (PAWS, RFC 7323 5.3). RST and SYN are not subject to
/// it; TS.Recent is void after 24 days of silence (5.5).
pub fn is_old(y: &Side, s: &Segment, idle_ms: u32) -> bool {
    s.flags & (SYN | RST) == 0
        && y.has(Side::TS)
        && idle_ms < 24 * 86_400_000
        && s.tsval.is_some_and(|ts| seq::lt(ts, y.ts_recent))
}

#[inline]
fn judge_data(x: &Side, y: &Side, s: &Segment, sq: u32) -> Verdict {
    if !y.has(Side::IRS) {
        return Verdict::Good;
    }
    let off = y.offset_of(sq);
    let tail = y.tail() as i64;
    // A receiver that acknowledged past what the tap saw has its window there.
    let base = y.acked_offset().map_or(tail, |a| a.max(tail));
    if off + s.len as i64 > base + window(x) as i64 {
        return if s.len > 0 { Verdict::Beyond } else { Verdict::Ignored };
    }
    Verdict::Good
}

/// A SYN without ACK on a known flow.
fn judge_syn(x: &Side, y: &Side, s: &Segment) -> Verdict {
    let opening = x.state == State::SynSent || (x.state == State::SynRcvd && !x.has(Side::ISS));
    if opening || (x.has(Side::ISS) && s.seq == x.iss) {
        return Verdict::Good;
    }
    let over = |side: &Side| matches!(side.state, State::TimeWait | State::Closed);
    let finished = over(x) || over(y) || x.has(Side::FIN_SENT);
    let newer_ts = s.tsval.is_some_and(|ts| y.has(Side::TS) && seq::gt(ts, y.ts_recent));
    if finished && (seq::ge(s.seq, x.snd_max) || newer_ts) { Verdict::NewFlow } else { Verdict::Ignored }
}

fn judge_syn_ack(x: &Side, y: &Side, s: &Segment) -> Verdict {
    if x.has(Side::ISS) && s.seq != x.iss {
        return Verdict::Ignored;
    }
    // One that acknowledges nothing of ours must not teach us the peer's numbers (RFC 9293 3.10.7.3).
    let acceptable = y.has(Side::ISS) && seq::gt(s.ack, y.iss) && seq::le(s.ack, y.snd_max);
    if y.state == State::SynSent && !acceptable { Verdict::Ignored } else { Verdict::Good }
}

/// Whether a RST ends the flow (D8; RFC 5961 3): it must carry a number the receiver may be expecting.
fn reset_counts(x: &Side, y: &Side, s: &Segment, sq: u32, edited: bool) -> bool {
    if y.state == State::SynSent {
        return s.has(ACK) && seq::gt(s.ack, y.iss) && seq::le(s.ack, y.snd_max);
    }
    if !y.has(Side::IRS) {
        return false;
    }
    let off = y.offset_of(sq);
    let tail = y.tail() as i64;
    let acked = y.acked_offset();
    let sent_end = if x.has(Side::ISS) {
        let to_y = y.irs.wrapping_sub(x.iss);
        Some(y.offset_of(x.snd_max.wrapping_add(to_y)))
    } else {
        None
    };
    let low = acked.map_or(tail, |a| a.min(tail));
    let high = acked.map_or(tail, |a| a.max(tail)) + window(x) as i64;
    let expected = off == tail
        || acked == Some(off)
        || sent_end == Some(off)
        || (x.has(Side::FIN_SENT) && sent_end == Some(off + 1))
        // Callbacks may have shifted the receiver's numbers: what the sender was told is expected of it, too.
        || (!edited && x.has(Side::ISS) && x.una != x.iss && x.una == s.seq);
    expected && (low..=high).contains(&off)
}

/// Moves the sender `x` by a good segment; returns its events without PKT_IN.
pub fn send(x: &mut Side, y: &mut Side, s: &Segment) -> u16 {
    let mut events = 0;
    if x.has(Side::FIN_DUE) {
        x.clear(Side::FIN_DUE);
        x.take_fin();
        events |= ev::STATE;
    }
    // Before SYN, as for the receiver: a reset that counts ends both sides (D8; RFC 9293 3.10.7.3).
    if s.has(RST) {
        x.state = State::Closed;
        return events | ev::STATE;
    }
    if s.has(SYN) {
        return events | send_syn(x, s);
    }
    if s.has(ACK) {
        events |= synchronise(x, y, s.ack);
        note_ack(x, y, s.ack);
    }
    let end = s.end();
    if !x.has(Side::ISS) {
        x.iss = s.seq.wrapping_sub(1);
        x.snd_max = end;
        x.una = s.seq;
        x.set(Side::ISS);
    } else if !x.has(Side::FIN_SENT) && seq::gt(end, x.snd_max) {
        x.snd_max = end;
    }
    // A FIN below data already sent is not one this host can have meant.
    if s.has(FIN) && end == x.snd_max {
        let next = match x.state {
            State::Established | State::SynRcvd => Some(State::FinWait1),
            State::CloseWait if s.has(ACK) && s.ack == x.rcv_nxt => Some(State::LastAck),
            State::CloseWait => Some(State::Closing),
            _ => None,
        };
        if let Some(next) = next {
            x.state = next;
            x.set(Side::FIN_SENT);
            events |= ev::STATE;
        }
    }
    events
}

fn send_syn(x: &mut Side, s: &Segment) -> u16 {
    let fresh = !x.has(Side::SYN_SEEN);
    // A SYN with a new ISN before the SYN/ACK re-bases the flow (D2).
    let rebase = x.state == State::SynSent && !s.has(ACK);
    // The SYN of a connection that was seen in the middle first: what has been sent since stays sent.
    let late = x.has(Side::ISS) && s.seq == x.iss && !rebase;
    if fresh || rebase {
        if !late {
            x.iss = s.seq;
            x.snd_max = s.end();
            x.una = s.seq;
        }
        x.set(Side::ISS | Side::SYN_SEEN);
        match s.wscale {
            Some(shift) => {
                x.wscale = shift.min(14);
                x.set(Side::WSCALE);
            }
            None => x.clear(Side::WSCALE),
        }
    }
    if s.has(ACK) && x.has(Side::IRS) {
        x.last_ack = s.ack;
        x.set(Side::ACKED);
    }
    // A host that closed again sends no first SYN: an old one of its connection comes late.
    if fresh && !s.has(ACK) && x.state < State::SynSent && x.more & Side::BEGAN == 0 {
        x.more |= Side::BEGAN;
        x.state = State::SynSent;
        return ev::START | ev::STATE;
    }
    0
}

/// A host that acknowledges has seen what it acknowledges, whether the tap did or not (D5b).
#[inline]
fn synchronise(x: &mut Side, y: &mut Side, ack: u32) -> u16 {
    let learned = match x.state {
        State::SynSent => {
            x.set_irs(ack.wrapping_sub(1));
            true
        }
        State::SynRcvd => y.has(Side::ISS) && seq::gt(ack, y.snd_max),
        _ => false,
    };
    if !learned {
        return 0;
    }
    if !y.has(Side::SYN_SEEN) && x.state == State::SynSent {
        // What the peer sent before is no guide to where it began: the acknowledgement is.
        if !y.has(Side::ISS) || seq::gt(ack, y.snd_max) {
            y.snd_max = ack;
        }
        y.iss = ack.wrapping_sub(1);
        y.una = y.iss;
        y.set(Side::ISS);
    }
    x.state = State::Established;
    ev::STATE
}

/// Records the sender's own acknowledgement when it can be true: inside the window it advertised.
#[inline]
fn note_ack(x: &mut Side, y: &Side, ack: u32) {
    if !x.has(Side::IRS) {
        return;
    }
    let off = x.offset_of(ack);
    let base = x.acked_offset().map_or(x.tail() as i64, |a| a.max(x.tail() as i64));
    if off > base + window(y) as i64 + 1 {
        return;
    }
    if !x.has(Side::ACKED) || seq::gt(ack, x.last_ack) {
        x.last_ack = ack;
        x.set(Side::ACKED);
    }
    x.set(Side::HEARD);
}

/// Whether payload `[start, end)` overlaps what lies below the tail of `y`: a quick test before the cold part
/// is asked about out-of-order ranges and skipped holes (D4).
#[inline]
pub fn overlap(y: &Side, s: &Segment) -> bool {
    s.len > 0 && y.has(Side::IRS) && y.offset_of(s.seq) < y.data_tail() as i64
}

/// What [`receive`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Events of the receiver without PKT_IN.
    pub events: u16,
    /// The payload (and a FIN behind it) is to be stored.
    pub stores: bool,
}

/// Moves the receiver `y` by the flags and the acknowledgement of a segment from `x`; payload and FIN follow.
pub fn receive(y: &mut Side, x: &Side, s: &Segment) -> Received {
    let mut r = Received::default();
    if s.has(RST) {
        if y.state != State::Closed {
            y.state = State::Closed;
            r.events = ev::STATE;
        }
        return r;
    }
    note_timestamp(y, s);
    if s.has(SYN) {
        r.events = receive_syn(y, x, s);
        note_window(y, x, s);
        return r;
    }
    match y.state {
        State::Closed | State::Listen | State::SynSent => return r,
        State::SynRcvd if s.has(ACK) => {
            y.state = State::Established;
            r.events |= ev::STATE;
        }
        _ => {}
    }
    if s.has(FIN) && y.state.peer_closed() && s.seq == y.rcv_nxt.wrapping_sub(1) {
        r.events |= ev::REXMIT;
    }
    if s.has(ACK) {
        r.events |= take_ack(y, s);
        note_window(y, x, s);
    }
    r.stores = y.state.receives() && !y.has(Side::FIN_DUE);
    r
}

fn receive_syn(y: &mut Side, x: &Side, s: &Segment) -> u16 {
    match y.state {
        // Closed again after its connection, it takes no SYN of that connection any more.
        State::Closed | State::Listen if !y.has(Side::IRS) && y.more & Side::BEGAN == 0 => {
            y.more |= Side::BEGAN;
            y.set_irs(s.seq);
            y.state = State::SynRcvd;
            ev::START | ev::STATE
        }
        State::SynSent => {
            y.set_irs(s.seq);
            y.una = if s.has(ACK) { s.ack } else { y.una };
            y.state = if s.has(ACK) { State::Established } else { State::SynRcvd };
            ev::STATE
        }
        State::SynRcvd if s.seq == y.irs => {
            // The SYN/ACK of a simultaneous open acknowledges our SYN (RFC 9293 3.5, figure 8).
            if s.has(ACK) && y.has(Side::SYN_SEEN) && s.ack == y.iss.wrapping_add(1) {
                y.state = State::Established;
                ev::STATE
            } else {
                ev::REXMIT
            }
        }
        State::SynRcvd if !s.has(ACK) && x.state == State::SynSent => {
            y.set_irs(s.seq);
            // What came with the SYN before is not of this stream.
            y.clear(Side::SYN_DATA);
            0
        }
        State::Established if s.has(ACK) && s.seq == y.irs => ev::REXMIT,
        _ => 0,
    }
}

/// The acknowledgement of our FIN.
#[inline]
fn take_ack(y: &mut Side, s: &Segment) -> u16 {
    if seq::gt(s.ack, y.una) {
        y.una = s.ack;
    }
    if !y.has(Side::FIN_SENT) || s.ack != y.snd_max {
        return 0;
    }
    // RFC 9293 3.10.7.4: only an acceptable segment's acknowledgement counts.
    let acceptable = seq::ge(s.seq, y.rcv_nxt) || seq::gt(s.end(), y.rcv_nxt);
    let next = match y.state {
        State::FinWait1 if acceptable => State::FinWait2,
        State::Closing => State::TimeWait,
        State::LastAck if acceptable => State::Closed,
        _ => return 0,
    };
    y.state = next;
    ev::STATE
}

/// The window `x` advertises to `y`; scaled once both SYNs are known (RFC 7323 2.3).
#[inline(always)]
fn note_window(y: &mut Side, x: &Side, s: &Segment) {
    let scale = if s.has(SYN) {
        // A SYN's own window is never scaled; it counts once one is known with its scale.
        0
    } else if x.has(Side::SYN_SEEN) && y.has(Side::SYN_SEEN) {
        if x.has(Side::WSCALE) && y.has(Side::WSCALE) { x.wscale as u32 } else { 0 }
    } else {
        return;
    };
    let wnd = (s.window as u32) << scale;
    y.wnd = y.wnd.max(wnd);
    if !s.has(SYN) {
        y.set(Side::WND);
    }
}

/// TS.Recent, RFC 7323 4.3.
#[inline(always)]
fn note_timestamp(y: &mut Side, s: &Segment) {
    let Some(ts) = s.tsval else { return };
    if s.has(SYN) || !y.has(Side::TS) {
        y.ts_recent = ts;
        y.set(Side::TS);
    } else if seq::ge(ts, y.ts_recent) && y.has(Side::ACKED) && seq::le(s.seq, y.last_ack) {
        y.ts_recent = ts;
    }
}

/// Takes the peer's FIN, whose sequence number the in-order tail has reached; returns events.
pub fn finish(y: &mut Side) -> u16 {
    if !y.state.receives() {
        return 0;
    }
    y.take_fin();
    ev::STATE
}

/// Makes both sides of a flow whose opening was not seen, from its first packet (X3).
pub fn midstream(x: &mut Side, y: &mut Side, s: &Segment) {
    x.more |= Side::BEGAN;
    y.more |= Side::BEGAN;
    if s.has(SYN | ACK) {
        // Only the client's SYN was missed: what it must have been is known.
        y.iss = s.ack.wrapping_sub(1);
        y.snd_max = s.ack;
        y.una = y.iss;
        y.set(Side::ISS);
        y.state = State::SynSent;
        x.set_irs(y.iss);
        x.state = State::SynRcvd;
        return;
    }
    x.iss = s.seq.wrapping_sub(1);
    x.snd_max = s.seq;
    x.una = s.seq;
    x.set(Side::ISS);
    y.set_irs(s.seq.wrapping_sub(1));
    if s.has(ACK) {
        y.iss = s.ack.wrapping_sub(1);
        y.snd_max = s.ack;
        y.una = s.ack;
        y.set(Side::ISS);
        x.set_irs(s.ack.wrapping_sub(1));
    }
    x.state = State::Established;
    y.state = State::Established;
}
