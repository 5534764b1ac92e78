//! Waking a thread that waits for descriptors: an eventfd, written only when the one before was taken note of.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering, fence};

/// Nothing was told since the owner last looked.
const QUIET: u8 = 0;
/// Somebody is about to write.
const TELLING: u8 = 1;
/// The descriptor is readable.
const TOLD: u8 = 2;

/// One to be woken.
#[derive(Debug)]
pub struct Wake {
    /// `None`: this process has no descriptors left; its owner wakes up by the time it sleeps at most.
    fd: Option<File>,
    state: AtomicU8,
}

impl Default for Wake {
    fn default() -> Self {
        // SAFETY: no preconditions.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        // SAFETY: the descriptor is new and nobody else's.
        let fd = (fd >= 0).then(|| unsafe { File::from_raw_fd(fd) });
        Wake { fd, state: AtomicU8::new(QUIET) }
    }
}

impl Wake {
    /// Wakes the owner, now or when it next wants to sleep; what it is to find was written before. Cheap while it has not
    /// noted the last call.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.state.compare_exchange(QUIET, TELLING, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            if let Some(mut fd) = self.fd.as_ref() {
                let _ = fd.write(&1u64.to_ne_bytes());
            }
            self.state.store(TOLD, Ordering::SeqCst);
        }
    }

    /// The owner is awake, and looks at everything after this call.
    pub fn note(&self) {
        if self.state.load(Ordering::SeqCst) == TOLD {
            // Nobody writes in this state: what is read is what was told.
            if let Some(mut fd) = self.fd.as_ref() {
                let _ = fd.read(&mut [0; 8]);
            }
            self.state.store(QUIET, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
    }

    /// Readable when the owner is to wake up.
    pub fn fd(&self) -> Option<RawFd> {
        self.fd.as_ref().map(AsRawFd::as_raw_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, Instant};

    fn readable(wake: &Wake, ms: i32) -> bool {
        let mut fd = libc::pollfd { fd: wake.fd().expect("a descriptor"), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        unsafe { libc::poll(&mut fd, 1, ms) == 1 }
    }

    #[test]
    fn told_once_until_noted() {
        let wake = Wake::default();
        assert!(!readable(&wake, 0));
        wake.wake();
        wake.wake();
        assert!(readable(&wake, 0));
        wake.note();
        assert!(!readable(&wake, 0));
        wake.wake();
        assert!(readable(&wake, 0));
    }

    /// Whatever the interleaving, what was written before a call is found by an owner that sleeps only on the descriptor.
    #[test]
    fn no_wake_up_is_lost() {
        let (wake, value) = (Wake::default(), AtomicU64::new(0));
        const LAST: u64 = 20_000;
        std::thread::scope(|s| {
            s.spawn(|| {
                for _ in 0..LAST {
                    value.fetch_add(1, Ordering::Relaxed);
                    wake.wake();
                }
            });
            let start = Instant::now();
            while value.load(Ordering::Relaxed) < LAST {
                assert!(readable(&wake, 10_000), "asleep with {} told", value.load(Ordering::Relaxed));
                wake.note();
                assert!(start.elapsed() < Duration::from_secs(60));
            }
        });
    }
}
