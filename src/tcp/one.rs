//! A heap cell that is there only when it is needed, in one word, and whose memory is asked for fallibly.

use super::store::OutOfMemory;

/// None or one `T`.
#[derive(Debug)]
pub struct One<T> {
    // A boxed array: a slice can be boxed without aborting when memory runs out, an array takes one word.
    cell: Option<Box<[T; 1]>>,
}

impl<T> One<T> {
    /// None.
    pub const fn none() -> Self {
        One { cell: None }
    }

    /// One.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the value is dropped.
    pub fn new(value: T) -> Result<Self, OutOfMemory> {
        let mut list = Vec::new();
        list.try_reserve_exact(1)?;
        list.push(value);
        Ok(One { cell: list.into_boxed_slice().try_into().ok() })
    }

    /// Whether there is none.
    #[inline]
    pub fn is_none(&self) -> bool {
        self.cell.is_none()
    }

    /// The `T`, if there is one.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        match &self.cell {
            Some(cell) => Some(&cell[0]),
            None => None,
        }
    }

    /// As [`One::get`], to change.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        match &mut self.cell {
            Some(cell) => Some(&mut cell[0]),
            None => None,
        }
    }

    /// Drops the `T`.
    pub fn free(&mut self) {
        self.cell = None;
    }
}

impl<T: Default> One<T> {
    /// The `T`, made when there is none.
    pub fn get_or_make(&mut self) -> Result<&mut T, OutOfMemory> {
        if self.cell.is_none() {
            *self = One::new(T::default())?;
        }
        self.get_mut().ok_or(OutOfMemory)
    }
}

impl<T> Default for One<T> {
    fn default() -> Self {
        One::none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_word_and_keeps_what_it_holds() {
        assert_eq!(size_of::<One<[u8; 100]>>(), size_of::<usize>());
        let mut one: One<u32> = One::none();
        assert_eq!(one.get(), None);
        *one.get_or_make().unwrap() = 7;
        assert_eq!(one.get_or_make(), Ok(&mut 7));
        assert_eq!(one.get(), Some(&7));
        one.free();
        assert!(one.is_none());
    }
}
