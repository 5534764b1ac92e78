//! A progress line for long replays: bytes done, packets per second, time remaining.
//!
//! It appears on standard error, when that is a terminal and the replay has taken longer than a second, and is
//! wiped at the end. [`Progress::update`] may be called for every batch: it looks at the clock seldom.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Before this nothing is shown.
const FIRST_AFTER: Duration = Duration::from_secs(1);
/// Between two lines.
const EVERY: Duration = Duration::from_millis(300);
/// Updates between two looks at the clock.
const CALLS_PER_LOOK: u32 = 64;

/// The line and when it was last written.
pub struct Progress {
    /// `None`: nothing is ever shown.
    out: Option<Box<dyn Write + Send>>,
    start: Instant,
    last: Option<Instant>,
    calls: u32,
}

impl Progress {
    /// Progress on standard error; silent when that is not a terminal.
    pub fn on_stderr() -> Self {
        let stderr = io::stderr();
        Self::on(if stderr.is_terminal() { Some(Box::new(stderr)) } else { None })
    }

    fn on(out: Option<Box<dyn Write + Send>>) -> Self {
        Self { out, start: Instant::now(), last: None, calls: 0 }
    }

    /// Reports bytes done and in total (0: not known) and packets so far.
    #[inline]
    pub fn update(&mut self, bytes: (u64, u64), packets: u64) {
        if self.out.is_none() {
            return;
        }
        self.calls += 1;
        if self.calls >= CALLS_PER_LOOK {
            self.calls = 0;
            self.update_at(Instant::now(), bytes, packets);
        }
    }

    fn update_at(&mut self, now: Instant, bytes: (u64, u64), packets: u64) {
        let Some(out) = &mut self.out else { return };
        let elapsed = now.saturating_duration_since(self.start);
        let due = match self.last {
            None => elapsed >= FIRST_AFTER,
            Some(last) => now.saturating_duration_since(last) >= EVERY,
        };
        if !due {
            return;
        }
        self.last = Some(now);
        // Back to the margin, and wipe what an earlier, longer line left.
        if write!(out, "\r{}\x1b[K", line(elapsed, bytes, packets)).and_then(|()| out.flush()).is_err() {
            self.out = None;
        }
    }

    /// Wipes the line.
    pub fn finish(&mut self) {
        if let (Some(out), Some(_)) = (&mut self.out, self.last) {
            // The terminal may be gone; there is nobody to tell.
            let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
        }
        self.out = None;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn line(elapsed: Duration, (done, total): (u64, u64), packets: u64) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let rate = scaled(packets as f64 / seconds);
    if total == 0 {
        return format!("replay: {}packets, {rate}packets/s", scaled(packets as f64));
    }
    let part = (done as f64 / total as f64).min(1.0);
    let remaining = if part > 0.0 { clock(seconds * (1.0 - part) / part) } else { "unknown time".to_owned() };
    format!(
        "replay: {:3.0} %  {}B of {}B  {rate}packets/s  {remaining} left",
        part * 100.0,
        scaled(done as f64),
        scaled(total as f64),
    )
}

/// Three digits and a decimal prefix.
fn scaled(value: f64) -> String {
    let (mut value, mut prefix) = (value, "");
    for next in ["k", "M", "G", "T"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        prefix = next;
    }
    let digits = if prefix.is_empty() || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$} {prefix}")
}

/// Minutes and seconds, with hours when there are any.
fn clock(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn nothing_in_the_first_second_then_seldom_and_wiped() {
        let screen = Screen::default();
        let mut progress = Progress::on(Some(Box::new(screen.clone())));
        let start = progress.start;
        progress.update_at(start + Duration::from_millis(999), (1, 2), 1);
        assert_eq!(screen.text(), "");
        progress.update_at(start + Duration::from_millis(1000), (500, 2_000_000), 3_400_000);
        progress.update_at(start + Duration::from_millis(1299), (1000, 2_000_000), 5_000_000);
        assert_eq!(screen.text().matches('\r').count(), 1);
        progress.update_at(start + Duration::from_millis(1300), (1_000_000, 2_000_000), 4_420_000);
        assert_eq!(screen.text().matches('\r').count(), 2);
        assert!(
            screen.text().contains("replay:  50 %  1.0 MB of 2.0 MB  3.4 Mpackets/s  0:01 left"),
            "{}",
            screen.text()
        );
        drop(progress);
        assert!(screen.text().ends_with("\r\x1b[K"));
    }

    #[test]
    fn a_short_replay_leaves_no_trace() {
        let screen = Screen::default();
        let mut progress = Progress::on(Some(Box::new(screen.clone())));
        for n in 0..1000 {
            progress.update((n, 1000), n);
        }
        progress.finish();
        assert_eq!(screen.text(), "");
    }

    #[test]
    fn unknown_total_and_long_times() {
        assert_eq!(line(Duration::from_secs(2), (0, 0), 2000), "replay: 2.0 kpackets, 1.0 kpackets/s");
        assert_eq!(clock(3725.2), "1:02:05");
        assert_eq!(scaled(999.0), "999 ");
        assert_eq!(scaled(999.6), "1.0 k");
        assert_eq!(scaled(123_456_789.0), "123 M");
    }
}
