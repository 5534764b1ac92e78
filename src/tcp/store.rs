//! The bytes one side of a flow keeps in order: a first-in first-out store of bytes.
//!
//! It knows nothing of stream offsets: position 0 is the oldest byte held. While it grows it is a plain vector that
//! is appended to; at its limit, where every segment evicts as many bytes as it brings, it is a ring, and nothing
//! is ever shifted for a segment. Memory follows the bytes held, within a quarter.

use std::collections::TryReserveError;
use std::fmt;

/// Memory for received bytes could not be obtained. Nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory for received bytes")
    }
}

impl std::error::Error for OutOfMemory {}

impl From<TryReserveError> for OutOfMemory {
    fn from(_: TryReserveError) -> Self {
        OutOfMemory
    }
}

/// The size to allocate for `needed` bytes: within the quarter that the memory budget allows, so that a growing
/// stream is copied a constant number of times.
pub(super) fn roomy(needed: usize) -> usize {
    needed + needed / 4
}

/// Whether `allocated` bytes are more than may stand behind `held` ones.
pub(super) fn wasteful(allocated: usize, held: usize) -> bool {
    allocated > roomy(held) + 32
}

/// Bytes in arrival order, oldest first.
#[derive(Debug, Default)]
pub struct ByteStore {
    /// Every slot of the ring. While the store only grows, all of them are in use and appending needs no clearing.
    slots: Vec<u8>,
    /// Slot of the oldest byte.
    start: u32,
    /// Bytes held.
    len: u32,
}

impl ByteStore {
    /// An empty store, without memory.
    pub const fn new() -> Self {
        ByteStore { slots: Vec::new(), start: 0, len: 0 }
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory behind the store.
    pub fn allocated_bytes(&self) -> usize {
        self.slots.capacity()
    }

    /// Makes sure that the next `more` bytes can be appended. The store then never needs more than `limit` slots
    /// (it is exceeded only where the bytes themselves exceed it).
    #[inline]
    pub fn try_reserve(&mut self, more: usize, limit: usize) -> Result<(), OutOfMemory> {
        let (start, len, slots) = (self.start as usize, self.len(), self.slots.len());
        let needed = len.checked_add(more).ok_or(OutOfMemory)?;
        let reach = if start + len == slots { self.slots.capacity() } else { slots };
        if needed <= reach { Ok(()) } else { self.grow(needed, limit) }
    }

    #[cold]
    fn grow(&mut self, needed: usize, limit: usize) -> Result<(), OutOfMemory> {
        if needed > u32::MAX as usize {
            return Err(OutOfMemory);
        }
        self.straighten();
        self.slots.try_reserve_exact(roomy(needed).min(limit.max(needed)) - self.len())?;
        Ok(())
    }

    /// Appends `bytes`, growing as [`ByteStore::try_reserve`] does.
    pub fn push(&mut self, bytes: &[u8], limit: usize) -> Result<(), OutOfMemory> {
        self.try_reserve(bytes.len(), limit)?;
        let (start, len) = (self.start as usize, self.len());
        let mut rest = bytes;
        let mut at = start + len;
        if at == self.slots.len() {
            // The newest byte is in the last slot: append new slots, as far as the memory at hand goes.
            let (appended, wrapped) = rest.split_at(rest.len().min(self.slots.capacity() - at));
            self.slots.extend_from_slice(appended);
            rest = wrapped;
            at = 0;
        } else if at > self.slots.len() {
            at -= self.slots.len();
        } else {
            let (first, wrapped) = rest.split_at(rest.len().min(self.slots.len() - at));
            self.slots[at..at + first.len()].copy_from_slice(first);
            rest = wrapped;
            at = 0;
        }
        if !rest.is_empty() {
            self.slots[at..at + rest.len()].copy_from_slice(rest);
        }
        self.len += bytes.len() as u32;
        Ok(())
    }

    /// Appends `bytes`, first letting as many of the oldest bytes go as needed to hold no more than `limit` (or `bytes` alone).
    /// After an error nothing has changed.
    #[inline]
    pub fn slide(&mut self, bytes: &[u8], limit: usize) -> Result<(), OutOfMemory> {
        let excess = (self.len() + bytes.len()).saturating_sub(limit);
        if excess > 0 {
            // Before anything is lost: a store that has not reached its limit yet may have to grow.
            self.try_reserve(bytes.len().saturating_sub(excess), limit)?;
            self.pop_front(excess);
        }
        self.push(bytes, limit)
    }

    /// Lets the `count` oldest bytes go (all, if it holds fewer). Keeps the memory; see [`ByteStore::trim`].
    pub fn pop_front(&mut self, count: usize) {
        if count >= self.len() {
            self.slots.clear();
            self.start = 0;
            self.len = 0;
            return;
        }
        let mut start = self.start as usize + count;
        if start >= self.slots.len() {
            start -= self.slots.len();
        }
        self.start = start as u32;
        self.len -= count as u32;
    }

    /// Copies bytes from position `at` on into `out`; how many there were.
    pub fn read(&self, at: usize, out: &mut [u8]) -> usize {
        let Some(held) = self.len().checked_sub(at) else { return 0 };
        let count = held.min(out.len());
        let (first, second) = self.parts(at, count);
        out[..first.len()].copy_from_slice(first);
        out[first.len()..count].copy_from_slice(second);
        count
    }

    /// Replaces the bytes from position `at` on by `bytes`, as far as they are held.
    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        let Some(held) = self.len().checked_sub(at) else { return };
        let bytes = &bytes[..held.min(bytes.len())];
        let (from, split) = self.locate(at, bytes.len());
        let (first, second) = bytes.split_at(split);
        self.slots[from..from + first.len()].copy_from_slice(first);
        self.slots[..second.len()].copy_from_slice(second);
    }

    /// Gives memory back when more of it is idle than the budget of a quarter allows. Best effort.
    pub fn trim(&mut self) {
        if self.len == 0 {
            *self = ByteStore::new();
        } else if wasteful(self.slots.capacity(), self.len()) {
            let mut slots = Vec::new();
            // Half the allowance, so that a store that swings around the bound is not copied each time.
            if slots.try_reserve_exact(self.len() + self.len() / 8).is_ok() {
                let (first, second) = self.parts(0, self.len());
                slots.extend_from_slice(first);
                slots.extend_from_slice(second);
                self.slots = slots;
                self.start = 0;
            }
        }
    }

    /// Drops all bytes and their memory.
    pub fn free(&mut self) {
        *self = ByteStore::new();
    }

    /// The slot of position `at`, and how many of `count` bytes from there on come before the ring wraps.
    fn locate(&self, at: usize, count: usize) -> (usize, usize) {
        let mut from = self.start as usize + at;
        if from >= self.slots.len() && from > 0 {
            from -= self.slots.len();
        }
        (from, count.min(self.slots.len() - from))
    }

    /// `count` held bytes from position `at` on, in at most two parts.
    fn parts(&self, at: usize, count: usize) -> (&[u8], &[u8]) {
        let (from, split) = self.locate(at, count);
        (&self.slots[from..from + split], &self.slots[..count - split])
    }

    /// Moves the oldest byte to slot 0 and drops the idle slots.
    fn straighten(&mut self) {
        self.slots.rotate_left(self.start as usize);
        self.slots.truncate(self.len as usize);
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn steady_eviction_keeps_exactly_the_limit() {
        let mut store = ByteStore::new();
        let segment = [7u8; 1448];
        for _ in 0..1000 {
            let excess = (store.len() + segment.len()).saturating_sub(8192);
            store.pop_front(excess);
            store.push(&segment, 8192).unwrap();
            assert!(store.allocated_bytes() <= 8192);
        }
        assert_eq!(store.len(), 8192);
        assert_eq!(store.slots.len(), 8192);
    }

    #[test]
    fn an_unsatisfiable_request_is_an_error() {
        let mut store = ByteStore::new();
        store.push(b"abc", 10).unwrap();
        assert_eq!(store.try_reserve(usize::MAX, 10), Err(OutOfMemory));
        assert_eq!(store.try_reserve(u32::MAX as usize, 10), Err(OutOfMemory));
        let mut out = [0; 3];
        assert_eq!(store.read(0, &mut out), 3);
        assert_eq!(&out, b"abc");
    }

    #[test]
    fn positions_past_the_end_hold_nothing() {
        let mut store = ByteStore::new();
        assert_eq!(store.read(0, &mut [0; 4]), 0);
        assert_eq!(store.read(3, &mut [0; 4]), 0);
        store.overwrite(0, b"x");
        store.push(b"ab", 4).unwrap();
        store.overwrite(1, b"xyz");
        store.overwrite(2, b"q");
        let mut out = [0; 4];
        assert_eq!(store.read(0, &mut out), 2);
        assert_eq!(&out[..2], b"ax");
    }

    proptest! {
        #[test]
        fn agrees_with_a_queue(
            limit in 1usize..300,
            steps in prop::collection::vec((0u8..8, 0usize..120), 1..120),
        ) {
            let mut store = ByteStore::new();
            let mut queue: VecDeque<u8> = VecDeque::new();
            let mut next = 0u8;
            for (op, n) in steps {
                let bytes: Vec<u8> = (0..n.min(limit)).map(|_| { next = next.wrapping_add(1); next }).collect();
                match op {
                    0 => {
                        store.pop_front(n);
                        queue.drain(..n.min(queue.len()));
                    }
                    1 => {
                        store.trim();
                        prop_assert!(store.allocated_bytes() <= roomy(store.len()) + 32);
                    }
                    2 => {
                        store.overwrite(n / 2, &bytes);
                        for (slot, b) in queue.iter_mut().skip(n / 2).zip(&bytes) {
                            *slot = *b;
                        }
                    }
                    _ => {
                        let excess = (queue.len() + bytes.len()).saturating_sub(limit);
                        store.pop_front(excess);
                        queue.drain(..excess);
                        store.push(&bytes, limit).unwrap();
                        queue.extend(&bytes);
                        prop_assert!(store.allocated_bytes() <= limit);
                    }
                }
                prop_assert_eq!(store.len(), queue.len());
                let mut out = vec![0; queue.len() + 1];
                prop_assert_eq!(store.read(0, &mut out), queue.len());
                prop_assert!(out.iter().zip(&queue).all(|(a, b)| a == b));
                let mut part = [0; 9];
                let got = store.read(n / 3, &mut part);
                let expected: Vec<u8> = queue.iter().skip(n / 3).take(9).copied().collect();
                prop_assert_eq!(&part[..got], &expected[..]);
            }
        }
    }
}
