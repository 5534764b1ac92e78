//! The clock of live cores: the machine's time when the process first asked, and from there on monotonic, so that it neither
//! jumps nor differs between cores.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch.
pub fn now_ns() -> u64 {
    static START: OnceLock<(u64, Instant)> = OnceLock::new();
    let (real, start) = START.get_or_init(|| {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        (real, Instant::now())
    });
    real + start.elapsed().as_nanos() as u64
}
