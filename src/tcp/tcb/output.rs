//! What to send next.

use super::recovery::Repair;
use super::segment::flags::{ACK, FIN, PSH, RST, SYN};
use super::segment::{Offer, OptionBytes};
use super::*;

/// A segment about to be handed out.
#[derive(Clone, Copy, Debug)]
struct Next {
    offset: u64,
    len: u32,
    flags: u8,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Reset(Reset),
    Syn,
    /// Data or FIN, for the first time.
    New,
    /// Data or FIN again.
    Repair(Repair),
    /// A window probe (RFC 9293 3.8.6.1): data or FIN beyond the window.
    Probe,
    /// A keep-alive probe (RFC 9293 3.8.4).
    KeepAlive,
    Ack,
}

impl Tcb {
    /// Hands the segments to send, at most `most`, to `emit`, in order; how many there were. When `emit` returns `false` (no
    /// buffer), that segment was not sent and nothing more is offered. Ask [`Tcb::deadline`] afterwards.
    pub fn poll_transmit<F>(&mut self, now: u64, most: usize, mut emit: F) -> usize
    where
        F: FnMut(&Transmit<'_>) -> bool,
    {
        // RFC 5681 4.1.
        if self.snd.una == self.snd.nxt
            && self.is_synchronized()
            && self.snd.nxt < self.fin_offset()
            && now.saturating_sub(self.snd.last) > self.rtt.rto(&self.config)
        {
            self.congestion.idle(&self.config, self.max_payload());
            self.snd.last = now;
        }
        let mut count = 0;
        while count < most
            && let Some(next) = self.next()
        {
            if !self.hand_out(now, &next, &mut emit) {
                break;
            }
            self.sent(now, &next);
            count += 1;
        }
        self.watch_window(now);
        count
    }

    /// Whether [`Tcb::poll_transmit`] would send something.
    pub fn wants_transmit(&mut self) -> bool {
        self.next().is_some()
    }

    /// The next segment, by urgency.
    fn next(&mut self) -> Option<Next> {
        if let Some(reset) = self.reset {
            return Some(Next { offset: 0, len: 0, flags: RST, kind: Kind::Reset(reset) });
        }
        if self.syn_due {
            let flags = if self.state == State::SynRcvd { SYN | ACK } else { SYN };
            return Some(Next { offset: 0, len: 0, flags, kind: Kind::Syn });
        }
        if self.state == State::Closed || self.state == State::SynSent {
            return None;
        }
        if self.is_synchronized()
            && self.state != State::TimeWait
            && let Some(data) = self.next_data()
        {
            return Some(data);
        }
        if self.acks_due > 0 {
            return Some(Next { offset: self.snd.nxt, len: 0, flags: ACK, kind: Kind::Ack });
        }
        if self.keepalive_due {
            // SEG.SEQ = SND.NXT - 1, without data.
            return Some(Next { offset: self.snd.nxt - 1, len: 0, flags: ACK, kind: Kind::KeepAlive });
        }
        None
    }

    /// The next data or FIN.
    fn next_data(&mut self) -> Option<Next> {
        let end = self.send.end() + u64::from(self.fin_queued);
        if self.snd.una >= end {
            return None;
        }
        let most = u32::from(self.mss).saturating_sub(self.option_room()).max(1);
        let unsent = end - self.snd.nxt;
        let window = (self.snd.una + u64::from(self.snd.wnd)).saturating_sub(self.snd.nxt);
        let pipe = self.pipe();
        let allowance = u64::from(self.congestion.cwnd).saturating_sub(pipe);
        if let Some(repair) = self.next_repair(most, unsent > 0 && window > 0) {
            if repair.forced || pipe == 0 || allowance >= u64::from(repair.len) {
                return Some(self.data(repair.start, repair.len, Kind::Repair(repair)));
            }
            return None;
        }
        if unsent == 0 {
            return None;
        }
        // Neither kind of probe waits for company; that of the tail not for the window either.
        let probe = self.probe_due || self.tail.due;
        let len = unsent.min(window).min(self.with_fin(self.snd.nxt, most)) as u32;
        if len == 0 {
            return self.probe_due.then(|| self.data(self.snd.nxt, 1, Kind::Probe));
        }
        let bytes = (self.send.end().saturating_sub(self.snd.nxt)).min(len.into()) as u32;
        if !(probe || self.is_worth_sending(bytes, most, unsent, window)) {
            return None;
        }
        if pipe > 0 && allowance < u64::from(len) && !self.tail.due {
            self.cwnd_limited = true;
            return None;
        }
        Some(self.data(self.snd.nxt, len, Kind::New))
    }

    /// Sender's silly-window avoidance (RFC 9293 3.8.6.2.1) and Nagle's rule (3.7.4): `bytes` of `unsent`, with `window` usable.
    /// Nagle in Minshall's variation: only a small segment that is unacknowledged keeps another one back, so that the
    /// rest of a large write does not wait for the peer's delayed acknowledgment.
    fn is_worth_sending(&self, bytes: u32, most: u32, unsent: u64, window: u64) -> bool {
        let patient = !self.nodelay && self.snd.small > self.snd.una;
        if bytes >= most {
            // (1)
            return true;
        }
        if unsent <= window {
            // (2): all there is. A FIN goes at once, and what is in front of it.
            return self.fin_queued || !patient;
        }
        // (3): Fs = 1/2.
        !patient && u64::from(bytes) >= u64::from(self.snd.max_wnd / 2).max(1)
    }

    /// A segment of `len` sequence numbers from `offset` on.
    fn data(&self, offset: u64, len: u32, kind: Kind) -> Next {
        let end = offset + u64::from(len);
        let mut flags = ACK;
        let mut bytes = len;
        if self.fin_queued && end > self.send.end() {
            flags |= FIN;
            bytes -= 1;
        }
        if bytes > 0 && self.config.push && offset + u64::from(bytes) == self.send.end() {
            flags |= PSH;
        }
        Next { offset, len: bytes, flags, kind }
    }

    /// Option bytes of a segment with an acknowledgment.
    fn option_room(&self) -> u32 {
        let stamps = if self.timestamps { 12 } else { 0 };
        if !self.sack {
            return stamps;
        }
        let mut blocks = [(0, 0); 4];
        let count = self.blocks(&mut blocks);
        let most = if self.timestamps { 3 } else { 4 };
        stamps + if count > 0 { 4 + 8 * count.min(most) as u32 } else { 0 }
    }

    /// The SACK blocks to send, a report of duplicates first (RFC 2883 4).
    fn blocks(&self, blocks: &mut [(u64, u64); 4]) -> usize {
        let mut count = 0;
        if let Some(duplicate) = self.recovery.duplicate() {
            blocks[0] = duplicate;
            count = 1;
        }
        if self.recv.has_hole() {
            count += self.recv.sack_blocks(&mut blocks[count..]);
        }
        count
    }

    fn stamps(&self, now: u64) -> OptionBytes {
        let mut options = OptionBytes::default();
        options.add_timestamps(self.ts_now(now), self.ts_recent);
        options
    }

    fn options(&self, now: u64) -> OptionBytes {
        let mut options = if self.timestamps { self.stamps(now) } else { OptionBytes::default() };
        if self.sack && (self.recv.has_hole() || self.recovery.duplicate().is_some()) {
            let mut blocks = [(0, 0); 4];
            let count = self.blocks(&mut blocks);
            let blocks = blocks.map(|(start, end)| (self.ack_of(start), self.ack_of(end)));
            options.add_sack(&blocks[..count]);
        }
        options
    }

    /// What our SYN or SYN/ACK says: everything configured, or what the peer has offered, too.
    fn offer(&self, now: u64) -> Offer {
        let answering = self.state == State::SynRcvd;
        Offer {
            mss: self.our_mss,
            wscale: self.scaling.then_some(self.rcv_shift),
            sack: self.sack,
            timestamps: self
                .timestamps
                .then_some((self.ts_now(now), if answering { self.ts_recent } else { 0 })),
        }
    }

    fn hand_out<F>(&mut self, now: u64, next: &Next, emit: &mut F) -> bool
    where
        F: FnMut(&Transmit<'_>) -> bool,
    {
        if let Kind::Reset(reset) = next.kind {
            let flags = RST | if reset.ack.is_some() { ACK } else { 0 };
            // RFC 7323 3.2: a reset of the connection should have the option, too. One that only answers a number has not.
            let stamped = reset.ack.is_some() && self.timestamps && self.state_was_synchronized();
            let options = if stamped { self.stamps(now) } else { OptionBytes::default() };
            return emit(&Transmit {
                seq: reset.seq,
                ack: reset.ack.unwrap_or(0),
                flags,
                window: 0,
                options: options.as_slice(),
                payload: Payload::EMPTY,
                retransmission: false,
            });
        }
        let is_syn = matches!(next.kind, Kind::Syn);
        let options = if is_syn { OptionBytes::syn(&self.offer(now)) } else { self.options(now) };
        // RFC 7323 2.2: the window of a SYN is not scaled.
        let shift = if is_syn { 0 } else { self.rcv_shift };
        let (mut window, edge) = self.recv.window(shift, self.max_payload());
        if is_syn {
            // Counted from behind the peer's SYN, whatever came with that.
            let more = self.recv.nxt.saturating_sub(1).min(u16::MAX.into()) as u16;
            window = window.saturating_add(more);
        }
        let sent = emit(&Transmit {
            seq: self.seq_of(next.offset),
            ack: if next.flags & ACK != 0 { self.ack_of(if is_syn { 1 } else { self.recv.nxt }) } else { 0 },
            flags: next.flags,
            window,
            options: options.as_slice(),
            payload: self.send.payload(next.offset, next.len as usize),
            retransmission: matches!(next.kind, Kind::Repair(_)) || (is_syn && self.snd.nxt > 0),
        });
        if sent {
            self.recv.edge = edge;
            if is_syn {
                // Of the peer's SYN alone, whatever came with it.
                self.last_ack = self.recv.nxt.min(1);
            } else if next.flags & ACK != 0 {
                self.acknowledged();
            }
        }
        sent
    }

    /// A segment told the peer all there was to acknowledge.
    fn acknowledged(&mut self) {
        self.last_ack = self.recv.nxt;
        if self.unacked_segments > 0 {
            self.quick_acks = self.quick_acks.saturating_sub(1);
        }
        self.unacked_segments = 0;
        self.ack_at = NEVER;
        self.recovery.duplicate_reported();
        self.acks_due = self.acks_due.saturating_sub(1);
    }

    /// Notes that a segment has left.
    fn sent(&mut self, now: u64, next: &Next) {
        let end = next.offset + u64::from(next.len) + u64::from(next.flags & FIN != 0);
        match next.kind {
            Kind::Reset(_) => self.reset = None,
            Kind::Syn => {
                if self.snd.nxt == 0 {
                    self.snd.timed_at = now;
                    self.snd.timed = 1;
                } else {
                    // Karn: which of them will be acknowledged?
                    self.snd.timed_at = NEVER;
                    self.recovery.syn_lost |= self.retries > 0;
                }
                (self.snd.nxt, self.snd.max) = (1, 1);
                self.syn_due = false;
                if self.timer == Timer::Idle {
                    self.arm(now);
                }
            }
            Kind::New => {
                if next.len > 0 && self.recv.nxt > 1 {
                    self.quick_acks = 0;
                }
                self.probe_due = false;
                self.cwnd_limited = false;
                let full = next.len >= u32::from(self.mss).saturating_sub(self.option_room()).max(1);
                if next.len > 0 && !full {
                    self.snd.small = next.offset + u64::from(next.len);
                }
                if self.snd.timed_at == NEVER && self.phase != Phase::Loss && next.offset >= self.snd.max {
                    self.snd.timed_at = now;
                    self.snd.timed = end;
                }
                self.snd.nxt = end;
                self.snd.max = self.snd.max.max(end);
                self.note_last(end - next.offset);
                self.data_left(now, next.len);
                if self.tail.due {
                    self.probed(now, end, false);
                }
            }
            Kind::Repair(repair) => {
                self.repaired(now, &repair);
                self.data_left(now, next.len);
            }
            Kind::Probe => {
                self.probe_due = false;
                self.snd.max = self.snd.max.max(end);
                // What a probe carries will be sent again: it measures nothing.
                self.snd.timed_at = NEVER;
            }
            Kind::KeepAlive => self.keepalive_due = false,
            Kind::Ack => {}
        }
    }

    /// RFC 6298 5.1.
    fn data_left(&mut self, now: u64, len: u32) {
        self.count_out(len);
        self.snd.last = now;
        match self.timer {
            Timer::Idle | Timer::Persist => self.arm(now),
            Timer::Tail => self.hasten(now),
            Timer::Retransmit => {}
        }
    }

    /// With something to send, nothing in flight and no timer running, only the peer's window can be in the way: the
    /// persist timer asks for it (RFC 9293 3.8.6.1), or overrides silly-window avoidance (3.8.6.2.1 (4)).
    fn watch_window(&mut self, now: u64) {
        if self.timer != Timer::Idle || !self.is_synchronized() || self.state == State::TimeWait {
            return;
        }
        if self.snd.una == self.snd.nxt && self.snd.nxt < self.send.end() + u64::from(self.fin_queued) {
            self.timer = Timer::Persist;
            self.timer_at = now.saturating_add(self.rtt.rto(&self.config));
        }
    }
}
