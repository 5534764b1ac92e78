//! The C functions as tests call them: each result with the errno it left (0: untouched).

use std::ffi::{CString, c_char, c_int, c_void};

use mos::capi::abi::*;

/// `MOS_SOCK_MONITOR_STREAM`, with the rest of the values in `abi`.
pub const STREAM: c_int = MOS_SOCK_MONITOR_STREAM;

unsafe extern "C" {
    fn mtcp_socket(mctx: Mctx, domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn mtcp_close(mctx: Mctx, sock: c_int) -> c_int;
    fn mtcp_bind_monitor_filter(mctx: Mctx, sock: c_int, filter: *mut MonitorFilter) -> c_int;
    fn mtcp_register_callback(mctx: Mctx, sock: c_int, event: u64, hook: c_int, cb: Callback) -> c_int;
    fn mtcp_unregister_callback(mctx: Mctx, sock: c_int, event: u64, hook: c_int) -> c_int;
    /// See the header.
    pub fn mtcp_define_event(parent: u64, filter: Filter, arg: *mut FilterArg) -> u64;
    /// See the header.
    pub fn mtcp_alloc_event(parent: u64) -> u64;
    fn mtcp_raise_event(mctx: Mctx, event: u64) -> c_int;
    fn mtcp_set_uctx(mctx: Mctx, sock: c_int, uctx: *mut c_void);
    fn mtcp_get_uctx(mctx: Mctx, sock: c_int) -> *mut c_void;
    fn mtcp_peek(mctx: Mctx, sock: c_int, side: c_int, buf: *mut c_char, len: usize) -> isize;
    fn mtcp_ppeek(mctx: Mctx, sock: c_int, side: c_int, buf: *mut c_char, count: usize, off: u64) -> isize;
    fn mtcp_getlastpkt(mctx: Mctx, sock: c_int, side: c_int, p: *mut PktInfo) -> c_int;
    fn mtcp_setlastpkt(
        mctx: Mctx,
        sock: c_int,
        side: c_int,
        off: libc::off_t,
        data: *mut u8,
        len: u16,
        option: c_int,
    ) -> c_int;
    fn mtcp_sendpkt(mctx: Mctx, sock: c_int, pkt: *const PktInfo) -> c_int;
    fn mtcp_getpeername(
        mctx: Mctx,
        sock: c_int,
        addr: *mut libc::sockaddr,
        len: *mut libc::socklen_t,
        side: c_int,
    ) -> c_int;
    fn mtcp_cb_get_ts(mctx: Mctx) -> u32;
    fn mtcp_settimer(mctx: Mctx, id: c_int, to: *mut libc::timeval, cb: Callback) -> c_int;
    fn mtcp_getsockopt(
        mctx: Mctx,
        sock: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        len: *mut libc::socklen_t,
    ) -> c_int;
    fn mtcp_setsockopt(
        mctx: Mctx,
        sock: c_int,
        level: c_int,
        name: c_int,
        value: *const c_void,
        len: libc::socklen_t,
    ) -> c_int;
    fn mtcp_get_connection_cnt(mctx: Mctx) -> u32;
    fn mtcp_reset_conn(mctx: Mctx, sock: c_int) -> c_int;
}

/// A result and the errno it left.
pub type Ret = (c_int, c_int);

/// Runs a call and reads errno, 0 when the call left it alone.
pub fn errno_of<R>(call: impl FnOnce() -> R) -> (R, c_int) {
    // SAFETY: this thread's errno.
    unsafe { *libc::__errno_location() = 0 };
    let result = call();
    // SAFETY: as above.
    (result, unsafe { *libc::__errno_location() })
}

/// What reading a stream gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The result.
    pub ret: isize,
    /// errno, 0 when untouched.
    pub errno: c_int,
    /// The bytes copied.
    pub bytes: Vec<u8>,
}

impl From<Read> for String {
    fn from(r: Read) -> String {
        r.to_string()
    }
}

impl std::fmt::Display for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.ret, self.errno) {
            (0, 0) => f.write_str("0"),
            (n, 0) if (1..=40).contains(&n) => f.write_str(&String::from_utf8_lossy(&self.bytes)),
            (n, 0) if n > 0 => write!(f, "{n}B"),
            (n, errno) => write!(f, "{n}/{}", name_of(errno)),
        }
    }
}

/// The name of an errno value.
pub fn name_of(errno: c_int) -> String {
    match errno {
        0 => "0".into(),
        libc::EPERM => "EPERM".into(),
        libc::EBADF => "EBADF".into(),
        libc::EACCES => "EACCES".into(),
        libc::EINVAL => "EINVAL".into(),
        libc::ENODATA => "ENODATA".into(),
        libc::EAGAIN => "EAGAIN".into(),
        n => format!("errno{n}"),
    }
}

/// A result for a trace: `0`, or `-1/EINVAL`.
pub fn said(ret: Ret) -> String {
    if ret == (0, 0) { "0".to_owned() } else { format!("{}/{}", ret.0, name_of(ret.1)) }
}

/// What `mtcp_getlastpkt` reported.
#[derive(Clone, Debug)]
pub struct Pkt {
    /// Milliseconds, truncated.
    pub cur_ts: u32,
    /// Receiving device.
    pub in_ifidx: i8,
    /// Length of the frame.
    pub eth_len: u16,
    /// Length of the IP packet.
    pub ip_len: u16,
    /// Offset in the receiver's stream.
    pub offset: u64,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack_seq: u32,
    /// Window field.
    pub window: u16,
    /// Whether `tcph` is set.
    pub tcp: bool,
    /// The frame.
    pub frame: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A zeroed packet record.
pub fn no_packet() -> PktInfo {
    // SAFETY: integers and pointers, valid when zeroed.
    unsafe { std::mem::zeroed() }
}

const NAMES: [&str; 11] = [
    "CLOSED",
    "LISTEN",
    "SYN_SENT",
    "SYN_RCVD",
    "ESTABLISHED",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "CLOSE_WAIT",
    "CLOSING",
    "LAST_ACK",
    "TIME_WAIT",
];

/// A context, as its address.
#[derive(Clone, Copy, Debug)]
pub struct Api(pub usize);

#[allow(clippy::undocumented_unsafe_blocks)] // Every pointer handed over here is valid for the call, or meant to be NULL.
impl Api {
    /// The context pointer.
    pub fn mctx(self) -> Mctx {
        self.0 as Mctx
    }

    pub fn socket(self, kind: c_int) -> Ret {
        errno_of(|| unsafe { mtcp_socket(self.mctx(), libc::AF_INET, kind, 0) })
    }

    pub fn close(self, sock: c_int) -> Ret {
        errno_of(|| unsafe { mtcp_close(self.mctx(), sock) })
    }

    pub fn register(self, sock: c_int, event: u64, hook: c_int, cb: Callback) -> Ret {
        errno_of(|| unsafe { mtcp_register_callback(self.mctx(), sock, event, hook, cb) })
    }

    pub fn unregister(self, sock: c_int, event: u64, hook: c_int) -> Ret {
        errno_of(|| unsafe { mtcp_unregister_callback(self.mctx(), sock, event, hook) })
    }

    pub fn raise(self, event: u64) -> Ret {
        errno_of(|| unsafe { mtcp_raise_event(self.mctx(), event) })
    }

    /// Binds a SYN (or raw) filter and an orphan filter.
    pub fn bind(self, sock: c_int, first: Option<&str>, orphan: Option<&str>) -> Ret {
        let text = |t: Option<&str>| t.map(|t| CString::new(t).expect("no NUL"));
        let (first, orphan) = (text(first), text(orphan));
        let address =
            |t: &Option<CString>| t.as_ref().map_or(std::ptr::null_mut(), |t| t.as_ptr().cast_mut());
        let mut filter =
            MonitorFilter { raw_or_syn: address(&first), stream_orphan_filter: address(&orphan) };
        errno_of(|| unsafe { mtcp_bind_monitor_filter(self.mctx(), sock, &mut filter) })
    }

    pub fn bind_null(self, sock: c_int) -> Ret {
        errno_of(|| unsafe { mtcp_bind_monitor_filter(self.mctx(), sock, std::ptr::null_mut()) })
    }

    pub fn set_uctx(self, sock: c_int, value: usize) -> c_int {
        errno_of(|| unsafe { mtcp_set_uctx(self.mctx(), sock, value as *mut c_void) }).1
    }

    pub fn uctx(self, sock: c_int) -> (usize, c_int) {
        errno_of(|| unsafe { mtcp_get_uctx(self.mctx(), sock) } as usize)
    }

    pub fn peek(self, sock: c_int, side: c_int, len: usize) -> Read {
        let mut bytes = vec![0u8; len.max(1)];
        let (ret, errno) =
            errno_of(|| unsafe { mtcp_peek(self.mctx(), sock, side, bytes.as_mut_ptr().cast(), len) });
        bytes.truncate(ret.max(0) as usize);
        Read { ret, errno, bytes }
    }

    pub fn ppeek(self, sock: c_int, side: c_int, len: usize, off: u64) -> Read {
        let mut bytes = vec![0u8; len.max(1)];
        let (ret, errno) =
            errno_of(|| unsafe { mtcp_ppeek(self.mctx(), sock, side, bytes.as_mut_ptr().cast(), len, off) });
        bytes.truncate(ret.max(0) as usize);
        Read { ret, errno, bytes }
    }

    pub fn lastpkt_into(self, sock: c_int, info: &mut PktInfo) -> Ret {
        errno_of(|| unsafe { mtcp_getlastpkt(self.mctx(), sock, 0, info) })
    }

    /// The packet in process; the errno when there is none.
    pub fn lastpkt(self, sock: c_int) -> Result<Pkt, c_int> {
        let mut p = no_packet();
        let (ret, errno) = self.lastpkt_into(sock, &mut p);
        if ret != 0 {
            return Err(errno);
        }
        let frame = unsafe { std::slice::from_raw_parts(p.ethh, p.eth_len as usize) }.to_vec();
        let payload = if p.payload.is_null() || p.payloadlen == 0 {
            Vec::new()
        } else {
            unsafe { std::slice::from_raw_parts(p.payload, p.payloadlen as usize) }.to_vec()
        };
        Ok(Pkt {
            cur_ts: p.cur_ts,
            in_ifidx: p.in_ifidx,
            eth_len: p.eth_len,
            ip_len: p.ip_len,
            offset: p.offset,
            seq: p.seq,
            ack_seq: p.ack_seq,
            window: p.window,
            tcp: !p.tcph.is_null(),
            frame,
            payload,
        })
    }

    pub fn setlastpkt(self, sock: c_int, off: i64, data: &[u8], option: c_int) -> Ret {
        let mut copy = data.to_vec();
        errno_of(|| unsafe {
            mtcp_setlastpkt(self.mctx(), sock, 0, off, copy.as_mut_ptr(), data.len() as u16, option)
        })
    }

    /// Takes `len` bytes out.
    pub fn chomp(self, sock: c_int, off: i64, len: u16, option: c_int) -> Ret {
        errno_of(|| unsafe {
            mtcp_setlastpkt(self.mctx(), sock, 0, off, std::ptr::null_mut(), len, option | MOS_CHOMP)
        })
    }

    /// MOS_DROP, with NULL data and length 0 as the samples do.
    pub fn drop_packet(self, sock: c_int) -> Ret {
        errno_of(|| unsafe { mtcp_setlastpkt(self.mctx(), sock, 0, 0, std::ptr::null_mut(), 0, MOS_DROP) })
    }

    pub fn sendpkt(self, sock: c_int, info: &PktInfo) -> Ret {
        errno_of(|| unsafe { mtcp_sendpkt(self.mctx(), sock, info) })
    }

    /// Addresses with the length given; what was written.
    pub fn peername(self, sock: c_int, side: c_int, len: u32) -> (Ret, Vec<([u8; 4], u16)>) {
        let mut room: [libc::sockaddr_in; 2] = unsafe { std::mem::zeroed() };
        let mut length = len;
        let ret = errno_of(|| unsafe {
            mtcp_getpeername(self.mctx(), sock, room.as_mut_ptr().cast(), &mut length, side)
        });
        assert_eq!(length, len, "the length is left alone");
        let written = room.iter().filter(|a| a.sin_family != 0);
        (ret, written.map(|a| (a.sin_addr.s_addr.to_ne_bytes(), u16::from_be(a.sin_port))).collect())
    }

    pub fn now_us(self) -> (u32, c_int) {
        errno_of(|| unsafe { mtcp_cb_get_ts(self.mctx()) })
    }

    pub fn timer(self, id: c_int, ms: i64, cb: Callback) -> Ret {
        let mut to = libc::timeval { tv_sec: ms / 1000, tv_usec: ms % 1000 * 1000 };
        errno_of(|| unsafe { mtcp_settimer(self.mctx(), id, &mut to, cb) })
    }

    pub fn state(self, sock: c_int, side: c_int) -> (Option<c_int>, Ret) {
        let mut value: c_int = -7;
        let mut len: libc::socklen_t = 4;
        let name = if side == 0 { MOS_TCP_STATE_CLI } else { MOS_TCP_STATE_SVR };
        let ret = errno_of(|| unsafe {
            mtcp_getsockopt(self.mctx(), sock, SOL_MONSOCKET, name, (&raw mut value).cast(), &mut len)
        });
        ((ret.0 == 0).then_some(value), ret)
    }

    pub fn states(self, sock: c_int) -> String {
        let name = |side| match self.state(sock, side).0 {
            Some(n) => NAMES.get(n as usize).map_or_else(|| format!("state{n}"), |n| (*n).to_owned()),
            None => "-".to_owned(),
        };
        format!("{}/{}", name(0), name(1))
    }

    /// MOS_FRAGINFO of a side as `[0+10][20+10]`, or the error.
    pub fn fragments(self, sock: c_int, side: c_int) -> String {
        let mut room = [TcpRingFragment::default(); 41];
        let mut len: libc::socklen_t = 40;
        let name = if side == 0 { MOS_FRAGINFO_CLIBUF } else { MOS_FRAGINFO_SVRBUF };
        let ret = errno_of(|| unsafe {
            mtcp_getsockopt(self.mctx(), sock, SOL_MONSOCKET, name, room.as_mut_ptr().cast(), &mut len)
        });
        if ret.0 != 0 {
            return format!("{}({len})", said(ret));
        }
        assert!(len <= 40, "{len} fragments in room for 40");
        room[..len as usize].iter().map(|f| format!("[{}+{}]", f.offset, f.len)).collect()
    }

    /// MOS_FRAGINFO of the server's side with room for `capacity` elements; the elements behind it are checked.
    pub fn fragments_of(self, sock: c_int, capacity: u32) -> (Ret, u32, Vec<(u64, u32)>) {
        const UNTOUCHED: TcpRingFragment = TcpRingFragment { offset: 77, len: 77 };
        let mut room = [UNTOUCHED; 64];
        let mut len: libc::socklen_t = capacity;
        let ret = errno_of(|| unsafe {
            mtcp_getsockopt(
                self.mctx(),
                sock,
                SOL_MONSOCKET,
                MOS_FRAGINFO_SVRBUF,
                room.as_mut_ptr().cast(),
                &mut len,
            )
        });
        assert!(room[capacity as usize..].iter().all(|f| *f == UNTOUCHED), "written beyond the capacity");
        (ret, len, room[..capacity as usize].iter().map(|f| (f.offset, f.len)).collect())
    }

    /// MOS_INFO of a side.
    pub fn info(self, sock: c_int, side: c_int) -> (Ret, TcpBufInfo) {
        let mut info = TcpBufInfo {
            tcpbi_init_seq: 7,
            tcpbi_last_byte_read: 7,
            tcpbi_next_byte_expected: 7,
            tcpbi_last_byte_received: 7,
        };
        let mut len: libc::socklen_t = 16;
        let name = if side == 0 { MOS_INFO_CLIBUF } else { MOS_INFO_SVRBUF };
        let ret = errno_of(|| unsafe {
            mtcp_getsockopt(self.mctx(), sock, SOL_MONSOCKET, name, (&raw mut info).cast(), &mut len)
        });
        (ret, info)
    }

    /// MOS_TIMESTAMP.
    pub fn stamp(self, sock: c_int) -> (Ret, u32) {
        let (mut value, mut len): (u32, libc::socklen_t) = (0, 4);
        let ret = errno_of(|| unsafe {
            mtcp_getsockopt(
                self.mctx(),
                sock,
                SOL_MONSOCKET,
                MOS_TIMESTAMP,
                (&raw mut value).cast(),
                &mut len,
            )
        });
        (ret, value)
    }

    /// An option of SOL_MONSOCKET with an int value.
    pub fn set(self, sock: c_int, name: c_int, value: c_int) -> Ret {
        self.set_at(SOL_MONSOCKET, sock, name, value)
    }

    pub fn set_at(self, level: c_int, sock: c_int, name: c_int, value: c_int) -> Ret {
        errno_of(|| unsafe { mtcp_setsockopt(self.mctx(), sock, level, name, (&raw const value).cast(), 4) })
    }

    pub fn get_at(self, level: c_int, sock: c_int, name: c_int) -> Ret {
        let mut room = [0u64; 16];
        let mut len: libc::socklen_t = 4;
        errno_of(|| unsafe {
            mtcp_getsockopt(self.mctx(), sock, level, name, room.as_mut_ptr().cast(), &mut len)
        })
    }

    pub fn connections(self) -> u32 {
        unsafe { mtcp_get_connection_cnt(self.mctx()) }
    }

    pub fn reset(self, sock: c_int) -> Ret {
        errno_of(|| unsafe { mtcp_reset_conn(self.mctx(), sock) })
    }
}
