//! The bytes one side of a flow holds out of order, until the in-order tail reaches them.
//!
//! Bytes are appended to a log in the order they arrive, and a sorted list of pieces says which offsets they are.
//! So a byte far ahead of the tail costs a byte, not the distance, and segments in reverse order cost no shifting.
//! The log is rewritten in offset order when the pieces become many or much of it is no longer referred to.

use super::ranges::{MAX_RANGES, Range};
use super::store::{OutOfMemory, roomy, wasteful};

/// Pieces above this number are worth a rewrite of the log, after which there are at most [`MAX_RANGES`].
const MANY_PIECES: usize = 2 * MAX_RANGES;

/// A run of stream offsets whose bytes lie together in the log.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Stream offset of the first byte.
    offset: u64,
    /// Where that byte is in the log.
    at: u32,
    /// Number of bytes.
    len: u32,
}

impl Piece {
    fn end(self) -> u64 {
        self.offset + u64::from(self.len)
    }

    /// The log positions of the part of this piece that lies in `start..end`, which it overlaps.
    fn slots(self, start: u64, end: u64) -> std::ops::Range<usize> {
        let from = self.at as usize + (start.max(self.offset) - self.offset) as usize;
        let to = self.at as usize + (end.min(self.end()) - self.offset) as usize;
        from..to
    }
}

/// Bytes by stream offset.
#[derive(Debug, Default)]
pub struct Loose {
    /// Sorted, disjoint.
    pieces: Vec<Piece>,
    log: Vec<u8>,
    /// Bytes of the log that a piece refers to.
    held: usize,
}

impl Loose {
    /// Bytes held.
    pub fn held_bytes(&self) -> usize {
        self.held
    }

    /// Bytes of memory behind them.
    pub fn allocated_bytes(&self) -> usize {
        self.log.capacity() + self.pieces.capacity() * size_of::<Piece>()
    }

    /// How many bytes are held below `end`.
    pub fn held_below(&self, end: u64) -> usize {
        self.overlapping(0, end).iter().map(|p| (p.end().min(end) - p.offset) as usize).sum()
    }

    /// Index of the first piece that ends after `offset`.
    fn after(&self, offset: u64) -> usize {
        self.pieces.partition_point(|p| p.end() <= offset)
    }

    /// The pieces that overlap `start..end`.
    fn overlapping(&self, start: u64, end: u64) -> &[Piece] {
        let rest = &self.pieces[self.after(start)..];
        &rest[..rest.partition_point(|p| p.offset < end)]
    }

    /// Stores the bytes of `bytes` (of which the first is at `offset`) at the offsets of `gaps`, where nothing is held yet.
    /// Either all of them are stored or none is.
    pub fn fill<I>(&mut self, offset: u64, bytes: &[u8], gaps: I) -> Result<(), OutOfMemory>
    where
        I: Iterator<Item = Range> + Clone,
    {
        let (mut count, mut size) = (0, 0);
        for gap in gaps.clone() {
            count += 1;
            size += gap.len() as usize;
        }
        self.try_reserve(count, size)?;
        for gap in gaps {
            let part = &bytes[(gap.start - offset) as usize..(gap.end - offset) as usize];
            let index = self.after(gap.start);
            let at = self.log.len() as u32;
            self.log.extend_from_slice(part);
            self.held += part.len();
            match index.checked_sub(1).map(|i| &mut self.pieces[i]) {
                Some(before) if before.end() == gap.start && before.at + before.len == at => {
                    before.len += part.len() as u32;
                }
                _ => self.pieces.insert(index, Piece { offset: gap.start, at, len: part.len() as u32 }),
            }
        }
        if self.pieces.len() > MANY_PIECES || wasteful(self.log.capacity(), self.held) {
            self.rewrite();
        }
        Ok(())
    }

    fn try_reserve(&mut self, pieces: usize, bytes: usize) -> Result<(), OutOfMemory> {
        let needed =
            self.log.len().checked_add(bytes).filter(|&n| n <= u32::MAX as usize).ok_or(OutOfMemory)?;
        if needed > self.log.capacity() {
            self.log.try_reserve_exact(roomy(needed) - self.log.len())?;
        }
        let needed = self.pieces.len() + pieces;
        if needed > self.pieces.capacity() {
            self.pieces.try_reserve_exact(needed + needed / 2 - self.pieces.len())?;
        }
        Ok(())
    }

    /// Replaces whatever is held of the offsets that `bytes` covers from `offset` on.
    pub fn overwrite(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len() as u64);
        let first = self.after(offset);
        for piece in self.pieces[first..].iter().take_while(|p| p.offset < end) {
            let from = piece.offset.max(offset);
            let slots = piece.slots(offset, end);
            let source = (from - offset) as usize;
            let count = slots.len();
            self.log[slots].copy_from_slice(&bytes[source..source + count]);
        }
    }

    /// Copies bytes from `offset` on into `out`, up to the first one that is not held; how many there were.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in &self.pieces[self.after(offset)..] {
            let at = offset + done as u64;
            if done == out.len() || piece.offset > at {
                break;
            }
            let slots = piece.slots(at, at.saturating_add((out.len() - done) as u64));
            let count = slots.len();
            out[done..done + count].copy_from_slice(&self.log[slots]);
            done += count;
        }
        done
    }

    /// Removes the pieces below `end`, handing their bytes over in offset order. No piece may lie across `end`.
    pub fn take_below<E>(&mut self, end: u64, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let taken = self.after(end);
        for piece in self.pieces.drain(..taken) {
            self.held -= piece.len as usize;
            each(&self.log[piece.slots(0, u64::MAX)])?;
        }
        if self.pieces.is_empty() {
            self.free();
        } else if wasteful(self.log.capacity(), self.held) {
            self.rewrite();
        }
        Ok(())
    }

    /// Drops the bytes at `offset` and above.
    pub fn remove_from(&mut self, offset: u64) {
        self.pieces.truncate(self.pieces.partition_point(|p| p.offset < offset));
        if let Some(last) = self.pieces.last_mut() {
            last.len = (last.end().min(offset) - last.offset) as u32;
        }
        self.held = self.pieces.iter().map(|p| p.len as usize).sum();
        if self.pieces.is_empty() {
            self.free();
        } else if wasteful(self.log.capacity(), self.held) {
            self.rewrite();
        }
    }

    /// Drops all bytes and their memory.
    pub fn free(&mut self) {
        *self = Loose::default();
    }

    /// Writes the log anew in offset order, without gaps and with touching pieces joined. Best effort.
    fn rewrite(&mut self) {
        let mut log: Vec<u8> = Vec::new();
        if log.try_reserve_exact(self.held + self.held / 8).is_err() {
            return;
        }
        let mut kept = 0;
        for i in 0..self.pieces.len() {
            let piece = self.pieces[i];
            let at = log.len() as u32;
            log.extend_from_slice(&self.log[piece.slots(0, u64::MAX)]);
            if kept > 0 && self.pieces[kept - 1].end() == piece.offset {
                self.pieces[kept - 1].len += piece.len;
            } else {
                self.pieces[kept] = Piece { at, ..piece };
                kept += 1;
            }
        }
        self.pieces.truncate(kept);
        self.log = log;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::ranges::Ranges;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn fill(loose: &mut Loose, known: &mut Ranges, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        loose.fill(offset, bytes, known.gaps(offset, end)).unwrap();
        assert!(known.insert(offset, end).unwrap());
    }

    #[test]
    fn a_byte_far_ahead_costs_a_byte() {
        let (mut loose, mut known) = (Loose::default(), Ranges::new());
        fill(&mut loose, &mut known, 1 << 33, b"x");
        assert!(loose.allocated_bytes() < 64);
        let mut out = [0; 4];
        assert_eq!(loose.read(1 << 33, &mut out), 1);
        assert_eq!(out[0], b'x');
    }

    #[test]
    fn single_bytes_in_reverse_keep_the_pieces_few() {
        let (mut loose, mut known) = (Loose::default(), Ranges::new());
        for i in (0..5000u32).rev() {
            fill(&mut loose, &mut known, u64::from(i), &[i as u8]);
            assert!(loose.pieces.len() <= MANY_PIECES + 1);
        }
        let mut out = vec![0; 6000];
        assert_eq!(loose.read(0, &mut out), 5000);
        assert!(out[..5000].iter().enumerate().all(|(i, &b)| b == i as u8));
        assert!(loose.log.capacity() <= roomy(5000) + 32);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0u8..8, 0u64..200, 1usize..25), 1..120)) {
            let (mut loose, mut known) = (Loose::default(), Ranges::new());
            let mut map: BTreeMap<u64, u8> = BTreeMap::new();
            let mut next = 0u8;
            for (op, at, n) in steps {
                let bytes: Vec<u8> = (0..n).map(|_| { next = next.wrapping_add(1); next }).collect();
                let end = at + n as u64;
                match op {
                    0 => {
                        loose.overwrite(at, &bytes);
                        for (i, b) in bytes.iter().enumerate() {
                            map.entry(at + i as u64).and_modify(|slot| *slot = *b);
                        }
                    }
                    1 if at > 150 => {
                        loose.remove_from(at);
                        known.remove_from(at);
                        map.retain(|&x, _| x < at);
                    }
                    2 if known.find(at).is_none() && at < 60 => {
                        let mut taken = Vec::new();
                        prop_assert_eq!(loose.held_below(at), map.range(..at).count());
                        loose.take_below(at, |part| { taken.extend_from_slice(part); Ok::<(), ()>(()) }).unwrap();
                        let expected: Vec<u8> = map.range(..at).map(|(_, &b)| b).collect();
                        prop_assert_eq!(taken, expected);
                        known.remove_below(at);
                        map.retain(|&x, _| x >= at);
                    }
                    _ if known.has_room(at, end) => {
                        fill(&mut loose, &mut known, at, &bytes);
                        for (i, b) in bytes.iter().enumerate() {
                            map.entry(at + i as u64).or_insert(*b);
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(loose.held_bytes(), map.len());
                prop_assert!(!wasteful(loose.log.capacity(), map.len()));
                let mut out = vec![0; 40];
                let got = loose.read(at, &mut out);
                let expected: Vec<u8> = (at..at + 40).map_while(|x| map.get(&x).copied()).collect();
                prop_assert_eq!(&out[..got], &expected[..]);
            }
        }
    }
}
