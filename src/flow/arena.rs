//! Where records live: chunks that are never moved, indices of 32 bits, ids that go stale when the record is removed.
//!
//! The generation and the free list live inside the record ([`Record`]), so a record of 128 bytes costs 128 bytes. A
//! generation is odd while its record is live. The slot freed last is used first: it is the one still in the cache.

use super::{OutOfMemory, prefetch_lines};

/// Aimed size of a chunk in bytes. Chunks are reserved whole but touched only as records come in.
const CHUNK_BYTES: usize = 256 * 1024;
/// Indices stay below this, so that users may mark them in bit 31.
const MAX_RECORDS: usize = 1 << 31;
/// End of the free list.
const END: u32 = u32::MAX;

/// What the arena keeps inside a record. The record only stores these values; it may use one field for the next free
/// index and something of its own, because only the records that are not live are in the free list.
pub trait Record: Default {
    /// The generation as last set; a default record's does not matter.
    fn generation(&self) -> u32;
    /// Stores the generation.
    fn set_generation(&mut self, generation: u32);
    /// The next free index as last set.
    fn next_free(&self) -> u32;
    /// Stores the next free index.
    fn set_next_free(&mut self, index: u32);
}

/// The name of one record; stale for good once that record is removed (until its slot was used 2^31 times).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    /// The slot, below 2^31.
    pub index: u32,
    /// The slot's generation while the record lives: odd.
    pub generation: u32,
}

impl Id {
    /// The id of no record.
    pub const NONE: Id = Id { index: u32::MAX, generation: 0 };
}

/// A pool of records.
#[derive(Debug)]
pub struct Arena<T> {
    chunks: Vec<Vec<T>>,
    /// Slots ever used.
    slots: usize,
    live: usize,
    first_free: u32,
}

impl<T: Record> Default for Arena<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Record> Arena<T> {
    /// Records per chunk: a power of two.
    const CHUNK: usize = {
        let fit = CHUNK_BYTES / if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
        if fit == 0 { 1 } else { 1 << fit.ilog2() }
    };

    /// An empty arena, without memory.
    #[must_use]
    pub const fn new() -> Self {
        Arena { chunks: Vec::new(), slots: 0, live: 0, first_free: END }
    }

    /// Stores a record and names it.
    ///
    /// # Errors
    /// [`OutOfMemory`] when a chunk cannot be had or 2^31 records are live; the record is dropped.
    pub fn insert(&mut self, mut record: T) -> Result<Id, OutOfMemory> {
        let index = self.first_free;
        if let Some(slot) = self.slot_mut(index) {
            let generation = slot.generation().wrapping_add(1);
            let next = slot.next_free();
            record.set_generation(generation);
            *slot = record;
            self.first_free = next;
            self.live += 1;
            return Ok(Id { index, generation });
        }
        if self.slots >= MAX_RECORDS {
            return Err(OutOfMemory);
        }
        let chunk = self.slots / Self::CHUNK;
        if chunk == self.chunks.len() {
            let mut records = Vec::new();
            records.try_reserve_exact(Self::CHUNK)?;
            self.chunks.try_reserve(1)?;
            self.chunks.push(records);
        }
        record.set_generation(1);
        self.chunks[chunk].push(record);
        let index = self.slots as u32;
        self.slots += 1;
        self.live += 1;
        Ok(Id { index, generation: 1 })
    }

    /// The record of an id; `None` when it is stale.
    #[inline]
    #[must_use]
    pub fn get(&self, id: Id) -> Option<&T> {
        self.slot(id.index).filter(|record| record.generation() == id.generation && id.generation & 1 == 1)
    }

    /// As [`Arena::get`], to change.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.slot_mut(id.index)
            .filter(|record| record.generation() == id.generation && id.generation & 1 == 1)
    }

    /// The live record in a slot, for those who hold a bare index that cannot be stale (the table, the wheel); `None`
    /// when there is none.
    #[inline]
    #[must_use]
    pub fn at(&self, index: u32) -> Option<&T> {
        self.slot(index).filter(|record| record.generation() & 1 == 1)
    }

    /// As [`Arena::at`], to change.
    #[inline]
    #[must_use]
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slot_mut(index).filter(|record| record.generation() & 1 == 1)
    }

    /// The id of the live record in a slot.
    #[inline]
    #[must_use]
    pub fn id_of(&self, index: u32) -> Option<Id> {
        self.at(index).map(|record| Id { index, generation: record.generation() })
    }

    /// Takes a record out; `None` when the id is stale.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let first_free = self.first_free;
        let slot = self.get_mut(id)?;
        let record = std::mem::take(slot);
        slot.set_generation(id.generation.wrapping_add(1));
        slot.set_next_free(first_free);
        self.first_free = id.index;
        self.live -= 1;
        Some(record)
    }

    /// Fetches the first `lines` cache lines of a slot in advance. Any index will do.
    #[inline]
    pub fn prefetch(&self, index: u32, lines: usize) {
        if let Some(record) = self.slot(index) {
            prefetch_lines(record, lines);
        }
    }

    /// The index after the highest ever used: whoever must visit every record tries [`Arena::id_of`] on `0..slots()`.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots as u32
    }

    /// Live records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no record is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Bytes reserved.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Vec<T>>()
            + self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum::<usize>()
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<&T> {
        self.chunks.get(index as usize / Self::CHUNK)?.get(index as usize % Self::CHUNK)
    }

    #[inline(always)]
    fn slot_mut(&mut self, index: u32) -> Option<&mut T> {
        self.chunks.get_mut(index as usize / Self::CHUNK)?.get_mut(index as usize % Self::CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Debug, Default, PartialEq)]
    #[repr(align(64))]
    struct Big {
        value: u64,
        generation: u32,
        next_free: u32,
        rest: [u64; 14],
    }

    impl Record for Big {
        fn generation(&self) -> u32 {
            self.generation
        }
        fn set_generation(&mut self, generation: u32) {
            self.generation = generation;
        }
        fn next_free(&self) -> u32 {
            self.next_free
        }
        fn set_next_free(&mut self, index: u32) {
            self.next_free = index;
        }
    }

    fn big(value: u64) -> Big {
        Big { value, ..Big::default() }
    }

    #[test]
    fn a_record_costs_its_size() {
        let mut arena = Arena::new();
        assert_eq!(arena.allocated_bytes(), 0);
        for value in 0..100_000 {
            arena.insert(big(value)).unwrap();
        }
        let each = arena.allocated_bytes() as f64 / 100_000.0;
        assert!((128.0..130.0).contains(&each), "{each}");
        assert_eq!(std::ptr::from_ref(arena.at(77_777).unwrap()) as usize % 64, 0);
    }

    #[test]
    fn records_stay_where_they_are() {
        let mut arena = Arena::new();
        let id = arena.insert(big(1)).unwrap();
        let before = std::ptr::from_ref(arena.get(id).unwrap());
        for value in 0..10_000 {
            arena.insert(big(value)).unwrap();
        }
        assert_eq!(before, std::ptr::from_ref(arena.get(id).unwrap()));
    }

    #[test]
    fn a_slot_used_again_does_not_answer_to_its_old_id() {
        let mut arena = Arena::new();
        let old = arena.insert(big(1)).unwrap();
        assert_eq!(arena.remove(old).unwrap().value, 1);
        assert!(arena.at(old.index).is_none() && arena.id_of(old.index).is_none());
        // The free slot's own generation is no id either.
        assert!(arena.get(Id { index: old.index, generation: old.generation + 1 }).is_none());
        let new = arena.insert(big(2)).unwrap();
        assert_eq!(old.index, new.index);
        assert!(arena.get(old).is_none() && arena.remove(old).is_none());
        assert_eq!(arena.get(new).unwrap().value, 2);
        assert!(arena.get(Id::NONE).is_none() && arena.at(u32::MAX).is_none());
        arena.prefetch(u32::MAX, 2);
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_of_ids(steps in prop::collection::vec((0u8..5, any::<prop::sample::Index>()), 0..600)) {
            let mut arena = Arena::new();
            let mut model: HashMap<Id, u64> = HashMap::new();
            let (mut live, mut dead): (Vec<Id>, Vec<Id>) = (Vec::new(), Vec::new());
            for (step, (action, which)) in steps.into_iter().enumerate() {
                if action < 3 {
                    let id = arena.insert(big(step as u64)).unwrap();
                    prop_assert!(model.insert(id, step as u64).is_none());
                    live.push(id);
                } else if !live.is_empty() {
                    let id = live.swap_remove(which.index(live.len()));
                    prop_assert_eq!(arena.remove(id).map(|record| record.value), model.remove(&id));
                    dead.push(id);
                }
                prop_assert_eq!(arena.len(), model.len());
            }
            for id in &live {
                prop_assert_eq!(arena.get(*id).map(|record| record.value), model.get(id).copied());
                prop_assert_eq!(arena.get_mut(*id).map(|record| record.value), model.get(id).copied());
                prop_assert_eq!(arena.id_of(id.index), Some(*id));
            }
            for id in dead {
                prop_assert!(arena.get(id).is_none() && arena.get_mut(id).is_none() && arena.remove(id).is_none());
            }
            let visited = (0..arena.slots()).filter(|&index| arena.id_of(index).is_some()).count();
            prop_assert_eq!(visited, model.len());
        }
    }
}
