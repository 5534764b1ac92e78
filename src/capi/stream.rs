//! Reading streams (monitor.md §1.6).

use super::abi::Mctx;
use super::{ACCESS, cpu_of, entry, id_of, side_of};
use crate::monitor::{Errno, Result};
use crate::runtime::enter;
use std::ffi::{c_char, c_int};

/// The caller's buffer; no larger than a result can say.
///
/// # Safety
/// `buf` is NULL or has `len` bytes.
unsafe fn buffer<'a>(buf: *mut c_char, len: usize) -> Result<&'a mut [u8]> {
    // The reference narrows the length to an int.
    let len = len.min(i32::MAX as usize);
    if len == 0 {
        return Ok(&mut []);
    }
    if buf.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: not NULL, so valid for `len` bytes by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(buf.cast::<u8>(), len) })
}

entry! {
    /// Reads on. Bytes copied; 0: nothing unread; -(missing) with ENODATA: bytes were lost, the offset is behind them.
    /// EACCES, EPERM, EBADF, EINVAL (side; not there or unbuffered), EFAULT.
    fn mtcp_peek(mctx: Mctx, sock: c_int, side: c_int, buf: *mut c_char, len: usize) -> isize, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::on_core(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            // SAFETY: the caller's promise.
            let wanted = side_of(side).and_then(|side| Ok((side, unsafe { buffer(buf, len) }?)));
            let (side, out) = match wanted {
                Ok(wanted) => wanted,
                // What is wrong with the socket comes first.
                Err(_) if c.monitor.flow_id(t, id).is_none() => return Err(Errno(libc::EBADF)),
                Err(e) => return Err(e),
            };
            match c.monitor.peek(t, id, side, out)? {
                Ok(n) => Ok(n as isize),
                Err(missing) => {
                    super::set_errno(Errno(libc::ENODATA));
                    Ok(-(missing.min(isize::MAX as u64) as isize))
                }
            }
        })
    }
}

entry! {
    /// Reads at a stream offset, out-of-order bytes too. EACCES, EPERM, EBADF, ESOCKTNOSUPPORT, EINVAL; -1: nothing there.
    fn mtcp_ppeek(mctx: Mctx, sock: c_int, side: c_int, buf: *mut c_char, count: usize, off: u64) -> isize, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::on_core(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            if c.monitor.flow_id(t, id).is_none() {
                return Err(Errno(libc::ESOCKTNOSUPPORT));
            }
            let side = side_of(side)?;
            // SAFETY: the caller's promise.
            let out = unsafe { buffer(buf, count) }?;
            if out.is_empty() {
                // Whether a byte is there is asked with room for one.
                return c.monitor.ppeek(t, id, side, off, &mut [0]).map(|_| 0);
            }
            c.monitor.ppeek(t, id, side, off, out).map(|n| n as isize)
        })
    }
}
