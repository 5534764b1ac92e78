//! Capture files: reading pcap and pcapng (plain or gzip), writing pcap.
//!
//! [`CaptureReader`] names frames by their place in a window of the file instead of handing out copies;
//! [`CaptureWriter`] writes what is forwarded. What a reader cannot use is counted in [`Skipped`] and
//! explained once by [`CaptureReader::warning`]; it never ends the program.
//!
//! Formats: the classic layout (`draft-ietf-opsawg-pcap`) and pcapng (`draft-ietf-opsawg-pcapng`).

mod link;
mod pcap;
mod pcapng;
mod reader;
mod source;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use link::{SYNTH_DST_MAC, SYNTH_SRC_MAC};
pub use reader::CaptureReader;
pub(in crate::io) use reader::Sink;
pub use writer::{CaptureWriter, Precision, SNAPLEN};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Largest captured length of one frame, in bytes. The same as libpcap's upper limit for a snap length; a
/// record that claims more is taken for corruption.
pub const MAX_FRAME: usize = 262_144;

/// Largest pcapng block that is looked into, in bytes: a frame of [`MAX_FRAME`] with ample options. A larger
/// block is passed over (counted, when it carried a packet).
pub const MAX_BLOCK: usize = 384 * 1024;

/// How a capture is held in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preload {
    /// The whole (decompressed) file is read at opening; nothing is parsed. Readers made with
    /// [`CaptureReader::duplicate`] share the bytes.
    Whole,
    /// A window of half a mebibyte moves over the file.
    Streaming,
}

/// One frame: where its bytes lie in [`CaptureReader::bytes`], until the next refill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameRef {
    /// Capture time in nanoseconds since 1970, plus the reader's time offset.
    pub ts_ns: u64,
    /// Index of the first byte of the Ethernet header.
    pub off: usize,
    /// Bytes present.
    pub cap_len: u32,
    /// Bytes the frame had on the wire; never less than `cap_len`.
    pub wire_len: u32,
}

/// The answer of [`CaptureReader::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next frame.
    Frame(FrameRef),
    /// Finish with the frames in hand, call [`CaptureReader::refill`], ask again.
    NeedRefill,
    /// There are no more frames.
    End,
}

/// The answer of [`CaptureReader::peek`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// A frame with this time stamp (ns) is next; [`CaptureReader::take`] gives it.
    Frame(u64),
    /// As [`Next::NeedRefill`].
    NeedRefill,
    /// As [`Next::End`].
    End,
}

/// What was passed over while reading, by reason. Each counts records or blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// The file ends inside this record or block.
    pub truncated: u64,
    /// A frame longer than [`MAX_FRAME`] or a packet block longer than [`MAX_BLOCK`].
    pub oversized: u64,
    /// A pcapng block whose lengths contradict each other, or of an unknown section version.
    pub corrupt_block: u64,
    /// A frame of a pcapng interface whose link type is not supported.
    pub unsupported_link: u64,
    /// A frame of a pcapng interface that was never described.
    pub unknown_interface: u64,
    /// A frame shorter than the header of its link type (raw IP, cooked, null).
    pub short_link_header: u64,
    /// The file could not be read further, or its gzip stream is cut or corrupt.
    pub read_error: u64,
}

impl Skipped {
    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.truncated
            + self.oversized
            + self.corrupt_block
            + self.unsupported_link
            + self.unknown_interface
            + self.short_link_header
            + self.read_error
    }
}

/// Why a capture cannot be opened.
#[derive(Debug)]
pub enum CaptureError {
    /// The file is missing or cannot be read.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// The file has no bytes.
    Empty(PathBuf),
    /// The file does not begin like a pcap or pcapng file.
    NotACapture(PathBuf),
    /// The file ends inside its header.
    CutHeader(PathBuf),
    /// A kind of capture file that is recognised but not read.
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// Its kind.
        what: &'static str,
    },
    /// The link type of the frames is not supported.
    UnsupportedLink {
        /// The file.
        path: PathBuf,
        /// The LINKTYPE_ number.
        linktype: u32,
        /// Its name, or `"unknown"`.
        name: &'static str,
    },
    /// The gzip stream gives no byte.
    Gzip {
        /// The file.
        path: PathBuf,
        /// The decoder's answer.
        error: io::Error,
    },
    /// Not enough memory for the file or its window.
    OutOfMemory(PathBuf),
    /// A replay was asked for with no input or more than 256.
    InputCount(usize),
}

impl CaptureError {
    fn io(path: &Path, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::OutOfMemory {
            return Self::OutOfMemory(path.to_owned());
        }
        Self::Io { path: path.to_owned(), error }
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Empty(path) => write!(f, "{}: the file is empty", path.display()),
            Self::NotACapture(path) => {
                write!(f, "{}: not a capture file (expected pcap or pcapng, plain or gzip)", path.display())
            }
            Self::CutHeader(path) => write!(f, "{}: the file ends inside its header", path.display()),
            Self::UnsupportedFormat { path, what } => {
                write!(f, "{}: {what} is not supported (expected pcap or pcapng)", path.display())
            }
            Self::UnsupportedLink { path, linktype, name } => write!(
                f,
                "{}: link type {linktype} ({name}) is not supported \
                 (expected Ethernet, raw IP, Linux cooked or null)",
                path.display()
            ),
            Self::Gzip { path, error } => {
                write!(f, "{}: the gzip stream cannot be read: {error}", path.display())
            }
            Self::OutOfMemory(path) => write!(f, "{}: not enough memory to hold the capture", path.display()),
            Self::InputCount(n) => write!(f, "a replay takes 1 to 256 capture files, not {n}"),
        }
    }
}

impl std::error::Error for CaptureError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } | Self::Gzip { error, .. } => Some(error),
            _ => None,
        }
    }
}
