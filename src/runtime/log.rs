//! Messages on stderr: `MOS_LOG` = off, error, warn (default), info or debug; rate-limited, never per packet.

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use std::sync::Once;
use std::time::{Duration, Instant};

/// Most messages a second; what is more is counted and summed up.
const MOST_PER_SECOND: u32 = 50;

/// As `eprintln!`, which panics when stderr takes nothing more (a full disk, a closed pipe).
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}
pub(super) use say;

struct Stderr {
    window: Mutex<Window>,
}

struct Window {
    since: Option<Instant>,
    printed: u32,
    held_back: u32,
}

static STDERR: Stderr = Stderr { window: Mutex::new(Window { since: None, printed: 0, held_back: 0 }) };
static ONCE: Once = Once::new();

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut w = self.window.lock();
        let now = Instant::now();
        if w.since.is_none_or(|s| now - s >= Duration::from_secs(1)) {
            if w.held_back > 0 {
                say!("libmos: {} more messages were held back", w.held_back);
            }
            *w = Window { since: Some(now), printed: 0, held_back: 0 };
        }
        if w.printed >= MOST_PER_SECOND {
            w.held_back += 1;
            return;
        }
        w.printed += 1;
        let level = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info => "",
            Level::Debug | Level::Trace => "debug: ",
        };
        say!("libmos: {level}{}", record.args());
    }

    fn flush(&self) {}
}

/// Installs the logger, once; a program that has its own `log` logger keeps it.
pub fn install() {
    ONCE.call_once(|| {
        let text = std::env::var("MOS_LOG").unwrap_or_default();
        let level = match text.as_str() {
            "off" => LevelFilter::Off,
            "error" => LevelFilter::Error,
            "" | "warn" => LevelFilter::Warn,
            "info" => LevelFilter::Info,
            "debug" => LevelFilter::Debug,
            _ => LevelFilter::Warn,
        };
        if log::set_logger(&STDERR).is_ok() {
            log::set_max_level(level);
        }
        if !matches!(text.as_str(), "" | "off" | "error" | "warn" | "info" | "debug") {
            log::warn!("MOS_LOG='{text}': expected off, error, warn, info or debug");
        }
    });
}
