//! Calls of the endpoint stack, which this version does not have: each checks its context, then returns -1 with ENOSYS.

use super::abi::{Mctx, MtcpEpollEvent};
use super::{ACCESS, cpu_of, entry};
use crate::monitor::Errno;
use crate::runtime::enter;
use std::ffi::{c_char, c_int, c_void};

macro_rules! not_yet {
    ($($name:ident(mctx: Mctx $(, $arg:ident: $type:ty)*) -> $ret:ty;)*) => {$(
        entry! {
            /// Not there yet: -1 with ENOSYS; EACCES, EPERM for the context as ever.
            fn $name(mctx: Mctx $(, $arg: $type)*) -> $ret, fails -1; {
                // SAFETY: the caller's promise.
                let cpu = unsafe { cpu_of(mctx) }?;
                enter::anywhere(cpu, ACCESS, |_| Err(Errno(libc::ENOSYS)))
            }
        }
    )*};
}

not_yet! {
    mtcp_pipe(mctx: Mctx, _pipeid: *mut c_int) -> c_int;
    mtcp_setsock_nonblock(mctx: Mctx, _sock: c_int) -> c_int;
    mtcp_ioctl(mctx: Mctx, _sock: c_int, _request: c_int, _arg: *mut c_void) -> c_int;
    mtcp_bind(mctx: Mctx, _sock: c_int, _addr: *const libc::sockaddr, _len: libc::socklen_t) -> c_int;
    mtcp_listen(mctx: Mctx, _sock: c_int, _backlog: c_int) -> c_int;
    mtcp_accept(mctx: Mctx, _sock: c_int, _addr: *mut libc::sockaddr, _len: *mut libc::socklen_t) -> c_int;
    mtcp_init_rss(mctx: Mctx, _base: u32, _num: c_int, _daddr: u32, _dport: u32) -> c_int;
    mtcp_connect(mctx: Mctx, _sock: c_int, _addr: *const libc::sockaddr, _len: libc::socklen_t) -> c_int;
    mtcp_abort(mctx: Mctx, _sock: c_int) -> c_int;
    mtcp_shutdown(mctx: Mctx, _sock: c_int, _how: c_int) -> c_int;
    mtcp_getsockname(mctx: Mctx, _sock: c_int, _addr: *mut libc::sockaddr, _len: *mut libc::socklen_t) -> c_int;
    mtcp_recv(mctx: Mctx, _sock: c_int, _buf: *mut c_char, _len: usize, _flags: c_int) -> isize;
    mtcp_read(mctx: Mctx, _sock: c_int, _buf: *mut c_char, _len: usize) -> isize;
    mtcp_readv(mctx: Mctx, _sock: c_int, _iov: *const libc::iovec, _count: c_int) -> isize;
    mtcp_write(mctx: Mctx, _sock: c_int, _buf: *const c_char, _len: usize) -> isize;
    mtcp_writev(mctx: Mctx, _sock: c_int, _iov: *const libc::iovec, _count: c_int) -> isize;
    mtcp_epoll_create(mctx: Mctx, _size: c_int) -> c_int;
    mtcp_epoll_ctl(mctx: Mctx, _epid: c_int, _op: c_int, _sock: c_int, _event: *mut MtcpEpollEvent) -> c_int;
    mtcp_epoll_wait(mctx: Mctx, _epid: c_int, _events: *mut MtcpEpollEvent, _max: c_int, _timeout: c_int) -> c_int;
}
