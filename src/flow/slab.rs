//! A numbered collection that grows fallibly and reuses numbers, for the cold parts of few flows.

use super::OutOfMemory;

/// Numbered values; boxed, so that growing moves pointers only.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Option<Box<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    /// An empty slab.
    pub const fn new() -> Self {
        Slab { entries: Vec::new(), free: Vec::new() }
    }

    /// Adds a value and returns its number.
    pub fn insert(&mut self, value: T) -> Result<u32, OutOfMemory> {
        if let Some(number) = self.free.pop() {
            self.entries[number as usize] = Some(Box::new(value));
            return Ok(number);
        }
        let number = u32::try_from(self.entries.len()).map_err(|_| OutOfMemory)?;
        self.entries.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.free.try_reserve(self.entries.len() + 1).map_err(|_| OutOfMemory)?;
        self.entries.push(Some(Box::new(value)));
        Ok(number)
    }

    /// Takes a value out.
    pub fn remove(&mut self, number: u32) -> Option<Box<T>> {
        let value = self.entries.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(value)
    }

    /// A value by its number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.entries.get(number as usize)?.as_deref()
    }

    /// A value by its number.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.entries.get_mut(number as usize)?.as_deref_mut()
    }

    /// Bytes held by the slab itself and its boxes.
    pub fn allocated_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Option<Box<T>>>()
            + self.free.capacity() * 4
            + (self.entries.len() - self.free.len()) * size_of::<T>()
    }
}
