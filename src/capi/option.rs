//! Socket options (monitor.md §1.9, §6.7–6.8 as changed by D3, D9).

use super::abi::*;
use super::{ACCESS, cpu_of, entry, id_of};
use crate::endpoint::socket::Kind;
use crate::flow::record::{CLI, SVR};
use crate::monitor::options::Named;
use crate::monitor::{Errno, Result};
use crate::runtime::context::Context;
use crate::runtime::enter;
use crate::tcp::reassembly::Overlap;
use std::ffi::{c_int, c_void};

/// The client's of a pair of options, or the server's.
fn side_by(option: c_int, client: c_int) -> usize {
    if option == client { CLI } else { SVR }
}

entry! {
    /// Reads an option. EACCES, EBADF, EPERM (not in a callback), ENOTSOCK (not a flow), ENOSYS, EINVAL, ENODATA, EFAULT.
    fn mtcp_getsockopt(mctx: Mctx, sock: c_int, level: c_int, optname: c_int, optval: *mut c_void, optlen: *mut libc::socklen_t) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        if level != SOL_MONSOCKET {
            return enter::locked(cpu, ACCESS, |c, t| {
                let id = stream_option(c, t, sock, level)?;
                // SAFETY: the caller's promise.
                unsafe { get_stream(c, t, id, level, optname, optval, optlen) }
            });
        }
        let done = enter::on_core(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            if c.monitor.flow_id(t, id).is_none() {
                return Err(Errno(libc::ENOTSOCK));
            }
            if optval.is_null() || optlen.is_null() {
                return match optname {
                    MOS_TCP_STATE_CLI | MOS_TCP_STATE_SVR if !optval.is_null() => {
                        // SAFETY: not NULL, so room for an int by the caller's promise.
                        unsafe { tcp_state(c, t, id, optname, optval) }
                    }
                    _ => Err(Errno(libc::EFAULT)),
                };
            }
            // SAFETY: `optval` and `optlen` are not NULL, so valid for what each option says by the caller's promise.
            unsafe {
                match optname {
                    MOS_TCP_STATE_CLI | MOS_TCP_STATE_SVR => tcp_state(c, t, id, optname, optval),
                    MOS_INFO_CLIBUF | MOS_INFO_SVRBUF => buffer_info(c, t, id, optname, optval, optlen),
                    MOS_FRAGINFO_CLIBUF | MOS_FRAGINFO_SVRBUF => fragments(c, t, id, optname, optval, optlen),
                    MOS_TIMESTAMP => {
                        if *optlen < 4 {
                            return Err(Errno(libc::EINVAL));
                        }
                        let stamp = c.monitor.last_active(t, id).ok_or(Errno(libc::EBADF))?;
                        optval.cast::<u32>().write_unaligned(stamp);
                        Ok(0)
                    }
                    _ => Err(Errno(libc::ENOSYS)),
                }
            }
        });
        match done {
            // The range of the id is looked at before the thread.
            Err(Errno(libc::EPERM)) => {
                enter::anywhere(cpu, ACCESS, |c| id_of(sock, c.monitor.settings.max_ids))?;
                Err(Errno(libc::EPERM))
            }
            other => other,
        }
    }
}

/// Options of stream sockets (D19). Other sockets: ENOTSOCK; unknown options and levels: ENOSYS.
fn stream_option(c: &Context, t: &Token, sock: c_int, level: c_int) -> Result<u32> {
    let id = id_of(sock, c.monitor.settings.max_ids)?;
    if ![SOL_SOCKET, libc::IPPROTO_TCP, libc::IPPROTO_IP].contains(&level) {
        return Err(Errno(libc::ENOSYS));
    }
    let used = c.endpoint.view(t).sockets.get(id).is_some() || c.monitor.setup.lock().ids.is_used(id);
    c.endpoint.view(t).wishes(id).map_err(|_| Errno(if used { libc::ENOTSOCK } else { libc::EBADF }))?;
    Ok(id)
}

/// Reads an option of a stream socket: an int, or a `struct linger`.
///
/// # Safety
/// `optval` is NULL or has `*optlen` bytes; `optlen` is NULL or valid.
unsafe fn get_stream(
    c: &Context,
    t: &Token,
    id: u32,
    level: c_int,
    optname: c_int,
    optval: *mut c_void,
    optlen: *mut libc::socklen_t,
) -> Result<c_int> {
    let st = c.endpoint.view(t);
    let wishes = st.wishes(id)?;
    let listens = matches!(st.sockets.get(id).map(|s| &s.kind), Some(Kind::Listener));
    let (send, recv, mss) = st.sizes(id)?;
    let int = |v: u32| v.min(i32::MAX as u32) as c_int;
    let value = match (level, optname) {
        (SOL_SOCKET, libc::SO_ERROR) => [st.socket_error(id)?, 0],
        (SOL_SOCKET, libc::SO_REUSEADDR) => [wishes.reuse_addr.into(), 0],
        (SOL_SOCKET, libc::SO_REUSEPORT) => [wishes.reuse_port.into(), 0],
        (SOL_SOCKET, libc::SO_KEEPALIVE) => [wishes.keepalive.into(), 0],
        (SOL_SOCKET, libc::SO_RCVBUF) => [int(recv), 0],
        (SOL_SOCKET, libc::SO_SNDBUF) => [int(send), 0],
        (SOL_SOCKET, libc::SO_LINGER) => [wishes.linger.is_some().into(), wishes.linger.unwrap_or(0).into()],
        (SOL_SOCKET, libc::SO_TYPE) => [libc::SOCK_STREAM, 0],
        (SOL_SOCKET, libc::SO_ACCEPTCONN) => [listens.into(), 0],
        (libc::IPPROTO_TCP, libc::TCP_NODELAY) => [wishes.nodelay.into(), 0],
        (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => [int(mss), 0],
        (libc::IPPROTO_IP, libc::IP_TTL) => [wishes.used_ttl().into(), 0],
        (libc::IPPROTO_IP, libc::IP_TOS) => [wishes.tos.into(), 0],
        _ => return Err(Errno(libc::ENOSYS)),
    };
    let size = if (level, optname) == (SOL_SOCKET, libc::SO_LINGER) { 8 } else { 4 };
    if optval.is_null() || optlen.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: neither is NULL, so valid by the caller's promise, and no more is written than there is room for.
    unsafe {
        let room = (*optlen as usize).min(size);
        if room == 0 {
            return Err(Errno(libc::EINVAL));
        }
        std::ptr::copy_nonoverlapping(value.as_ptr().cast::<u8>(), optval.cast::<u8>(), room);
        *optlen = room as libc::socklen_t;
    }
    Ok(0)
}

/// Sets an option of a stream socket.
///
/// # Safety
/// `optval` is NULL or has `optlen` bytes.
unsafe fn set_stream(
    c: &Context,
    t: &mut Token,
    id: u32,
    level: c_int,
    optname: c_int,
    optval: *const c_void,
    optlen: libc::socklen_t,
) -> Result<c_int> {
    let lingers = (level, optname) == (SOL_SOCKET, libc::SO_LINGER);
    let known = match level {
        SOL_SOCKET => matches!(
            optname,
            libc::SO_REUSEADDR
                | libc::SO_REUSEPORT
                | libc::SO_KEEPALIVE
                | libc::SO_RCVBUF
                | libc::SO_SNDBUF
                | libc::SO_LINGER
        ),
        libc::IPPROTO_IP => matches!(optname, libc::IP_TTL | libc::IP_TOS),
        _ => optname == libc::TCP_NODELAY || optname == libc::TCP_MAXSEG,
    };
    if !known {
        return Err(Errno(libc::ENOSYS));
    }
    if optval.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    if (optlen as usize) < if lingers { 8 } else { 4 } {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: not NULL, so valid for `optlen` bytes by the caller's promise: an int, or two for a linger.
    let (value, seconds) = unsafe {
        let ints = optval.cast::<c_int>();
        (ints.read_unaligned(), if lingers { ints.add(1).read_unaligned() } else { 0 })
    };
    let mut wishes = c.endpoint.view(t).wishes(id)?;
    // What is too little for a segment, or too much for a window, is brought into range.
    let buffer = value.clamp(2048, 1 << 30) as u32;
    match (level, optname) {
        (SOL_SOCKET, libc::SO_REUSEADDR) => wishes.reuse_addr = value != 0,
        (SOL_SOCKET, libc::SO_REUSEPORT) => wishes.reuse_port = value != 0,
        (SOL_SOCKET, libc::SO_KEEPALIVE) => wishes.keepalive = value != 0,
        (SOL_SOCKET, libc::SO_RCVBUF) => wishes.recv_buffer = buffer,
        (SOL_SOCKET, libc::SO_SNDBUF) => wishes.send_buffer = buffer,
        (SOL_SOCKET, _) => {
            let seconds = seconds.clamp(0, u16::MAX.into()) as u16;
            wishes.linger = (value != 0).then_some(seconds);
        }
        (libc::IPPROTO_IP, libc::IP_TTL) => {
            if !wishes.set_ttl(value) {
                return Err(Errno(libc::EINVAL));
            }
        }
        (libc::IPPROTO_IP, _) => wishes.set_tos(value),
        (_, libc::TCP_MAXSEG) => wishes.mss = segment_size(value)?,
        _ => wishes.nodelay = value != 0,
    }
    c.endpoint.state(t).set_wishes(id, wishes).map(|()| 0)
}

/// What `TCP_MAXSEG` may say, in Linux's limits; 0: as configured.
fn segment_size(value: c_int) -> Result<u16> {
    match value {
        0 | 88..=32_767 => Ok(value as u16),
        _ => Err(Errno(libc::EINVAL)),
    }
}

type Token = crate::flow::token::Token;

unsafe fn tcp_state(
    c: &Context,
    t: &mut Token,
    id: u32,
    optname: c_int,
    optval: *mut c_void,
) -> Result<c_int> {
    let side = side_by(optname, MOS_TCP_STATE_CLI);
    let state = c.monitor.tcp_state(t, id, side).ok_or(Errno::UNTOUCHED)?;
    // SAFETY: room for an int by the caller's promise.
    unsafe { optval.cast::<c_int>().write_unaligned(state as c_int) };
    Ok(0)
}

unsafe fn buffer_info(
    c: &Context,
    t: &mut Token,
    id: u32,
    optname: c_int,
    optval: *mut c_void,
    optlen: *mut libc::socklen_t,
) -> Result<c_int> {
    // SAFETY: both valid by the caller's promise; `optval` has `*optlen` bytes.
    unsafe {
        if *optlen as usize != size_of::<TcpBufInfo>() {
            *optlen = 0;
            return Err(Errno(libc::EINVAL));
        }
        let Some(info) = c.monitor.buffer_info(t, id, side_by(optname, MOS_INFO_CLIBUF)) else {
            std::ptr::write_bytes(optval.cast::<u8>(), 0, size_of::<TcpBufInfo>());
            *optlen = 0;
            return Err(Errno(libc::ENODATA));
        };
        optval.cast::<TcpBufInfo>().write_unaligned(TcpBufInfo {
            tcpbi_init_seq: info.init_seq,
            tcpbi_last_byte_read: info.last_byte_read,
            tcpbi_next_byte_expected: info.next_byte_expected,
            tcpbi_last_byte_received: info.last_byte_received,
        });
    }
    Ok(0)
}

unsafe fn fragments(
    c: &Context,
    t: &mut Token,
    id: u32,
    optname: c_int,
    optval: *mut c_void,
    optlen: *mut libc::socklen_t,
) -> Result<c_int> {
    // SAFETY: both valid by the caller's promise; `optval` has room for `*optlen` elements (D9).
    unsafe {
        let capacity = *optlen as usize;
        *optlen = 0;
        if capacity == 0 {
            return Err(Errno::UNTOUCHED);
        }
        let out = optval.cast::<TcpRingFragment>();
        let mut count = 0;
        let found = c.monitor.fragments(t, id, side_by(optname, MOS_FRAGINFO_CLIBUF), |start, end| {
            let len = u32::try_from(end - start).unwrap_or(u32::MAX);
            out.add(count).write_unaligned(TcpRingFragment { offset: start, len });
            count += 1;
            count < capacity
        });
        found.ok_or(Errno::UNTOUCHED)?;
        if count < capacity {
            out.add(count).write_unaligned(TcpRingFragment { offset: 0, len: 0 });
        }
        *optlen = count as libc::socklen_t;
    }
    Ok(0)
}

entry! {
    /// Sets an option; `optlen` is only looked at for stream sockets. EACCES, EBADF, EFAULT, EINVAL, ENOSYS, ENOTSOCK; EPERM: see MOS_STOP_MON.
    fn mtcp_setsockopt(mctx: Mctx, sock: c_int, level: c_int, optname: c_int, optval: *const c_void, optlen: libc::socklen_t) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        if level != SOL_MONSOCKET {
            return enter::locked(cpu, ACCESS, |c, t| {
                let id = stream_option(c, t, sock, level)?;
                // SAFETY: the caller's promise.
                unsafe { set_stream(c, t, id, level, optname, optval, optlen) }
            });
        }
        let known = matches!(
            optname,
            MOS_CLIBUF | MOS_SVRBUF | MOS_FRAG_CLIBUF | MOS_FRAG_SVRBUF | MOS_CLIOVERLAP | MOS_SVROVERLAP | MOS_STOP_MON
        );
        let on_listener = enter::anywhere(cpu, ACCESS, |c| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            if !known {
                return Err(Errno(libc::ENOSYS));
            }
            if optval.is_null() {
                return Err(Errno(libc::EFAULT));
            }
            if c.monitor.setup.lock().get(id).is_none() {
                return Ok(None);
            }
            c.touch();
            // SAFETY: not NULL, so an int by the caller's promise (every option of a listener is one).
            let value = unsafe { optval.cast::<c_int>().read_unaligned() };
            set_listener(c, id, optname, value).map(Some)
        })?;
        if let Some(done) = on_listener {
            return Ok(done);
        }
        enter::locked(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            if c.monitor.named(t, id) != Named::Flow {
                return Err(Errno(libc::EBADF));
            }
            // SAFETY: not NULL, so valid for what each option says by the caller's promise: a byte or an int.
            let (byte, int) = unsafe {
                let overlap = matches!(optname, MOS_CLIOVERLAP | MOS_SVROVERLAP);
                (optval.cast::<u8>().read(), if overlap { 0 } else { optval.cast::<c_int>().read_unaligned() })
            };
            match optname {
                MOS_CLIBUF | MOS_SVRBUF => {
                    let size = usize::try_from(int).map_err(|_| Errno(libc::EINVAL))?;
                    c.monitor.set_buffer(t, id, side_by(optname, MOS_CLIBUF), size)?;
                }
                MOS_FRAG_CLIBUF | MOS_FRAG_SVRBUF if int == 0 => {
                    c.monitor.set_buffer(t, id, side_by(optname, MOS_FRAG_CLIBUF), 0)?;
                }
                MOS_FRAG_CLIBUF | MOS_FRAG_SVRBUF => return Err(Errno::UNTOUCHED),
                MOS_CLIOVERLAP | MOS_SVROVERLAP => {
                    let overlap = match byte {
                        0 => Ok(Overlap::First),
                        1 => Ok(Overlap::Last),
                        _ => Err(Errno(libc::EINVAL)),
                    };
                    c.monitor.set_overlap(t, id, side_by(optname, MOS_CLIOVERLAP), overlap)?;
                }
                _ => c.monitor.stop(t, id, side_mask(int)?)?,
            }
            Ok(0)
        })
    }
}

/// The sides MOS_STOP_MON is about, as a bit set.
fn side_mask(side: c_int) -> Result<u8> {
    match side {
        0 => Ok(1),
        1 => Ok(2),
        2 => Ok(3),
        _ => Err(Errno(libc::EINVAL)),
    }
}

fn set_listener(c: &Context, id: u32, optname: c_int, value: c_int) -> Result<c_int> {
    match optname {
        MOS_CLIBUF | MOS_SVRBUF => {
            let size = usize::try_from(value).map_err(|_| Errno(libc::EINVAL))?;
            c.monitor.set_listener_buffer(id, side_by(optname, MOS_CLIBUF), size);
            Ok(0)
        }
        MOS_FRAG_CLIBUF | MOS_FRAG_SVRBUF if value == 0 => Ok(0),
        MOS_FRAG_CLIBUF | MOS_FRAG_SVRBUF => Err(Errno::UNTOUCHED),
        MOS_STOP_MON => {
            // It takes effect and fails all the same (C117).
            c.monitor.stop_listener(id, side_mask(value)?);
            Err(Errno(libc::EPERM))
        }
        _ => Err(Errno(libc::EINVAL)),
    }
}

entry! {
    /// As `mtcp_setsockopt(…, MOS_STOP_MON, &side, …)`.
    fn mtcp_cb_stop(mctx: Mctx, sock: c_int, side: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise; the option's value is ours.
        Ok(unsafe { mtcp_setsockopt(mctx, sock, SOL_MONSOCKET, MOS_STOP_MON, (&raw const side).cast(), 4) })
    }
}
