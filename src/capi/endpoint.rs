//! Calls on end-host sockets (endpoint-io.md §4.9).

use super::abi::Mctx;
use super::{ACCESS, cpu_of, entry, id_of};
use crate::endpoint::socket::{Kind, Socket};
use crate::flow::token::Token;
use crate::monitor::{Errno, Result};
use crate::runtime::context::Context;
use crate::runtime::enter;
use crate::runtime::wait::{Look, Patience};
use crate::tcp::tcb::calls::Shutdown;
use std::ffi::{c_char, c_int, c_void};
use std::net::{Ipv4Addr, SocketAddrV4};

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
    if !matches!(made, Err(Errno(libc::ENFILE))) || !make_room(cpu, wanted)? {
        return made;
    }
    enter::locked(cpu, ACCESS, &mut make)
}

/// Has monitored flows make room for `wanted` ids (D13). Whether it was worth trying.
fn make_room(cpu: i32, wanted: u32) -> Result<bool> {
    if enter::in_callback() {
        return Ok(false);
    }
    enter::anywhere(cpu, ACCESS, |c| {
        let there = || c.monitor.setup.lock().ids.available() >= wanted;
        c.monitor.evict_until(wanted, || c.alive(), there);
        Ok(there())
    })
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
    fn mtcp_ioctl(mctx: Mctx, sock: c_int, request: c_int, arg: *mut c_void) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::locked(cpu, ACCESS, |c, t| {
            let id = socket_of(c, t, sock, libc::EBADF)?;
            let st = c.endpoint.state(t);
            let socket = st.sockets.get_mut(id).ok_or(Errno(libc::EBADF))?;
            if !matches!(socket.kind, Kind::Stream(_) | Kind::Listener) {
                return Err(Errno(libc::EBADF));
            }
            if arg.is_null() {
                return Err(Errno(libc::EFAULT));
            }
            let value = arg.cast::<c_int>();
            match request as libc::c_ulong {
                libc::FIONBIO => {
                    // SAFETY: not NULL, so an int by the caller's promise.
                    socket.nonblocking = unsafe { value.read_unaligned() } != 0;
                    Ok(0)
                }
                libc::FIONREAD => {
                    let unread = st.unread(id)?.min(c_int::MAX as usize);
                    // SAFETY: not NULL, so room for an int by the caller's promise.
                    unsafe { value.write_unaligned(unread as c_int) };
                    Ok(0)
                }
                _ => Err(Errno(libc::EINVAL)),
            }
        })
    }
}

/// The address an application gives. NULL: `missing`; another family, or too short: `odd`.
///
/// # Safety
/// `addr` is NULL or has `len` bytes.
unsafe fn address_of(
    addr: *const libc::sockaddr,
    len: libc::socklen_t,
    missing: i32,
    odd: i32,
) -> Result<SocketAddrV4> {
    if addr.is_null() {
        return Err(Errno(missing));
    }
    if (len as usize) < size_of::<libc::sockaddr_in>() {
        return Err(Errno(odd));
    }
    // SAFETY: not NULL, so valid for `len` bytes by the caller's promise, which are enough.
    let addr = unsafe { addr.cast::<libc::sockaddr_in>().read_unaligned() };
    if i32::from(addr.sin_family) != libc::AF_INET {
        return Err(Errno(odd));
    }
    let ip = Ipv4Addr::from(addr.sin_addr.s_addr.to_ne_bytes());
    Ok(SocketAddrV4::new(ip, u16::from_be(addr.sin_port)))
}

/// Writes an address, as much of it as there is room for, and its whole length.
///
/// # Safety
/// `addr` has `*len` bytes.
pub(super) unsafe fn put_address(from: SocketAddrV4, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) {
    // SAFETY: plain data, valid when zeroed.
    let mut out: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    out.sin_family = libc::AF_INET as libc::sa_family_t;
    out.sin_port = from.port().to_be();
    out.sin_addr.s_addr = u32::from_ne_bytes(from.ip().octets());
    let whole = size_of::<libc::sockaddr_in>();
    // SAFETY: as many bytes as there is room for, by the caller's promise.
    unsafe {
        let room = (*len as usize).min(whole);
        std::ptr::copy_nonoverlapping((&raw const out).cast::<u8>(), addr.cast::<u8>(), room);
        *len = whole as libc::socklen_t;
    }
}

entry! {
    /// Gives a socket its own address. EACCES, EPERM, EBADF, ENOTSOCK, EINVAL (no address, bound already), EADDRINUSE.
    fn mtcp_bind(mctx: Mctx, sock: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::locked(cpu, ACCESS, |c, t| {
            let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
            let st = c.endpoint.state(t);
            if st.stream(id).is_none() {
                let listens = matches!(st.sockets.get(id).map(|s| &s.kind), Some(Kind::Listener));
                return Err(Errno(if listens { libc::EINVAL } else { libc::ENOTSOCK }));
            }
            // SAFETY: the caller's promise.
            let addr = unsafe { address_of(addr, len, libc::EINVAL, libc::EINVAL) }?;
            st.bind(id, addr).map(|()| 0)
        })
    }
}

entry! {
    /// Makes a socket a listener. EACCES, EPERM, EBADF, ENOTSOCK, EINVAL (backlog; connected), EADDRINUSE, ENOMEM.
    fn mtcp_listen(mctx: Mctx, sock: c_int, backlog: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::locked(cpu, ACCESS, |c, t| {
            let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
            let st = c.endpoint.state(t);
            if !matches!(st.sockets.get(id).map(|s| &s.kind), Some(Kind::Stream(_) | Kind::Listener)) {
                return Err(Errno(libc::ENOTSOCK));
            }
            if backlog <= 0 || backlog as u32 > c.monitor.settings.max_ids {
                return Err(Errno(libc::EINVAL));
            }
            c.touch();
            st.listen(id, backlog as usize).map(|()| 0)
        })
    }
}

entry! {
    /// Takes the next connection. EACCES, EPERM, EBADF, EINVAL (no listener), EAGAIN, EINTR, ENFILE, ENOMEM.
    fn mtcp_accept(mctx: Mctx, sock: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let look = |c: &Context, t: &mut Token| {
            let id = socket_of(c, t, sock, libc::EINVAL)?;
            match c.endpoint.accept(&c.monitor, t, id)? {
                Some(accepted) => Ok(Look::Done(accepted)),
                None => later(c.endpoint.view(t).sockets.get(id)),
            }
        };
        let mut accepted = enter::waiting(cpu, ACCESS, sock, Patience::ENDLESS, look);
        if accepted == Err(Errno(libc::ENFILE)) && make_room(cpu, 1)? {
            accepted = enter::waiting(cpu, ACCESS, sock, Patience::ENDLESS, look);
        }
        let (id, peer) = waited(accepted?)?;
        if !addr.is_null() && !len.is_null() {
            // SAFETY: neither is NULL, so room for `*len` bytes by the caller's promise.
            unsafe { put_address(peer, addr, len) };
        }
        Ok(id as c_int)
    }
}

entry! {
    /// Opens a connection. EACCES, EPERM, EBADF, ENOTSOCK, EFAULT, EAFNOSUPPORT, EINPROGRESS, EALREADY, EISCONN, EINVAL (no
    /// route; another core's), EAGAIN (no port), EADDRINUSE, ECONNREFUSED, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, EINTR.
    fn mtcp_connect(mctx: Mctx, sock: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let mut again = false;
        let connected = enter::waiting(cpu, ACCESS, sock, Patience::ENDLESS, |c, t| {
            let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
            if c.endpoint.view(t).stream(id).is_none() {
                return Err(Errno(libc::ENOTSOCK));
            }
            // SAFETY: the caller's promise.
            let peer = unsafe { address_of(addr, len, libc::EFAULT, libc::EAFNOSUPPORT) }?;
            let there = c.endpoint.connect(&c.monitor, t, id, peer, std::mem::replace(&mut again, true))?;
            if there {
                return Ok(Look::Done(()));
            }
            match c.endpoint.view(t).sockets.get(id) {
                Some(socket) if socket.nonblocking => Err(Errno(libc::EINPROGRESS)),
                _ => Ok(Look::Later),
            }
        })?;
        connected.map(|()| 0).ok_or(Errno(libc::EINPROGRESS))
    }
}

entry! {
    /// Ends a connection with a RST; the id is free afterwards. EACCES, EPERM, EBADF, ENOTSOCK, ENOTCONN.
    fn mtcp_abort(mctx: Mctx, sock: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::locked(cpu, ACCESS, |c, t| {
            let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
            c.endpoint.abort(&c.monitor, t, id).map(|()| 0)
        })
    }
}

entry! {
    /// Ends one or both directions. EACCES, EPERM, EBADF, ENOTSOCK, EINVAL (how), ENOTCONN.
    fn mtcp_shutdown(mctx: Mctx, sock: c_int, how: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::locked(cpu, ACCESS, |c, t| {
            let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
            let st = c.endpoint.state(t);
            match st.sockets.get(id).map(|s| &s.kind) {
                Some(Kind::Stream(_)) => {}
                Some(Kind::Listener) => return Err(Errno(libc::ENOTCONN)),
                _ => return Err(Errno(libc::ENOTSOCK)),
            }
            let how = match how {
                libc::SHUT_RD => Shutdown::Read,
                libc::SHUT_WR => Shutdown::Write,
                libc::SHUT_RDWR => Shutdown::Both,
                _ => return Err(Errno(libc::EINVAL)),
            };
            st.shutdown(id, how).map(|()| 0)
        })
    }
}

entry! {
    /// The own address. EACCES, EPERM, EBADF, ENOTSOCK, EFAULT, EINVAL (no room).
    fn mtcp_getsockname(mctx: Mctx, sock: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let own = enter::locked(cpu, None, |c, t| {
            let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
            c.endpoint.view(t).own_address(id)
        })?;
        if addr.is_null() || len.is_null() {
            return Err(Errno(libc::EFAULT));
        }
        // SAFETY: neither is NULL, so valid by the caller's promise.
        unsafe {
            if *len == 0 {
                return Err(Errno(libc::EINVAL));
            }
            put_address(own, addr, len);
        }
        Ok(0)
    }
}

/// The peer's address of a stream socket; `None`: the id is no end-host socket.
pub(super) fn peer_of(cpu: i32, sock: c_int) -> Result<Option<SocketAddrV4>> {
    enter::locked(cpu, ACCESS, |c, t| {
        let id = id_of(sock, c.monitor.settings.max_ids)?;
        let st = c.endpoint.view(t);
        if st.sockets.get(id).is_none() { Ok(None) } else { st.peer_address(id).map(Some) }
    })
}

entry! {
    /// Prepares source addresses of connections of this core: `num` from `base` on, or the way's own. EACCES, EPERM, EINVAL.
    fn mtcp_init_rss(mctx: Mctx, base: u32, num: c_int, daddr: u32, _dport: u32) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::locked(cpu, ACCESS, |c, t| {
            let num = u32::try_from(num).map_err(|_| Errno(libc::EINVAL))?;
            let addr = |raw: u32| Ipv4Addr::from(raw.to_ne_bytes());
            c.endpoint.init_rss(&c.monitor, t, addr(base), num, addr(daddr)).map(|()| 0)
        })
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
fn later<R>(socket: Option<&Socket>) -> Result<Look<R>> {
    match socket {
        Some(socket) if socket.nonblocking => Err(Errno(libc::EAGAIN)),
        Some(_) => Ok(Look::Later),
        None => Err(Errno(libc::EBADF)),
    }
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
    let read = enter::waiting(cpu, ACCESS, sock, Patience::ENDLESS, |c, t| {
        let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
        if flags & !libc::MSG_PEEK != 0 {
            return Err(Errno(libc::EINVAL));
        }
        let st = c.endpoint.state(t);
        // SAFETY: the caller's promise.
        let out = unsafe { filled(buf, len) }?;
        let peek = flags & libc::MSG_PEEK != 0;
        let read = match st.sockets.get(id).map(|s| &s.kind) {
            Some(Kind::Pipe { .. }) => st.read_pipe(id, out, peek)?,
            _ => st.read(id, out, peek)?,
        };
        read.map_or_else(|| later(st.sockets.get(id)), |read| Ok(Look::Done(read as isize)))
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
        let written = enter::waiting(cpu, ACCESS, sock, Patience::ENDLESS, |c, t| {
            let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
            let st = c.endpoint.state(t);
            // SAFETY: the caller's promise.
            let from = unsafe { given(buf, len) }?;
            let written = match st.sockets.get(id).map(|s| &s.kind) {
                Some(Kind::Pipe { .. }) => st.write_pipe(id, from)?,
                _ => st.write(id, from)?,
            };
            written.map_or_else(|| later(st.sockets.get(id)), |written| Ok(Look::Done(written as isize)))
        })?;
        waited(written)
    }
}

/// Most buffers of one call (POSIX IOV_MAX).
const MOST_BUFFERS: c_int = 1024;

/// The caller's list of buffers. EINVAL: an impossible number of them; EFAULT: none where there should be some.
///
/// # Safety
/// `iov` is NULL or has `count` elements.
unsafe fn buffers<'a>(iov: *const libc::iovec, count: c_int) -> Result<&'a [libc::iovec]> {
    match (count, iov.is_null()) {
        (0, _) => Ok(&[]),
        (1..=MOST_BUFFERS, true) => Err(Errno(libc::EFAULT)),
        // SAFETY: not NULL, so valid for `count` elements by the caller's promise.
        (1..=MOST_BUFFERS, false) => Ok(unsafe { std::slice::from_raw_parts(iov, count as usize) }),
        _ => Err(Errno(libc::EINVAL)),
    }
}

/// A stream socket: pipes have no lists of buffers.
fn stream_of(c: &Context, t: &Token, sock: c_int) -> Result<u32> {
    let id = socket_of(c, t, sock, libc::ENOTSOCK)?;
    c.endpoint.view(t).stream(id).map(|_| id).ok_or(Errno(libc::ENOTSOCK))
}

/// Does `one` for each buffer in order, until one is not filled. An error or a wait counts only when nothing was done before.
fn each(
    iov: &[libc::iovec],
    mut one: impl FnMut(&libc::iovec) -> Result<Option<usize>>,
) -> Result<Option<usize>> {
    let mut total = 0usize;
    for buffer in iov.iter().filter(|b| b.iov_len > 0) {
        match one(buffer) {
            Ok(Some(count)) => {
                total += count;
                if count < buffer.iov_len || total >= i32::MAX as usize {
                    break;
                }
            }
            Ok(None) if total == 0 => return Ok(None),
            Err(e) if total == 0 => return Err(e),
            _ => break,
        }
    }
    Ok(Some(total))
}

entry! {
    /// Reads into buffers in order. As `mtcp_read`, and EINVAL (number of buffers).
    fn mtcp_readv(mctx: Mctx, sock: c_int, iov: *const libc::iovec, count: c_int) -> isize, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let read = enter::waiting(cpu, ACCESS, sock, Patience::ENDLESS, |c, t| {
            let id = stream_of(c, t, sock)?;
            // SAFETY: the caller's promise.
            let iov = unsafe { buffers(iov, count) }?;
            let st = c.endpoint.state(t);
            let read = each(iov, |b| {
                // SAFETY: the caller's promise for each of them.
                st.read(id, unsafe { filled(b.iov_base.cast(), b.iov_len) }?, false)
            })?;
            read.map_or_else(|| later(st.sockets.get(id)), |read| Ok(Look::Done(read as isize)))
        })?;
        waited(read)
    }
}

entry! {
    /// Writes buffers in order. As `mtcp_write`, and EINVAL (number of buffers).
    fn mtcp_writev(mctx: Mctx, sock: c_int, iov: *const libc::iovec, count: c_int) -> isize, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let written = enter::waiting(cpu, ACCESS, sock, Patience::ENDLESS, |c, t| {
            let id = stream_of(c, t, sock)?;
            // SAFETY: the caller's promise.
            let iov = unsafe { buffers(iov, count) }?;
            let st = c.endpoint.state(t);
            let written = each(iov, |b| {
                // SAFETY: the caller's promise for each of them.
                st.write(id, unsafe { given(b.iov_base.cast(), b.iov_len) }?)
            })?;
            written.map_or_else(|| later(st.sockets.get(id)), |written| Ok(Look::Done(written as isize)))
        })?;
        waited(written)
    }
}
