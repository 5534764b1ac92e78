//! The retransmission time-out (RFC 6298).

use super::config::{Config, MILLISECOND, SECOND};

/// Clock granularity G: timestamps count milliseconds.
const GRANULARITY: u32 = MILLISECOND as u32;

/// Round-trip time as measured, and the time-out that follows. Microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    /// Smoothed round-trip time; 0 before the first sample.
    srtt: u32,
    /// Its variation.
    rttvar: u32,
    /// The time-out before back-off.
    rto: u32,
    /// How often it was doubled since.
    shift: u8,
}

impl Rtt {
    /// Nothing measured (2.1).
    pub fn new(config: &Config) -> Self {
        Rtt { srtt: 0, rttvar: 0, rto: config.rto_initial.min(u64::from(u32::MAX)) as u32, shift: 0 }
    }

    /// Takes a measurement of a segment that was sent once (3, Karn), or by timestamps (RFC 7323 4). Ends back-off.
    pub fn sample(&mut self, rtt: u64, config: &Config) {
        let r = rtt.clamp(1, config.rto_max) as u32;
        if self.srtt == 0 {
            // (2.2)
            self.srtt = r;
            self.rttvar = r / 2;
        } else {
            // (2.3): beta 1/4, alpha 1/8.
            self.rttvar = self.rttvar - self.rttvar / 4 + self.srtt.abs_diff(r) / 4;
            self.srtt = self.srtt - self.srtt / 8 + r / 8;
        }
        self.srtt = self.srtt.max(1);
        let rto = u64::from(self.srtt) + 4 * u64::from(self.rttvar.max(GRANULARITY / 4));
        // (2.4), (2.5)
        self.rto =
            rto.clamp(config.rto_min, config.rto_max.max(config.rto_min)).min(u64::from(u32::MAX)) as u32;
        self.shift = 0;
    }

    /// The time-out in force.
    pub fn rto(&self, config: &Config) -> u64 {
        (u64::from(self.rto) << self.shift).min(config.rto_max.max(config.rto_min))
    }

    /// The timer ran out: the next wait is twice as long (5.5).
    pub fn back_off(&mut self) {
        self.shift = (self.shift + 1).min(16);
    }

    /// Ends back-off without a measurement.
    pub fn settle(&mut self) {
        self.shift = 0;
    }

    /// A SYN had to be sent again: data begins with at least 3 s (5.7), unless the path was measured.
    pub fn after_lost_syn(&mut self) {
        if self.srtt == 0 {
            self.rto = self.rto.max(3 * SECOND as u32);
            self.shift = 0;
        }
    }

    /// Smoothed round-trip time; 0 when nothing was measured.
    pub fn srtt(&self) -> u64 {
        u64::from(self.srtt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_samples() {
        let config = Config { rto_min: 1, ..Config::default() };
        let mut rtt = Rtt::new(&config);
        assert_eq!(rtt.rto(&config), SECOND);
        rtt.sample(100_000, &config);
        assert_eq!((rtt.srtt(), rtt.rto(&config)), (100_000, 300_000));
        rtt.sample(100_000, &config);
        assert_eq!((rtt.srtt(), rtt.rto(&config)), (100_000, 100_000 + 4 * 37_500));
        rtt.sample(180_000, &config);
        assert_eq!(rtt.srtt(), 110_000);
    }

    #[test]
    fn floor_ceiling_and_back_off() {
        let config = Config::default();
        let mut rtt = Rtt::new(&config);
        rtt.sample(100, &config);
        assert_eq!(rtt.rto(&config), 200_000);
        rtt.back_off();
        rtt.back_off();
        assert_eq!(rtt.rto(&config), 800_000);
        for _ in 0..300 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(&config), 60 * SECOND);
        rtt.sample(100, &config);
        assert_eq!(rtt.rto(&config), 200_000);
        rtt.sample(u64::MAX, &config);
        assert_eq!(rtt.rto(&config), 60 * SECOND);
    }

    #[test]
    fn a_lost_syn_makes_data_patient() {
        let config = Config::default();
        let mut rtt = Rtt::new(&config);
        rtt.back_off();
        rtt.after_lost_syn();
        assert_eq!(rtt.rto(&config), 3 * SECOND);
        rtt.sample(10_000, &config);
        rtt.after_lost_syn();
        assert_eq!(rtt.rto(&config), 200_000);
    }
}
