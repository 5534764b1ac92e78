//! Calls of the endpoint stack, which this version does not have: each returns -1 with ENOSYS.

use super::abi::{Mctx, MtcpEpollEvent};
use super::entry;
use crate::monitor::Errno;
use std::ffi::{c_char, c_int, c_void};

macro_rules! not_yet {
    ($($name:ident($($arg:ident: $type:ty),*) -> $ret:ty;)*) => {$(
        entry! {
            /// Not there yet: -1 with ENOSYS.
            fn $name($($arg: $type),*) -> $ret, fails -1; {
                Err(Errno(libc::ENOSYS))
            }
        }
    )*};
}

not_yet! {
    mtcp_pipe(_mctx: Mctx, _pipeid: *mut c_int) -> c_int;
    mtcp_setsock_nonblock(_mctx: Mctx, _sock: c_int) -> c_int;
    mtcp_ioctl(_mctx: Mctx, _sock: c_int, _request: c_int, _arg: *mut c_void) -> c_int;
    mtcp_bind(_mctx: Mctx, _sock: c_int, _addr: *const libc::sockaddr, _len: libc::socklen_t) -> c_int;
    mtcp_listen(_mctx: Mctx, _sock: c_int, _backlog: c_int) -> c_int;
    mtcp_accept(_mctx: Mctx, _sock: c_int, _addr: *mut libc::sockaddr, _len: *mut libc::socklen_t) -> c_int;
    mtcp_init_rss(_mctx: Mctx, _base: u32, _num: c_int, _daddr: u32, _dport: u32) -> c_int;
    mtcp_connect(_mctx: Mctx, _sock: c_int, _addr: *const libc::sockaddr, _len: libc::socklen_t) -> c_int;
    mtcp_abort(_mctx: Mctx, _sock: c_int) -> c_int;
    mtcp_shutdown(_mctx: Mctx, _sock: c_int, _how: c_int) -> c_int;
    mtcp_getsockname(_mctx: Mctx, _sock: c_int, _addr: *mut libc::sockaddr, _len: *mut libc::socklen_t) -> c_int;
    mtcp_recv(_mctx: Mctx, _sock: c_int, _buf: *mut c_char, _len: usize, _flags: c_int) -> isize;
    mtcp_read(_mctx: Mctx, _sock: c_int, _buf: *mut c_char, _len: usize) -> isize;
    mtcp_readv(_mctx: Mctx, _sock: c_int, _iov: *const libc::iovec, _count: c_int) -> isize;
    mtcp_write(_mctx: Mctx, _sock: c_int, _buf: *const c_char, _len: usize) -> isize;
    mtcp_writev(_mctx: Mctx, _sock: c_int, _iov: *const libc::iovec, _count: c_int) -> isize;
    mtcp_epoll_create(_mctx: Mctx, _size: c_int) -> c_int;
    mtcp_epoll_ctl(_mctx: Mctx, _epid: c_int, _op: c_int, _sock: c_int, _event: *mut MtcpEpollEvent) -> c_int;
    mtcp_epoll_wait(_mctx: Mctx, _epid: c_int, _events: *mut MtcpEpollEvent, _max: c_int, _timeout: c_int) -> c_int;
}
