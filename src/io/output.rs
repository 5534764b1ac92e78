//! Where forwarded packets go: a capture file, or memory (tests and Rust programs that look at what leaves).

use super::capture::CaptureWriter;
use parking_lot::Mutex;
use std::sync::Arc;

/// Frames with the time they left, in nanoseconds.
pub type Frames = Arc<Mutex<Vec<(u64, Vec<u8>)>>>;

/// One output; contexts of several cores share it.
#[derive(Clone)]
pub enum Output {
    /// A capture file.
    File(Arc<Mutex<CaptureWriter>>),
    /// A list in memory.
    Memory(Frames),
}

impl Output {
    /// Sends a frame; `false` when the output took it not.
    pub fn send(&self, now_ns: u64, frame: &[u8]) -> bool {
        match self {
            Output::File(writer) => writer.lock().write(now_ns, frame).is_ok(),
            Output::Memory(frames) => {
                let mut frames = frames.lock();
                frames.try_reserve(1).is_ok() && {
                    frames.push((now_ns, frame.to_vec()));
                    true
                }
            }
        }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Output::File(_) => "File",
            Output::Memory(_) => "Memory",
        })
    }
}
