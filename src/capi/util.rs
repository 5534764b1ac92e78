//! Helpers beside the stack (endpoint-io.md §1.4).

use super::entry;
use crate::config::split_in_place;
use crate::net::rss::{Rss, RssForm};
use crate::runtime::affinity;
use crate::runtime::registry::REGISTRY;
use std::ffi::{c_char, c_int};

entry! {
    /// Cores of this machine that are online.
    fn GetNumCPUs() -> c_int, fails 1; {
        Ok(affinity::online_cores())
    }
}

entry! {
    /// The core a tuple is steered to (D21); when `num_queues` is the number of cores in the masks, the core id of that rank (D14).
    fn GetRSSCPUCore(sip: u32, dip: u32, sp: u16, dp: u16, num_queues: c_int) -> c_int, fails 0; {
        let Ok(queues) = u32::try_from(num_queues) else { return Ok(0) };
        let (rss, mask) = {
            let r = REGISTRY.read();
            let rss = r.devices.as_ref().map_or_else(|| Rss::new(RssForm::Wide), |d| d.rss());
            (rss, r.config.as_ref().map_or(0, |c| c.mos.cpu_mask))
        };
        let rank = rss.queue(sip, dip, sp, dp, queues);
        if mask.count_ones() != queues {
            return Ok(rank as c_int);
        }
        let core = (0..64).filter(|core| mask >> core & 1 == 1).nth(rank as usize);
        Ok(core.unwrap_or(rank as usize) as c_int)
    }
}

entry! {
    /// Splits a line into words in place: at most `max - 1` pointers and a NULL. -1: a NULL pointer, `max` below 1.
    fn StrToArgs(text: *mut c_char, argc: *mut c_int, argv: *mut *mut c_char, max: c_int) -> c_int, fails -1; {
        if text.is_null() || argc.is_null() || argv.is_null() || max < 1 {
            return Err(crate::monitor::Errno(libc::EINVAL));
        }
        // SAFETY: not NULL, so a writable C string, an int and `max` pointers by the caller's promise.
        unsafe {
            let len = libc::strlen(text) + 1;
            let words = split_in_place(std::slice::from_raw_parts_mut(text.cast::<u8>(), len), max as usize - 1);
            for (n, &at) in words.iter().enumerate() {
                *argv.add(n) = text.add(at);
            }
            *argv.add(words.len()) = std::ptr::null_mut();
            *argc = words.len() as c_int;
        }
        Ok(0)
    }
}

/// # Safety
/// `input` is NULL or has `len` bytes.
unsafe fn bytes_of<'a>(input: *const u8, len: usize) -> &'a [u8] {
    if input.is_null() || len == 0 || len > isize::MAX as usize {
        return &[];
    }
    // SAFETY: not NULL, so valid for `len` bytes by the caller's promise.
    unsafe { std::slice::from_raw_parts(input, len) }
}

entry! {
    /// xxHash, 32 bits.
    fn XXH32(input: *const u8, len: usize, seed: u32) -> u32, fails 0; {
        // SAFETY: the caller's promise.
        Ok(xxhash_rust::xxh32::xxh32(unsafe { bytes_of(input, len) }, seed))
    }
}

entry! {
    /// xxHash, 64 bits.
    fn XXH64(input: *const u8, len: usize, seed: u64) -> u64, fails 0; {
        // SAFETY: the caller's promise.
        Ok(xxhash_rust::xxh64::xxh64(unsafe { bytes_of(input, len) }, seed))
    }
}

entry! {
    /// The name of a single epoll bit; "UNKNOWN" for anything else, never NULL.
    fn EventToString(event: u32) -> *const c_char, fails c"UNKNOWN".as_ptr(); {
        Ok(match event {
            1 => c"NONE",
            2 => c"IN",
            4 => c"PRI",
            8 => c"OUT",
            512 => c"ERR",
            1024 => c"HUP",
            2048 => c"RDHUP",
            _ => c"UNKNOWN",
        }
        .as_ptr())
    }
}
