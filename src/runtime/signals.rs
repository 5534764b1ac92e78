//! SIGINT: the application's handler runs on an ordinary thread, where every call is allowed (D17).
//!
//! The signal handler proper only writes a byte to a pipe; a thread of ours reads it.

use super::registry;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Write end of the pipe, -1 when there is none.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The application's handler by address; 0: none.
static HANDLER: AtomicUsize = AtomicUsize::new(0);
static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

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
    let mut byte = [QUIT];
    while pipe.read_exact(&mut byte).is_ok() && byte[0] != QUIT {
        match HANDLER.load(Ordering::Acquire) {
            0 => {
                for context in registry::all() {
                    context.stop.store(true, Ordering::Release);
                }
            }
            handler => call(handler, libc::SIGINT),
        }
    }
}

/// Sets the application's SIGINT handler (0: none) and returns the one before.
pub fn set_handler(handler: usize) -> usize {
    HANDLER.swap(handler, Ordering::AcqRel)
}

/// Gives SIGINT back and ends the thread. Does nothing on that thread itself.
pub fn remove() {
    let mut thread = THREAD.lock();
    let Some(handle) = thread.take() else { return };
    if handle.thread().id() == std::thread::current().id() {
        *thread = Some(handle);
        return;
    }
    // SAFETY: the default action has no preconditions.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    let fd = PIPE.swap(-1, Ordering::AcqRel);
    let byte = QUIT;
    // SAFETY: the descriptor is ours, and closed only here; the byte lives through the call.
    unsafe {
        libc::write(fd, (&raw const byte).cast(), 1);
        drop(OwnedFd::from_raw_fd(fd));
    }
    let _ = handle.join();
    HANDLER.store(0, Ordering::Release);
}
