//! The primitives the lock of a core is made of, in one place, so that a model checker can replace them.

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

/// The baton: one lock per core, handed over fairly (decision A).
#[derive(Debug, Default)]
pub struct Baton {
    lock: Mutex<()>,
}

/// Holding the baton; letting go hands it to whoever has waited longest.
#[derive(Debug)]
pub struct Held<'a> {
    guard: Option<MutexGuard<'a, ()>>,
}

impl Baton {
    /// Waits for the baton.
    pub fn take(&self) -> Held<'_> {
        Held { guard: Some(self.lock.lock()) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            MutexGuard::unlock_fair(guard);
        }
    }
}
