//! What applications ask of stream sockets (endpoint-io.md §4.9 with its fixes, D19).
//!
//! A call does what can be done now: `None` means that it cannot be done yet. Whether that is waited for is the caller's.

use super::events::IN;
use super::ports::Sources;
use super::socket::{Kind, Socket, Stream, Wishes};
use super::stack::errno_of;
use super::{Endpoint, State};
use crate::flow::arena::Id;
use crate::flow::token::Token;
use crate::monitor::{Errno, Monitor, Result};
use crate::net::output::{Path, Unsent};
use crate::tcp::tcb::calls::Shutdown;
use crate::tcp::tcb::{Refusal, State as TcpState, Tcb};
use std::net::{Ipv4Addr, SocketAddrV4};

const fn errno<T>(number: i32) -> Result<T> {
    Err(Errno(number))
}

/// What a read or write that did nothing gives.
fn refused<T>(refusal: Refusal) -> Result<Option<T>> {
    match refusal {
        Refusal::WouldBlock => Ok(None),
        Refusal::Closed => errno(libc::EPIPE),
        Refusal::NotConnected => errno(libc::ENOTCONN),
        Refusal::Failed(cause) => errno(errno_of(cause)),
        Refusal::OutOfMemory => errno(libc::ENOMEM),
    }
}

/// Why there is no way to a destination.
fn unreachable(why: Unsent) -> Errno {
    Errno(match why {
        // The reference's answer to a missing route.
        Unsent::NoRoute | Unsent::NoSource => libc::EINVAL,
        Unsent::Own => libc::ENETUNREACH,
        Unsent::Unreachable => libc::EHOSTUNREACH,
        Unsent::TooLong { .. } => libc::EMSGSIZE,
        Unsent::NoMemory => libc::ENOMEM,
    })
}

impl Endpoint {
    /// Makes a stream socket. ENFILE: no id is free; ENOMEM.
    pub fn socket(&self, m: &Monitor, t: &mut Token) -> Result<u32> {
        let [id] = super::new_ids(m)?;
        let put = self.state(t).put_stream(id, Stream::default());
        super::kept(m, &[id], put)?;
        Ok(id)
    }

    /// Takes the next connection of a listener: its socket, and the peer. `None`: none waits.
    ///
    /// # Errors
    /// EINVAL: no listener; ENFILE: no id is free (the connection stays); ENOMEM.
    pub fn accept(&self, m: &Monitor, t: &mut Token, listener: u32) -> Result<Option<(u32, SocketAddrV4)>> {
        let st = self.state(t);
        if !matches!(st.sockets.get(listener), Some(Socket { kind: Kind::Listener, .. })) {
            return errno(libc::EINVAL);
        }
        if st.readiness(listener) & IN == 0 {
            return Ok(None);
        }
        let [id] = super::new_ids(m)?;
        super::kept(m, &[id], st.put_stream(id, Stream::default()))?;
        let taken = st.stack_mut().and_then(|stack| {
            let wishes = stack.listeners.get(listener)?.wishes;
            let conn = stack.accept(listener, id)?;
            Some((conn, wishes, stack.conn(conn)?.ends().1))
        });
        let Some((conn, wishes, peer)) = taken else {
            st.sockets.take(id);
            m.setup.lock().ids.free(id);
            return Ok(None);
        };
        if let Some(stream) = st.stream_mut(id) {
            (stream.conn, stream.wishes) = (conn, wishes);
        }
        st.catch_up(conn, &wishes);
        Ok(Some((id, peer)))
    }

    /// Opens a connection to `peer`. `true`: it is there; `false`: not yet.
    ///
    /// # Errors
    /// ENOTSOCK; EALREADY, EISCONN; the connection's error; those of choosing a way and a port.
    pub fn connect(
        &self,
        m: &Monitor,
        t: &mut Token,
        id: u32,
        peer: SocketAddrV4,
        again: bool,
    ) -> Result<bool> {
        let st = self.state(t);
        let stream = *st.stream(id).ok_or(Errno(libc::ENOTSOCK))?;
        if let Some(tcb) = st.tcb(stream.conn) {
            return match (tcb.state(), tcb.cause()) {
                (_, Some(cause)) if again => errno(errno_of(cause)),
                (TcpState::SynSent | TcpState::SynRcvd, _) if again => Ok(false),
                (TcpState::Closed, _) if again => errno(libc::ECONNABORTED),
                _ if again => Ok(true),
                (TcpState::SynSent | TcpState::SynRcvd, _) => errno(libc::EALREADY),
                // What failed may be tried again.
                (TcpState::Closed, Some(_)) => self.open(m, t, id, stream, peer),
                _ => errno(libc::EISCONN),
            };
        }
        if again {
            st.conn_of(&stream, libc::ENOTCONN)?;
        }
        self.open(m, t, id, stream, peer)
    }

    fn open(&self, m: &Monitor, t: &mut Token, id: u32, stream: Stream, peer: SocketAddrV4) -> Result<bool> {
        if peer.port() == 0 || peer.ip().is_unspecified() {
            return errno(libc::EADDRNOTAVAIL);
        }
        let path = self.path(m, t, *peer.ip())?;
        let st = self.state(t);
        let prepared = st.sources;
        let stack = st.stack_mut().ok_or(Errno(libc::ENOMEM))?;
        let sources = match (prepared, path.source) {
            (Some(sources), _) => sources,
            (None, Some(base)) => Sources { base, count: 1 },
            (None, None) if stream.bound.is_some_and(|b| !b.ip().is_unspecified()) => {
                Sources { base: Ipv4Addr::UNSPECIFIED, count: 1 }
            }
            (None, None) => return errno(libc::EADDRNOTAVAIL),
        };
        let local = stack.local_end(stream.bound, sources, peer)?;
        st.take_foreign(*local.ip(), 1)?;
        let stack = st.stack_mut().ok_or(Errno(libc::ENOMEM))?;
        // The one that failed stays until there is another: the socket goes on to say why it did.
        let conn = stack.connect(id, local, peer, &path, &stream.wishes)?;
        if stream.conn != Id::NONE {
            stack.close(stream.conn);
        }
        if let Some(stream) = st.stream_mut(id) {
            stream.conn = conn;
        }
        st.pass_on();
        Ok(false)
    }

    /// The way to a destination.
    fn path(&self, m: &Monitor, t: &mut Token, dst: Ipv4Addr) -> Result<Path> {
        m.state(t).host.path(dst).map_err(unreachable)
    }

    /// Prepares source addresses for connections of this core (`mtcp_init_rss`): `count` from `base` on, or, for no base, the
    /// one of the way to `daddr`. EINVAL: no way, or no addresses.
    pub fn init_rss(
        &self,
        m: &Monitor,
        t: &mut Token,
        base: Ipv4Addr,
        count: u32,
        daddr: Ipv4Addr,
    ) -> Result<()> {
        let base = if base.is_unspecified() {
            self.path(m, t, daddr)?.source.ok_or(Errno(libc::EINVAL))?
        } else {
            base
        };
        if count == 0 || count > 1 << 16 {
            return errno(libc::EINVAL);
        }
        let st = self.state(t);
        st.take_foreign(base, count)?;
        st.sources = Some(Sources { base, count });
        Ok(())
    }
}

impl State {
    fn put_stream(&mut self, id: u32, stream: Stream) -> Result<()> {
        self.stack_or_new()?;
        self.sockets.put(id, Kind::Stream(stream)).map_err(|_| Errno(libc::ENOMEM))
    }

    /// A stream socket that is no listener.
    pub fn stream(&self, id: u32) -> Option<&Stream> {
        match self.sockets.get(id) {
            Some(Socket { kind: Kind::Stream(stream), .. }) => Some(stream),
            _ => None,
        }
    }

    fn stream_mut(&mut self, id: u32) -> Option<&mut Stream> {
        match self.sockets.get_mut(id) {
            Some(Socket { kind: Kind::Stream(stream), .. }) => Some(stream),
            _ => None,
        }
    }

    fn tcb(&self, conn: Id) -> Option<&Tcb> {
        self.stack()?.tcb(conn)
    }

    /// A socket's connection.
    ///
    /// # Errors
    /// ECONNABORTED: there was one, and a fault has ended it; `none`: there never was one.
    fn conn_of(&self, stream: &Stream, none: i32) -> Result<&Tcb> {
        let lost = if stream.conn == Id::NONE { none } else { libc::ECONNABORTED };
        self.tcb(stream.conn).ok_or(Errno(lost))
    }

    /// Does something with a socket's connection, and what follows from it. ENOTSOCK, ENOTCONN, ECONNABORTED.
    fn with<R>(&mut self, id: u32, work: impl FnOnce(&mut Tcb, u64) -> R) -> Result<R> {
        let stream = self.stream(id).ok_or(Errno(libc::ENOTSOCK))?;
        self.conn_of(stream, libc::ENOTCONN)?;
        let conn = stream.conn;
        let stack = self.stack_mut().ok_or(Errno(libc::ENOTCONN))?;
        let now = stack.now;
        let result = work(stack.tcb_mut(conn).ok_or(Errno(libc::ENOTCONN))?, now);
        stack.changed(conn);
        self.pass_on();
        Ok(result)
    }

    /// Gives a socket its own address. EINVAL: it has one, or is not new; EADDRINUSE.
    pub fn bind(&mut self, id: u32, addr: SocketAddrV4) -> Result<()> {
        let stream = *self.stream(id).ok_or(Errno(libc::ENOTSOCK))?;
        if stream.bound.is_some() || stream.conn != Id::NONE {
            return errno(libc::EINVAL);
        }
        let listeners = self.stack().map(|s| &s.listeners);
        if addr.port() != 0 && listeners.is_some_and(|l| l.is_taken(addr, stream.wishes.reuse_port)) {
            return errno(libc::EADDRINUSE);
        }
        self.take_foreign(*addr.ip(), 1)?;
        if let Some(stream) = self.stream_mut(id) {
            stream.bound = Some(addr);
        }
        Ok(())
    }

    /// Makes a socket a listener. EINVAL: it is connected; EADDRINUSE; ENOMEM.
    pub fn listen(&mut self, id: u32, backlog: usize) -> Result<()> {
        if matches!(self.sockets.get(id), Some(Socket { kind: Kind::Listener, .. })) {
            let stack = self.stack_mut().ok_or(Errno(libc::ENOMEM))?;
            return stack.listen(id, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), backlog, Wishes::default());
        }
        let stream = *self.stream(id).ok_or(Errno(libc::ENOTSOCK))?;
        if stream.conn != Id::NONE {
            return errno(libc::EINVAL);
        }
        let stack = self.stack_mut().ok_or(Errno(libc::ENOMEM))?;
        let mut addr = stream.bound.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        if addr.port() == 0 {
            addr.set_port(stack.free_port(*addr.ip())?);
        }
        stack.listen(id, addr, backlog, stream.wishes)?;
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.kind = Kind::Listener;
        }
        Ok(())
    }

    /// Reads into `out`; with `peek` the bytes stay. `None`: nothing is there yet.
    ///
    /// # Errors
    /// ENOTSOCK, ENOTCONN, the connection's error.
    pub fn read(&mut self, id: u32, out: &mut [u8], peek: bool) -> Result<Option<usize>> {
        self.readable(id)?;
        if out.is_empty() {
            // The reference's answer.
            return errno(libc::EAGAIN);
        }
        if peek {
            let conn = self.stream(id).map_or(Id::NONE, |s| s.conn);
            let tcb = self.tcb(conn).ok_or(Errno(libc::ENOTCONN))?;
            return tcb.peek(out).map(Some).or_else(refused);
        }
        self.with(id, |tcb, now| tcb.read(now, out))?.map(Some).or_else(refused)
    }

    /// ENOTSOCK, ENOTCONN: not a connection, or none that was established.
    fn readable(&self, id: u32) -> Result<()> {
        let stream = self.stream(id).ok_or(Errno(libc::ENOTSOCK))?;
        match self.conn_of(stream, libc::ENOTCONN)?.state() {
            TcpState::SynSent | TcpState::SynRcvd | TcpState::Listen => errno(libc::ENOTCONN),
            _ => Ok(()),
        }
    }

    /// Queues bytes to be sent: as many as there is room for, at least one. `None`: there is no room yet.
    ///
    /// # Errors
    /// ENOTSOCK, ENOTCONN, EPIPE, ENOMEM, the connection's error.
    pub fn write(&mut self, id: u32, from: &[u8]) -> Result<Option<usize>> {
        self.readable(id)?;
        if from.is_empty() {
            return self.nothing_asked(id);
        }
        let conn = self.stream(id).map_or(Id::NONE, |s| s.conn);
        let room = self.stack().map_or(usize::MAX, |stack| stack.room_to_write(conn));
        if room == 0
            && self.tcb(conn).is_some_and(|tcb| tcb.write_room() > 0)
            && let Some(stack) = self.stack_mut()
        {
            // There is no memory: OUT says when there is.
            stack.refuse_write(conn);
            return Ok(None);
        }
        let from = &from[..from.len().min(room.max(1))];
        let written = self.with(id, |tcb, _| tcb.write(from))?;
        if room != usize::MAX
            && written.is_ok()
            && let Some(stack) = self.stack_mut()
        {
            stack.feed_writer(conn);
        }
        written.map(Some).or_else(refused)
    }

    /// Bytes a read would give. EBADF: no connection; EINVAL: a listener.
    pub fn unread(&self, id: u32) -> Result<usize> {
        match self.sockets.get(id).map(|s| &s.kind) {
            Some(Kind::Stream(stream)) => self.conn_of(stream, libc::EBADF).map(Tcb::unread),
            Some(Kind::Listener) => errno(libc::EINVAL),
            _ => errno(libc::EBADF),
        }
    }

    /// Ends one direction or both.
    pub fn shutdown(&mut self, id: u32, how: Shutdown) -> Result<()> {
        self.with(id, |tcb, _| tcb.shutdown(how))?.or_else(|refusal| refused(refusal).map(|_: Option<()>| ()))
    }

    /// Ends a connection with a RST; the id is free afterwards. ENOTSOCK, ENOTCONN.
    pub fn abort(&mut self, id: u32) -> Result<()> {
        let conn = self.stream(id).ok_or(Errno(libc::ENOTSOCK))?.conn;
        if let Some(stack) = self.stack_mut()
            && conn != Id::NONE
        {
            stack.abort(conn);
            self.pass_on();
            return Ok(());
        }
        errno(libc::ENOTCONN)
    }

    /// A close that lingers begins (`SO_LINGER` with a time, on a blocking socket): for how many seconds at most. The socket
    /// keeps its id until [`Endpoint::close`]. `None`: it does not linger.
    pub fn begin_to_linger(&mut self, id: u32) -> Option<u16> {
        let socket = self.sockets.get(id).filter(|s| !s.nonblocking)?;
        let Kind::Stream(stream) = socket.kind else { return None };
        let seconds = stream.wishes.linger.filter(|&seconds| seconds > 0)?;
        let stack = self.stack_mut()?;
        let now = stack.now;
        stack.tcb_mut(stream.conn)?.close(now);
        stack.changed(stream.conn);
        self.pass_on();
        // Other threads that wait for the socket have nothing to wait for any more.
        self.wake(id);
        self.forget_socket(id);
        (!self.has_lingered(id)).then_some(seconds)
    }

    /// Whether nothing is left to wait for: everything written, and the FIN, is acknowledged, or the connection is over.
    pub fn has_lingered(&self, id: u32) -> bool {
        self.stream(id).and_then(|s| self.tcb(s.conn)).is_none_or(Tcb::is_drained)
    }

    /// A stream socket is closed. ENOTCONN: it never had a connection.
    pub(super) fn close_stream(&mut self, stream: &Stream) -> Result<()> {
        if stream.conn == Id::NONE {
            return errno(libc::ENOTCONN);
        }
        if let Some(stack) = self.stack_mut() {
            match stream.wishes.linger {
                Some(0) => stack.abort(stream.conn),
                _ => stack.close(stream.conn),
            }
        }
        self.pass_on();
        Ok(())
    }

    /// A socket's own address: what the connection uses, else what was bound. ENOTSOCK.
    pub fn own_address(&self, id: u32) -> Result<SocketAddrV4> {
        let none = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        match self.sockets.get(id).map(|s| &s.kind) {
            Some(Kind::Stream(stream)) => {
                let conn = self.stack().and_then(|s| s.conn(stream.conn));
                Ok(conn.map(|c| c.ends().0).or(stream.bound).unwrap_or(none))
            }
            Some(Kind::Listener) => {
                Ok(self.stack().and_then(|s| s.listeners.get(id)).map_or(none, |l| l.addr))
            }
            _ => errno(libc::ENOTSOCK),
        }
    }

    /// The address of the other end. ENOTSOCK, ENOTCONN.
    pub fn peer_address(&self, id: u32) -> Result<SocketAddrV4> {
        let stream = self.stream(id).ok_or(Errno(libc::ENOTSOCK))?;
        let conn = self.stack().and_then(|s| s.conn(stream.conn)).ok_or(Errno(libc::ENOTCONN))?;
        Ok(conn.ends().1)
    }

    /// `SO_ERROR`: 0, or why the connection ended (ECONNABORTED: by a fault); EINPROGRESS while it opens. EBADF: there is none.
    pub fn socket_error(&self, id: u32) -> Result<i32> {
        match self.sockets.get(id).map(|s| &s.kind) {
            Some(Kind::Listener) => Ok(0),
            Some(Kind::Stream(stream)) => {
                let tcb = match self.conn_of(stream, libc::EBADF) {
                    Err(Errno(libc::ECONNABORTED)) => return Ok(libc::ECONNABORTED),
                    found => found?,
                };
                Ok(match (tcb.cause(), tcb.state()) {
                    (Some(cause), _) => errno_of(cause),
                    (None, TcpState::SynSent) => libc::EINPROGRESS,
                    (None, _) => 0,
                })
            }
            _ => errno(libc::ENOTSOCK),
        }
    }

    /// A stream socket's or listener's options. ENOTSOCK.
    pub fn wishes(&self, id: u32) -> Result<Wishes> {
        match self.sockets.get(id).map(|s| &s.kind) {
            Some(Kind::Stream(stream)) => Ok(stream.wishes),
            Some(Kind::Listener) => {
                Ok(self.stack().and_then(|s| s.listeners.get(id)).map(|l| l.wishes).unwrap_or_default())
            }
            _ => errno(libc::ENOTSOCK),
        }
    }

    /// Changes them, for the connection there is, too. ENOTSOCK.
    pub fn set_wishes(&mut self, id: u32, wishes: Wishes) -> Result<()> {
        let before = self.wishes(id)?;
        if let Some(listener) = self.stack_mut().and_then(|s| s.listeners.get_mut(id)) {
            listener.wishes = wishes;
            return Ok(());
        }
        let Some(stream) = self.stream_mut(id) else { return errno(libc::ENOTSOCK) };
        stream.wishes = wishes;
        let conn = stream.conn;
        if conn == Id::NONE {
            return Ok(());
        }
        if let Some(conn) = self.stack_mut().and_then(|stack| stack.conns.get_mut(conn)) {
            conn.look(&wishes);
        }
        self.with(id, |tcb, _| {
            if wishes.nodelay != before.nodelay {
                tcb.set_nodelay(wishes.nodelay);
            }
            if wishes.keepalive != before.keepalive {
                tcb.set_keepalive(wishes.keepalive);
            }
            if wishes.send_buffer != before.send_buffer {
                tcb.set_send_limit(wishes.send_buffer);
            }
            if wishes.recv_buffer != before.recv_buffer {
                tcb.set_recv_limit(wishes.recv_buffer);
            }
        })
    }

    /// A connection that was accepted has its listener's options as they are now; it was made with those at the time of its SYN.
    fn catch_up(&mut self, conn: Id, wishes: &Wishes) {
        let Some(stack) = self.stack_mut() else { return };
        let Some(record) = stack.conns.get_mut(conn) else { return };
        record.look(wishes);
        let Some(tcb) = record.tcb.get_mut() else { return };
        let (send, recv) = tcb.limits();
        let or = |wish: u32, limit: u32| if wish == 0 { limit } else { wish };
        let wished = (or(wishes.send_buffer, send), or(wishes.recv_buffer, recv));
        if tcb.asked() == (wishes.nodelay, wishes.keepalive) && wished == (send, recv) {
            return;
        }
        tcb.set_nodelay(wishes.nodelay);
        tcb.set_keepalive(wishes.keepalive);
        tcb.set_send_limit(wished.0);
        if wished.1 != recv {
            tcb.set_recv_limit(wished.1);
        }
        stack.changed(conn);
        self.pass_on();
    }

    /// Send and receive buffer, and the largest segment, of a socket's connection or of those to come.
    pub fn sizes(&self, id: u32) -> Result<(u32, u32, u32)> {
        let wishes = self.wishes(id)?;
        let conn = self.stream(id).and_then(|s| self.tcb(s.conn));
        let config = self.config();
        let or = |wish: u32, configured: u32| if wish == 0 { configured } else { wish };
        let mss = or(wishes.mss.into(), 536);
        Ok(conn.map_or(
            (or(wishes.send_buffer, config.send_limit), or(wishes.recv_buffer, config.recv_limit), mss),
            |tcb| {
                let (send, recv) = tcb.limits();
                (send, recv, tcb.max_payload())
            },
        ))
    }

    /// What a stream socket is ready for.
    pub(super) fn stream_readiness(&self, stream: &Stream) -> u32 {
        if stream.conn == Id::NONE {
            return 0;
        }
        self.stack().map_or(0, |stack| stack.readiness(stream.conn))
    }
}
