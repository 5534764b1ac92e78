//! TCP of an endpoint (RFC 9293), as a state machine without I/O.
//!
//! A [`Tcb`] is one connection. It has no socket, no clock and no randomness: time is an argument in microseconds from any
//! origin, initial sequence numbers come from the caller (made by [`isn`]), limits from [`Config`]. Who owns it
//!
//! 1. makes it with [`Tcb::connect`], or with [`Tcb::accept`] from a SYN (LISTEN is the listener's business, as are
//!    [`cookies`] when there are too many half-open connections),
//! 2. feeds it: [`Tcb::on_segment`], [`Tcb::on_icmp`], [`Tcb::on_deadline`] when [`Tcb::deadline`] is due, and the
//!    application's calls ([`Tcb::read`], [`Tcb::write`], [`Tcb::shutdown`], [`Tcb::close`], [`Tcb::abort`]),
//! 3. after any of these calls [`Tcb::poll_transmit`], which hands out the segments to send, and asks
//!    [`Tcb::deadline`] again,
//! 4. tells the application what [`Tcb::readiness`] and [`Tcb::take_events`] say,
//! 5. drops it when the application has closed and [`Tcb::is_closed`].
//!
//! Offsets inside are 64-bit positions in sequence space, counted from the initial sequence number of their direction, so
//! that nothing here wraps; the wire's numbers are made and unwrapped at the edge.
//!
//! | file | holds |
//! |---|---|
//! | `input.rs` | what an arriving segment does, state by state (RFC 9293 3.10.7) |
//! | `acked.rs` | the acknowledgment field: window updates, round-trip times, duplicates |
//! | `recovery.rs`, `tail.rs` | loss: fast recovery, time-outs, what is in flight (RFC 5681, 6582, 6675, 6937, 8985 7) |
//! | `output.rs` | what to send next (Nagle, silly windows, retransmissions, acknowledgments) |
//! | `timers.rs` | every deadline: retransmission, persist, delayed acknowledgment, keep-alive, TIME_WAIT |
//! | `calls.rs` | what the application asks |
//! | `rest.rs` | what is kept in TIME_WAIT |
//! | `recv.rs`, `send.rs`, `scoreboard.rs`, `rtt.rs`, `congestion.rs`, `cubic.rs` | the parts |

mod acked;
pub mod calls;
pub mod config;
mod congestion;
pub mod cookies;
mod cubic;
pub mod events;
mod input;
pub mod isn;
mod output;
mod recovery;
mod recv;
pub mod rest;
mod rtt;
mod scoreboard;
pub mod segment;
mod send;
mod tail;
mod timers;

pub use config::{Algorithm, Config, Open};
pub use events::{Cause, Events, Icmp, Readiness, Refusal};
pub use input::Outcome;
pub use rest::Rest;
pub use segment::{Payload, Segment, Transmit};

pub use super::state::State;

use super::one::One;
use super::options::SynOptions;
use super::seq;
use congestion::Congestion;
use recovery::Phase;
use recv::RecvBuffer;
use rtt::Rtt;
use scoreboard::Scoreboard;
use segment::flags::ACK;
use send::SendBuffer;
use std::sync::Arc;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// Send variables (RFC 9293 3.3.1), as offsets from the initial sequence number.
#[derive(Debug)]
struct Snd {
    /// SND.UNA.
    una: u64,
    /// SND.NXT: what to send next for the first time.
    nxt: u64,
    /// The end of all that was ever sent: beyond `nxt` by the byte of a window probe.
    max: u64,
    /// SND.WND, bytes.
    wnd: u32,
    /// MAX.SND.WND: the largest window the peer offered (RFC 9293 3.8.6.2.1, RFC 5961 5.2).
    max_wnd: u32,
    /// SND.WL1: offset of the segment that updated the window last.
    wl1: u64,
    /// SND.WL2: the acknowledgment it carried.
    wl2: u64,
    /// End of the last segment sent that was not full (Minshall's variation of Nagle's rule).
    small: u64,
    /// A segment whose acknowledgment will measure the round-trip time ends here ...
    timed: u64,
    /// ... and left then; [`NEVER`]: none.
    timed_at: u64,
    /// When data left last, for RFC 5681 4.1.
    last: u64,
}

/// The retransmission timer and its other uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Idle,
    Retransmit,
    /// Before it: the probe of the flight's end (RFC 8985 7).
    Tail,
    Persist,
}

/// A reset to send.
#[derive(Clone, Copy, Debug)]
struct Reset {
    seq: u32,
    ack: Option<u32>,
}

/// One connection.
#[derive(Debug)]
pub struct Tcb {
    config: Arc<Config>,
    state: State,
    /// We sent the first SYN (or, at the same time, one of the first two).
    active: bool,
    /// Options that both ends offered.
    timestamps: bool,
    sack: bool,
    scaling: bool,
    snd_shift: u8,
    rcv_shift: u8,
    nodelay: bool,
    keepalive: bool,
    /// The application will not write any more: a FIN follows the last byte.
    fin_queued: bool,
    /// The application has closed: it will not read either.
    closed: bool,
    /// Our offset 0, the peer's, and what is added to the clock in timestamps.
    iss: u32,
    irs: u32,
    ts_offset: u32,
    /// Most our segments hold, options included (Eff.snd.MSS of RFC 9293 3.7.1 before options).
    mss: u16,
    /// What our SYN says.
    our_mss: u16,
    snd: Snd,
    send: SendBuffer,
    recv: RecvBuffer,
    rtt: Rtt,
    congestion: Congestion,
    board: One<Scoreboard>,
    phase: Phase,
    recovery: recovery::Recovery,
    tail: tail::Tail,
    /// TS.Recent and when it was taken (RFC 7323 4.3, 5.5).
    ts_recent: u32,
    ts_recent_at: u64,
    /// Last.ACK.sent (RFC 7323 4.3), as an offset.
    last_ack: u64,
    /// Data segments since.
    unacked_segments: u8,
    /// Acknowledgments that still do not wait ([`Config::quick_acks`]).
    quick_acks: u8,
    /// Acknowledgments to send at once. More than one: duplicates that a peer without SACK counts.
    acks_due: u8,
    /// A SYN or SYN/ACK is to be sent.
    syn_due: bool,
    /// A window probe, or a segment that silly-window avoidance held back, is to be sent.
    probe_due: bool,
    /// A keep-alive probe is to be sent.
    keepalive_due: bool,
    /// The window was all used, as of the last transmission.
    cwnd_limited: bool,
    reset: Option<Reset>,
    cause: Option<Cause>,
    soft: Option<Cause>,
    events: Events,
    timer: Timer,
    /// Retransmissions or probes since the peer last showed that it lives.
    retries: u8,
    keepalives: u8,
    timer_at: u64,
    /// When a delayed acknowledgment leaves alone.
    ack_at: u64,
    /// When TIME_WAIT or FIN_WAIT_2 is over.
    close_at: u64,
    /// When an acceptable segment came last.
    heard_at: u64,
    /// The second of the last challenge acknowledgment, and how many there were in it.
    challenged_at: u64,
    challenges: u8,
    /// Segments that were retransmitted.
    retransmitted: u32,
}

// 100,000 idle connections cost at most 1 KiB each, with their socket and their table entry.
const _: () = assert!(size_of::<Tcb>() <= 576);

impl Tcb {
    fn new(config: Arc<Config>, now: u64, open: &Open, state: State) -> Self {
        let our_mss = open.mss_offered(&config);
        let (initial, max) = match open.recv_limit {
            0 => (config.recv_initial, config.recv_limit),
            n => (n, n),
        };
        let send_limit = if open.send_limit == 0 { config.send_limit } else { open.send_limit };
        let recv = RecvBuffer::new(initial, max);
        Tcb {
            state,
            active: state == State::SynSent,
            timestamps: config.timestamps,
            sack: config.sack,
            scaling: config.window_scaling,
            snd_shift: 0,
            rcv_shift: if config.window_scaling { recv.shift() } else { 0 },
            nodelay: open.nodelay,
            keepalive: open.keepalive,
            fin_queued: false,
            closed: false,
            iss: open.iss,
            irs: 0,
            ts_offset: open.ts_offset,
            mss: our_mss.min(536),
            our_mss,
            snd: Snd {
                una: 0,
                nxt: 0,
                max: 0,
                wnd: 0,
                max_wnd: 0,
                wl1: 0,
                wl2: 0,
                small: 0,
                timed: 0,
                timed_at: NEVER,
                last: now,
            },
            send: SendBuffer::new(send_limit),
            recv,
            rtt: Rtt::new(&config),
            congestion: Congestion::new(&config),
            board: One::none(),
            phase: Phase::Open,
            recovery: recovery::Recovery::default(),
            tail: tail::Tail::default(),
            ts_recent: 0,
            ts_recent_at: now,
            last_ack: 0,
            unacked_segments: 0,
            quick_acks: config.quick_acks,
            acks_due: 0,
            syn_due: true,
            probe_due: false,
            keepalive_due: false,
            cwnd_limited: false,
            reset: None,
            cause: None,
            soft: None,
            events: Events::default(),
            timer: Timer::Idle,
            retries: 0,
            keepalives: 0,
            timer_at: NEVER,
            ack_at: NEVER,
            close_at: NEVER,
            heard_at: now,
            challenged_at: NEVER,
            challenges: 0,
            retransmitted: 0,
            config,
        }
    }

    /// Opens actively (RFC 9293 3.10.1): SYN_SENT, with a SYN to send.
    pub fn connect(config: Arc<Config>, now: u64, open: &Open) -> Self {
        Tcb::new(config, now, open, State::SynSent)
    }

    /// Opens from a SYN that reached a listener (RFC 9293 3.10.7.2): SYN_RCVD, with a SYN/ACK to send. Data and FIN on
    /// the SYN are left for the peer to send again. `None` for a segment that is no SYN alone: RST, ACK or no SYN.
    pub fn accept(config: Arc<Config>, now: u64, open: &Open, syn: &Segment<'_>) -> Option<Self> {
        if !syn.has(segment::flags::SYN) || syn.has(segment::flags::RST | ACK) {
            return None;
        }
        let mut tcb = Tcb::new(config, now, open, State::SynRcvd);
        tcb.take_syn(now, syn, &SynOptions::parse(syn.options));
        Some(tcb)
    }

    /// Opens from the acknowledgment of a SYN/ACK that was sent without keeping anything, with what
    /// [`cookies::check`] found in it. The caller then passes the segment to [`Tcb::on_segment`].
    pub fn from_cookie(
        config: Arc<Config>,
        now: u64,
        open: &Open,
        ack: &Segment<'_>,
        cookie: &cookies::Found,
    ) -> Self {
        let mut open = *open;
        open.iss = ack.ack.wrapping_sub(1);
        let mut tcb = Tcb::new(config, now, &open, State::SynRcvd);
        let syn = Segment { seq: ack.seq.wrapping_sub(1), options: &[], payload: &[], ..*ack };
        tcb.take_syn(now, &syn, &cookie.options);
        tcb.syn_due = false;
        (tcb.snd.nxt, tcb.snd.max) = (1, 1);
        // The SYN/ACK promised as much.
        let (_, edge) = tcb.recv.window(0, tcb.mss.into());
        tcb.recv.edge = edge.min(tcb.recv.nxt + 65_535);
        tcb.last_ack = 1;
        tcb
    }

    /// Learns from the peer's SYN: its sequence number, its options, its window (never scaled, RFC 7323 2.2).
    fn take_syn(&mut self, now: u64, syn: &Segment<'_>, options: &SynOptions) {
        self.irs = syn.seq;
        // The window that a SYN of ours offered begins after the peer's.
        self.recv.nxt = 1;
        self.recv.edge += 1;
        self.timestamps &= options.timestamps.is_some();
        self.sack &= options.sack_permitted;
        match options.wscale.filter(|_| self.scaling) {
            Some(shift) => self.snd_shift = shift,
            None => (self.scaling, self.rcv_shift) = (false, 0),
        }
        if let Some((value, _)) = options.timestamps {
            self.ts_recent = value;
            self.ts_recent_at = now;
        }
        // RFC 9293 3.7.1: 536 unless the peer says otherwise; never more than fits our path.
        self.mss = options.mss.unwrap_or(536).max(self.config.mss_floor).min(self.our_mss);
        self.snd.wnd = syn.window.into();
        self.snd.max_wnd = syn.window.into();
        self.snd.wl1 = 0;
        self.snd.wl2 = 0;
    }

    // ---- Small questions ------------------------------------------------------------------------------------

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the connection is over. Bytes may be left to read.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether the handshake is over and the connection is not.
    pub fn is_synchronized(&self) -> bool {
        self.state >= State::Established
    }

    /// Why the connection ended, if with an error.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    /// Most bytes of payload a segment may carry, timestamps taken into account.
    pub fn max_payload(&self) -> u32 {
        u32::from(self.mss).saturating_sub(if self.timestamps { 12 } else { 0 }).max(1)
    }

    /// What both ends have agreed on: timestamps, selective acknowledgments, window scaling. Nothing before the handshake.
    pub fn agreed(&self) -> (bool, bool, bool) {
        let known = self.recv.nxt > 0;
        (known && self.timestamps, known && self.sack, known && self.scaling)
    }

    /// The smoothed round-trip time in microseconds; 0: not measured.
    pub fn srtt(&self) -> u64 {
        self.rtt.srtt()
    }

    /// The retransmission time-out in force, in microseconds.
    pub fn rto(&self) -> u64 {
        self.rtt.rto(&self.config)
    }

    /// Congestion window and slow-start threshold, in bytes.
    pub fn congestion_window(&self) -> (u32, u32) {
        (self.congestion.cwnd, self.congestion.ssthresh)
    }

    /// Segments retransmitted so far.
    pub fn retransmitted(&self) -> u32 {
        self.retransmitted
    }

    /// Memory behind the connection, beyond itself.
    pub fn allocated_bytes(&self) -> usize {
        self.send.allocated_bytes()
            + self.recv.allocated_bytes()
            + self.board.get().map_or(0, |_| size_of::<Scoreboard>())
    }

    // ---- Numbers --------------------------------------------------------------------------------------------

    /// The wire's number for an offset of ours.
    #[inline]
    fn seq_of(&self, offset: u64) -> u32 {
        self.iss.wrapping_add(offset as u32)
    }

    /// The wire's number for an offset of the peer's.
    #[inline]
    fn ack_of(&self, offset: u64) -> u32 {
        self.irs.wrapping_add(offset as u32)
    }

    /// The peer's offset that lies nearest to what is expected.
    #[inline]
    fn offset_of(&self, seq: u32) -> i64 {
        seq::unwrap(seq, self.irs, self.recv.nxt)
    }

    /// Our clock for timestamps: milliseconds (RFC 7323 5.4).
    #[inline]
    fn ts_now(&self, now: u64) -> u32 {
        ((now / config::MILLISECOND) as u32).wrapping_add(self.ts_offset)
    }

    /// Offset of our FIN, whether sent or not.
    fn fin_offset(&self) -> u64 {
        self.send.end()
    }

    /// Whether our FIN was sent and acknowledged.
    fn fin_acked(&self) -> bool {
        self.fin_queued && self.snd.una > self.fin_offset()
    }

    // ---- Ends -----------------------------------------------------------------------------------------------

    /// The connection is over; with an error or without.
    fn end(&mut self, cause: Option<Cause>) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.send.clear();
        self.board.free();
        self.recv.drop_ahead();
        (self.acks_due, self.syn_due, self.probe_due, self.keepalive_due) = (0, false, false, false);
        self.timer = Timer::Idle;
        (self.timer_at, self.ack_at, self.close_at) = (NEVER, NEVER, NEVER);
        self.events |= Events::CLOSED;
        if cause.is_some() {
            self.cause = cause;
            self.events |= Events::ERROR;
        }
    }

    /// The connection is over, and the peer is told (RFC 9293 3.10.5).
    fn end_with_reset(&mut self, cause: Option<Cause>) {
        if self.is_synchronized() || self.state == State::SynRcvd {
            self.reset =
                Some(Reset { seq: self.seq_of(self.snd.nxt), ack: Some(self.ack_of(self.recv.nxt)) });
        }
        self.end(cause);
    }
}

impl Tcb {
    /// Asserts what must hold between any two calls. For tests.
    #[doc(hidden)]
    pub fn check(&self) {
        let snd = &self.snd;
        assert!(snd.una <= snd.nxt && snd.nxt <= snd.max, "{self:?}");
        assert!(self.is_closed() || snd.max <= self.send.end() + 1, "{self:?}");
        assert!(self.recv.nxt <= self.recv.edge || self.irs == 0, "{self:?}");
        assert!(
            self.recv.unread() <= (self.recv.max() as usize).max(65_536) + (1 << self.rcv_shift),
            "{self:?}"
        );
        assert!(self.send.len() <= self.send.limit as usize, "{self:?}");
        assert!(self.board.get().is_none_or(|b| b.highest() <= snd.nxt && !b.is_empty()), "{self:?}");
        assert!(self.timer == Timer::Idle || self.timer_at != NEVER, "{self:?}");
        let in_flight = snd.una < snd.nxt && !self.is_closed() && self.state != State::TimeWait;
        assert!(!in_flight || matches!(self.timer, Timer::Retransmit | Timer::Tail), "{self:?}");
    }
}
