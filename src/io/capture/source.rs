//! Where a reader's bytes come from: a plain or gzip file, told apart by its first bytes, never by its name.

use super::CaptureError;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An open file, decompressed on the way.
pub(super) struct Source {
    pub(super) stream: Box<dyn Read + Send>,
    /// Bytes read from the file so far (before decompression).
    pub(super) consumed: Arc<AtomicU64>,
    /// Length of the file; 0 when it has none (a pipe).
    pub(super) file_len: u64,
    pub(super) gzip: bool,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, CaptureError> {
        let mut file = File::open(path).map_err(|e| CaptureError::io(path, e))?;
        let file_len = file.metadata().map_or(0, |m| m.len());
        let mut magic = [0; GZIP_MAGIC.len()];
        let n = read_full(&mut file, &mut magic).map_err(|(_, e)| CaptureError::io(path, e))?;
        if n == 0 {
            return Err(CaptureError::Empty(path.to_owned()));
        }
        let consumed = Arc::new(AtomicU64::new(n as u64));
        let counted = Counted { file, consumed: Arc::clone(&consumed) };
        let plain = Cursor::new(magic).take(n as u64).chain(counted);
        let gzip = magic == GZIP_MAGIC;
        let stream: Box<dyn Read + Send> =
            if gzip { Box::new(MultiGzDecoder::new(plain)) } else { Box::new(plain) };
        Ok(Self { stream, consumed, file_len, gzip })
    }
}

/// Reads until `buf` is full or the stream ends; gives the bytes read, with an error also those before it.
pub(super) fn read_full(from: &mut dyn Read, buf: &mut [u8]) -> Result<usize, (usize, io::Error)> {
    let mut n = 0;
    while n < buf.len() {
        match from.read(&mut buf[n..]) {
            Ok(0) => break,
            Ok(k) => n += k,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((n, e)),
        }
    }
    Ok(n)
}

struct Counted {
    file: File,
    consumed: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
