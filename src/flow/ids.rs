//! Socket ids: small integers, dense, below a limit, used again in the order they were freed.
//!
//! The lowest id never used is handed out until some freed ids wait; an id just freed thus rests a little, and a stale
//! copy of it in an application meets no new socket at once. Ids in use and resting cost four bytes each; ids never used
//! cost nothing, whatever the limit (contract: K9).

use super::OutOfMemory;

/// Freed ids rest until this many newer ones were freed, while ids never used are left.
const RESTING: u32 = 64;
/// Ids per chunk (16 KiB).
const CHUNK: usize = 4096;
/// In the place of a successor: the id is in use.
const USED: u32 = u32::MAX;
/// In the place of a successor: the end of the queue.
const END: u32 = u32::MAX - 1;

/// A dense space of ids `0..limit`.
#[derive(Debug)]
pub struct IdSpace {
    /// For each id handed out at least once: `USED`, or the id freed next after it.
    next: Vec<Vec<u32>>,
    /// Ids handed out at least once: `0..fresh`.
    fresh: u32,
    limit: u32,
    oldest: u32,
    newest: u32,
    free: u32,
}

impl IdSpace {
    /// A space of the ids `0..limit`; a limit above `i32::MAX` counts as that.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let limit = limit.min(i32::MAX as u32);
        IdSpace { next: Vec::new(), fresh: 0, limit, oldest: END, newest: END, free: 0 }
    }

    /// An id that is not in use, or `None` when there is none or no memory for it.
    pub fn alloc(&mut self) -> Option<u32> {
        if self.free > RESTING {
            return self.take_oldest();
        }
        if self.fresh < self.limit && self.extend().is_ok() {
            self.fresh += 1;
            return Some(self.fresh - 1);
        }
        self.take_oldest()
    }

    /// Gives an id back. `false`, and nothing happens, when it is not in use.
    pub fn free(&mut self, id: u32) -> bool {
        if !self.is_used(id) {
            return false;
        }
        self.set(id, END);
        if self.newest == END {
            self.oldest = id;
        } else {
            self.set(self.newest, id);
        }
        self.newest = id;
        self.free += 1;
        true
    }

    /// Whether the id was handed out and not given back.
    #[must_use]
    pub fn is_used(&self, id: u32) -> bool {
        id < self.fresh && self.get(id) == USED
    }

    /// How many ids are in use.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.fresh - self.free
    }

    /// How many ids are not in use.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.limit - self.in_use()
    }

    /// How many ids there are.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Bytes held.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.next.capacity() * size_of::<Vec<u32>>()
            + self.next.iter().map(|chunk| chunk.capacity() * 4).sum::<usize>()
    }

    fn take_oldest(&mut self) -> Option<u32> {
        if self.oldest == END {
            return None;
        }
        let id = self.oldest;
        self.oldest = self.get(id);
        if self.oldest == END {
            self.newest = END;
        }
        self.set(id, USED);
        self.free -= 1;
        Some(id)
    }

    /// Makes the entry of id `fresh`, in use.
    fn extend(&mut self) -> Result<(), OutOfMemory> {
        let chunk = self.fresh as usize / CHUNK;
        if chunk == self.next.len() {
            let mut ids = Vec::new();
            ids.try_reserve_exact(CHUNK)?;
            self.next.try_reserve(1)?;
            self.next.push(ids);
        }
        self.next[chunk].push(USED);
        Ok(())
    }

    fn get(&self, id: u32) -> u32 {
        self.next[id as usize / CHUNK][id as usize % CHUNK]
    }

    fn set(&mut self, id: u32, next: u32) {
        self.next[id as usize / CHUNK][id as usize % CHUNK] = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn a_huge_limit_costs_nothing() {
        let mut ids = IdSpace::new(u32::MAX);
        assert_eq!(ids.limit(), i32::MAX as u32);
        assert_eq!(ids.allocated_bytes(), 0);
        assert_eq!(ids.alloc(), Some(0));
        assert!(ids.allocated_bytes() < 20_000);
    }

    #[test]
    fn a_million_ids_cost_four_bytes_each() {
        let mut ids = IdSpace::new(10_000_000);
        for id in 0..1_000_000 {
            assert_eq!(ids.alloc(), Some(id));
        }
        assert!(ids.allocated_bytes() < 4_200_000, "{}", ids.allocated_bytes());
    }

    #[test]
    fn churn_stays_dense() {
        let mut ids = IdSpace::new(1_000_000);
        let mut live: VecDeque<u32> = (0..100).map(|_| ids.alloc().unwrap()).collect();
        for _ in 0..100_000 {
            assert!(ids.free(live.pop_front().unwrap()));
            let id = ids.alloc().unwrap();
            assert!(id <= 100 + RESTING, "{id}");
            live.push_back(id);
        }
    }

    #[test]
    fn the_limit_holds_and_ends() {
        let mut ids = IdSpace::new(2);
        assert_eq!((ids.alloc(), ids.alloc(), ids.alloc()), (Some(0), Some(1), None));
        assert!(ids.free(1) && !ids.free(1) && !ids.free(2) && !ids.free(u32::MAX));
        assert_eq!((ids.alloc(), ids.alloc()), (Some(1), None));
        assert_eq!(IdSpace::new(0).alloc(), None);
    }

    proptest! {
        #[test]
        fn behaves_as_a_queue_of_freed_ids(
            limit in 0u32..300, steps in prop::collection::vec((0u8..5, any::<prop::sample::Index>()), 0..800),
        ) {
            let mut ids = IdSpace::new(limit);
            let (mut fresh, mut freed, mut used) = (0..limit, VecDeque::new(), Vec::new());
            for (action, which) in steps {
                if action < 3 {
                    let expected = if freed.len() > RESTING as usize {
                        freed.pop_front()
                    } else {
                        fresh.next().or_else(|| freed.pop_front())
                    };
                    prop_assert_eq!(ids.alloc(), expected);
                    used.extend(expected);
                } else if !used.is_empty() {
                    let id = used.swap_remove(which.index(used.len()));
                    prop_assert!(ids.is_used(id));
                    prop_assert!(ids.free(id));
                    prop_assert!(!ids.is_used(id));
                    freed.push_back(id);
                }
                prop_assert_eq!(ids.in_use() as usize, used.len());
            }
        }
    }
}
