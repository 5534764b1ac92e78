//! Loss: how it is noticed, what is in flight, and how much may be sent while it is repaired.
//!
//! One scheme serves peers with and without SACK. All unacknowledged bytes below a *lost edge* count as lost unless SACKed;
//! they are sent again in order, `high_rxt` marking how far that has come (HighRxt of RFC 6675 2). With SACK the edge
//! follows from the scoreboard (IsLost of RFC 6675 4). Without, it is one segment beyond SND.UNA, and each duplicate
//! acknowledgment stands for a segment that has left the network (RFC 6582). After a time-out it is everything that had been
//! sent. Fast recovery meters what leaves by what arrives (RFC 6937).
//!
//! The first retransmission may be lost, too. Where SACK shows that more than two segments sent after it have arrived, it is
//! made again, at the price of a second reduction; RFC 6675 would wait for the timer.

use super::acked::News;
use super::scoreboard::DUP_THRESH;
use super::*;
use crate::tcp::ranges::Range;

/// Where the connection is with repairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing to repair.
    Open,
    /// Fast recovery.
    Fast,
    /// After a time-out, or after segments had to be cut smaller.
    Loss,
}

/// Variables of loss detection and recovery.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// RecoveryPoint: the phase ends when this is acknowledged.
    point: u64,
    /// Below, unSACKed bytes are lost though the scoreboard alone does not say so: a probe of the tail did.
    edge: u64,
    /// HighRxt: below, everything lost was sent again in this phase.
    high_rxt: u64,
    /// Duplicate acknowledgments in a row.
    dup_acks: u32,
    /// RecoverFS, prr_delivered, prr_out (RFC 6937 3).
    flight: u32,
    delivered: u32,
    out: u32,
    /// A retransmission is due whatever the window says: the first of a fast recovery, or after a partial acknowledgment
    /// without SACK (RFC 6582 3.2).
    forced: bool,
    /// The rescue retransmission of this recovery was made (RFC 6675 4, NextSeg (4)).
    rescued: bool,
    /// SND.NXT when the segment at SND.UNA was sent again, or when SND.UNA came to a segment that had been.
    head_nxt: u64,
    /// Bytes SACKed since that must have been sent after it.
    after_head: u32,
    /// Which is therefore lost again.
    head_lost: bool,
    /// Our SYN or SYN/ACK was sent more than once.
    pub syn_lost: bool,
    /// What arrived a second time and is to be reported (RFC 2883); empty: nothing.
    duplicate: (u64, u64),
}

impl Recovery {
    /// The next acknowledgment reports `start..end` as received twice.
    pub fn report_duplicate(&mut self, start: u64, end: u64) {
        if start < end {
            self.duplicate = (start, end);
        }
    }

    /// The report, if there is one.
    pub fn duplicate(&self) -> Option<(u64, u64)> {
        Some(self.duplicate).filter(|(start, end)| start < end)
    }

    /// The report was sent.
    pub fn duplicate_reported(&mut self) {
        self.duplicate = (0, 0);
    }
}

/// A piece to send again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repair {
    pub start: u64,
    pub len: u32,
    /// It goes whatever the congestion window says.
    pub forced: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The next one in order.
    Next,
    /// The last segment of the flight (RFC 6675 4, NextSeg (4)).
    Rescue,
    /// The first one, once more.
    Head,
    /// A probe (RFC 8985 7.3).
    Tail,
}

impl Tcb {
    /// Bytes that are SACKed or, without SACK, inferred from duplicates to have arrived.
    fn delivered_above(&self) -> u64 {
        match self.board.get() {
            Some(board) => board.sacked_bytes(),
            None if self.sack => 0,
            None => {
                // Each duplicate stands for a segment, never for the one that is missing.
                let most = (self.snd.nxt - self.snd.una).saturating_sub(self.max_payload().into());
                (u64::from(self.recovery.dup_acks) * u64::from(self.max_payload())).min(most)
            }
        }
    }

    /// Unacknowledged bytes of `start..end` that are not SACKed.
    fn unsacked(&self, start: u64, end: u64) -> u64 {
        self.board.get().map_or(end.saturating_sub(start), |board| board.unsacked(start, end))
    }

    /// Below, what is not SACKed is lost.
    fn lost_edge(&self) -> u64 {
        match self.phase {
            Phase::Open => self.snd.una,
            Phase::Loss => self.recovery.point,
            Phase::Fast => {
                // The segment at SND.UNA is lost: that began the phase, and a partial acknowledgment says it again.
                let first = (self.snd.una + u64::from(self.max_payload())).min(self.recovery.point);
                self.board
                    .get()
                    .map_or(0, |board| board.lost_edge(self.max_payload()))
                    .max(first)
                    .max(self.recovery.edge)
            }
        }
    }

    /// Bytes in the network, estimated (SetPipe of RFC 6675 4).
    pub(super) fn pipe(&self) -> u64 {
        let flight = self.snd.nxt - self.snd.una;
        let pipe = flight.saturating_sub(self.delivered_above());
        if self.phase == Phase::Open {
            return pipe;
        }
        let lost = self.unsacked(self.snd.una, self.lost_edge().min(self.snd.nxt));
        let again = self.unsacked(self.snd.una, self.recovery.high_rxt.max(self.snd.una).min(self.snd.nxt));
        pipe.saturating_sub(lost) + again
    }

    /// What to send again, if anything (NextSeg (1), and without new data (3) and (4), of RFC 6675 4).
    pub(super) fn next_repair(&self, most: u32, new_data: bool) -> Option<Repair> {
        if self.tail.due && !new_data && self.snd.nxt > self.snd.una {
            // The last segment, which may be a FIN alone; SACKed, it would not be due.
            let start = self.probe_from(most);
            let len = (self.snd.nxt - start) as u32;
            return Some(Repair { start, len, forced: true, kind: Kind::Tail });
        }
        if self.phase == Phase::Open {
            return None;
        }
        if self.recovery.head_lost
            && let Some(hole) = self.board.get().and_then(|b| b.next_hole(self.snd.una, b.highest()))
        {
            let len = hole.len().min(most.into()) as u32;
            return Some(Repair { start: hole.start, len, forced: true, kind: Kind::Head });
        }
        let start = self.recovery.high_rxt.max(self.snd.una);
        let hole = |end: u64| match self.board.get() {
            Some(board) => board.next_hole(start, end),
            None => (start < end).then_some(Range { start, end }),
        };
        let mut kind = Kind::Next;
        let edge = self.lost_edge().min(self.snd.nxt);
        let mut found = hole(edge);
        if found.is_none() && !new_data && self.phase == Phase::Fast {
            if let Some(board) = self.board.get() {
                // (3): not lost by the rules, but there is a hole and nothing better to send.
                found = hole(board.highest());
            }
            if found.is_none() && self.sack && !self.recovery.rescued && self.recovery.high_rxt > self.snd.una
            {
                // (4): the last segment, in case the end of the flight is lost.
                let end = self.recovery.point.min(self.snd.nxt);
                let from = self.last_segment(end, most);
                found = self.board.get().map_or(Some(Range { start: from, end }), |b| b.next_hole(from, end));
                kind = Kind::Rescue;
            }
        }
        let hole = found?;
        // A loss that is certain is repaired with whole segments, also beyond the edge's last byte.
        let end = match self.board.get() {
            Some(board) => board.next_hole(hole.start, self.snd.nxt).map_or(hole.end, |r| r.end),
            None => self.snd.nxt,
        };
        let len = (end - hole.start).min(self.with_fin(hole.start, most)) as u32;
        (len > 0).then_some(Repair { start: hole.start, len, forced: self.recovery.forced, kind })
    }

    /// Where the last segment before `end` begins if it holds `most` bytes; a FIN adds to it.
    pub(super) fn last_segment(&self, end: u64, most: u32) -> u64 {
        end.min(self.send.end()).saturating_sub(most.into()).max(self.snd.una)
    }

    /// Sequence numbers a segment from `start` on may take if `most` bytes fit: one more for the FIN behind the last byte.
    pub(super) fn with_fin(&self, start: u64, most: u32) -> u64 {
        let bytes = self.send.end().saturating_sub(start);
        u64::from(most) + u64::from(self.fin_queued && bytes <= most.into())
    }

    /// A repair was sent.
    pub(super) fn repaired(&mut self, now: u64, repair: &Repair) {
        let end = repair.start + u64::from(repair.len);
        match repair.kind {
            Kind::Rescue => self.recovery.rescued = true,
            Kind::Tail => self.probed(now, end, true),
            Kind::Next => {
                self.recovery.high_rxt = self.recovery.high_rxt.max(end);
                self.recovery.forced = false;
            }
            Kind::Head => {}
        }
        if repair.start == self.snd.una {
            self.watch_head();
        }
        self.retransmitted = self.retransmitted.saturating_add(1);
        // Karn: what is sent twice measures nothing.
        self.snd.timed_at = NEVER;
    }

    /// The segment at SND.UNA has just been sent again, or will soon be: what arrives from here on judges it.
    fn watch_head(&mut self) {
        self.recovery.head_nxt = self.snd.nxt;
        self.recovery.after_head = 0;
        self.recovery.head_lost = false;
    }

    /// `start..end` is about to be SACKed: how much of it is news, and was sent after the segment at SND.UNA was sent again?
    /// Either it was sent again later, or for the first time.
    pub(super) fn judge_head(&mut self, start: u64, end: u64) {
        let (una, high, nxt) = (self.snd.una, self.recovery.high_rxt, self.recovery.head_nxt);
        if self.phase == Phase::Open || high <= una {
            return;
        }
        let again = self.unsacked(start, end.min(high));
        let later = self.unsacked(start.max(nxt), end);
        let r = &mut self.recovery;
        r.after_head = r.after_head.saturating_add((again + later).min(u32::MAX.into()) as u32);
        if r.after_head > (DUP_THRESH - 1) * u32::from(self.mss) {
            r.head_lost = true;
            r.after_head = 0;
            self.reduce_again();
        }
    }

    /// RFC 5681 4.3: the loss of a retransmission is a second indication of congestion.
    fn reduce_again(&mut self) {
        let pipe = self.pipe().clamp(1, u32::MAX.into()) as u32;
        self.congestion.lost(self.congestion.cwnd.min(pipe), self.max_payload());
        self.congestion.cwnd = self.congestion.cwnd.min(self.congestion.ssthresh);
        self.recovery.flight = pipe;
        (self.recovery.delivered, self.recovery.out) = (0, 0);
    }

    /// `len` bytes of data left, for the first time or again.
    pub(super) fn count_out(&mut self, len: u32) {
        self.recovery.out = self.recovery.out.saturating_add(len);
    }

    /// Reacts to what an acknowledgment said; `pipe` is what was in flight before it.
    pub(super) fn react(&mut self, now: u64, news: News, pipe: u64) {
        let mss = self.max_payload();
        let una = self.snd.una;
        if news.acked > 0 {
            self.watch_head();
        }
        match self.phase {
            Phase::Open => {
                if news.acked > 0 {
                    self.recovery.dup_acks = 0;
                    // RFC 5681 3.1; not when the window was not the limit (RFC 9438 4.1, RFC 7661).
                    if self.cwnd_limited {
                        self.congestion.acked(news.acked, mss, now, self.rtt.srtt());
                    }
                }
                if news.duplicate {
                    self.recovery.dup_acks = self.recovery.dup_acks.saturating_add(1);
                }
                if self.is_lost() {
                    self.begin_recovery(now, pipe);
                    self.meter(news, mss);
                }
            }
            Phase::Fast if una >= self.recovery.point => {
                // RFC 6582 3.2, full acknowledgment: what is still in flight cannot burst.
                let flight = (self.snd.nxt - una).min(u32::MAX.into()) as u32;
                let cwnd = self.congestion.ssthresh.min(flight.max(mss).saturating_add(mss));
                let cwnd = if self.sack { self.congestion.ssthresh } else { cwnd };
                self.congestion.recovered(cwnd);
                self.end_phase();
            }
            Phase::Fast => {
                if news.acked > 0 && !self.sack {
                    // RFC 6582 3.2, partial acknowledgment: the next segment is lost, too. One of the duplicates
                    // was for the segment that is acknowledged now.
                    let segments = news.acked.div_ceil(mss);
                    self.recovery.dup_acks =
                        self.recovery.dup_acks.saturating_sub(segments.saturating_sub(1));
                    self.recovery.high_rxt = una;
                    self.recovery.forced = true;
                }
                if news.duplicate {
                    self.recovery.dup_acks = self.recovery.dup_acks.saturating_add(1);
                }
                self.meter(news, mss);
            }
            Phase::Loss => {
                if news.acked > 0 {
                    self.recovery.dup_acks = 0;
                    self.congestion.acked(news.acked, mss, now, self.rtt.srtt());
                }
                if una >= self.recovery.point {
                    self.end_phase();
                }
            }
        }
    }

    fn end_phase(&mut self) {
        self.phase = Phase::Open;
        self.recovery.dup_acks = 0;
        self.recovery.forced = false;
    }

    /// RFC 5681 3.2, RFC 6675 5 (1) and (2).
    fn is_lost(&self) -> bool {
        if self.snd.una >= self.snd.nxt {
            return false;
        }
        if self.sack {
            let by_bytes = self.board.get().is_some_and(|b| b.lost_edge(self.max_payload()) > self.snd.una);
            return by_bytes
                || self.probe_shows_loss()
                || (self.recovery.dup_acks >= DUP_THRESH && self.board.get().is_some());
        }
        // RFC 6582 3.2 (1): not for the duplicates that the last recovery's own retransmissions draw.
        self.recovery.dup_acks >= DUP_THRESH && self.snd.una >= self.recovery.point
    }

    /// RFC 6675 5 (4), RFC 6582 3.2 (2), RFC 6937 3.
    pub(super) fn begin_recovery(&mut self, now: u64, pipe: u64) {
        let flight = (self.snd.nxt - self.snd.una).min(u32::MAX.into()) as u32;
        self.congestion.lost(flight, self.max_payload());
        self.phase = Phase::Fast;
        if self.timer == Timer::Tail {
            self.arm_retransmission(now);
        }
        // What was sent last has arrived, and nothing else was on its way: there is nothing more to wait for.
        let highest = self.board.get().map_or(0, Scoreboard::highest);
        self.recovery.edge = if highest == self.snd.nxt { highest } else { 0 };
        self.forget_probe();
        let r = &mut self.recovery;
        r.point = self.snd.nxt;
        r.high_rxt = self.snd.una;
        r.head_lost = false;
        r.flight = pipe.clamp(1, u32::MAX.into()) as u32;
        (r.delivered, r.out) = (0, 0);
        r.forced = true;
        r.rescued = false;
    }

    /// Proportional rate reduction (RFC 6937 3): the window for the segments this acknowledgment releases.
    fn meter(&mut self, news: News, mss: u32) {
        let delivered = match (self.sack, news.duplicate) {
            (false, true) => mss,
            _ => news.acked.saturating_add(news.sacked),
        };
        let pipe = self.pipe().min(u32::MAX.into()) as u32;
        let ssthresh = self.congestion.ssthresh;
        let r = &mut self.recovery;
        r.delivered = r.delivered.saturating_add(delivered);
        let send = if pipe > ssthresh {
            let share = (u64::from(r.delivered) * u64::from(ssthresh)).div_ceil(r.flight.into());
            share.saturating_sub(r.out.into()).min(u32::MAX.into()) as u32
        } else {
            // PRR-SSRB.
            let limit = r.delivered.saturating_sub(r.out).max(delivered).saturating_add(mss);
            (ssthresh - pipe).min(limit)
        };
        self.congestion.cwnd = pipe.saturating_add(send);
    }

    /// The retransmission timer ran out (RFC 6298 5.4-5.6, RFC 5681 3.1): everything in flight counts as lost.
    pub(super) fn timed_out(&mut self) {
        let flight = (self.snd.nxt - self.snd.una).min(u32::MAX.into()) as u32;
        let again = self.retries > 1 && self.phase == Phase::Loss;
        self.congestion.timed_out(flight, self.max_payload(), !again);
        // RFC 2018 8: a receiver may throw away what it SACKed. The first time it is believed unless it contradicts itself.
        if self.board.get().is_some_and(|board| again || board.reneged(self.snd.una)) {
            self.board.free();
        }
        self.begin_loss();
        self.recovery.forced = true;
    }

    /// Segments in flight were too big for the path: they are sent again, smaller. The network was not congested.
    pub(super) fn resend_all(&mut self) {
        if self.snd.nxt > self.snd.una {
            self.begin_loss();
            self.recovery.forced = true;
        }
    }

    fn begin_loss(&mut self) {
        self.phase = Phase::Loss;
        self.forget_probe();
        let r = &mut self.recovery;
        r.point = self.snd.nxt;
        r.high_rxt = self.snd.una;
        r.head_lost = false;
        r.dup_acks = 0;
        self.snd.timed_at = NEVER;
    }
}
