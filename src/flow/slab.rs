//! A numbered collection that grows fallibly and reuses numbers, for the cold parts of few flows.
//!
//! Values lie in chunks that are never moved; a value costs its own size, the free list lies in the free slots.

use super::{OutOfMemory, prefetch_lines, reserve};

/// Slots in a chunk.
const CHUNK: usize = 256;
/// End of the free list.
const END: u32 = u32::MAX;

#[derive(Debug)]
enum Slot<T> {
    Used(T),
    /// The next free slot.
    Free(u32),
}

/// Numbered values.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    first_free: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    /// An empty slab.
    pub const fn new() -> Self {
        Slab { chunks: Vec::new(), first_free: END }
    }

    /// Adds a value and returns its number.
    pub fn insert(&mut self, value: T) -> Result<u32, OutOfMemory> {
        if let Some(slot) = self.slot_mut(self.first_free)
            && let Slot::Free(next) = *slot
        {
            *slot = Slot::Used(value);
            return Ok(std::mem::replace(&mut self.first_free, next));
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            let mut chunk = Vec::new();
            reserve(&mut self.chunks, 1)?;
            reserve(&mut chunk, CHUNK)?;
            self.chunks.push(chunk);
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().ok_or(OutOfMemory)?;
        let number = u32::try_from(before + chunk.len()).ok().filter(|&n| n != END).ok_or(OutOfMemory)?;
        chunk.push(Slot::Used(value));
        Ok(number)
    }

    /// Takes a value out.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let free = Slot::Free(self.first_free);
        let slot = self.slot_mut(number)?;
        match std::mem::replace(slot, free) {
            Slot::Used(value) => {
                self.first_free = number;
                Some(value)
            }
            free => {
                *slot = free;
                None
            }
        }
    }

    /// A value by its number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        match self.slot(number)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// A value by its number.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        match self.slot_mut(number)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// Fetches the cache lines of a value in advance. Any number will do.
    #[inline]
    pub fn prefetch(&self, number: u32) {
        if let Some(slot) = self.slot(number) {
            prefetch_lines(slot, size_of::<Slot<T>>().div_ceil(64));
        }
    }

    /// Whether there never was a value.
    #[inline]
    pub fn is_unused(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes reserved.
    pub fn allocated_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Vec<Slot<T>>>() + self.chunks.len() * CHUNK * size_of::<Slot<T>>()
    }

    #[inline(always)]
    fn slot(&self, number: u32) -> Option<&Slot<T>> {
        self.chunks.get(number as usize / CHUNK)?.get(number as usize % CHUNK)
    }

    #[inline(always)]
    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(number as usize / CHUNK)?.get_mut(number as usize % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::super::famine;
    use super::*;

    #[test]
    fn numbers_are_reused_and_values_stay() {
        let mut slab = Slab::new();
        assert_eq!((slab.get(0), slab.get(END), slab.allocated_bytes()), (None, None, 0));
        assert!(slab.is_unused());
        for i in 0..1000u32 {
            assert_eq!(slab.insert(vec![i]), Ok(i));
        }
        let size = slab.allocated_bytes();
        for i in (0..1000).step_by(2) {
            assert_eq!(slab.remove(i), Some(vec![i]));
            assert_eq!((slab.remove(i), slab.get(i)), (None, None));
            assert_eq!(slab.get_mut(i), None);
        }
        for i in (0..1000).step_by(2).rev() {
            assert_eq!(slab.insert(vec![i]), Ok(i));
        }
        assert_eq!(slab.allocated_bytes(), size);
        assert!((0..1000).all(|i| slab.get(i) == Some(&vec![i])));
        slab.prefetch(3);
        slab.prefetch(END);
    }

    #[test]
    fn without_memory_nothing_changes() {
        let mut slab = Slab::new();
        assert_eq!(famine::during(|| slab.insert(1)), Err(OutOfMemory));
        assert_eq!(slab.insert(2), Ok(0));
        assert_eq!(famine::during(|| slab.insert(3)), Ok(1));
        assert_eq!(slab.get(0), Some(&2));
    }
}
