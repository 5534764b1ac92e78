//! The congestion window: what both algorithms share (RFC 5681), and the choice between them.
//!
//! How much is in flight and when something counts as lost is decided elsewhere (`recovery.rs`); here is what follows.

use super::config::{Algorithm, Config};
use super::cubic::Cubic;

/// Window and threshold, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Congestion {
    /// Congestion window.
    pub cwnd: u32,
    /// Above it, slow start ends.
    pub ssthresh: u32,
    /// Acknowledged bytes that have not moved the window yet (RFC 3465 2.1).
    counted: u32,
    algorithm: Choice,
}

#[derive(Clone, Copy, Debug)]
enum Choice {
    NewReno,
    Cubic(Cubic),
}

/// Most segments by which one acknowledgment opens the window in slow start. RFC 5681 says one, with receivers that
/// acknowledge every second segment; one that answers bursts with a single acknowledgment needs more (RFC 9406 4.2: 8).
const SLOW_START_LIMIT: u32 = 8;

impl Congestion {
    /// Before the handshake is over: one segment.
    pub fn new(config: &Config) -> Self {
        let algorithm = match config.congestion {
            Algorithm::NewReno => Choice::NewReno,
            Algorithm::Cubic => Choice::Cubic(Cubic::default()),
        };
        Congestion { cwnd: 1, ssthresh: u32::MAX, counted: 0, algorithm }
    }

    /// The initial window (RFC 6928 2); one segment if a SYN or SYN/ACK was lost (RFC 5681 3.1).
    pub fn begin(&mut self, config: &Config, mss: u32, syn_lost: bool) {
        self.cwnd = if syn_lost { mss } else { Self::initial(config, mss) };
    }

    fn initial(config: &Config, mss: u32) -> u32 {
        config.initial_window.saturating_mul(mss).min(14_600.max(2 * mss)).max(mss)
    }

    /// `bytes` more were acknowledged while the window was what held the sender back. `rtt` is the smoothed round-trip time.
    pub fn acked(&mut self, bytes: u32, mss: u32, now: u64, rtt: u64) {
        let mut bytes = bytes;
        if self.cwnd < self.ssthresh {
            // RFC 5681 3.1, slow start.
            let grow = bytes.min(SLOW_START_LIMIT * mss).min(self.ssthresh - self.cwnd);
            self.cwnd = self.cwnd.saturating_add(grow);
            bytes = bytes.min(SLOW_START_LIMIT * mss) - grow;
            if bytes == 0 {
                return;
            }
        }
        match &mut self.algorithm {
            Choice::Cubic(cubic) => self.cwnd = cubic.acked(self.cwnd, bytes, mss, now, rtt),
            Choice::NewReno => {
                // RFC 5681 3.1, congestion avoidance: a segment per window, by bytes (RFC 3465 2.1).
                self.counted = self.counted.saturating_add(bytes);
                if self.counted >= self.cwnd {
                    self.counted -= self.cwnd;
                    self.cwnd = self.cwnd.saturating_add(mss);
                }
            }
        }
    }

    /// A loss was detected with `flight` bytes in flight: the threshold, not yet the window.
    pub fn lost(&mut self, flight: u32, mss: u32) {
        self.counted = 0;
        self.ssthresh = match &mut self.algorithm {
            // RFC 5681 (4).
            Choice::NewReno => (flight / 2).max(2 * mss),
            Choice::Cubic(cubic) => {
                cubic.lost(self.cwnd, mss);
                Cubic::reduced(flight).max(2 * mss)
            }
        };
    }

    /// The retransmission timer ran out, for the first time for this data if `first` (RFC 5681 (4) and 3.1).
    pub fn timed_out(&mut self, flight: u32, mss: u32, first: bool) {
        if first {
            self.lost(flight, mss);
        }
        if let Choice::Cubic(cubic) = &mut self.algorithm {
            cubic.timed_out();
        }
        self.cwnd = mss;
    }

    /// Recovery is over: congestion avoidance begins.
    pub fn recovered(&mut self, cwnd: u32) {
        self.cwnd = cwnd;
        if let Choice::Cubic(cubic) = &mut self.algorithm {
            cubic.restart();
        }
    }

    /// Nothing was sent for a time-out or longer (RFC 5681 4.1).
    pub fn idle(&mut self, config: &Config, mss: u32) {
        self.cwnd = self.cwnd.min(Self::initial(config, mss));
        self.limited_by_application();
    }

    /// The window was not used: it says nothing about the path, and CUBIC's clock stands (RFC 9438 5.8).
    pub fn limited_by_application(&mut self) {
        if let Choice::Cubic(cubic) = &mut self.algorithm {
            cubic.restart();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newreno() -> Congestion {
        let config = Config { congestion: Algorithm::NewReno, ..Config::default() };
        let mut c = Congestion::new(&config);
        c.begin(&config, 1000, false);
        c
    }

    #[test]
    fn initial_windows() {
        let config = Config::default();
        let mut c = Congestion::new(&config);
        for (mss, cwnd) in [(1460, 14_600), (536, 5360), (9000, 18_000), (100, 1000)] {
            c.begin(&config, mss, false);
            assert_eq!(c.cwnd, cwnd, "{mss}");
        }
        c.begin(&config, 1460, true);
        assert_eq!(c.cwnd, 1460);
    }

    #[test]
    fn newreno_doubles_then_adds_a_segment_per_window() {
        let mut c = newreno();
        for _ in 0..5 {
            c.acked(2000, 1000, 0, 1);
        }
        assert_eq!(c.cwnd, 20_000);
        c.lost(20_000, 1000);
        c.recovered(c.ssthresh);
        assert_eq!(c.cwnd, 10_000);
        for _ in 0..9 {
            c.acked(1000, 1000, 0, 1);
        }
        assert_eq!(c.cwnd, 10_000);
        c.acked(1000, 1000, 0, 1);
        assert_eq!(c.cwnd, 11_000);
    }

    #[test]
    fn a_time_out_halves_once_and_begins_with_a_segment() {
        let mut c = newreno();
        c.timed_out(8000, 1000, true);
        assert_eq!((c.cwnd, c.ssthresh), (1000, 4000));
        c.timed_out(1000, 1000, false);
        assert_eq!((c.cwnd, c.ssthresh), (1000, 4000));
        c.lost(100, 1000);
        assert_eq!(c.ssthresh, 2000);
    }

    #[test]
    fn idleness_closes_the_window() {
        let mut c = newreno();
        c.cwnd = 90_000;
        c.idle(&Config::default(), 1000);
        assert_eq!(c.cwnd, 10_000);
        c.cwnd = 3000;
        c.idle(&Config::default(), 1000);
        assert_eq!(c.cwnd, 3000);
    }
}
