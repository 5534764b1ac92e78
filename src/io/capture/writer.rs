//! Writing a classic pcap file of Ethernet frames.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The snap length in the file's header; longer frames are cut to it.
pub const SNAPLEN: u32 = 262_144;

const BUFFER: usize = 256 * 1024;
const LINKTYPE_ETHERNET: u32 = 1;

/// Resolution of the time stamps written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The ordinary format.
    #[default]
    Micro,
    /// The format with the nanosecond magic number.
    Nano,
}

/// Writes frames to a pcap file (little-endian, version 2.4, Ethernet).
pub struct CaptureWriter {
    out: BufWriter<File>,
    precision: Precision,
    failed: bool,
    lost: u64,
}

impl CaptureWriter {
    /// Creates the file, or empties it, and writes its header; microseconds.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::create_with(path, Precision::Micro)
    }

    /// As [`CaptureWriter::create`], with a choice of the resolution.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create_with(path: impl AsRef<Path>, precision: Precision) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(BUFFER, File::create(path)?);
        let magic: u32 = match precision {
            Precision::Micro => 0xa1b2_c3d4,
            Precision::Nano => 0xa1b2_3c4d,
        };
        out.write_all(&magic.to_le_bytes())?;
        out.write_all(&2u16.to_le_bytes())?;
        out.write_all(&4u16.to_le_bytes())?;
        out.write_all(&[0; 8])?; // time zone and accuracy, always 0
        out.write_all(&SNAPLEN.to_le_bytes())?;
        out.write_all(&LINKTYPE_ETHERNET.to_le_bytes())?;
        // A full disk or a bad place shows here, not after the run.
        out.flush()?;
        Ok(Self { out, precision, failed: false, lost: 0 })
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// The first failure to write is returned; from then on frames are only counted in
    /// [`CaptureWriter::lost`].
    pub fn write(&mut self, ts_ns: u64, frame: &[u8]) -> io::Result<()> {
        self.write_cut(ts_ns, frame, frame.len().try_into().unwrap_or(u32::MAX))
    }

    /// Writes a frame that had `wire_len` bytes, of which `frame` is what is left.
    ///
    /// # Errors
    /// As [`CaptureWriter::write`].
    pub fn write_cut(&mut self, ts_ns: u64, frame: &[u8], wire_len: u32) -> io::Result<()> {
        if self.failed {
            self.lost += 1;
            return Ok(());
        }
        let frame = &frame[..frame.len().min(SNAPLEN as usize)];
        let cap_len = frame.len() as u32;
        let unit = match self.precision {
            Precision::Micro => 1_000,
            Precision::Nano => 1,
        };
        // The format ends in the year 2106.
        let seconds = u32::try_from(ts_ns / 1_000_000_000).unwrap_or(u32::MAX);
        let fraction = (ts_ns % 1_000_000_000 / unit) as u32;
        let mut header = [0; 16];
        header[..4].copy_from_slice(&seconds.to_le_bytes());
        header[4..8].copy_from_slice(&fraction.to_le_bytes());
        header[8..12].copy_from_slice(&cap_len.to_le_bytes());
        header[12..].copy_from_slice(&wire_len.max(cap_len).to_le_bytes());
        let result = self.out.write_all(&header).and_then(|()| self.out.write_all(frame));
        self.once(result, 1)
    }

    /// Hands everything written so far to the system. Dropping the writer does so too, silently.
    ///
    /// # Errors
    /// As [`CaptureWriter::write`].
    pub fn flush(&mut self) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        let result = self.out.flush();
        self.once(result, 0)
    }

    /// Frames that were not written because of an error.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    #[cfg(test)]
    pub(super) fn failing(file: File) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER, file),
            precision: Precision::Micro,
            failed: false,
            lost: 0,
        }
    }

    fn once(&mut self, result: io::Result<()>, frames: u64) -> io::Result<()> {
        if result.is_err() {
            self.failed = true;
            self.lost += frames;
        }
        result
    }
}
