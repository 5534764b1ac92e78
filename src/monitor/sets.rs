//! Callback sets in use on this core, counted by the sockets that share them.
//!
//! A set that is no longer used is freed only when no dispatch is in progress: a walk keeps its set's number,
//! not a reference, across callbacks.

use super::hookset::HookSet;
use std::sync::Arc;

/// Numbers are smaller than this: flow sockets keep two bits beside them.
const MOST_SETS: usize = 1 << 30;

#[derive(Debug)]
struct Entry {
    set: Arc<HookSet>,
    users: u32,
}

/// Numbered callback sets.
#[derive(Debug, Default)]
pub struct HookSets {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// Sets without users that a dispatch may still be walking.
    unused: Vec<u32>,
}

impl HookSets {
    /// The number of `set`, counting one more user. `None`: out of memory, or of numbers.
    pub fn intern(&mut self, set: &Arc<HookSet>) -> Option<u32> {
        if self.free.is_empty() && self.entries.len() >= MOST_SETS {
            return None;
        }
        self.entries.try_reserve(1).ok()?;
        // Room for every later release, so that releasing never allocates.
        let all = self.entries.len() + 1;
        self.free.try_reserve(all - self.free.len().min(all)).ok()?;
        self.unused.try_reserve(all - self.unused.len().min(all)).ok()?;
        let entry = Some(Entry { set: set.clone(), users: 1 });
        Some(match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = entry;
                number
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        })
    }

    /// Counts one more user of a set.
    pub fn share(&mut self, number: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(number as usize) {
            entry.users += 1;
        }
    }

    /// Counts one user less.
    pub fn release(&mut self, number: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(number as usize) {
            entry.users -= 1;
            if entry.users == 0 {
                self.unused.push(number);
            }
        }
    }

    /// Frees what nobody uses; called when no dispatch is in progress.
    pub fn sweep(&mut self) {
        while let Some(number) = self.unused.pop() {
            let slot = &mut self.entries[number as usize];
            if slot.as_ref().is_some_and(|e| e.users == 0) {
                *slot = None;
                self.free.push(number);
            }
        }
    }

    /// A set by its number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&HookSet> {
        match self.entries.get(number as usize) {
            Some(Some(entry)) => Some(&entry.set),
            _ => None,
        }
    }

    /// A shared handle to a set.
    pub fn handle(&self, number: u32) -> Option<Arc<HookSet>> {
        match self.entries.get(number as usize) {
            Some(Some(entry)) => Some(entry.set.clone()),
            _ => None,
        }
    }

    /// Whether [`sweep`](Self::sweep) has something to do.
    #[inline]
    pub fn dirty(&self) -> bool {
        !self.unused.is_empty()
    }
}
