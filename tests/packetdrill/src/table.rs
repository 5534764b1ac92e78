//! The table of functions that packetdrill calls, in its order. Each takes the table's `userdata` first and is otherwise shaped
//! like the POSIX call of its name: a result, or -1 and errno.
//!
//! `fcntl` and `ioctl` are variadic in C. Here they take their one argument as a fixed one, which is called the same way for
//! integers and pointers on the architectures packetdrill runs on (x86-64, AArch64).

use crate::Result;
use crate::flags::Flags;
use crate::threads::Shared;
use crate::world::World;
use libc::{iovec, msghdr, nfds_t, pollfd, sockaddr, socklen_t, ssize_t, timeval, useconds_t};
use std::ffi::{CStr, c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_void};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

/// Most buffers of one call (POSIX IOV_MAX).
const MOST_BUFFERS: usize = 1024;

/// What `userdata` points to. `None`: `--so_flags` was wrong; every call fails with EINVAL.
type Userdata = Option<Shared>;
type U = *mut c_void;

macro_rules! table {
    ($($name:ident: fn($($arg:ty),*) -> $ret:ty,)*) => {
        /// See the file's head.
        #[repr(C)]
        #[derive(Clone, Copy)]
        #[allow(missing_docs)]
        pub struct Interface {
            pub userdata: U,
            pub free: unsafe extern "C" fn(U),
            $(pub $name: unsafe extern "C" fn(U, $($arg),*) -> $ret,)*
        }

        fn interface(userdata: U) -> Interface {
            Interface { userdata, free, $($name: call::$name,)* }
        }
    };
}

table! {
    socket: fn(c_int, c_int, c_int) -> c_int,
    bind: fn(c_int, *const sockaddr, socklen_t) -> c_int,
    listen: fn(c_int, c_int) -> c_int,
    accept: fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int,
    connect: fn(c_int, *const sockaddr, socklen_t) -> c_int,
    read: fn(c_int, *mut c_void, usize) -> ssize_t,
    readv: fn(c_int, *const iovec, c_int) -> ssize_t,
    recv: fn(c_int, *mut c_void, usize, c_int) -> ssize_t,
    recvfrom: fn(c_int, *mut c_void, usize, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t,
    recvmsg: fn(c_int, *mut msghdr, c_int) -> ssize_t,
    write: fn(c_int, *const c_void, usize) -> ssize_t,
    writev: fn(c_int, *const iovec, c_int) -> ssize_t,
    send: fn(c_int, *const c_void, usize, c_int) -> ssize_t,
    sendto: fn(c_int, *const c_void, usize, c_int, *const sockaddr, socklen_t) -> ssize_t,
    sendmsg: fn(c_int, *const msghdr, c_int) -> ssize_t,
    fcntl: fn(c_int, c_int, c_long) -> c_int,
    ioctl: fn(c_int, c_ulong, *mut c_int) -> c_int,
    close: fn(c_int) -> c_int,
    shutdown: fn(c_int, c_int) -> c_int,
    getsockopt: fn(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    setsockopt: fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
    poll: fn(*mut pollfd, nfds_t, c_int) -> c_int,
    netdev_send: fn(*const c_void, usize) -> c_int,
    netdev_receive: fn(*mut c_void, *mut usize, *mut c_longlong) -> c_int,
    usleep: fn(useconds_t) -> c_int,
    gettimeofday: fn(*mut timeval, *mut c_void) -> c_int,
    epoll_create: fn(c_int) -> c_int,
    epoll_ctl: fn(c_int, c_int, c_int, *mut libc::epoll_event) -> c_int,
    epoll_wait: fn(c_int, *mut libc::epoll_event, c_int, c_int) -> c_int,
    pipe: fn(*mut c_int) -> c_int,
    splice: fn(c_int, *mut i64, c_int, *mut i64, usize, c_uint) -> ssize_t,
}

/// Fills the table. `flags`: what `--so_flags` said, or NULL; see the README.
///
/// # Safety
/// `flags` is NULL or a string; `table` has room for the table.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, table: *mut Interface) {
    let made = catch_unwind(|| {
        // SAFETY: not NULL, so a string by the caller's promise.
        let text = if flags.is_null() { c"" } else { unsafe { CStr::from_ptr(flags) } };
        let flags = Flags::parse(&text.to_string_lossy())?;
        let world = World::new(&flags).map_err(|errno| format!("no stack: error number {errno}"))?;
        Ok(Shared::new(world))
    });
    let made: std::result::Result<Shared, String> = made.unwrap_or(Err("a fault".into()));
    let userdata: Userdata = made.map_err(|why| eprintln!("libmos_packetdrill: --so_flags: {why}")).ok();
    // SAFETY: room for the table by the caller's promise.
    unsafe { table.write(interface(Box::into_raw(Box::new(userdata)).cast())) };
}

/// # Safety
/// `userdata` is the table's, and not used again.
unsafe extern "C" fn free(userdata: U) {
    if !userdata.is_null() {
        // SAFETY: made by `packetdrill_interface_init`; freed once, by the caller's promise.
        let boxed = unsafe { Box::from_raw(userdata.cast::<Userdata>()) };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(boxed)));
    }
}

/// Runs a call: its result, or -1 and errno. No panic passes into C.
///
/// # Safety
/// `userdata` is the table's.
unsafe fn run<R: TryFrom<i64>>(userdata: U, call: impl FnOnce(&Shared) -> Result<i64>) -> R {
    // SAFETY: the caller's promise.
    let shared = unsafe { userdata.cast::<Userdata>().as_ref() }.and_then(Option::as_ref);
    let result = shared
        .ok_or(libc::EINVAL)
        .and_then(|shared| catch_unwind(AssertUnwindSafe(|| call(shared))).unwrap_or(Err(libc::EFAULT)));
    let value = result.unwrap_or_else(|errno| {
        // SAFETY: the thread's own.
        unsafe { *libc::__errno_location() = errno };
        -1
    });
    match R::try_from(value) {
        Ok(value) => value,
        // Counts are bounded by the buffers they are about.
        Err(_) => unreachable!("a result of {value}"),
    }
}

/// The address an application gives; `None`: AF_UNSPEC.
///
/// # Safety
/// `addr` is NULL or has `len` bytes.
unsafe fn address(addr: *const sockaddr, len: socklen_t) -> Result<Option<SocketAddrV4>> {
    if addr.is_null() {
        return Err(libc::EFAULT);
    }
    if (len as usize) < size_of::<libc::sa_family_t>() {
        return Err(libc::EINVAL);
    }
    // SAFETY: at least as many bytes, by the caller's promise.
    let family = unsafe { addr.cast::<libc::sa_family_t>().read_unaligned() };
    match i32::from(family) {
        libc::AF_UNSPEC => Ok(None),
        libc::AF_INET if len as usize >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: as many bytes, by the caller's promise.
            let addr = unsafe { addr.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(addr.sin_addr.s_addr.to_ne_bytes());
            Ok(Some(SocketAddrV4::new(ip, u16::from_be(addr.sin_port))))
        }
        libc::AF_INET => Err(libc::EINVAL),
        _ => Err(libc::EAFNOSUPPORT),
    }
}

/// Writes an address, as much of it as there is room for, and its whole length.
///
/// # Safety
/// `addr` is NULL or has `*len` bytes.
unsafe fn put_address(from: SocketAddrV4, addr: *mut sockaddr, len: *mut socklen_t) {
    if addr.is_null() || len.is_null() {
        return;
    }
    let mut bytes = [0; size_of::<libc::sockaddr_in>()];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&from.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&from.ip().octets());
    // SAFETY: as many bytes as there is room for, by the caller's promise.
    unsafe {
        let room = (*len as usize).min(bytes.len());
        slice::from_raw_parts_mut(addr.cast::<u8>(), room).copy_from_slice(&bytes[..room]);
        *len = bytes.len() as socklen_t;
    }
}

/// The caller's bytes.
///
/// # Safety
/// `at` is NULL or has `len` bytes.
unsafe fn given<'a>(at: *const c_void, len: usize) -> Result<&'a [u8]> {
    match (len.min(i32::MAX as usize), at.is_null()) {
        (0, _) => Ok(&[]),
        (_, true) => Err(libc::EFAULT),
        // SAFETY: not NULL, so `len` bytes by the caller's promise.
        (len, false) => Ok(unsafe { slice::from_raw_parts(at.cast(), len) }),
    }
}

/// The caller's bytes, to be filled.
///
/// # Safety
/// `at` is NULL or has `len` bytes.
unsafe fn filled<'a>(at: *mut c_void, len: usize) -> Result<&'a mut [u8]> {
    match (len.min(i32::MAX as usize), at.is_null()) {
        (0, _) => Ok(&mut []),
        (_, true) => Err(libc::EFAULT),
        // SAFETY: not NULL, so `len` bytes by the caller's promise.
        (len, false) => Ok(unsafe { slice::from_raw_parts_mut(at.cast(), len) }),
    }
}

/// The caller's list of buffers.
///
/// # Safety
/// `iov` is NULL or has `count` elements.
unsafe fn buffers<'a>(iov: *const iovec, count: usize) -> Result<&'a [iovec]> {
    match (count, iov.is_null()) {
        (0, _) => Ok(&[]),
        (1..=MOST_BUFFERS, true) => Err(libc::EFAULT),
        // SAFETY: not NULL, so `count` elements by the caller's promise.
        (1..=MOST_BUFFERS, false) => Ok(unsafe { slice::from_raw_parts(iov, count) }),
        _ => Err(libc::EINVAL),
    }
}

/// Reads into buffers, in order.
///
/// # Safety
/// Each of them is valid.
unsafe fn scatter(s: &Shared, fd: c_int, iov: &[iovec], flags: c_int) -> Result<i64> {
    let total = iov.iter().fold(0usize, |sum, b| sum.saturating_add(b.iov_len)).min(i32::MAX as usize);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(total).map_err(|_| libc::ENOMEM)?;
    bytes.resize(total, 0);
    let count = s.read(fd, &mut bytes, flags)?;
    let mut rest = &bytes[..count];
    for buffer in iov {
        let (now, later) = rest.split_at(rest.len().min(buffer.iov_len));
        // SAFETY: the caller's promise.
        unsafe { filled(buffer.iov_base, now.len()) }?.copy_from_slice(now);
        rest = later;
    }
    Ok(count as i64)
}

/// Writes buffers, in order.
///
/// # Safety
/// Each of them is valid.
unsafe fn gather(s: &Shared, fd: c_int, iov: &[iovec], flags: c_int) -> Result<i64> {
    let mut bytes = Vec::new();
    for buffer in iov {
        // SAFETY: the caller's promise.
        let more = unsafe { given(buffer.iov_base, buffer.iov_len) }?;
        bytes.try_reserve(more.len()).map_err(|_| libc::ENOMEM)?;
        bytes.extend_from_slice(more);
    }
    bytes.truncate(i32::MAX as usize);
    s.write(fd, &bytes, flags).map(|count| count as i64)
}

/// The functions of the table. For all of them: `userdata` is the table's, and pointers are what POSIX says of the call.
mod call {
    use super::*;

    macro_rules! calls {
        ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = |$s:ident| $body:expr;)*) => {
            $(
                $(#[$doc])*
                pub unsafe extern "C" fn $name(userdata: U, $($arg: $ty),*) -> $ret {
                    // SAFETY: `userdata` is the table's; what is done with pointers is what POSIX lets the call do.
                    unsafe { run(userdata, |$s: &Shared| -> Result<i64> { $body }) }
                }
            )*
        };
    }

    calls! {
        fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = |s| {
            s.now(|w| w.socket(domain, kind, protocol)).map(i64::from)
        };
        fn bind(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int = |s| {
            let to = address(addr, len)?.ok_or(libc::EAFNOSUPPORT)?;
            s.now(|w| w.bind(fd, to)).map(|()| 0)
        };
        fn listen(fd: c_int, backlog: c_int) -> c_int = |s| s.now(|w| w.listen(fd, backlog)).map(|()| 0);
        fn accept(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int = |s| {
            let (fd, peer) = s.accept(fd)?;
            put_address(peer, addr, len);
            Ok(fd.into())
        };
        fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int = |s| {
            match address(addr, len)? {
                Some(to) => s.connect(fd, to)?,
                None => s.now(|w| w.disconnect(fd))?,
            }
            Ok(0)
        };
        fn read(fd: c_int, buf: *mut c_void, len: usize) -> ssize_t = |s| {
            s.read(fd, filled(buf, len)?, 0).map(|count| count as i64)
        };
        fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t = |s| {
            scatter(s, fd, buffers(iov, usize::try_from(count).map_err(|_| libc::EINVAL)?)?, 0)
        };
        fn recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> ssize_t = |s| {
            s.read(fd, filled(buf, len)?, flags).map(|count| count as i64)
        };
        fn recvfrom(fd: c_int, buf: *mut c_void, len: usize, flags: c_int, _addr: *mut sockaddr, addr_len: *mut socklen_t) -> ssize_t = |s| {
            let count = s.read(fd, filled(buf, len)?, flags)?;
            // A connection does not say where bytes came from.
            if let Some(len) = addr_len.as_mut() {
                *len = 0;
            }
            Ok(count as i64)
        };
        fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t = |s| {
            let msg = msg.as_mut().ok_or(libc::EFAULT)?;
            let count = scatter(s, fd, buffers(msg.msg_iov, msg.msg_iovlen as _)?, flags)?;
            (msg.msg_namelen, msg.msg_controllen, msg.msg_flags) = (0, 0, 0);
            Ok(count)
        };
        fn write(fd: c_int, buf: *const c_void, len: usize) -> ssize_t = |s| {
            s.write(fd, given(buf, len)?, 0).map(|count| count as i64)
        };
        fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t = |s| {
            gather(s, fd, buffers(iov, usize::try_from(count).map_err(|_| libc::EINVAL)?)?, 0)
        };
        fn send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> ssize_t = |s| {
            s.write(fd, given(buf, len)?, flags).map(|count| count as i64)
        };
        /// The address is not looked at: where the bytes go is settled.
        fn sendto(fd: c_int, buf: *const c_void, len: usize, flags: c_int, _to: *const sockaddr, _to_len: socklen_t) -> ssize_t = |s| {
            s.write(fd, given(buf, len)?, flags).map(|count| count as i64)
        };
        fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t = |s| {
            let msg = msg.as_ref().ok_or(libc::EFAULT)?;
            gather(s, fd, buffers(msg.msg_iov, msg.msg_iovlen as _)?, flags)
        };
        fn fcntl(fd: c_int, command: c_int, arg: c_long) -> c_int = |s| {
            s.now(|w| w.control(fd, command, arg as c_int)).map(i64::from)
        };
        fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_int) -> c_int = |s| {
            let value = arg.as_mut().ok_or(libc::EFAULT)?;
            *value = s.now(|w| w.request(fd, request as u64, *value))?;
            Ok(0)
        };
        fn close(fd: c_int) -> c_int = |s| s.close(fd).map(|()| 0);
        fn shutdown(fd: c_int, how: c_int) -> c_int = |s| s.now(|w| w.shutdown(fd, how)).map(|()| 0);
        fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int = |s| {
            let len = len.as_mut().ok_or(libc::EFAULT)?;
            let room = filled(value, *len as usize)?;
            let bytes = s.now(|w| w.option(fd, level, name))?;
            let count = bytes.len().min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            *len = count as socklen_t;
            Ok(0)
        };
        fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int = |s| {
            let value = given(value, len as usize)?;
            s.now(|w| w.set_option(fd, level, name, value)).map(|()| 0)
        };
        fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int = |s| {
            let fds = match (count as usize, fds.is_null()) {
                (0, _) => &mut [],
                (_, true) => return Err(libc::EFAULT),
                (count, false) => slice::from_raw_parts_mut(fds, count.min(1 << 20)),
            };
            s.poll(fds, timeout).map(|count| count as i64)
        };
        fn netdev_send(packet: *const c_void, len: usize) -> c_int = |s| {
            s.send(given(packet, len)?);
            Ok(0)
        };
        fn netdev_receive(packet: *mut c_void, len: *mut usize, time: *mut c_longlong) -> c_int = |s| {
            let len = len.as_mut().ok_or(libc::EFAULT)?;
            let room = filled(packet, *len)?;
            let Some((at, bytes)) = s.receive() else {
                *len = 0;
                return Ok(0);
            };
            if room.len() < bytes.len() {
                return Err(libc::EMSGSIZE);
            }
            room[..bytes.len()].copy_from_slice(&bytes);
            *len = bytes.len();
            if let Some(time) = time.as_mut() {
                *time = at as c_longlong;
            }
            Ok(0)
        };
        fn usleep(us: useconds_t) -> c_int = |s| {
            s.sleep(us.into());
            Ok(0)
        };
        fn gettimeofday(time: *mut timeval, _zone: *mut c_void) -> c_int = |s| {
            let now = s.time();
            if let Some(time) = time.as_mut() {
                *time = timeval { tv_sec: (now / 1_000_000) as _, tv_usec: (now % 1_000_000) as _ };
            }
            Ok(0)
        };
        fn epoll_create(size: c_int) -> c_int = |s| s.now(|w| w.epoll_create(size)).map(i64::from);
        fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut libc::epoll_event) -> c_int = |s| {
            let event = if event.is_null() { None } else { Some(event.read_unaligned()) };
            s.now(|w| w.epoll_ctl(epfd, op, fd, event.map(|e| (e.events, e.u64)))).map(|()| 0)
        };
        fn epoll_wait(epfd: c_int, events: *mut libc::epoll_event, most: c_int, timeout: c_int) -> c_int = |s| {
            if events.is_null() {
                return Err(libc::EFAULT);
            }
            let found = s.epoll_wait(epfd, most, timeout)?;
            for (n, &(events_of, data)) in found.iter().enumerate() {
                events.add(n).write_unaligned(libc::epoll_event { events: events_of, u64: data });
            }
            Ok(found.len() as i64)
        };
        fn pipe(ends: *mut c_int) -> c_int = |s| {
            if ends.is_null() {
                return Err(libc::EFAULT);
            }
            for (n, fd) in s.now(|w| w.pipe())?.into_iter().enumerate() {
                ends.add(n).write_unaligned(fd);
            }
            Ok(0)
        };
        fn splice(from: c_int, from_at: *mut i64, to: c_int, to_at: *mut i64, len: usize, flags: c_uint) -> ssize_t = |s| {
            // Neither end is a file.
            if !from_at.is_null() || !to_at.is_null() {
                return Err(libc::ESPIPE);
            }
            s.splice(from, to, len, flags).map(|count| count as i64)
        };
    }
}
