//! Thread cancellation is off inside the library (design A): a thread that were cancelled in here would take locks with it, and
//! could not unwind through the C functions of the interface. A request made meanwhile takes effect after the call.

use std::ffi::c_int;

const PTHREAD_CANCEL_DISABLE: c_int = 1;

unsafe extern "C" {
    // POSIX; not among the libc crate's.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// While it lives, the thread that made it cannot be cancelled.
#[derive(Debug)]
pub struct Off {
    before: c_int,
    /// It belongs to its thread.
    _here: std::marker::PhantomData<*const ()>,
}

impl Off {
    /// Switches cancellation off.
    #[inline]
    pub fn here() -> Self {
        let mut before = PTHREAD_CANCEL_DISABLE;
        // SAFETY: `before` has room for the old state; the call touches nothing else.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
        Off { before, _here: std::marker::PhantomData }
    }
}

impl Drop for Off {
    #[inline]
    fn drop(&mut self) {
        if self.before != PTHREAD_CANCEL_DISABLE {
            // SAFETY: a state that this thread had before; NULL is allowed for the old one.
            unsafe { pthread_setcancelstate(self.before, std::ptr::null_mut()) };
        }
    }
}
