//! The C ABI and nothing else: one entry, pointer and argument checks, errno. No logic.
//!
//! Contract: endpoint-io.md §1, monitor.md §1. Every function goes through [`entry!`]: a panic is caught, logged once
//! and becomes an error; a failure sets errno and returns the function's own failure value. Callers owe that a pointer is
//! NULL or valid for its length.

pub mod abi;
mod context;
mod endpoint;
mod epoll;
mod event;
#[doc(hidden)]
pub mod foreign;
mod option;
mod packet;
mod socket;
mod stream;
mod util;

use crate::monitor::{Errno, Result};
use crate::runtime::{cancel, enter};
use abi::Mctx;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Defines an exported function: `fn name(args) -> type, fails value { body }`, where the body yields `Result<type>`.
macro_rules! entry {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $ret:ty, fails $fail:expr; $body:block) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// Each pointer is NULL or valid for what the contract says of it.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> $ret {
            $crate::capi::guard($fail, || -> $crate::monitor::Result<$ret> { $body })
        }
    };
}
pub(crate) use entry;

/// Runs an entry's body: errors become errno and `fail`, and so does a panic.
pub(crate) fn guard<R>(fail: R, body: impl FnOnce() -> Result<R>) -> R {
    static ONCE: Once = Once::new();
    // A thread that runs a core's rounds has it off anyway.
    let _whole = (!enter::in_round()).then(cancel::Off::here);
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(errno)) => {
            set_errno(errno);
            fail
        }
        Err(_) => {
            ONCE.call_once(|| {
                log::error!("a fault inside the library was contained; the call failed with EIO")
            });
            set_errno(Errno(libc::EIO));
            fail
        }
    }
}

fn set_errno(errno: Errno) {
    if errno != Errno::UNTOUCHED {
        // SAFETY: the C library's own errno of this thread.
        unsafe { *libc::__errno_location() = errno.0 };
    }
}

/// Gives errno back as it was: what other libraries leave there says nothing about a call of ours that succeeds.
struct ErrnoKept(i32);

impl ErrnoKept {
    fn new() -> Self {
        // SAFETY: the C library's own errno of this thread.
        ErrnoKept(unsafe { *libc::__errno_location() })
    }
}

impl Drop for ErrnoKept {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = self.0 };
    }
}

/// The reference overwrites a context error by EACCES in these calls (monitor.md §1.0).
const ACCESS: Option<Errno> = Some(Errno(libc::EACCES));

/// The core id behind a context pointer. NULL: EACCES.
///
/// # Safety
/// `mctx` is NULL or points to a `struct mtcp_context`.
unsafe fn cpu_of(mctx: Mctx) -> Result<i32> {
    if mctx.is_null() {
        return Err(Errno(libc::EACCES));
    }
    // SAFETY: not NULL, so valid by the caller's promise.
    Ok(unsafe { (*mctx).cpu })
}

/// A socket id that can be one at all. EBADF otherwise.
fn id_of(sock: i32, max: u32) -> Result<u32> {
    u32::try_from(sock).ok().filter(|&id| id < max).ok_or(Errno(libc::EBADF))
}

/// CLI or SVR. EINVAL otherwise (D1).
fn side_of(side: i32) -> Result<usize> {
    match side {
        0 | 1 => Ok(side as usize),
        _ => Err(Errno(libc::EINVAL)),
    }
}
