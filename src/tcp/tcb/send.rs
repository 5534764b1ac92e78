//! The send buffer: bytes written and not yet acknowledged.
//!
//! Offsets are those of the sequence space, counted from the initial sequence number: the SYN is at 0, the first byte at 1.

use super::segment::Payload;
use crate::tcp::store::{ByteStore, OutOfMemory};

/// Bytes by offset, with the limit on them.
#[derive(Debug)]
pub(super) struct SendBuffer {
    bytes: ByteStore,
    /// Offset of the first byte held.
    base: u64,
    /// Most bytes held.
    pub limit: u32,
    /// A write found less room than it wanted.
    pub refused: bool,
}

impl SendBuffer {
    pub fn new(limit: u32) -> Self {
        SendBuffer { bytes: ByteStore::new(), base: 1, limit: limit.max(1), refused: false }
    }

    /// Begins at another offset: everything before it was written and acknowledged.
    pub fn begin_at(&mut self, offset: u64) {
        self.base = offset;
    }

    /// Offset after the last byte written: where a FIN would be.
    #[inline]
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that may be added.
    pub fn room(&self) -> usize {
        (self.limit as usize).saturating_sub(self.bytes.len())
    }

    /// Adds what fits; how many bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, OutOfMemory> {
        let taken = bytes.len().min(self.room());
        if taken < bytes.len() {
            self.refused = true;
        }
        if taken > 0 {
            self.bytes.push(&bytes[..taken])?;
        }
        Ok(taken)
    }

    /// Everything below `offset` is acknowledged.
    pub fn release(&mut self, offset: u64) {
        let count = offset.min(self.end()).saturating_sub(self.base);
        if count > 0 {
            self.bytes.pop_front(count as usize);
            self.base += count;
            self.bytes.trim();
        }
    }

    /// The `len` bytes at `offset`, all of them held.
    pub fn payload(&self, offset: u64, len: usize) -> Payload<'_> {
        Payload { store: Some(&self.bytes), at: offset.saturating_sub(self.base) as usize, len }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.base = self.end();
        self.bytes.free();
    }

    /// Memory behind the buffer.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.allocated_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_fits_and_gives_memory_back() {
        let mut buffer = SendBuffer::new(10);
        assert_eq!(buffer.write(b"0123456"), Ok(7));
        assert!(!buffer.refused);
        assert_eq!(buffer.write(b"789ab"), Ok(3));
        assert!(buffer.refused);
        assert_eq!((buffer.end(), buffer.room()), (11, 0));
        buffer.release(4);
        let mut out = [0; 4];
        assert_eq!(buffer.payload(5, 4).copy_to(&mut out), 4);
        assert_eq!(&out, b"4567");
        buffer.release(3);
        buffer.release(100);
        assert_eq!((buffer.len(), buffer.end(), buffer.allocated_bytes()), (0, 11, 0));
    }
}
