//! The acknowledgment field of an acceptable segment (RFC 9293 3.10.7.4, fifth check).

use super::segment::Segment;
use super::segment::flags::{FIN, SYN};
use super::*;
use crate::tcp::options::SackBlocks;

/// A timestamp echo older than this measures nothing.
const OLDEST_ECHO_MS: u32 = 120_000;

/// What an acknowledgment said about the data in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    /// Bytes acknowledged cumulatively.
    pub acked: u32,
    /// Bytes newly SACKed.
    pub sacked: u32,
    /// It is a duplicate (RFC 5681 2; with SACK RFC 6675 2).
    pub duplicate: bool,
}

impl Tcb {
    /// Takes the acknowledgment of `seg`, whose first sequence number is at `seq`. `false`: the segment is to be dropped.
    pub(super) fn take_ack(
        &mut self,
        now: u64,
        seg: &Segment<'_>,
        seq: i64,
        stamps: Option<(u32, u32)>,
    ) -> bool {
        let ack = seq::unwrap(seg.ack, self.iss, self.snd.una);
        let una = self.snd.una as i64;
        // RFC 5961 5.2: what was not sent yet, or what nobody can still mean.
        if ack > self.snd.max as i64 || ack < una.saturating_sub(i64::from(self.snd.max_wnd)) {
            self.challenge(now);
            return false;
        }
        if ack < una {
            // An old acknowledgment: its data counts, it says nothing else.
            return true;
        }
        let ack = ack as u64;
        let window = u32::from(seg.window) << if seg.has(SYN) { 0 } else { self.snd_shift };
        let same_window = window == self.snd.wnd;
        self.update_window(seq, ack, window);
        if self.snd.wnd == 0 {
            // The peer lives and only has no room: it is waited for (RFC 9293 3.8.6.1), unless nobody here waits.
            if !self.closed {
                self.retries = 0;
            }
        }
        let mut news = News { acked: (ack - self.snd.una) as u32, ..News::default() };
        let outstanding = self.snd.nxt > self.snd.una;
        let pipe = self.pipe();
        let mut twice = false;
        if self.sack && !seg.options.is_empty() && (outstanding || self.tail.is_open()) {
            (news.sacked, twice) = self.take_sack(seg, ack);
        }
        news.duplicate = outstanding
            && news.acked == 0
            && (news.sacked > 0 || (same_window && seg.payload.is_empty() && !seg.has(SYN | FIN)));
        if news.acked > 0 {
            self.advance(now, ack, stamps);
        }
        if outstanding {
            self.react(now, news, pipe);
        }
        self.settle_probe(ack, news.acked > 0, twice);
        if news.acked > 0 {
            self.restart_timer(now);
        }
        true
    }

    /// RFC 9293 3.10.7.4: an older segment must not bring an older window back.
    fn update_window(&mut self, seq: i64, ack: u64, window: u32) {
        let newer = seq > self.snd.wl1 as i64 || (seq == self.snd.wl1 as i64 && ack >= self.snd.wl2);
        if !newer {
            return;
        }
        self.snd.wnd = window;
        self.snd.max_wnd = self.snd.max_wnd.max(window);
        self.snd.wl1 = seq.max(0) as u64;
        self.snd.wl2 = ack;
        if self.timer == Timer::Persist && window > 0 {
            // The window is open. If too little of it for a segment worth sending, the timer is set again.
            self.timer = Timer::Idle;
            self.timer_at = NEVER;
            self.rtt.settle();
        }
    }

    /// Notes SACK blocks; how many bytes are news, and whether one reports a probe as a duplicate. Blocks outside what is in flight are old, reports of duplicates
    /// (RFC 2883), or false.
    fn take_sack(&mut self, seg: &Segment<'_>, ack: u64) -> (u32, bool) {
        let (mut news, mut twice) = (0, false);
        for &(start, end) in SackBlocks::parse(seg.options).as_slice() {
            let start = seq::unwrap(start, self.iss, self.snd.una);
            let end = seq::unwrap(end, self.iss, self.snd.una);
            twice |= self.tail.is_repeated_by(start, end);
            if start < ack as i64 || start >= end || end > self.snd.nxt as i64 {
                continue;
            }
            self.judge_head(start as u64, end as u64);
            if let Ok(board) = self.board.get_or_make() {
                news += board.mark(start as u64, end as u64).unwrap_or(0) as u32;
            }
        }
        (news, twice)
    }

    /// Everything below `ack` has arrived.
    fn advance(&mut self, now: u64, ack: u64, stamps: Option<(u32, u32)>) {
        if self.snd.timed_at != NEVER && ack >= self.snd.timed {
            // RFC 6298 3: a segment that was sent once, by our own clock.
            self.rtt.sample(now.saturating_sub(self.snd.timed_at), &self.config);
            self.snd.timed_at = NEVER;
        } else if self.phase != Phase::Open
            && let Some((_, echo)) = stamps
        {
            // RFC 7323 4.1: with timestamps a retransmission measures, too. Otherwise the finer clock does.
            self.sample_by_timestamp(now, echo);
        }
        self.snd.una = ack;
        self.snd.nxt = self.snd.nxt.max(ack);
        self.retries = 0;
        self.soft = None;
        self.tail.due = false;
        let had_space = self.has_space();
        self.send.release(ack);
        if !had_space && self.has_space() {
            self.events |= Events::SPACE;
        }
        if let Some(board) = self.board.get_mut() {
            board.advance(ack);
            if board.is_empty() {
                self.board.free();
            }
        }
    }

    /// A sample from a timestamp that came back.
    pub(super) fn sample_by_timestamp(&mut self, now: u64, echo: u32) {
        let age = self.ts_now(now).wrapping_sub(echo);
        if age <= OLDEST_ECHO_MS {
            self.rtt.sample(u64::from(age.max(1)) * config::MILLISECOND, &self.config);
        }
    }

    /// RFC 6298 5.2, 5.3.
    fn restart_timer(&mut self, now: u64) {
        if self.snd.una == self.snd.nxt {
            if self.timer != Timer::Persist {
                self.timer = Timer::Idle;
                self.timer_at = NEVER;
            }
        } else {
            self.arm(now);
        }
    }
}
