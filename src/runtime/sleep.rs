//! How a core's poller sleeps when nothing arrives, and how it is woken: on its devices' descriptors and one of its own.
//!
//! Whoever changes something the poller acts on (a stop, a timer, output) changes it and then calls [`Sleeper::wake`]; the
//! poller calls [`Sleeper::note`] before it looks. So either it sees the change, or it does not fall asleep.

use crate::io::wake::Wake;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A core's poller, asleep or not.
#[derive(Debug, Default)]
pub struct Sleeper {
    wake: Wake,
    /// Somebody changed something since the poller began its round.
    asked: AtomicBool,
    asleep: AtomicBool,
}

impl Sleeper {
    /// Wakes the poller if it sleeps, and keeps it from falling asleep before its next round. Two atomic accesses when it is awake.
    pub fn wake(&self) {
        self.asked.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            self.wake.wake();
        }
    }

    /// A round begins: everything that was changed before is seen in it.
    pub fn note(&self) {
        self.asked.store(false, Ordering::SeqCst);
        self.wake.note();
    }

    /// Sleeps until one of `fds` is readable, somebody wakes, or the time is over.
    pub fn sleep(&self, fds: &mut Vec<libc::pollfd>, own: &[RawFd], most: Duration) {
        self.asleep.store(true, Ordering::SeqCst);
        if !self.asked.load(Ordering::SeqCst) {
            fds.clear();
            let all = own.iter().copied().chain(self.wake.fd());
            fds.extend(all.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }));
            let time = libc::timespec {
                tv_sec: most.as_secs().min(3600) as libc::time_t,
                tv_nsec: most.subsec_nanos().into(),
            };
            // SAFETY: as many entries as said; no signal mask. A signal ends the sleep, which is as good as its end.
            unsafe {
                libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, &raw const time, std::ptr::null())
            };
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}
