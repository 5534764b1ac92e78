//! Monitor sockets: making, closing, filters, user pointers, addresses (monitor.md §1.1, §1.2, §1.5, §7.4).

use super::abi::{Mctx, MonitorFilter};
use super::endpoint::{need_ids, peer_of, put_address};
use super::{ACCESS, ErrnoKept, cpu_of, entry, id_of};
use crate::monitor::filter::{RawFilter, StreamFilter};
use crate::monitor::listener::Kind;
use crate::monitor::options::Named;
use crate::monitor::{Errno, Result};
use crate::runtime::context::Context;
use crate::runtime::enter;
use crate::runtime::wait::{Look, Patience, deadline};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::SocketAddr;
use std::sync::Arc;

const MONITOR_STREAM: c_int = 3;
const MONITOR_RAW: c_int = 7;

entry! {
    /// Makes a socket. EACCES, EAFNOSUPPORT, EINVAL (type), ENFILE (no id), ENOMEM.
    fn mtcp_socket(mctx: Mctx, domain: c_int, kind: c_int, _protocol: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        if domain == libc::AF_INET && kind == libc::SOCK_STREAM {
            return need_ids(cpu, 1, |c, t| c.endpoint.socket(&c.monitor, t).map(|id| id as c_int));
        }
        let made = enter::anywhere(cpu, ACCESS, |c| {
            if domain != libc::AF_INET {
                return Err(Errno(libc::EAFNOSUPPORT));
            }
            let kind = match kind {
                MONITOR_STREAM => Kind::Stream,
                MONITOR_RAW => Kind::Raw,
                _ => return Err(Errno(libc::EINVAL)),
            };
            if !monitors(c) {
                return Err(Errno(libc::ENFILE));
            }
            c.touch();
            let id = c.monitor.change_setup(|setup| setup.add(kind));
            Ok(id.ok_or(kind))
        })?;
        match made {
            Ok(id) => Ok(id as c_int),
            Err(kind) => evict_for(cpu, kind),
        }
    }
}

/// No id is free: a flow has to make room (D13), on the core's own thread.
fn evict_for(cpu: i32, kind: Kind) -> Result<c_int> {
    if enter::in_callback() {
        return Err(Errno(libc::ENFILE));
    }
    let id = enter::anywhere(cpu, ACCESS, |c| Ok(c.monitor.add_by_eviction(kind, || c.alive())))?;
    id.map(|id| id as c_int).ok_or(Errno(libc::ENFILE))
}

/// Whether the configuration is for monitors at all (monitor.md §1.1).
fn monitors(c: &Context) -> bool {
    c.config.apps.iter().any(|a| a.kind == "monitor") || !c.config.has_endpoint()
}

entry! {
    /// Closes a socket; a monitor's later flows do not have its callbacks. A blocking one with SO_LINGER and a time waits so long
    /// for its peer to have everything. EACCES, EPERM, EBADF.
    fn mtcp_close(mctx: Mctx, sock: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let closed = enter::anywhere(cpu, ACCESS, |c| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            Ok(c.monitor.change_setup(|setup| setup.remove(id)))
        })?;
        if closed {
            return Ok(0);
        }
        let lingered = if enter::in_callback() { None } else { linger(cpu, sock)? };
        enter::locked(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            if lingered.is_some_and(|generation| c.endpoint.view(t).sockets.generation(id) != generation) {
                // Another thread has closed it meanwhile; the id may be another socket's by now.
                return Ok(0);
            }
            c.endpoint.close(&c.monitor, t, id).ok_or(Errno(libc::EBADF))?.map(|()| 0)
        })
    }
}

/// Waits as SO_LINGER says, before the close itself: the generation of the socket that did, which others may have closed meanwhile.
fn linger(cpu: i32, sock: c_int) -> Result<Option<u32>> {
    let begun = enter::locked(cpu, ACCESS, |c, t| {
        let id = id_of(sock, c.monitor.settings.max_ids)?;
        let st = c.endpoint.state(t);
        Ok(st.begin_to_linger(id).map(|seconds| (id, seconds, st.sockets.generation(id))))
    })?;
    let Some((id, seconds, generation)) = begun else { return Ok(None) };
    let patience = Patience { until: deadline(i32::from(seconds) * 1000), polls_first: false };
    // However the wait ends, what is left goes on in the background.
    let _ = enter::waiting(cpu, ACCESS, sock, patience, |c, t| {
        let st = c.endpoint.view(t);
        let over = st.sockets.generation(id) != generation || st.has_lingered(id);
        Ok(if over { Look::Done(()) } else { Look::Later })
    });
    Ok(Some(generation))
}

/// The text behind a filter pointer; `None` for NULL.
///
/// # Safety
/// `text` is NULL or a C string.
unsafe fn text_of<'a>(text: *const c_char) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so a C string by the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Some).map_err(|_| Errno(libc::EINVAL))
}

entry! {
    /// Binds filters (monitor.md §5). NULL: 0. EACCES, EBADF, EINVAL (text), ENOPROTOOPT (not a listener).
    fn mtcp_bind_monitor_filter(mctx: Mctx, sock: c_int, filter: *mut MonitorFilter) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        // libpcap's compiler looks names up, which may leave anything.
        let _errno = ErrnoKept::new();
        enter::anywhere(cpu, ACCESS, |c| {
            if filter.is_null() {
                log::info!("mtcp_bind_monitor_filter(): no filter given, nothing is bound");
                return Ok(0);
            }
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            c.touch();
            let kind = c.monitor.setup.lock().get(id).map(|l| l.kind).ok_or(Errno(libc::ENOPROTOOPT))?;
            // SAFETY: not NULL, so a whole union by the caller's promise, its members NULL or C strings.
            let first = unsafe { text_of((*filter).raw_or_syn) }?;
            let refused = |e: &dyn std::fmt::Display| {
                log::warn!("mtcp_bind_monitor_filter(): {e}");
                Errno(libc::EINVAL)
            };
            if kind == Kind::Raw {
                if let Some(text) = first {
                    let raw = Arc::new(RawFilter::new(text).map_err(|e| refused(&e))?);
                    c.monitor.change_setup(|s| s.get(id).map(|l| l.raw = Some(raw)));
                }
                return Ok(0);
            }
            if let Some(text) = first {
                let syn = Arc::new(StreamFilter::new(text).map_err(|e| refused(&e))?);
                c.monitor.change_setup(|s| s.get(id).map(|l| l.syn = Some(syn)));
            }
            // SAFETY: as above; only a STREAM socket's union has this member.
            if let Some(text) = unsafe { text_of((*filter).stream_orphan_filter) }? {
                let orphan = Arc::new(StreamFilter::new(text).map_err(|e| refused(&e))?);
                c.monitor.change_setup(|s| s.get(id).map(|l| l.orphan = Some(orphan)));
            }
            Ok(0)
        })
    }
}

entry! {
    /// Sets the pointer kept with a socket, from a callback; elsewhere nothing happens. Sets errno EBADF for an impossible id.
    fn mtcp_set_uctx(mctx: Mctx, sock: c_int, uctx: *mut c_void) -> (), fails (); {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let set = enter::on_core(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            c.monitor.set_uctx(t, id, uctx as usize);
            Ok(())
        });
        match set {
            Err(Errno(libc::EPERM)) => Err(Errno::UNTOUCHED),
            other => other,
        }
    }
}

entry! {
    /// The pointer kept with a socket. NULL with EACCES, EPERM (not in a callback), EBADF.
    fn mtcp_get_uctx(mctx: Mctx, sock: c_int) -> *mut c_void, fails std::ptr::null_mut(); {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::on_core(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            Ok(c.monitor.uctx(t, id).unwrap_or(0) as *mut c_void)
        })
    }
}

fn sockaddr_of(address: SocketAddr) -> Option<libc::sockaddr_in> {
    let SocketAddr::V4(v4) = address else { return None };
    // SAFETY: plain data, valid when zeroed.
    let mut out: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    out.sin_family = libc::AF_INET as libc::sa_family_t;
    out.sin_port = v4.port().to_be();
    out.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
    Some(out)
}

entry! {
/// Addresses of a flow's ends: 16 bytes for one side, 32 for both, client first; the NAT sample of mOS offers room for
    /// more than both. Of a stream socket the peer's, whatever the side. EACCES, EBADF, EPERM, ENOTCONN, ENOTSOCK, EINVAL.
    fn mtcp_getpeername(mctx: Mctx, sock: c_int, addr: *mut libc::sockaddr, addrlen: *mut libc::socklen_t, side: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let peers = enter::on_core(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            c.monitor.peers(t, id).ok_or(Errno(libc::ENOTCONN))
        });
        let peers = match peers {
            // The range of the id is looked at before the thread.
            Err(Errno(libc::EPERM)) => {
                enter::anywhere(cpu, ACCESS, |c| id_of(sock, c.monitor.settings.max_ids))?;
                Err(Errno(libc::EPERM))
            }
            other => other,
        };
        if let Err(Errno(libc::EPERM | libc::ENOTCONN)) = peers
            && let Some(peer) = peer_of(cpu, sock)?
        {
            if addr.is_null() || addrlen.is_null() {
                return Err(Errno(libc::EFAULT));
            }
            // SAFETY: neither is NULL, so room for `*addrlen` bytes by the caller's promise.
            unsafe { put_address(peer, addr, addrlen) };
            return Ok(0);
        }
        let peers = peers?;
        if addr.is_null() || addrlen.is_null() {
            return Err(Errno(libc::EINVAL));
        }
        const ONE: usize = size_of::<libc::sockaddr_in>();
        // SAFETY: not NULL, so valid by the caller's promise.
        let len = unsafe { *addrlen } as usize;
        let which: &[usize] = match side {
            0 if len == ONE => &[0],
            1 if len == ONE => &[1],
            2 if len >= 2 * ONE => &[0, 1],
            _ => return Err(Errno(libc::EINVAL)),
        };
        for (n, &at) in which.iter().enumerate() {
            let from = sockaddr_of(peers[at]).ok_or(Errno(libc::EAFNOSUPPORT))?;
            // SAFETY: `addr` has room for `len` bytes, and `n` counts whole addresses within it. Only family, port
            // and address are written.
            unsafe {
                let to = addr.cast::<libc::sockaddr_in>().add(n);
                (&raw mut (*to).sin_family).write_unaligned(from.sin_family);
                (&raw mut (*to).sin_port).write_unaligned(from.sin_port);
                (&raw mut (*to).sin_addr).write_unaligned(from.sin_addr);
            }
        }
        Ok(0)
    }
}

entry! {
    /// Resets a monitored flow: one RST to each end (D20). EACCES, EPERM, EBADF, EINVAL (a listener).
    fn mtcp_reset_conn(mctx: Mctx, sock: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::locked(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            match c.monitor.named(t, id) {
                Named::Flow => c.monitor.reset(t, id).map(|()| 0),
                Named::Listener(_) => Err(Errno(libc::EINVAL)),
                Named::Unused => Err(Errno(libc::EBADF)),
            }
        })
    }
}
