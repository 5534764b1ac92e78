//! From a hash to the index of a record: linear hashing over buckets of one cache line.
//!
//! A bucket holds ten entries, each a 16-bit tag and an index, and a link to an overflow bucket. When the load passes
//! `GROW`, one bucket is split in two, in order; when it falls below `SHRINK`, one pair is merged. So there is never
//! a moment at which the whole table is rebuilt or held twice. Keys stay in the records: an entry is found by its tag and
//! confirmed by the caller. Nothing iterates over the table, so the hash's secret never shows.
//!
//! The bucket comes from the hash's low bits, the tag from the 16 bits that begin at `TAG_SHIFT`: from 2^12 buckets on a
//! split reads the bit it needs from the tag and touches no record, at the price of the few tag bits that the
//! bucket number then repeats.

use super::{OutOfMemory, equal_lanes, prefetch_lines, reserve};

/// Entries in a bucket.
const WAYS: usize = 10;
/// Average entries a bucket above which the table grows. Buckets not yet split in a round hold up to twice that: with 5, one
/// entry in sixty or so sits in an overflow bucket.
const GROW: usize = 5;
/// Average entries a bucket below which the table shrinks; far below [`GROW`], so that it does not swing.
const SHRINK: usize = 2;
/// Where the tag begins in the hash.
const TAG_SHIFT: u32 = 12;
/// Buckets in a chunk of memory: 256 KiB.
const CHUNK: usize = 4096;
/// The end of a chain of overflow buckets.
const NONE: u32 = u32::MAX;

/// One cache line. A tag of 0 is a vacant entry.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u16; WAYS],
    /// The next overflow bucket. All buckets of a chain but the first overflow one are full.
    link: u32,
    indices: [u32; WAYS],
}

const EMPTY: Bucket = Bucket { tags: [0; WAYS], link: NONE, indices: [0; WAYS] };

impl Bucket {
    /// Of the first eight entries those with a tag, as a bit set.
    #[inline(always)]
    fn matches_of_8(&self, tag: u16) -> u32 {
        let [a, b, c, d, e, f, g, h, _, _] = self.tags;
        u32::from(equal_lanes([a, b, c, d, e, f, g, h], tag))
    }

    /// The entries with a tag, as a bit set.
    #[inline(always)]
    fn matches(&self, tag: u16) -> u32 {
        let [.., i, j] = self.tags;
        self.matches_of_8(tag) | u32::from(i == tag) << 8 | u32::from(j == tag) << 9
    }

    fn vacant(&self) -> Option<usize> {
        let vacant = self.matches(0);
        (vacant != 0).then(|| vacant.trailing_zeros() as usize)
    }

    fn count(&self) -> usize {
        WAYS - self.matches(0).count_ones() as usize
    }

    fn put(&mut self, way: usize, tag: u16, index: u32) {
        self.tags[way] = tag;
        self.indices[way] = index;
    }

    /// The entries that are not vacant.
    fn entries(&self) -> impl Iterator<Item = (u16, u32)> + use<> {
        let (tags, indices) = (self.tags, self.indices);
        (0..WAYS).filter(move |&way| tags[way] != 0).map(move |way| (tags[way], indices[way]))
    }
}

/// A growing sequence of buckets in chunks. The first chunk grows by doubling, so that a small table is small.
struct Buckets {
    chunks: Vec<Vec<Bucket>>,
    len: usize,
}

impl Buckets {
    #[inline(always)]
    fn get(&self, at: usize) -> Option<&Bucket> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    #[inline(always)]
    fn at(&self, at: usize) -> &Bucket {
        &self.chunks[at / CHUNK][at % CHUNK]
    }

    #[inline(always)]
    fn at_mut(&mut self, at: usize) -> &mut Bucket {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }

    fn push(&mut self) -> Result<(), OutOfMemory> {
        let chunk = self.len / CHUNK;
        if chunk == self.chunks.len() {
            let mut buckets = Vec::new();
            reserve(&mut buckets, if chunk == 0 { 1 } else { CHUNK })?;
            reserve(&mut self.chunks, 1)?;
            self.chunks.push(buckets);
        }
        let buckets = &mut self.chunks[chunk];
        reserve(buckets, 1)?;
        buckets.push(EMPTY);
        self.len += 1;
        Ok(())
    }

    fn pop(&mut self) -> Option<Bucket> {
        let at = self.len.checked_sub(1)?;
        let bucket = self.chunks[at / CHUNK].pop();
        self.len = at;
        // The first chunk stays: a table in use has at least one bucket.
        if at > 0 && at % CHUNK == 0 {
            self.chunks.truncate(at / CHUNK);
        }
        bucket
    }

    fn allocated_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Vec<Bucket>>()
            + self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Bucket>()).sum::<usize>()
    }
}

/// A table from hashes to indices.
pub struct Table {
    /// Bucket `b` has the entries whose hashes end in the bits of `b`: in `level` bits, or one more if `b` was split.
    buckets: Buckets,
    level: u32,
    /// The low `level` bits, and one more.
    masks: (usize, usize),
    /// The next bucket to split; those below it are split already.
    split: usize,
    overflow: Buckets,
    /// First of the overflow buckets not in use.
    free: u32,
    overflow_in_use: usize,
    len: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("len", &self.len)
            .field("buckets", &self.buckets.len)
            .field("overflow", &self.overflow_in_use)
            .finish()
    }
}

/// The hash as the table uses it: its tag is never 0, which marks a vacant entry.
#[inline(always)]
fn usable(hash: u64) -> u64 {
    hash | u64::from(tag(hash) == 0) << (TAG_SHIFT + 15)
}

#[inline(always)]
fn tag(hash: u64) -> u16 {
    (hash >> TAG_SHIFT) as u16
}

impl Table {
    /// An empty table, without memory.
    #[must_use]
    pub const fn new() -> Self {
        Table {
            buckets: Buckets { chunks: Vec::new(), len: 0 },
            level: 0,
            masks: (0, 1),
            split: 0,
            overflow: Buckets { chunks: Vec::new(), len: 0 },
            free: NONE,
            overflow_in_use: 0,
            len: 0,
        }
    }

    /// The bucket of a usable hash.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        let bits = hash as usize;
        let (narrow, wide) = self.masks;
        if bits & narrow < self.split { bits & wide } else { bits & narrow }
    }

    fn set_level(&mut self, level: u32) {
        self.level = level;
        self.masks = ((1 << level) - 1, (2 << level) - 1);
    }

    /// Fetches the bucket of a hash in advance; gives its number, for [`Table::candidate_in`].
    #[inline]
    pub fn prefetch(&self, hash: u64) -> u32 {
        let home = self.home(usable(hash));
        if let Some(bucket) = self.buckets.get(home) {
            prefetch_lines(bucket, 1);
        }
        home as u32
    }

    /// As [`Table::candidate`], in the bucket that was the hash's when it was fetched.
    #[inline]
    #[must_use]
    pub fn candidate_in(&self, home: u32, hash: u64) -> Option<u32> {
        let (bucket, tag) = (self.buckets.get(home as usize)?, tag(usable(hash)));
        // On average a bucket is half full, from its first entry on.
        let mut found = bucket.matches_of_8(tag);
        if found == 0 {
            found = bucket.matches(tag);
        }
        (found != 0).then(|| bucket.indices[found.trailing_zeros() as usize])
    }

    /// The index that [`Table::find`] will most likely give, from the first line of the bucket alone: to fetch the record
    /// in advance. It may be wrong, and `None` does not say that there is no entry. Where the record it names turns out to be
    /// the right one, there is no need to call [`Table::find`].
    #[inline]
    #[must_use]
    pub fn candidate(&self, hash: u64) -> Option<u32> {
        let hash = usable(hash);
        let bucket = self.buckets.get(self.home(hash))?;
        let found = bucket.matches(tag(hash));
        (found != 0).then(|| bucket.indices[found.trailing_zeros() as usize])
    }

    /// The index inserted under this hash for which `is_it` holds. It is asked for the few entries that look alike.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = usable(hash);
        let mut bucket = self.buckets.get(self.home(hash))?;
        loop {
            let mut found = bucket.matches(tag(hash));
            while found != 0 {
                let index = bucket.indices[found.trailing_zeros() as usize];
                if is_it(index) {
                    return Some(index);
                }
                found &= found - 1;
            }
            if bucket.link == NONE {
                return None;
            }
            bucket = self.overflow.get(bucket.link as usize)?;
        }
    }

    /// Adds an entry. Any index is allowed, the same one under several hashes too. `rehash` gives the hash under which an
    /// index found in the table was inserted; it is called while the table is small, for the entries of one bucket.
    ///
    /// # Errors
    /// [`OutOfMemory`]: nothing was added. A table that cannot grow for lack of memory fills up first.
    pub fn insert(
        &mut self,
        hash: u64,
        index: u32,
        rehash: impl FnMut(u32) -> u64,
    ) -> Result<(), OutOfMemory> {
        if self.len >= self.buckets.len * GROW {
            // Without memory the buckets that are there serve on.
            let grown = self.split_one(rehash);
            if self.buckets.len == 0 {
                return grown;
            }
        }
        let hash = usable(hash);
        self.put(self.home(hash), tag(hash), index)?;
        self.len += 1;
        Ok(())
    }

    /// Takes out the entry that was inserted with this hash and index; `false` when there is none.
    pub fn remove(&mut self, hash: u64, index: u32) -> bool {
        let hash = usable(hash);
        let home = self.home(hash);
        if !self.take(home, tag(hash), index) {
            return false;
        }
        self.len -= 1;
        if self.buckets.len > 1 && self.len < self.buckets.len * SHRINK {
            self.merge_one();
        }
        true
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.buckets.allocated_bytes() + self.overflow.allocated_bytes()
    }

    /// Adds an entry to a bucket's chain.
    fn put(&mut self, home: usize, tag: u16, index: u32) -> Result<(), OutOfMemory> {
        let bucket = self.buckets.at_mut(home);
        if let Some(way) = bucket.vacant() {
            bucket.put(way, tag, index);
            return Ok(());
        }
        let first = bucket.link;
        if first != NONE {
            let bucket = self.overflow.at_mut(first as usize);
            if let Some(way) = bucket.vacant() {
                bucket.put(way, tag, index);
                return Ok(());
            }
        }
        let new = self.overflow_alloc()?;
        let bucket = self.overflow.at_mut(new as usize);
        *bucket = Bucket { link: first, ..EMPTY };
        bucket.put(0, tag, index);
        self.buckets.at_mut(home).link = new;
        Ok(())
    }

    /// Takes an entry out of a bucket's chain and fills the hole from the chain's one bucket that may have vacancies.
    fn take(&mut self, home: usize, tag: u16, index: u32) -> bool {
        let Some(bucket) = self.buckets.get(home) else { return false };
        let first = bucket.link;
        let mut holder = None;
        let mut way = position(bucket, tag, index);
        let mut next = first;
        while way.is_none() && next != NONE {
            let bucket = self.overflow.at(next as usize);
            way = position(bucket, tag, index);
            holder = Some(next);
            next = bucket.link;
        }
        let Some(way) = way else { return false };
        if first == NONE {
            self.buckets.at_mut(home).put(way, 0, 0);
            return true;
        }
        let donor = self.overflow.at_mut(first as usize);
        let last = (0..WAYS).rev().find(|&way| donor.tags[way] != 0).unwrap_or(0);
        let (moved_tag, moved_index) = (donor.tags[last], donor.indices[last]);
        // In this order the entry taken may itself be the donor's last.
        let hole = match holder {
            None => self.buckets.at_mut(home),
            Some(holder) => self.overflow.at_mut(holder as usize),
        };
        hole.put(way, moved_tag, moved_index);
        let donor = self.overflow.at_mut(first as usize);
        donor.put(last, 0, 0);
        if donor.count() == 0 {
            let rest = donor.link;
            self.buckets.at_mut(home).link = rest;
            self.overflow_free(first);
        }
        true
    }

    /// Splits the next bucket in two.
    fn split_one(&mut self, mut rehash: impl FnMut(u32) -> u64) -> Result<(), OutOfMemory> {
        if self.buckets.len == 0 {
            return self.buckets.push();
        }
        let (from, to, level) = (self.split, self.buckets.len, self.level);
        self.buckets.push()?;
        self.split += 1;
        if self.split == 1 << self.level {
            self.set_level(level + 1);
            self.split = 0;
        }
        let mut place = |tag: u16, index: u32| {
            let upper = if (TAG_SHIFT..TAG_SHIFT + 16).contains(&level) {
                u64::from(tag) >> (level - TAG_SHIFT)
            } else {
                usable(rehash(index)) >> level
            };
            if upper & 1 == 1 { to } else { from }
        };
        let old = std::mem::replace(self.buckets.at_mut(from), EMPTY);
        // Ten entries fit two buckets; after that, each overflow bucket is given back before its entries are placed, and
        // n of those are always enough for ten entries each and two chains: this takes no new memory.
        for (tag, index) in old.entries() {
            self.put(place(tag, index), tag, index)?;
        }
        self.put_chain(old.link, place)
    }

    /// Merges the bucket split last with the one it came from. Without memory for it, nothing happens.
    fn merge_one(&mut self) {
        let (level, to) = if self.split == 0 {
            (self.level - 1, (1 << (self.level - 1)) - 1)
        } else {
            (self.level, self.split - 1)
        };
        let from = self.buckets.len - 1;
        // What moves from the one bucket to the other's chain needs one overflow bucket at most.
        let needed = self.buckets.at(from).count();
        if needed > WAYS - self.buckets.at(to).count() && self.free == NONE {
            let Ok(spare) = self.overflow_alloc() else { return };
            self.overflow_free(spare);
        }
        let Some(old) = self.buckets.pop() else { return };
        self.set_level(level);
        self.split = to;
        let moved = old.entries().try_for_each(|(tag, index)| self.put(to, tag, index));
        let moved = moved.and_then(|()| self.put_chain(old.link, |_, _| to));
        debug_assert!(moved.is_ok());
    }

    /// Places the entries of a chain of overflow buckets anew, giving each bucket back first.
    fn put_chain(
        &mut self,
        mut chain: u32,
        mut place: impl FnMut(u16, u32) -> usize,
    ) -> Result<(), OutOfMemory> {
        while chain != NONE {
            let old = *self.overflow.at(chain as usize);
            self.overflow_free(chain);
            for (tag, index) in old.entries() {
                self.put(place(tag, index), tag, index)?;
            }
            chain = old.link;
        }
        Ok(())
    }

    fn overflow_alloc(&mut self) -> Result<u32, OutOfMemory> {
        let mut at = self.free;
        if at == NONE {
            at = u32::try_from(self.overflow.len).ok().filter(|&at| at != NONE).ok_or(OutOfMemory)?;
            self.overflow.push()?;
        } else {
            self.free = self.overflow.at(at as usize).link;
        }
        self.overflow_in_use += 1;
        Ok(at)
    }

    fn overflow_free(&mut self, at: u32) {
        *self.overflow.at_mut(at as usize) = Bucket { link: self.free, ..EMPTY };
        self.free = at;
        self.overflow_in_use -= 1;
    }
}

fn position(bucket: &Bucket, tag: u16, index: u32) -> Option<usize> {
    (0..WAYS).find(|&way| bucket.tags[way] == tag && bucket.indices[way] == index)
}

#[cfg(test)]
mod tests {
    use super::super::famine;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Hash of an index: spread, but the same on each run.
    fn spread(index: u32) -> u64 {
        let mut hash = u64::from(index).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ hash >> 29).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ hash >> 32
    }

    /// Every entry is where look-ups seek it, chains are packed, and the numbers add up.
    fn check(table: &Table) {
        assert_eq!(
            table.buckets.len,
            if table.buckets.len == 0 { 0 } else { (1 << table.level) + table.split }
        );
        let (mut entries, mut chained) = (0, 0);
        for at in 0..table.buckets.len {
            let bucket = table.buckets.at(at);
            entries += bucket.count();
            let mut next = bucket.link;
            assert!(next == NONE || bucket.count() == WAYS);
            let mut first = true;
            while next != NONE {
                let overflow = table.overflow.at(next as usize);
                assert!(if first { overflow.count() > 0 } else { overflow.count() == WAYS });
                first = false;
                entries += overflow.count();
                chained += 1;
                next = overflow.link;
            }
        }
        assert_eq!((entries, chained), (table.len, table.overflow_in_use));
    }

    #[test]
    fn a_bucket_is_a_cache_line() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    }

    #[test]
    fn small_tables_are_small() {
        let mut table = Table::new();
        assert_eq!(table.allocated_bytes(), 0);
        assert_eq!(table.find(1, |_| true), None);
        assert!(!table.remove(1, 1));
        assert_eq!(table.candidate(1), None);
        table.prefetch(1);
        for index in 0..100 {
            table.insert(spread(index), index, spread).unwrap();
        }
        assert!(table.allocated_bytes() < 8192, "{}", table.allocated_bytes());
    }

    #[test]
    fn grows_over_chunks_and_shrinks_back() {
        let mut table = Table::new();
        let count = 150_000;
        for index in 0..count {
            table.insert(spread(index), index, spread).unwrap();
        }
        check(&table);
        assert!(table.buckets.chunks.len() > 2);
        let each = table.allocated_bytes() as f64 / f64::from(count);
        assert!(each < 17.0, "{each} bytes an entry");
        for index in 0..count {
            assert_eq!(table.find(spread(index), |found| found == index), Some(index));
            assert_eq!(table.find(spread(index + count), |found| found == index + count), None);
        }
        for index in 0..count {
            assert!(table.remove(spread(index), index));
            assert!(index % 4096 != 0 || table.find(spread(index + 1), |found| found == index + 1).is_some());
        }
        check(&table);
        assert!(table.is_empty() && table.buckets.len == 1);
        assert!(table.allocated_bytes() < 2 * 256 * 1024 + 20_000, "{}", table.allocated_bytes());
    }

    #[test]
    fn splits_of_a_large_table_touch_no_record() {
        let mut table = Table::new();
        let full = (GROW << TAG_SHIFT) as u32;
        for index in 0..=full {
            table.insert(spread(index), index, spread).unwrap();
        }
        for index in full + 1..2 * full {
            table.insert(spread(index), index, |_| unreachable!("rehash")).unwrap();
        }
        check(&table);
        assert!((0..2 * full).all(|index| table.find(spread(index), |found| found == index).is_some()));
    }

    #[test]
    fn without_memory_the_buckets_fill_up_and_nothing_is_lost() {
        let mut table = Table::new();
        famine::during(|| assert_eq!(table.insert(1, 1, spread), Err(OutOfMemory)));
        check(&table);
        let mut live: Vec<u32> = (0..5000).collect();
        live.iter().for_each(|&index| table.insert(spread(index), index, spread).unwrap());
        let (buckets, bytes) = (table.buckets.len, table.allocated_bytes());
        famine::during(|| {
            for index in 5000.. {
                if table.insert(spread(index), index, spread).is_err() {
                    break;
                }
                live.push(index);
            }
        });
        assert!(table.buckets.len >= buckets && live.len() > 5000);
        assert_eq!((table.len(), table.allocated_bytes()), (live.len(), bytes));
        check(&table);
        assert!(live.iter().all(|&index| table.find(spread(index), |found| found == index).is_some()));
        // It shrinks without memory, and grows again with it.
        famine::during(|| live.drain(100..).for_each(|index| assert!(table.remove(spread(index), index))));
        check(&table);
        live.iter().for_each(|&index| assert!(table.find(spread(index), |found| found == index).is_some()));
        (100..20_000).for_each(|index| table.insert(spread(index), index, spread).unwrap());
        check(&table);
        assert_eq!(table.len(), 20_000);
    }

    #[test]
    fn a_merge_that_needs_memory_waits_for_it() {
        // Two full buckets and no overflow bucket: merging needs one.
        let mut table = Table::new();
        let hash_of = |index: u32| u64::from(index % 2) | u64::from(index + 1) << TAG_SHIFT;
        (0..20).for_each(|index| table.insert(hash_of(index), index, hash_of).unwrap());
        while table.buckets.len > 2 {
            table.merge_one();
        }
        check(&table);
        table.overflow = Buckets { chunks: Vec::new(), len: 0 };
        table.free = NONE;
        assert_eq!(table.overflow_in_use, 0);
        famine::during(|| table.merge_one());
        assert_eq!(table.buckets.len, 2);
        check(&table);
        table.merge_one();
        assert_eq!((table.buckets.len, table.overflow_in_use), (1, 1));
        check(&table);
        assert!((0..20).all(|index| table.find(hash_of(index), |found| found == index).is_some()));
    }

    proptest! {
        /// Hashes from few values force long chains of overflow buckets and tags of 0; from many, splits and merges.
        #[test]
        fn behaves_as_a_map(
            few in any::<bool>(),
            runs in prop::collection::vec((any::<bool>(), 1usize..200, any::<u32>()), 1..30),
        ) {
            let hash_of = |index: u32| if few { spread(index % 3) & 0xf000_0000_0000_0fff } else { spread(index) };
            let mut table = Table::new();
            let mut model: HashMap<u32, ()> = HashMap::new();
            let mut live: Vec<u32> = Vec::new();
            let mut fresh = 0u32;
            for (add, count, salt) in runs {
                for step in 0..count {
                    if add {
                        // Marked and unmarked indices alike.
                        let index = fresh | (salt & 0x8000_0000);
                        fresh += 1;
                        table.insert(hash_of(index), index, hash_of).unwrap();
                        model.insert(index, ());
                        live.push(index);
                    } else if !live.is_empty() {
                        let index = live.swap_remove((salt as usize).wrapping_mul(step + 1) % live.len());
                        prop_assert!(table.remove(hash_of(index), index));
                        prop_assert!(!table.remove(hash_of(index), index));
                        model.remove(&index);
                    }
                }
                check(&table);
                prop_assert_eq!(table.len(), model.len());
                for index in (0..fresh).flat_map(|index| [index, index | 0x8000_0000]) {
                    let found = table.find(hash_of(index), |found| found == index);
                    prop_assert_eq!(found, model.contains_key(&index).then_some(index));
                }
                for &index in &live {
                    prop_assert!(table.candidate(hash_of(index)).is_some() || table.overflow_in_use > 0);
                }
            }
        }
    }
}
