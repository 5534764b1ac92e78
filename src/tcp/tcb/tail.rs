//! The end of a flight (RFC 8985 7): a loss there draws no duplicates, and the retransmission timer is slow.
//!
//! When nothing was acknowledged for two round-trip times, one segment more is sent: new data, or the last segment again.
//! What is SACKed after that shows what is missing, and fast recovery repairs it.

use super::config::MILLISECOND;
use super::*;

/// Granularity of the peer's timers and ours.
const SLACK: u64 = 2 * MILLISECOND;
/// How long a peer may hold back the acknowledgment of a lone segment.
const ACK_DELAY: u64 = 50 * MILLISECOND;

/// A probe under way.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// It is to be sent.
    pub due: bool,
    /// Where it ended (TLP.end_seq); 0: there is none.
    end: u64,
    /// It carried what was sent before (TLP.is_retrans).
    again: bool,
    /// Sequence numbers of the last segment that was sent for the first time.
    last: u32,
}

impl Tail {
    /// Whether a probe was sent and it is not known what came of it.
    pub fn is_open(&self) -> bool {
        self.end != 0
    }

    /// Whether the block `start..end` of an acknowledgment reports it as received twice (RFC 2883).
    pub fn is_repeated_by(&self, start: i64, end: i64) -> bool {
        self.end != 0 && start < self.end as i64 && end == self.end as i64
    }
}

impl Tcb {
    /// Where the segment that was sent last begins, if `most` bytes still fit one (RFC 8985 7.3).
    pub(super) fn probe_from(&self, most: u32) -> u64 {
        self.last_segment(self.snd.nxt, most).max(self.snd.nxt.saturating_sub(self.tail.last.max(1).into()))
    }

    /// A segment of `len` sequence numbers was sent for the first time.
    pub(super) fn note_last(&mut self, len: u64) {
        self.tail.last = len.min(u32::MAX.into()) as u32;
    }

    /// No probe is due or under way any more.
    pub(super) fn forget_probe(&mut self) {
        self.tail = Tail { last: self.tail.last, ..Tail::default() };
    }

    /// Starts the timer for data in flight: for a probe if one can help and is due earlier, else for a retransmission
    /// (RFC 6298 5.1).
    pub(super) fn arm(&mut self, now: u64) {
        self.arm_retransmission(now);
        let srtt = self.rtt.srtt();
        // RFC 8985 7.2. What is SACKed does not keep it away here: without RACK, it is what notices that nothing follows.
        if !self.config.tail_probe
            || !self.sack
            || self.phase != Phase::Open
            || srtt == 0
            || self.tail.end != 0
        {
            return;
        }
        let lone = self.snd.nxt - self.snd.una <= u64::from(self.max_payload());
        let probe = now.saturating_add(2 * srtt + if lone { SLACK + ACK_DELAY } else { SLACK });
        if probe < self.timer_at {
            self.timer = Timer::Tail;
            self.timer_at = probe;
        }
    }

    /// More data is in flight than when the timer was started: the peer has no reason left to hold anything back.
    pub(super) fn hasten(&mut self, now: u64) {
        self.timer_at = self.timer_at.min(now.saturating_add(2 * self.rtt.srtt() + SLACK));
    }

    pub(super) fn arm_retransmission(&mut self, now: u64) {
        self.timer = Timer::Retransmit;
        self.timer_at = now.saturating_add(self.rtt.rto(&self.config));
    }

    /// Nothing was acknowledged for two round-trip times.
    pub(super) fn on_tail(&mut self, now: u64) {
        self.arm_retransmission(now);
        if !self.tail_lost() {
            self.tail.due = true;
        } else {
            let pipe = self.pipe();
            self.begin_recovery(now, pipe);
        }
    }

    /// Whether what was sent last has arrived, and something before it has not, though there was time enough.
    fn tail_lost(&self) -> bool {
        self.board.get().is_some_and(|board| board.highest() == self.snd.nxt)
    }

    /// Whether a probe has shown a loss.
    pub(super) fn probe_shows_loss(&self) -> bool {
        self.tail.end != 0 && self.tail_lost()
    }

    /// A probe was sent that ends at `end`.
    pub(super) fn probed(&mut self, now: u64, end: u64, again: bool) {
        self.tail = Tail { due: false, end, again, last: self.tail.last };
        self.arm_retransmission(now);
    }

    /// What an acknowledgment up to `ack` says about a probe (RFC 8985 7.4.2): if its original was lost, the probe has hidden
    /// a loss from congestion control. `fresh`: it acknowledged something; `twice`: it reports the probe as a duplicate.
    pub(super) fn settle_probe(&mut self, ack: u64, fresh: bool, twice: bool) {
        let end = self.tail.end;
        if end == 0 || ack < end {
            return;
        }
        if !self.tail.again || twice || (ack == end && !fresh) {
            self.tail.end = 0;
        } else if ack > end {
            self.tail.end = 0;
            let flight =
                (self.snd.nxt - self.snd.una).max(u64::from(self.congestion.cwnd)).min(u32::MAX.into());
            self.congestion.lost(flight as u32, self.max_payload());
            self.congestion.recovered(self.congestion.ssthresh.min(self.congestion.cwnd));
        }
    }
}
