//! SIGINT: the application's handler runs on an ordinary thread, where every call is allowed (D17).
//!
//! The signal handler proper only writes a byte to a pipe; a thread of ours reads it.

use super::registry;
use parking_lot::Mutex;
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Write end of the pipe, -1 when there is none.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The application's handler by address, or SIG_DFL (0), or SIG_IGN.
static HANDLER: AtomicUsize = AtomicUsize::new(0);
static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

thread_local! {
    /// The calling thread is the one that runs handlers.
    static SERVES: Cell<bool> = const { Cell::new(false) };
}

const INTERRUPTED: u8 = 1;
const QUIT: u8 = 0;

extern "C" fn on_signal(_: libc::c_int) {
    let fd = PIPE.load(Ordering::Relaxed);
    let byte = INTERRUPTED;
    // SAFETY: write is async-signal-safe; errno is put back as the interrupted code left it.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(fd, (&raw const byte).cast(), 1);
        *libc::__errno_location() = errno;
    }
}

/// Takes over SIGINT. `call` runs the application's handler, given its address.
pub fn install(call: fn(usize, i32)) {
    let mut thread = THREAD.lock();
    if thread.is_some() {
        return;
    }
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for two descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        log::warn!("no pipe for signals: SIGINT keeps its meaning");
        return;
    }
    // A handler that is not served for long must not make the next signal wait for room.
    // SAFETY: the descriptor is ours.
    unsafe { libc::fcntl(fds[1], libc::F_SETFL, libc::O_NONBLOCK) };
    // SAFETY: pipe2 just gave us this descriptor and nobody else owns it.
    let reader = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    let spawned =
        std::thread::Builder::new().name("mos-signal".into()).spawn(move || serve(File::from(reader), call));
    let Ok(handle) = spawned else {
        log::warn!("no thread for signals: SIGINT keeps its meaning");
        return;
    };
    *thread = Some(handle);
    PIPE.store(fds[1], Ordering::Release);
    // SAFETY: `action` is plain data, valid when zeroed; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
    }
}

fn serve(mut pipe: File, call: fn(usize, i32)) {
    SERVES.set(true);
    let _whole = super::cancel::Off::here();
    let mut byte = [QUIT];
    while pipe.read_exact(&mut byte).is_ok() && byte[0] != QUIT {
        match HANDLER.load(Ordering::Acquire) {
            libc::SIG_DFL => {
                for context in registry::all() {
                    context.request_stop();
                }
            }
            libc::SIG_IGN => {}
            handler => {
                // Before, because the handler may wait for a thread that waits here; and after, because a thread that
                // finds nothing changed yet waits again.
                interrupt();
                call(handler, libc::SIGINT);
                interrupt();
            }
        }
    }
}

/// Threads that wait for end-host sockets get EINTR.
fn interrupt() {
    for context in registry::all() {
        context.waits.interrupt();
        context.sleeper.wake();
    }
}

/// Sets the application's SIGINT handler (SIG_DFL: all contexts end) and returns the one before.
pub fn set_handler(handler: usize) -> usize {
    HANDLER.swap(handler, Ordering::AcqRel)
}

/// Gives SIGINT back and ends the thread. Does nothing on that thread itself.
pub fn remove() {
    if SERVES.get() {
        return;
    }
    let mut thread = THREAD.lock();
    let Some(handle) = thread.take() else { return };
    // SAFETY: the default action has no preconditions.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    let fd = PIPE.swap(-1, Ordering::AcqRel);
    let byte = QUIT;
    // SAFETY: the descriptor is ours, and closed only here; the byte lives through the call.
    unsafe {
        libc::write(fd, (&raw const byte).cast(), 1);
        drop(OwnedFd::from_raw_fd(fd));
    }
    // The thread may be in the application's handler, which may call the library: not under the lock.
    drop(thread);
    let _ = handle.join();
    HANDLER.store(libc::SIG_DFL, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    static CALLS: AtomicUsize = AtomicUsize::new(0);

    /// A handler that ends the process's use of the library, as an application's may.
    fn ends_it(_: usize, _: i32) {
        CALLS.fetch_add(1, Ordering::AcqRel);
        std::thread::sleep(Duration::from_millis(50));
        remove();
    }

    #[test]
    fn an_ignored_signal_calls_nothing_and_a_handler_may_destroy() {
        install(ends_it);
        set_handler(libc::SIG_IGN);
        // SAFETY: SIGINT is served by `on_signal` now.
        unsafe { libc::raise(libc::SIGINT) };
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(CALLS.load(Ordering::Acquire), 0);
        // Any address: `ends_it` does not look at it.
        assert_eq!(set_handler(4096), libc::SIG_IGN);
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGINT) };
        while CALLS.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        // The handler is still running, and removes too.
        remove();
        assert!(THREAD.lock().is_none());
        assert_eq!(HANDLER.load(Ordering::Acquire), libc::SIG_DFL);
    }
}
