//! Epoll objects and pipes (endpoint-io.md §4.10, §4.11).

use super::abi::{MOS_EPOLL_CTL_ADD, MOS_EPOLL_CTL_DEL, MOS_EPOLL_CTL_MOD, Mctx, MtcpEpollEvent};
use super::endpoint::{is_others, need_ids};
use super::{cpu_of, entry, id_of};
use crate::endpoint::epoll::Change;
use crate::monitor::Errno;
use crate::runtime::enter;
use crate::runtime::wait::{Look, Patience, deadline};
use std::ffi::c_int;

entry! {
    /// Makes an epoll object; `size` is a hint. EACCES, EPERM, EINVAL (size), ENFILE, ENOMEM.
    fn mtcp_epoll_create(mctx: Mctx, size: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        need_ids(cpu, 1, |c, t| {
            if size <= 0 {
                return Err(Errno(libc::EINVAL));
            }
            c.endpoint.epoll_create(&c.monitor, t).map(|id| id as c_int)
        })
    }
}

entry! {
    /// Watches a socket, changes what is watched, or ends it. EBADF, EINVAL (no epoll object; no event; an epoll object is not
    /// watched), EEXIST, ENOENT, ENOMEM. What names no end-host socket is taken, and nothing comes of it (K10); so is the end
    /// of a watch of what is closed.
    fn mtcp_epoll_ctl(mctx: Mctx, epid: c_int, op: c_int, sock: c_int, event: *mut MtcpEpollEvent) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::locked(cpu, None, |c, t| {
            let max = c.monitor.settings.max_ids;
            let (epid, sock) = (id_of(epid, max)?, id_of(sock, max)?);
            let others = is_others(c, t, epid);
            c.endpoint.view(t).check_epoll(epid, others)?;
            if event.is_null() && op != MOS_EPOLL_CTL_DEL {
                return Err(Errno(libc::EINVAL));
            }
            let change = match op {
                MOS_EPOLL_CTL_ADD | MOS_EPOLL_CTL_MOD => {
                    // SAFETY: not NULL, so a whole struct by the caller's promise.
                    let event = unsafe { event.read_unaligned() };
                    // `MOS_EPOLLET` is a negative int and arrives sign-extended: the low half counts.
                    let (events, data) = (event.events as u32, event.data);
                    if op == MOS_EPOLL_CTL_ADD { Change::Add(events, data) } else { Change::Modify(events, data) }
                }
                MOS_EPOLL_CTL_DEL => Change::Delete,
                // The reference takes any other number and does nothing (K10).
                _ => return Ok(0),
            };
            if c.endpoint.view(t).sockets.get(sock).is_none() {
                // The reference does not look whether the id is in use.
                return Ok(0);
            }
            c.endpoint.state(t).control(epid, sock, change).map(|()| 0)
        })
    }
}

entry! {
    /// Waits for watched sockets, `timeout` ms at most (negative: for ever). Entries stored. EBADF, EINVAL, EINTR.
    fn mtcp_epoll_wait(mctx: Mctx, epid: c_int, events: *mut MtcpEpollEvent, maxevents: c_int, timeout: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let patience = Patience { until: deadline(timeout), polls_first: true };
        let found = enter::waiting(cpu, None, epid, patience, |c, t| {
            let epid = id_of(epid, c.monitor.settings.max_ids)?;
            let others = is_others(c, t, epid);
            c.endpoint.view(t).check_epoll(epid, others)?;
            if events.is_null() || maxevents <= 0 {
                return Err(Errno(libc::EINVAL));
            }
            let count = c.endpoint.state(t).report(epid, maxevents as usize, |n, bit, data| {
                // SAFETY: not NULL, so room for `maxevents` by the caller's promise, and `n` is below that.
                unsafe { events.add(n).write_unaligned(MtcpEpollEvent { events: u64::from(bit), data }) };
            });
            Ok(if count > 0 { Look::Done(count as c_int) } else { Look::Later })
        })?;
        Ok(found.unwrap_or(0))
    }
}

entry! {
    /// Makes a pipe: `pipeid[0]` is read, `pipeid[1]` written. EACCES, EPERM, EFAULT, ENFILE, ENOMEM.
    fn mtcp_pipe(mctx: Mctx, pipeid: *mut c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        let ids = need_ids(cpu, 2, |c, t| {
            if pipeid.is_null() {
                return Err(Errno(libc::EFAULT));
            }
            c.endpoint.pipe(&c.monitor, t)
        })?;
        for (n, id) in ids.into_iter().enumerate() {
            // SAFETY: not NULL, so room for two by the caller's promise.
            unsafe { pipeid.add(n).write_unaligned(id as c_int) };
        }
        Ok(0)
    }
}
