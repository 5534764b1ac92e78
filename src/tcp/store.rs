//! The bytes one side of a flow keeps in order: a first-in first-out store of bytes.
//!
//! It knows nothing of stream offsets: position 0 is the oldest byte held. The bytes lie in chunks: a segment of usual size
//! gets a chunk of its own, so that a growing stream is not copied, and small segments share one that grows. Bytes are let
//! go by whole chunks, which a [`Pool`] hands to the segments to come. Memory follows the bytes held, within a quarter.

use super::one::One;
use crate::flow::fetch::{prefetch_chunk, prefetch_lines, prefetch_tail};
use std::collections::{TryReserveError, VecDeque};
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

/// Most bytes one store holds, so that its memory can be counted in 32 bits.
const MOST: usize = 3 << 30;
/// A chunk with fewer bytes is grown rather than left behind: its bytes are copied once more, but the chunks stay few.
const SMALL: usize = 512;
/// A chunk with this many bytes is no longer grown for small segments.
const FULL: usize = 1024;
/// Bytes of a chunk that takes a segment of usual size and can be handed on.
const CHUNK: usize = 1536;
/// Least bytes of a first chunk: what the allocator gives anyway.
const LEAST: usize = 24;

/// Sizes of chunks that can be handed on are multiples of this: a quarter of the smallest, so that rounding up to one keeps within
/// the budget.
const STEP: usize = SMALL / 4;
/// How many such sizes there are, from `SMALL` to `CHUNK`.
const SIZES: usize = (CHUNK - SMALL) / STEP + 1;
/// A list of chunks that can be handed on has room for no more.
const LIST: usize = 8;

/// Chunks that stores have let go, for stores to come: the allocator is asked less often, and the memory is warm.
#[derive(Debug, Default)]
pub struct Pool {
    /// By size.
    chunks: [Vec<Vec<u8>>; SIZES],
    lists: Vec<One<Chunks>>,
}

impl Pool {
    /// Chunks of a size, and lists of chunks, kept at most.
    const MOST: usize = 128;

    /// An empty pool.
    pub const fn new() -> Self {
        Pool { chunks: [const { Vec::new() }; SIZES], lists: Vec::new() }
    }

    /// The chunks of one size, if such are kept.
    fn of_size(&mut self, capacity: usize) -> Option<&mut Vec<Vec<u8>>> {
        let above = capacity.checked_sub(SMALL).filter(|above| above % STEP == 0)?;
        self.chunks.get_mut(above / STEP)
    }

    fn give(&mut self, mut chunk: Vec<u8>) {
        if let Some(chunks) = self.of_size(chunk.capacity())
            && chunks.len() < Self::MOST
            && chunks.try_reserve(1).is_ok()
        {
            chunk.clear();
            chunks.push(chunk);
        }
    }

    /// An empty chunk of `capacity` bytes, if one is kept.
    fn take(&mut self, capacity: usize) -> Option<Vec<u8>> {
        let chunks = self.of_size(capacity)?;
        let chunk = chunks.pop()?;
        // Writing to memory that is not in the cache takes longer than all else here; the next one is fetched meanwhile.
        if let Some(next) = chunks.last() {
            prefetch_chunk(next, capacity.div_ceil(64));
        }
        Some(chunk)
    }

    fn give_list(&mut self, list: One<Chunks>) {
        if list.get().is_some_and(|chunks| chunks.capacity() <= LIST)
            && self.lists.len() < Self::MOST
            && self.lists.try_reserve(1).is_ok()
        {
            self.lists.push(list);
        }
    }

    /// A list without chunks for a store that will hold `after` bytes.
    fn take_list(&mut self, after: usize) -> Option<One<Chunks>> {
        // It may have more room than a new one: it is for a store that will need it.
        self.lists.pop_if(|_| after >= 4 * SMALL)
    }
}

type Chunks = VecDeque<Vec<u8>>;

/// Bytes in arrival order, oldest first.
#[derive(Debug, Default)]
pub struct ByteStore {
    /// The newest chunk.
    last: Vec<u8>,
    /// The chunks before it, full, oldest first.
    older: One<Chunks>,
    /// Bytes of the oldest chunk that were let go.
    gone: u32,
    /// Bytes held.
    len: u32,
    /// Memory of all chunks and their list.
    room: u32,
}

impl ByteStore {
    /// An empty store, without memory.
    pub const fn new() -> Self {
        ByteStore { last: Vec::new(), older: One::none(), gone: 0, len: 0, room: 0 }
    }

    /// Bytes held.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Fetches in advance what appending `more` bytes touches.
    #[inline]
    pub fn prefetch(&self, more: usize) {
        let used = self.last.len();
        let idle = self.last.capacity() - used;
        if let Some(older) = self.older.get() {
            prefetch_lines(older, 1);
        }
        if idle >= more.min(CHUNK) / 8 {
            prefetch_tail(&self.last, more.min(idle).div_ceil(64).min(8));
        }
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory behind the store.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        self.room as usize
    }

    /// Bytes of memory of a list of chunks, without the chunks.
    fn list_bytes(older: &Chunks) -> usize {
        size_of::<Chunks>() + older.capacity() * size_of::<Vec<u8>>()
    }

    /// Makes sure that the next `more` bytes can be appended.
    pub fn try_reserve(&mut self, more: usize) -> Result<(), OutOfMemory> {
        if more > self.last.capacity() - self.last.len() {
            let after = self.len().checked_add(more).filter(|&n| n <= MOST).ok_or(OutOfMemory)?;
            self.grow_last(more, after)?;
        }
        Ok(())
    }

    /// Makes room for `more` bytes in the newest chunk; the store will hold `after`.
    fn grow_last(&mut self, more: usize, after: usize) -> Result<(), OutOfMemory> {
        let before = self.last.capacity();
        let needed = self.last.len() + more;
        let allowed = (roomy(after) + before).saturating_sub(self.allocated_bytes());
        // The first bytes may be all there ever are.
        let wanted = if after == more {
            needed.max(LEAST)
        } else {
            (needed + (needed / 4).max(after / 16)).min(allowed)
        };
        self.last.try_reserve_exact(wanted.max(needed) - self.last.len())?;
        self.room += (self.last.capacity() - before) as u32;
        Ok(())
    }

    /// Makes room for one more chunk in the list of the older ones; the store will hold `after`.
    fn extend_list(&mut self, after: usize, pool: Option<&mut Pool>) -> Result<(), OutOfMemory> {
        let before = self.older.get().map_or(0, Self::list_bytes);
        if before == 0 {
            self.older = match pool.and_then(|pool| pool.take_list(after)) {
                Some(list) => list,
                None => One::new(Chunks::new())?,
            };
        }
        if let Some(older) = self.older.get_mut() {
            let reserved = if older.len() < older.capacity() { Ok(()) } else { older.try_reserve(1) };
            self.room = (self.room as usize + Self::list_bytes(older) - before) as u32;
            reserved?;
        }
        Ok(())
    }

    /// Leaves the newest chunk behind and begins one for `more` bytes; the store will hold `after`, and `leaves` bytes of its
    /// memory are about to go.
    fn begin_chunk(
        &mut self,
        more: usize,
        after: usize,
        leaves: usize,
        mut pool: Option<&mut Pool>,
    ) -> Result<(), OutOfMemory> {
        let first = self.last.capacity() == 0;
        if !first {
            self.extend_list(after, pool.as_deref_mut())?;
        }
        let allowed = (roomy(after) + leaves).saturating_sub(self.allocated_bytes());
        // Large buffers take larger chunks: a sixteenth, and there are never many.
        let wanted = if more <= CHUNK && after / 16 <= CHUNK { CHUNK } else { more.max(after / 16) };
        let size = match wanted <= allowed {
            true => wanted,
            // The next size that can be handed on, where it is not too large.
            false if first => match more.next_multiple_of(STEP) {
                size if size <= allowed => size,
                _ => more,
            },
            false => match allowed - allowed % STEP {
                size if size >= more => size,
                _ => allowed.max(more),
            },
        };
        let chunk = match pool.and_then(|pool| pool.take(size)) {
            Some(chunk) => chunk,
            None => {
                let mut chunk = Vec::new();
                chunk.try_reserve_exact(size)?;
                chunk
            }
        };
        self.room += chunk.capacity() as u32;
        let left = std::mem::replace(&mut self.last, chunk);
        if !first && let Some(older) = self.older.get_mut() {
            older.push_back(left);
        }
        Ok(())
    }

    /// Appends `bytes`. After an error nothing has changed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), OutOfMemory> {
        self.slide(bytes, usize::MAX, None)
    }

    /// Appends `bytes`, letting as many of the oldest bytes go as needed to hold no more than `limit` (or `bytes` alone).
    /// After an error nothing has changed.
    #[inline]
    pub fn slide(&mut self, bytes: &[u8], limit: usize, pool: Option<&mut Pool>) -> Result<(), OutOfMemory> {
        let total = self.len() + bytes.len();
        let excess = total.saturating_sub(limit);
        if excess > bytes.len() || bytes.len() > self.last.capacity() - self.last.len() {
            return self.slide_on(bytes, limit, pool);
        }
        if excess > 0 {
            // Mostly the oldest chunk has more bytes than go.
            let goes = self.gone as usize + excess;
            if self.older.get().and_then(|older| older.front()).is_none_or(|front| front.len() <= goes) {
                return self.slide_on(bytes, limit, pool);
            }
            self.gone = goes as u32;
        }
        self.last.extend_from_slice(bytes);
        self.len = (total - excess) as u32;
        Ok(())
    }

    /// As [`ByteStore::slide`], where bytes must go or memory is needed.
    #[inline(never)]
    fn slide_on(
        &mut self,
        bytes: &[u8],
        limit: usize,
        mut pool: Option<&mut Pool>,
    ) -> Result<(), OutOfMemory> {
        let (held, more) = (self.len(), bytes.len());
        let total = held.checked_add(more).filter(|&n| n <= MOST).ok_or(OutOfMemory)?;
        let excess = total.saturating_sub(limit).min(held);
        let (used, idle) = (self.last.len(), self.last.capacity() - self.last.len());
        // A small rest of a chunk that is left behind is not worth fetching.
        let idle = if used >= SMALL && idle < more.min(CHUNK) / 8 { 0 } else { idle };
        let rest = more.saturating_sub(idle);
        if excess == held && more <= self.last.capacity() {
            // All goes: the newest chunk goes on with nothing in it.
            self.let_go(held, pool);
            self.last.extend_from_slice(bytes);
            self.len = more as u32;
        } else {
            if rest == 0 {
                self.last.extend_from_slice(bytes);
            } else if used < SMALL.min(self.last.capacity()) || (rest < SMALL && used < FULL) {
                self.grow_last(more, total - excess)?;
                self.last.extend_from_slice(bytes);
            } else {
                self.begin_chunk(rest, total - excess, self.leaving(excess), pool.as_deref_mut())?;
                let (first, second) = bytes.split_at(idle);
                if !first.is_empty()
                    && let Some(left) = self.older.get_mut().and_then(|older| older.back_mut())
                {
                    left.extend_from_slice(first);
                }
                self.last.extend_from_slice(second);
            }
            self.len = total as u32;
            self.let_go(excess, pool);
        }
        self.trim();
        Ok(())
    }

    /// Memory of the oldest chunk if it goes with the `excess` oldest bytes.
    fn leaving(&self, excess: usize) -> usize {
        match self.older.get().and_then(|older| older.front()) {
            Some(front) if front.len() <= self.gone as usize + excess => front.capacity(),
            _ => 0,
        }
    }

    /// Lets the `count` oldest bytes go (all, if it holds fewer). Keeps the memory of the newest chunk; see [`ByteStore::trim`].
    pub fn pop_front(&mut self, count: usize) {
        self.let_go(count, None);
    }

    fn let_go(&mut self, count: usize, mut pool: Option<&mut Pool>) {
        if count == 0 {
            return;
        }
        let count = count.min(self.len());
        let mut gone = self.gone as usize + count;
        self.len -= count as u32;
        if let Some(older) = self.older.get_mut() {
            while let Some(front) = older.front()
                && front.len() <= gone
            {
                gone -= front.len();
                self.room -= front.capacity() as u32;
                if let Some(chunk) = older.pop_front()
                    && let Some(pool) = pool.as_deref_mut()
                {
                    pool.give(chunk);
                }
            }
        }
        if self.len == 0 {
            self.last.clear();
            gone = 0;
        }
        self.gone = gone as u32;
    }

    /// The chunks, oldest first, the first of them without the bytes that were let go.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let older = self.older.get().map(|older| older.iter()).into_iter().flatten();
        let mut gone = self.gone as usize;
        older.chain([&self.last]).map(move |chunk| &chunk[std::mem::take(&mut gone)..])
    }

    /// The bytes from position `at` on, `len` of them or as many as there are, in pieces.
    pub fn slices(&self, at: usize, len: usize) -> impl Iterator<Item = &[u8]> {
        let (mut skip, mut left) = (at, len);
        self.parts().filter_map(move |part| {
            let from = skip.min(part.len());
            skip -= from;
            let part = &part[from..part.len().min(from.saturating_add(left))];
            left -= part.len();
            (!part.is_empty()).then_some(part)
        })
    }

    /// Copies bytes from position `at` on into `out`; how many there were.
    #[inline]
    pub fn read(&self, at: usize, out: &mut [u8]) -> usize {
        // Mostly what came last is read, and it lies in the newest chunk.
        let last = self.last.len();
        let rest = self.len().saturating_sub(at);
        if rest <= last && rest <= out.len() {
            out[..rest].copy_from_slice(&self.last[last - rest..]);
            return rest;
        }
        self.read_parts(at, out)
    }

    #[inline(never)]
    fn read_parts(&self, at: usize, out: &mut [u8]) -> usize {
        if at >= self.len() {
            return 0;
        }
        let (mut skip, mut done) = (at, 0);
        for part in self.parts() {
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let part = &part[skip..];
            skip = 0;
            let count = part.len().min(out.len() - done);
            out[done..done + count].copy_from_slice(&part[..count]);
            done += count;
            if done == out.len() {
                break;
            }
        }
        done
    }

    /// Replaces the bytes from position `at` on by `bytes`, as far as they are held.
    pub fn overwrite(&mut self, at: usize, mut bytes: &[u8]) {
        let mut skip = self.gone as usize + at;
        let older = self.older.get_mut().map(|older| older.iter_mut()).into_iter().flatten();
        for chunk in older.chain([&mut self.last]) {
            if skip >= chunk.len() {
                skip -= chunk.len();
                continue;
            }
            let target = &mut chunk[skip..];
            skip = 0;
            let (now, rest) = bytes.split_at(bytes.len().min(target.len()));
            target[..now.len()].copy_from_slice(now);
            bytes = rest;
        }
    }

    /// Gives memory back when more of it is idle than the budget of a quarter allows. Best effort.
    #[inline]
    pub fn trim(&mut self) {
        if self.len == 0 || wasteful(self.allocated_bytes(), self.len()) {
            self.shed();
        }
    }

    #[inline(never)]
    fn shed(&mut self) {
        if self.len == 0 {
            return self.free();
        }
        let gone = self.gone as usize;
        match self.older.get_mut().and_then(|older| older.front_mut()) {
            Some(front) => {
                if gone > 0 && recut(front, gone, 0) {
                    self.gone = 0;
                }
            }
            None => self.older.free(),
        }
        self.count_room();
        // An eighth stays idle, so that a store that swings around the bound is not copied each time.
        if wasteful(self.allocated_bytes(), self.len()) {
            let gone = if self.older.is_none() { std::mem::take(&mut self.gone) as usize } else { 0 };
            let held = self.last.len() - gone;
            if !recut(&mut self.last, gone, held / 8) {
                self.gone += gone as u32;
            }
            self.count_room();
        }
        if wasteful(self.allocated_bytes(), self.len()) {
            let mut all = Vec::new();
            if all.try_reserve_exact(self.len() + self.len() / 8).is_ok() {
                for part in self.parts() {
                    all.extend_from_slice(part);
                }
                *self =
                    ByteStore { room: all.capacity() as u32, len: self.len, last: all, ..ByteStore::new() };
            }
        }
    }

    /// Counts the memory again.
    fn count_room(&mut self) {
        let older = self
            .older
            .get()
            .map_or(0, |older| Self::list_bytes(older) + older.iter().map(Vec::capacity).sum::<usize>());
        self.room = (self.last.capacity() + older) as u32;
    }

    /// Drops all bytes; the chunks are for other stores.
    pub fn retire(&mut self, pool: &mut Pool) {
        pool.give(std::mem::take(&mut self.last));
        if let Some(older) = self.older.get_mut() {
            older.drain(..).for_each(|chunk| pool.give(chunk));
            pool.give_list(std::mem::take(&mut self.older));
        }
        self.free();
    }

    /// Drops all bytes and their memory.
    pub fn free(&mut self) {
        *self = ByteStore::new();
    }
}

/// Copies a chunk, without its first bytes, to where it takes no more room than `idle` bytes more; `false`: no memory for that.
fn recut(chunk: &mut Vec<u8>, from: usize, idle: usize) -> bool {
    let mut copy = Vec::new();
    let done = copy.try_reserve_exact(chunk.len() - from + idle).is_ok();
    if done {
        copy.extend_from_slice(&chunk[from..]);
        *chunk = copy;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn steady_eviction_keeps_exactly_the_limit() {
        for limit in [1024, 2048, 8192, 65_536, 262_144] {
            let (mut store, mut pool) = (ByteStore::new(), Pool::new());
            for i in 0..1000u32 {
                store.slide(&[i as u8; 1448], limit, Some(&mut pool)).unwrap();
                assert!(!wasteful(store.allocated_bytes(), store.len()));
                assert_eq!(store.len(), limit.max(1448).min((i as usize + 1) * 1448));
                assert!(store.older.get().map_or(0, Chunks::len) <= 64);
            }
            let mut newest = [0; 1448];
            assert_eq!(store.read(store.len() - 1448, &mut newest), 1448);
            assert_eq!(newest, [231; 1448]);
        }
    }

    #[test]
    fn chunks_are_handed_on() {
        let (mut store, mut pool) = (ByteStore::new(), Pool::new());
        for _ in 0..200 {
            store.slide(&[1; 1448], 8192, Some(&mut pool)).unwrap();
        }
        let kept = |pool: &Pool| pool.chunks[SIZES - 1].len();
        assert!((1..=2).contains(&kept(&pool)), "{}", kept(&pool));
        store.retire(&mut pool);
        assert_eq!((store.len(), store.allocated_bytes()), (0, 0));
        assert!((6..=8).contains(&kept(&pool)), "{}", kept(&pool));
        assert_eq!(pool.lists.len(), 1);
        for _ in 0..2 * Pool::MOST {
            pool.give(Vec::with_capacity(CHUNK));
            pool.give(Vec::with_capacity(CHUNK + 1));
            pool.give(Vec::with_capacity(CHUNK + STEP));
            pool.give(Vec::with_capacity(SMALL - STEP));
        }
        assert_eq!(kept(&pool), Pool::MOST);
        assert_eq!(pool.chunks[..SIZES - 1].iter().map(Vec::len).sum::<usize>(), 0);
    }

    #[test]
    fn a_single_segment_of_any_size_leaves_a_chunk_to_be_handed_on() {
        for len in SMALL..=CHUNK {
            let (mut store, mut pool) = (ByteStore::new(), Pool::new());
            store.slide(&vec![7; len], 8192, Some(&mut pool)).unwrap();
            assert!(!wasteful(store.allocated_bytes(), len), "{len}: {}", store.allocated_bytes());
            store.retire(&mut pool);
            assert_eq!(pool.chunks.iter().map(Vec::len).sum::<usize>(), 1, "{len}");
        }
    }

    #[test]
    fn a_list_of_chunks_is_handed_on_to_who_needs_it() {
        let (mut store, mut pool) = (ByteStore::new(), Pool::new());
        for _ in 0..5 {
            store.slide(&[1; 1448], 8192, Some(&mut pool)).unwrap();
        }
        store.retire(&mut pool);
        assert_eq!(pool.lists.len(), 1);
        for (bytes, left) in [(512, 1), (1448, 0)] {
            for _ in 0..2 {
                store.slide(&vec![1; bytes], 8192, Some(&mut pool)).unwrap();
                assert!(!wasteful(store.allocated_bytes(), store.len()));
            }
            assert_eq!(pool.lists.len(), left);
            store.free();
        }
    }

    #[test]
    fn an_unsatisfiable_request_is_an_error() {
        let mut store = ByteStore::new();
        store.push(b"abc").unwrap();
        assert_eq!(store.try_reserve(usize::MAX), Err(OutOfMemory));
        assert_eq!(store.try_reserve(u32::MAX as usize), Err(OutOfMemory));
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
        store.push(b"ab").unwrap();
        store.overwrite(1, b"xyz");
        store.overwrite(2, b"q");
        let mut out = [0; 4];
        assert_eq!(store.read(0, &mut out), 2);
        assert_eq!(&out[..2], b"ax");
    }

    proptest! {
        #[test]
        fn agrees_with_a_queue(
            (limit, most) in prop_oneof![(1usize..300, Just(120usize)), (1000usize..30_000, Just(4000usize))],
            steps in prop::collection::vec((0u8..9, 0usize..10_000), 1..120),
        ) {
            let (mut store, mut pool) = (ByteStore::new(), Pool::new());
            let mut queue: VecDeque<u8> = VecDeque::new();
            let mut next = 0u8;
            for (op, n) in steps {
                let n = n % most;
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
                        queue.drain(..excess);
                        queue.extend(&bytes);
                        if op == 3 {
                            store.pop_front(excess);
                            store.try_reserve(bytes.len()).unwrap();
                            store.push(&bytes).unwrap();
                        } else {
                            store.trim();
                            store.slide(&bytes, limit, Some(&mut pool)).unwrap();
                            prop_assert!(!wasteful(store.allocated_bytes(), store.len()));
                        }
                    }
                }
                prop_assert_eq!(store.len(), queue.len());
                let room = store.room;
                store.count_room();
                prop_assert_eq!(store.room, room);
                let mut out = vec![0; queue.len() + 1];
                prop_assert_eq!(store.read(0, &mut out), queue.len());
                prop_assert!(out.iter().zip(&queue).all(|(a, b)| a == b));
                let mut part = [0; 9];
                let got = store.read(n / 3, &mut part);
                let expected: Vec<u8> = queue.iter().skip(n / 3).take(9).copied().collect();
                prop_assert_eq!(&part[..got], &expected[..]);
                prop_assert_eq!(store.slices(n / 3, 9).collect::<Vec<_>>().concat(), expected);
            }
        }
    }
}
