//! What an arriving segment does: RFC 9293 3.10.7, with RFC 5961 and RFC 7323.

use super::segment::Segment;
use super::segment::flags::{ACK, FIN, RST, SYN};
use super::*;
use crate::tcp::options;

/// How long TS.Recent is believed (RFC 7323 5.5): 24 days.
const PAWS_LIFETIME: u64 = 24 * 86_400 * config::SECOND;

/// What remains to be done about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Done,
    /// It is a SYN that may open another connection on the same addresses and ports: this one is in TIME_WAIT, or has not
    /// been acknowledged. Where somebody listens, the caller says [`Tcb::give_way`], and the segment is the listener's; else
    /// [`Tcb::stay`]. An initial sequence number for the new connection must be above this number (RFC 9293 3.10.7.4,
    /// RFC 6191).
    Reopen {
        /// SND.NXT of the old connection.
        above: u32,
    },
}

impl Tcb {
    /// Takes a segment of this connection, as it arrived at `now`.
    pub fn on_segment(&mut self, now: u64, seg: &Segment<'_>) -> Outcome {
        match self.state {
            State::Closed | State::Listen => Outcome::Done,
            State::SynSent => {
                self.in_syn_sent(now, seg);
                Outcome::Done
            }
            _ => self.in_connection(now, seg),
        }
    }

    /// The connection is over: a new one takes its place (see [`Outcome::Reopen`]).
    pub fn give_way(&mut self) {
        self.end(None);
    }

    /// Nobody listens for the SYN: it is answered as any other on an open connection (see [`Outcome::Reopen`]).
    pub fn stay(&mut self, now: u64) {
        self.challenge(now);
    }

    /// RFC 9293 3.10.7.3.
    fn in_syn_sent(&mut self, now: u64, seg: &Segment<'_>) {
        let ack = seq::unwrap(seg.ack, self.iss, self.snd.una);
        let acceptable = seg.has(ACK) && ack > self.snd.una as i64 && ack <= self.snd.max as i64;
        // First: an acknowledgment of what was not sent.
        if seg.has(ACK) && !acceptable {
            if !seg.has(RST) {
                self.reset = Some(Reset { seq: seg.ack, ack: None });
            }
            return;
        }
        // Second.
        if seg.has(RST) {
            if acceptable {
                self.end(Some(Cause::Refused));
            }
            return;
        }
        // Fourth.
        if !seg.has(SYN) {
            return;
        }
        self.heard_at = now;
        self.take_syn(now, seg, &SynOptions::parse(seg.options));
        if !acceptable {
            // Simultaneous open: our SYN goes out again, with an acknowledgment.
            self.state = State::SynRcvd;
            self.syn_due = true;
            self.retries = 0;
            // "If there are other controls or text in the segment, queue them for processing after the ESTABLISHED state has
            // been reached." Text is; a FIN comes again. So does text for which there is no memory.
            let _ = self.recv.accept(1, seg.payload);
            return;
        }
        self.acks_due = 1;
        self.syn_acked(now, seg);
        // "If there are other controls or text in the segment, then continue processing at the sixth step."
        if !seg.payload.is_empty() || seg.has(FIN) {
            // The window our SYN offered.
            self.take_text(now, seg, 1);
            self.take_fin(now, seg, 1 + seg.payload.len() as i64);
        }
    }

    /// Our SYN is acknowledged: the connection is established.
    fn syn_acked(&mut self, now: u64, seg: &Segment<'_>) {
        let syn_lost = self.recovery.syn_lost;
        self.snd.una = 1;
        if self.snd.timed_at != NEVER {
            // Karn: a SYN sent again measures nothing (never timed then).
            self.rtt.sample(now.saturating_sub(self.snd.timed_at), &self.config);
            self.snd.timed_at = NEVER;
        } else if self.timestamps
            && let Some((_, echo)) = options::timestamps(seg.options)
        {
            self.sample_by_timestamp(now, echo);
        }
        if syn_lost {
            self.rtt.after_lost_syn();
        }
        let mss = self.max_payload();
        self.congestion.begin(&self.config, mss, syn_lost);
        self.timer = Timer::Idle;
        self.timer_at = NEVER;
        self.retries = 0;
        self.soft = None;
        // A peer that sends no more is still to be acknowledged at once: it may be in slow start.
        self.state = State::Established;
        self.events |= Events::CONNECTED;
        if self.fin_queued {
            self.state = State::FinWait1;
        }
    }

    /// RFC 9293 3.10.7.4.
    fn in_connection(&mut self, now: u64, seg: &Segment<'_>) -> Outcome {
        let seq = self.offset_of(seg.seq);
        let stamps = if self.timestamps { options::timestamps(seg.options) } else { None };
        if seg.has(SYN) && !seg.has(RST) {
            if let Some(outcome) = self.take_stray_syn(now, seg, seq, stamps) {
                return outcome;
            }
        } else if !self.is_acceptable(now, seg, seq, stamps) {
            return Outcome::Done;
        }
        if seg.has(RST) {
            self.take_rst(now, seq);
            return Outcome::Done;
        }
        self.heard_at = now;
        self.keepalives = 0;
        // Fifth: the ACK field.
        if !seg.has(ACK) {
            return Outcome::Done;
        }
        // RFC 7323 4.3 (2).
        if let Some((value, _)) = stamps
            && seq::ge(value, self.ts_recent)
            && seq <= self.last_ack as i64
        {
            self.ts_recent = value;
            self.ts_recent_at = now;
        }
        if self.state == State::TimeWait {
            self.in_time_wait(now, seg, seq);
            return Outcome::Done;
        }
        if self.state == State::SynRcvd && !self.complete(now, seg) {
            return Outcome::Done;
        }
        if !self.take_ack(now, seg, seq, stamps) {
            return Outcome::Done;
        }
        self.after_ack(now);
        // Sixth: the URG bit. Urgent data is data (RFC 9293 3.8.5: the pointer is for the application, which has no call for it).
        // Seventh and eighth: text and FIN.
        let data = seq + i64::from(seg.has(SYN));
        if !seg.payload.is_empty() {
            self.take_text(now, seg, data);
        }
        self.take_fin(now, seg, data + seg.payload.len() as i64);
        Outcome::Done
    }

    /// TIME_WAIT (fifth and eighth check): the peer has had everything, and can only repeat its FIN. Whatever else it says shows
    /// that it does not know, so that is acknowledged, too; but not the plain acknowledgment of our last word.
    fn in_time_wait(&mut self, now: u64, seg: &Segment<'_>, seq: i64) {
        let news = !seg.is_empty() || seq != self.recv.nxt as i64 || seg.ack != self.seq_of(self.snd.nxt);
        if news {
            self.refuse(now, seg.len().into());
        }
        if seg.has(FIN) {
            self.close_at = now.saturating_add(self.config.time_wait);
        }
    }

    /// A SYN in a connection. `None`: it is our peer's answer in a simultaneous open, to be processed on.
    fn take_stray_syn(
        &mut self,
        now: u64,
        seg: &Segment<'_>,
        seq: i64,
        stamps: Option<(u32, u32)>,
    ) -> Option<Outcome> {
        match self.state {
            State::SynRcvd if seq == 0 => {
                if seg.has(ACK) && seg.ack == self.seq_of(self.snd.max) && self.active {
                    // Simultaneous open: the peer's SYN/ACK acknowledges our SYN, and wants to be acknowledged.
                    self.acks_due = 1;
                    return None;
                }
                if !seg.has(ACK) || self.active {
                    // The peer's SYN again: it has not seen our SYN/ACK.
                    self.syn_due = true;
                    return Some(Outcome::Done);
                }
                // A SYN/ACK is no answer to ours.
            }
            // Another SYN, in the window: a passive open returns to LISTEN (fourth check).
            State::SynRcvd
                if !self.active && !seg.has(ACK | FIN) && seq > 0 && seq < self.recv.edge as i64 =>
            {
                let above = self.seq_of(self.snd.nxt);
                return Some(Outcome::Reopen { above });
            }
            State::TimeWait if !seg.has(ACK | FIN) && self.may_reopen(seq, stamps) => {
                let above = self.seq_of(self.snd.nxt);
                return Some(Outcome::Reopen { above });
            }
            _ => {}
        }
        // RFC 5961 4.2: whatever its sequence number.
        self.challenge(now);
        Some(Outcome::Done)
    }

    /// RFC 6191 2: a SYN in TIME_WAIT that cannot be an old duplicate.
    fn may_reopen(&self, seq: i64, stamps: Option<(u32, u32)>) -> bool {
        let later = seq > self.recv.nxt as i64;
        match stamps {
            Some((value, _)) if value != self.ts_recent => seq::gt(value, self.ts_recent),
            // The old connection used timestamps: one without them, or at the same tick, is judged by sequence number.
            _ => later,
        }
    }

    /// First check: sequence number, with PAWS in front of it (RFC 7323 5.3). An unacceptable segment is answered here.
    fn is_acceptable(&mut self, now: u64, seg: &Segment<'_>, seq: i64, stamps: Option<(u32, u32)>) -> bool {
        let len = i64::from(seg.len());
        if self.timestamps && !seg.has(RST) {
            match stamps {
                // RFC 7323 3.2: silently.
                None => return false,
                Some((value, _)) => {
                    let fresh = now.saturating_sub(self.ts_recent_at) < PAWS_LIFETIME;
                    if fresh && seq::lt(value, self.ts_recent) {
                        self.refuse(now, len);
                        return false;
                    }
                }
            }
        }
        let (nxt, edge) = (self.recv.nxt as i64, self.recv.edge as i64);
        let acceptable = if len == 0 {
            // More lenient than the four cases in two ways. What carries nothing and left before something we have not
            // acknowledged yet was reordered, and must not draw a duplicate acknowledgment; what lies at the right edge
            // comes from a peer that has filled our window.
            seq >= self.last_ack as i64 && seq <= edge
        } else if edge == nxt {
            // 3.8.6.1, 3.10.7.4: with a closed window nothing is taken, but the acknowledgment of what is expected next
            // is still processed; else two ends with closed windows would never hear of them opening.
            if seq == nxt {
                self.acks_due = self.acks_due.max(1);
                true
            } else {
                false
            }
        } else {
            (seq >= nxt && seq < edge)
                || (seq + len > nxt && seq + len <= edge)
                || (seq < nxt && seq + len > edge)
        };
        if !acceptable && !seg.has(RST) {
            // RFC 2883 4: what it repeats is reported.
            if self.sack && !seg.payload.is_empty() && seq < nxt && seq + seg.payload.len() as i64 <= nxt {
                self.recovery
                    .report_duplicate(seq.max(1) as u64, (seq + seg.payload.len() as i64).max(1) as u64);
            }
            self.refuse(now, len);
            // 3.10.7.4: a retransmitted FIN restarts the 2 MSL time-out.
            if self.state == State::TimeWait && seg.has(FIN) && seq + len == nxt {
                self.close_at = now.saturating_add(self.config.time_wait);
            }
        }
        acceptable
    }

    /// Answers an unacceptable segment with an acknowledgment. Those without content are limited in rate: two ends that
    /// disagree would answer each other for ever.
    fn refuse(&mut self, now: u64, len: i64) {
        if len > 0 {
            self.acks_due = self.acks_due.max(1);
        } else {
            self.challenge(now);
        }
    }

    /// A challenge acknowledgment (RFC 5961 3.2, 4.2, 5.2), if this second has one left (7).
    pub(super) fn challenge(&mut self, now: u64) {
        let second = now / config::SECOND;
        if self.challenged_at != second {
            self.challenged_at = second;
            self.challenges = 0;
        }
        if self.challenges < self.config.challenge_acks {
            self.challenges += 1;
            self.acks_due = self.acks_due.max(1);
        }
    }

    /// Second check: RST. RFC 5961 3.2: only the very next sequence number resets.
    fn take_rst(&mut self, now: u64, seq: i64) {
        if seq != self.recv.nxt as i64 {
            if seq > self.recv.nxt as i64 && seq < self.recv.edge as i64 {
                self.challenge(now);
            }
            return;
        }
        match self.state {
            // A passive open returns to LISTEN, silently; an active one was refused.
            State::SynRcvd if !self.active => self.end(None),
            State::SynRcvd => self.end(Some(Cause::Refused)),
            // Everything was said and heard. Who still has the socket may know that its last words may not have arrived; the
            // stream that was read has ended well all the same.
            State::Closing | State::LastAck if self.closed => self.end(None),
            State::Closing | State::LastAck => {
                self.recv.discard = true;
                self.end(Some(Cause::Reset));
            }
            State::TimeWait => self.end(None),
            // What is in order and unread stays readable.
            _ => self.end(Some(Cause::Reset)),
        }
    }

    /// SYN_RCVD: the acknowledgment of our SYN (fifth check). `false`: it was not.
    fn complete(&mut self, now: u64, seg: &Segment<'_>) -> bool {
        let ack = seq::unwrap(seg.ack, self.iss, self.snd.una);
        if ack <= self.snd.una as i64 || ack > self.snd.max as i64 {
            self.reset = Some(Reset { seq: seg.ack, ack: None });
            return false;
        }
        self.syn_due = false;
        self.syn_acked(now, seg);
        // The window of the segment that completes the handshake counts (RFC 9293: SND.WND, WL1, WL2 are set from it).
        let shift = if seg.has(SYN) { 0 } else { self.snd_shift };
        self.snd.wnd = u32::from(seg.window) << shift;
        self.snd.max_wnd = self.snd.max_wnd.max(self.snd.wnd);
        self.snd.wl1 = self.recv.nxt;
        self.snd.wl2 = 1;
        if self.recv.unread() > 0 {
            // What came with the peer's SYN is there now.
            self.events |= Events::DATA;
            self.unacked_segments = 1;
            self.ack_at = now.saturating_add(self.config.delayed_ack);
        }
        true
    }

    /// What an acknowledgment of our FIN changes.
    fn after_ack(&mut self, now: u64) {
        if !self.fin_acked() {
            return;
        }
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                if self.closed {
                    self.tell_drained();
                    self.close_at = now.saturating_add(self.config.fin_wait_2);
                }
            }
            State::Closing => {
                self.tell_drained();
                self.begin_time_wait(now);
            }
            // Tells that it is closed.
            State::LastAck => self.end(None),
            _ => {}
        }
    }

    /// All that was written has arrived: a close that lingers waits for that.
    fn tell_drained(&mut self) {
        if self.closed {
            self.events |= Events::SPACE;
        }
    }

    /// TIME_WAIT begins: all timers but its own are off.
    fn begin_time_wait(&mut self, now: u64) {
        self.state = State::TimeWait;
        self.timer = Timer::Idle;
        self.timer_at = NEVER;
        self.close_at = now.saturating_add(self.config.time_wait);
    }

    /// Seventh: the segment text, whose first byte is at `offset`.
    fn take_text(&mut self, now: u64, seg: &Segment<'_>, offset: i64) {
        if !self.state.receives() {
            return;
        }
        let end = offset + seg.payload.len() as i64;
        if self.closed && end > self.recv.nxt as i64 {
            // RFC 9293 3.6.1: nobody will read it, and the peer should know. The reset has the number the peer expects, as for
            // a connection that is gone (3.10.7.1): what of ours is on its way would make it one of the future.
            self.reset = Some(Reset { seq: self.seq_of(self.snd.una), ack: None });
            self.end(None);
            return;
        }
        let Ok(taken) = self.recv.accept(offset, seg.payload) else {
            // No memory: as if it had been lost.
            return;
        };
        if let Some((start, end)) = taken.duplicate
            && self.sack
        {
            self.recovery.report_duplicate(start.max(1), end.max(1));
        }
        if taken.in_order > 0 && !self.recv.discard {
            self.events |= Events::DATA;
        }
        // What a network card put together from several full segments counts as more than one.
        let several = seg.payload.len() as u32 >= 2 * self.max_payload();
        self.unacked_segments = self.unacked_segments.saturating_add(1 + u8::from(several));
        if taken.ahead {
            // RFC 5681 4.2: each gets its duplicate acknowledgment. With SACK one says it all.
            let most = if self.sack { 1 } else { u8::MAX };
            self.acks_due = self.acks_due.saturating_add(1).min(most);
        } else if taken.disorder || taken.duplicate.is_some() || taken.refused > 0 || self.delay_is_over() {
            self.acks_due = self.acks_due.max(1);
        } else if self.quick_acks > 0 {
            // Not before an application that polls had its turn: a server's first answer carries it.
            self.ack_at = now + 1;
        } else if self.ack_at == NEVER {
            self.ack_at = now + self.config.delayed_ack;
        }
    }

    /// RFC 9293 3.8.6.3, RFC 5681 4.2: at least every second full segment is acknowledged.
    fn delay_is_over(&self) -> bool {
        self.unacked_segments >= 2 || self.config.delayed_ack == 0
    }

    /// Eighth: the FIN, which would be at `offset`; and one that came earlier and is reached now.
    fn take_fin(&mut self, now: u64, seg: &Segment<'_>, offset: i64) {
        if !self.state.receives() {
            return;
        }
        let nxt = self.recv.nxt as i64;
        if seg.has(FIN) && offset > nxt && offset < self.recv.edge as i64 {
            // Ahead of a hole. Without memory it is lost, and will come again.
            self.acks_due = self.acks_due.max(1);
            let _ = self.recv.remember_fin(offset as u64);
            return;
        }
        if !(seg.has(FIN) && offset == nxt || self.recv.fin_reached()) {
            return;
        }
        self.recv.take_fin();
        self.acks_due = self.acks_due.max(1);
        self.events |= Events::FIN;
        match self.state.after_fin() {
            State::TimeWait => self.begin_time_wait(now),
            next => self.state = next,
        }
    }
}
