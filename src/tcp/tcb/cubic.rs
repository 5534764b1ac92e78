//! CUBIC's window in congestion avoidance (RFC 9438).
//!
//! The curve is in segments and seconds, as in the RFC, the window itself in bytes.

/// C (5.1), segments per second cubed.
const C: f32 = 0.4;
/// β_cubic (4.6).
const BETA: f32 = 0.7;
/// α_cubic (4.3): as fast as Reno with a decrease of β.
const ALPHA: f32 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The curve.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cubic {
    /// W_max: where the window was reduced last, segments.
    w_max: f32,
    /// K: seconds until the curve is back there.
    k: f32,
    /// W_est: what Reno would have, segments.
    w_est: f32,
    /// cwnd_prior, segments.
    prior: f32,
    /// Growth smaller than a byte so far.
    rest: f32,
    /// When this congestion avoidance stage began, µs plus one; 0: with the next acknowledgment.
    epoch: u64,
    /// After a time-out the stage begins at its own plateau (4.8).
    flat: bool,
}

impl Cubic {
    /// The threshold after a loss with `flight` bytes in flight (4.6).
    pub fn reduced(flight: u32) -> u32 {
        (u64::from(flight) * 7 / 10) as u32
    }

    /// A loss at window `cwnd` (4.6), with fast convergence (4.7).
    pub fn lost(&mut self, cwnd: u32, mss: u32) {
        let cwnd = cwnd as f32 / mss as f32;
        self.prior = cwnd;
        self.w_max = if cwnd < self.w_max { cwnd * (1.0 + BETA) / 2.0 } else { cwnd };
        self.epoch = 0;
    }

    /// The retransmission timer ran out (4.8).
    pub fn timed_out(&mut self) {
        self.epoch = 0;
        self.flat = true;
    }

    /// A new stage begins with the next acknowledgment.
    pub fn restart(&mut self) {
        self.epoch = 0;
    }

    /// `bytes` were acknowledged in congestion avoidance; the new window.
    pub fn acked(&mut self, cwnd: u32, bytes: u32, mss: u32, now: u64, rtt: u64) -> u32 {
        let segments = cwnd as f32 / mss as f32;
        let acked = bytes as f32 / mss as f32;
        if self.epoch == 0 {
            self.epoch = now + 1;
            self.w_est = segments;
            self.rest = 0.0;
            if std::mem::take(&mut self.flat) || self.w_max <= segments {
                self.w_max = segments;
                self.k = 0.0;
            } else {
                // (2)
                self.k = ((self.w_max - segments) / C).cbrt();
            }
        }
        let t = (now + 1).saturating_sub(self.epoch) as f32 / 1e6;
        // 4.3
        let alpha = if self.w_est >= self.prior { 1.0 } else { ALPHA };
        self.w_est += alpha * acked / segments;
        let grown = if self.at(t) < self.w_est {
            self.w_est.max(segments)
        } else {
            // 4.4, 4.5: towards where the curve will be in a round-trip time, at most half more.
            let target = self.at(t + rtt as f32 / 1e6).clamp(segments, 1.5 * segments);
            segments + (target - segments) / segments * acked
        };
        let growth = (grown - segments) * mss as f32 + self.rest;
        self.rest = growth.fract();
        cwnd.saturating_add(growth as u32).min(1 << 30)
    }

    /// (1): W_cubic(t).
    fn at(&self, t: f32) -> f32 {
        C * (t - self.k).powi(3) + self.w_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    /// Runs a stage with one acknowledgment per segment and round-trip time `rtt` (µs) for `rounds`.
    fn run(cubic: &mut Cubic, mut cwnd: u32, rtt: u64, rounds: u64) -> Vec<u32> {
        (0..rounds)
            .map(|round| {
                let segments = cwnd / MSS;
                for i in 0..segments {
                    let now = round * rtt + u64::from(i) * rtt / u64::from(segments);
                    cwnd = cubic.acked(cwnd, MSS, MSS, now, rtt);
                }
                cwnd
            })
            .collect()
    }

    #[test]
    fn concave_to_the_plateau_then_convex() {
        let mut cubic = Cubic::default();
        cubic.lost(1_000_000, MSS);
        // K = cbrt(300 / 0.4) = 9.09 s: 91 rounds of 100 ms.
        let windows = run(&mut cubic, 700_000, 100_000, 150);
        assert!((cubic.k - 9.086).abs() < 0.01);
        let growth = |round: usize| windows[round] - windows[round - 1];
        assert!(growth(5) > growth(30) && growth(30) > growth(80), "concave");
        assert!(windows[90].abs_diff(1_000_000) < 15_000, "{}", windows[90]);
        assert!(growth(140) > growth(110) && growth(110) > growth(100), "convex");
    }

    #[test]
    fn as_fast_as_reno_on_a_short_path() {
        let mut cubic = Cubic::default();
        cubic.lost(20_000, MSS);
        let windows = run(&mut cubic, 14_000, 1_000, 100);
        // 0.53 segments a round until the window is back at 20, then one a round.
        assert!(windows[99] > 90_000 && windows[99] < 120_000, "{}", windows[99]);
    }

    #[test]
    fn fast_convergence_gives_way() {
        let mut cubic = Cubic::default();
        cubic.lost(100 * MSS, MSS);
        assert_eq!(cubic.w_max, 100.0);
        cubic.lost(80 * MSS, MSS);
        assert!((cubic.w_max - 68.0).abs() < 0.01);
        assert_eq!(Cubic::reduced(1000), 700);
    }

    #[test]
    fn after_a_time_out_the_curve_begins_flat() {
        let mut cubic = Cubic::default();
        cubic.lost(100 * MSS, MSS);
        cubic.timed_out();
        cubic.acked(50 * MSS, MSS, MSS, 5, 10);
        assert_eq!((cubic.k, cubic.w_max), (0.0, 50.0));
    }
}
