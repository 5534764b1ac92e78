//! Every deadline of a connection.

use super::*;

impl Tcb {
    /// When [`Tcb::on_deadline`] is to be called, if ever; in the past: now. Changes with every other call.
    pub fn deadline(&self) -> Option<u64> {
        if self.state == State::Closed {
            return None;
        }
        let at =
            self.timer_at.min(self.ack_at).min(self.close_at).min(self.keepalive_at()).min(self.idle_at());
        Some(at).filter(|at| *at != NEVER)
    }

    /// When the next keep-alive probe is due, or their patience ends (RFC 9293 3.8.4). Not while data is in flight: its
    /// retransmissions probe.
    fn keepalive_at(&self) -> u64 {
        let applies = self.keepalive
            && self.is_synchronized()
            && self.state != State::TimeWait
            && !self.keepalive_due
            && self.snd.una == self.snd.nxt
            && self.timer == Timer::Idle;
        if !applies {
            return NEVER;
        }
        let probes = u64::from(self.keepalives).saturating_mul(self.config.keepalive_interval);
        self.heard_at.saturating_add(self.config.keepalive_idle).saturating_add(probes)
    }

    /// When the connection has been silent for too long.
    fn idle_at(&self) -> u64 {
        if self.config.idle == 0 || !self.is_synchronized() || self.state == State::TimeWait {
            return NEVER;
        }
        self.heard_at.saturating_add(self.config.idle)
    }

    /// Does what is due at `now`. Early calls do nothing.
    pub fn on_deadline(&mut self, now: u64) {
        if self.state == State::Closed {
            return;
        }
        if self.close_at <= now {
            // TIME_WAIT is over, or FIN_WAIT_2 with nobody waiting.
            return self.end(None);
        }
        if self.idle_at() <= now {
            return self.end_with_reset(Some(Cause::TimedOut));
        }
        if self.ack_at <= now {
            self.ack_at = NEVER;
            self.acks_due = self.acks_due.max(1);
        }
        if self.keepalive_at() <= now {
            if self.keepalives >= self.config.keepalive_probes {
                return self.end_with_reset(Some(self.soft.unwrap_or(Cause::TimedOut)));
            }
            self.keepalives += 1;
            self.keepalive_due = true;
        }
        if self.timer_at <= now {
            self.on_timer(now);
        }
    }

    /// The retransmission or the persist timer ran out, or it is time to probe the tail.
    fn on_timer(&mut self, now: u64) {
        if self.timer == Timer::Tail {
            return self.on_tail(now);
        }
        // R2 (RFC 9293 3.8.3): enough is enough. A soft ICMP error then tells why (RFC 1122 4.2.3.9).
        let most = match self.state {
            State::SynSent => self.config.syn_retries,
            State::SynRcvd => self.config.syn_ack_retries,
            _ if self.closed => self.config.orphan_retries.min(self.config.data_retries),
            _ => self.config.data_retries,
        };
        if self.retries >= most {
            let cause = Some(self.soft.unwrap_or(Cause::TimedOut));
            return match self.state {
                // Nobody has been told of it.
                State::SynRcvd if !self.active => self.end(None),
                _ if self.timer == Timer::Persist => self.end_with_reset(cause),
                _ => self.end(cause),
            };
        }
        self.retries = self.retries.saturating_add(1);
        // RFC 6298 5.5; RFC 9293 3.8.6.1: probes back off as well.
        self.rtt.back_off();
        self.timer_at = now.saturating_add(self.rtt.rto(&self.config));
        match self.timer {
            Timer::Persist => self.probe_due = true,
            _ if self.state == State::SynSent || self.state == State::SynRcvd => self.syn_due = true,
            _ => self.timed_out(),
        }
    }
}
