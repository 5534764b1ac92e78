//! Where forwarded packets go: a live device, a capture file, or memory (tests and Rust programs that look at what leaves).

use super::capture::CaptureWriter;
use parking_lot::Mutex;
use std::sync::Arc;

/// Frames with the time they left, in nanoseconds.
pub type Frames = Arc<Mutex<Vec<(u64, Vec<u8>)>>>;

/// A capture file that several cores write. What a core wrote is in the file when it lets go, whoever still holds it.
#[derive(Clone)]
pub struct SharedFile(Arc<Mutex<CaptureWriter>>);

impl SharedFile {
    /// The file, shared by the clones of what is returned.
    pub fn new(writer: CaptureWriter) -> Self {
        SharedFile(Arc::new(Mutex::new(writer)))
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        // The first failure to write was told to whoever sent; later frames are counted.
        let _ = self.0.lock().flush();
    }
}

/// One output; contexts of several cores share a file or a list.
#[derive(Clone)]
pub enum Output {
    /// A capture file.
    File(SharedFile),
    /// A list in memory.
    Memory(Frames),
    /// The core's live device of this number (its place in [`super::live::Live`]).
    Device(u8),
}

impl Output {
    /// Sends a frame; `false` when the output took it not.
    pub fn send(&self, now_ns: u64, frame: &[u8]) -> bool {
        match self {
            Output::File(file) => file.0.lock().write(now_ns, frame).is_ok(),
            Output::Memory(frames) => {
                let mut frames = frames.lock();
                frames.try_reserve(1).is_ok() && {
                    frames.push((now_ns, frame.to_vec()));
                    true
                }
            }
            // Only its source can reach it.
            Output::Device(_) => false,
        }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Output::File(_) => "File",
            Output::Memory(_) => "Memory",
            Output::Device(_) => "Device",
        })
    }
}
