//! Calls on end-host sockets (endpoint-io.md §4.9).

use super::abi::Mctx;
use super::{ACCESS, cpu_of, entry, id_of};
use crate::endpoint::socket::{Kind, Socket};
use crate::flow::token::Token;
use crate::monitor::{Errno, Result};
use crate::runtime::context::Context;
use crate::runtime::enter;
use crate::runtime::wait::Look;
use std::ffi::{c_char, c_int, c_void};

/// Whether an id names a monitor socket.
pub(super) fn is_others(c: &Context, t: &Token, id: u32) -> bool {
    c.endpoint.view(t).sockets.get(id).is_none() && c.monitor.setup.lock().ids.is_used(id)
}

/// An id in use by an end-host socket; by another: `others`; unused or impossible: EBADF.
fn socket_of(c: &Context, t: &Token, sock: c_int, others: i32) -> Result<u32> {
    let id = id_of(sock, c.monitor.settings.max_ids)?;
    if c.endpoint.view(t).sockets.get(id).is_some() {
        return Ok(id);
    }
    Err(Errno(if is_others(c, t, id) { others } else { libc::EBADF }))
}

/// Makes what takes `wanted` ids; when none are free, a monitored flow has to make room, on the core's own thread (D13).
pub(super) fn need_ids<R>(
    cpu: i32,
    wanted: u32,
    mut make: impl FnMut(&Context, &mut Token) -> Result<R>,
) -> Result<R> {
    let made = enter::locked(cpu, ACCESS, &mut make);
    if !matches!(made, Err(Errno(libc::ENFILE))) || enter::in_callback() {
        return made;
    }
    enter::anywhere(cpu, ACCESS, |c| {
        c.monitor.evict_until(wanted, || c.alive(), || c.monitor.setup.lock().ids.available() >= wanted);
        Ok(())
    })?;
    enter::locked(cpu, ACCESS, &mut make)
}

entry! {
    /// Makes a socket non-blocking, whatever it is. EACCES, EPERM, EBADF.
    fn mtcp_setsock_nonblock(mctx: Mctx, sock: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::locked(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            if let Some(socket) = c.endpoint.state(t).sockets.get_mut(id) {
                socket.nonblocking = true;
                return Ok(0);
            }
            if is_others(c, t, id) { Ok(0) } else { Err(Errno(libc::EBADF)) }
        })
    }
}

entry! {
    /// FIONREAD, FIONBIO on a stream or listener. EACCES, EPERM, EBADF, EFAULT, EINVAL (request).
    fn mtcp_ioctl(mctx: Mctx, sock: c_int, _request: c_int, _arg: *mut c_void) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::locked(cpu, ACCESS, |c, t| {
            socket_of(c, t, sock, libc::EBADF)?;
            Err(Errno(libc::EBADF))
        })
    }
}

/// A call that only a stream socket has: of others ENOTSOCK. There are none yet.
macro_rules! stream_only {
    ($($(#[$meta:meta])* $name:ident($($arg:ident: $type:ty),*) -> $ret:ty, others $others:expr;)*) => {$(
        entry! {
            $(#[$meta])*
            fn $name(mctx: Mctx, sock: c_int $(, $arg: $type)*) -> $ret, fails -1; {
                // SAFETY: the caller's promise.
                let cpu = unsafe { cpu_of(mctx) }?;
                enter::locked(cpu, ACCESS, |c, t| {
                    socket_of(c, t, sock, $others)?;
                    Err(Errno($others))
                })
            }
        }
    )*};
}

stream_only! {
    /// Gives a socket its own address. EBADF, ENOTSOCK.
    mtcp_bind(_addr: *const libc::sockaddr, _len: libc::socklen_t) -> c_int, others libc::ENOTSOCK;
    /// Makes a socket a listener. EBADF, ENOTSOCK.
    mtcp_listen(_backlog: c_int) -> c_int, others libc::ENOTSOCK;
    /// Takes the next connection. EBADF, EINVAL (no listener).
    mtcp_accept(_addr: *mut libc::sockaddr, _len: *mut libc::socklen_t) -> c_int, others libc::EINVAL;
    /// Opens a connection. EBADF, ENOTSOCK.
    mtcp_connect(_addr: *const libc::sockaddr, _len: libc::socklen_t) -> c_int, others libc::ENOTSOCK;
    /// Ends a connection with a RST. EBADF, ENOTSOCK.
    mtcp_abort() -> c_int, others libc::ENOTSOCK;
    /// Ends one or both directions. EBADF, ENOTSOCK.
    mtcp_shutdown(_how: c_int) -> c_int, others libc::ENOTSOCK;
    /// The own address. EBADF, ENOTSOCK.
    mtcp_getsockname(_addr: *mut libc::sockaddr, _len: *mut libc::socklen_t) -> c_int, others libc::ENOTSOCK;
}

entry! {
    /// Prepares source addresses. Not there yet: ENOSYS.
    fn mtcp_init_rss(mctx: Mctx, _base: u32, _num: c_int, _daddr: u32, _dport: u32) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::anywhere(cpu, ACCESS, |_| Err(Errno(libc::ENOSYS)))
    }
}

/// The caller's buffer to be filled; no larger than a result can say.
///
/// # Safety
/// `buf` is NULL or has `len` bytes.
unsafe fn filled<'a>(buf: *mut c_char, len: usize) -> Result<&'a mut [u8]> {
    match (len.min(i32::MAX as usize), buf.is_null()) {
        (0, _) => Ok(&mut []),
        (_, true) => Err(Errno(libc::EFAULT)),
        // SAFETY: not NULL, so valid for `len` bytes by the caller's promise.
        (len, false) => Ok(unsafe { std::slice::from_raw_parts_mut(buf.cast::<u8>(), len) }),
    }
}

/// The caller's bytes; no more than a result can say.
///
/// # Safety
/// `buf` is NULL or has `len` bytes.
unsafe fn given<'a>(buf: *const c_char, len: usize) -> Result<&'a [u8]> {
    match (len.min(i32::MAX as usize), buf.is_null()) {
        (0, _) => Ok(&[]),
        (_, true) => Err(Errno(libc::EFAULT)),
        // SAFETY: not NULL, so valid for `len` bytes by the caller's promise.
        (len, false) => Ok(unsafe { std::slice::from_raw_parts(buf.cast::<u8>(), len) }),
    }
}

/// What a call does that cannot be done yet.
fn later<R>(socket: &Socket) -> Result<Look<R>> {
    if socket.nonblocking { Err(Errno(libc::EAGAIN)) } else { Ok(Look::Later) }
}

/// What a blocking call gives that could not wait, because it came from a callback.
fn waited<R>(result: Option<R>) -> Result<R> {
    result.ok_or(Errno(libc::EAGAIN))
}

/// # Safety
/// `buf` is NULL or has `len` bytes.
unsafe fn receive(mctx: Mctx, sock: c_int, buf: *mut c_char, len: usize, flags: c_int) -> Result<isize> {
    // SAFETY: the caller's promise.
    let cpu = unsafe { cpu_of(mctx) }?;
    let read = enter::waiting(cpu, ACCESS, sock, None, |c, t| {
        let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
        if flags & !libc::MSG_PEEK != 0 {
            return Err(Errno(libc::EINVAL));
        }
        let st = c.endpoint.state(t);
        // SAFETY: the caller's promise.
        let out = unsafe { filled(buf, len) }?;
        let read = match st.sockets.get(id).map(|s| &s.kind) {
            Some(Kind::Pipe { .. }) => st.read_pipe(id, out, flags & libc::MSG_PEEK != 0)?,
            _ => return Err(Errno(libc::ENOTSOCK)),
        };
        match (read, st.sockets.get(id)) {
            (Some(read), _) => Ok(Look::Done(read as isize)),
            (None, Some(socket)) => later(socket),
            (None, None) => Err(Errno(libc::EBADF)),
        }
    })?;
    waited(read)
}

entry! {
    /// Reads; 0: the end. `flags`: 0 or MSG_PEEK. EACCES, EPERM, EBADF, ENOTSOCK, EINVAL, EFAULT, EAGAIN, EINTR.
    fn mtcp_recv(mctx: Mctx, sock: c_int, buf: *mut c_char, len: usize, flags: c_int) -> isize, fails -1; {
        // SAFETY: the caller's promise.
        unsafe { receive(mctx, sock, buf, len, flags) }
    }
}

entry! {
    /// As `mtcp_recv` without flags.
    fn mtcp_read(mctx: Mctx, sock: c_int, buf: *mut c_char, len: usize) -> isize, fails -1; {
        // SAFETY: the caller's promise.
        unsafe { receive(mctx, sock, buf, len, 0) }
    }
}

entry! {
    /// Writes what there is room for. EACCES, EPERM, EBADF, ENOTSOCK, EFAULT, EAGAIN, EPIPE, EINTR.
    fn mtcp_write(mctx: Mctx, sock: c_int, buf: *const c_char, len: usize) -> isize, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let written = enter::waiting(cpu, ACCESS, sock, None, |c, t| {
            let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
            let st = c.endpoint.state(t);
            // SAFETY: the caller's promise.
            let from = unsafe { given(buf, len) }?;
            let written = match st.sockets.get(id).map(|s| &s.kind) {
                Some(Kind::Pipe { .. }) => st.write_pipe(id, from)?,
                _ => return Err(Errno(libc::ENOTSOCK)),
            };
            match (written, st.sockets.get(id)) {
                (Some(written), _) => Ok(Look::Done(written as isize)),
                (None, Some(socket)) => later(socket),
                (None, None) => Err(Errno(libc::EBADF)),
            }
        })?;
        waited(written)
    }
}

stream_only! {
    /// Reads into buffers in order. EBADF, ENOTSOCK.
    mtcp_readv(_iov: *const libc::iovec, _count: c_int) -> isize, others libc::ENOTSOCK;
    /// Writes buffers in order. EBADF, ENOTSOCK.
    mtcp_writev(_iov: *const libc::iovec, _count: c_int) -> isize, others libc::ENOTSOCK;
}
