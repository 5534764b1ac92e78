//! Calls on sockets, as Linux answers them (tcp(7), socket(7)); where the C ABI of libmos differs, it is put right here.

use crate::Result;
use crate::threads::Shared;
use crate::world::{Fd, World};
use mos::endpoint::socket::Kind;
use mos::flow::arena::Id;
use mos::monitor::Errno;
use mos::tcp::tcb::State;
use mos::tcp::tcb::calls::Shutdown;
use std::net::SocketAddrV4;

/// Linux's `somaxconn`.
const MOST_BACKLOG: i32 = 4096;
/// Most bytes moved by one splice.
const SPLICED: usize = 4096;

/// What a descriptor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A stream socket without a connection.
    Fresh,
    /// One with a connection, in whatever state.
    Connection,
    Listener,
    Pipe,
    Epoll,
}

fn plain<T>(result: std::result::Result<T, Errno>) -> Result<T> {
    result.map_err(|e| e.0)
}

impl World {
    /// What a descriptor names.
    pub fn named(&self, fd: &Fd) -> Named {
        self.on(|st| match st.sockets.get(fd.id).map(|s| &s.kind) {
            Some(Kind::Stream(stream)) if stream.conn == Id::NONE => Named::Fresh,
            Some(Kind::Stream(_)) => Named::Connection,
            Some(Kind::Listener) => Named::Listener,
            Some(Kind::Pipe { .. }) => Named::Pipe,
            _ => Named::Epoll,
        })
    }

    fn new_socket(&self) -> Result<u32> {
        plain(self.with(|e, m, t| e.socket(m, t)))
    }

    fn state(&self, fd: &Fd) -> Option<State> {
        self.tcb(fd.id, |tcb| tcb.state())
    }

    /// Whether a connection is still being opened.
    fn is_opening(&self, fd: &Fd) -> bool {
        matches!(self.state(fd), Some(State::SynSent | State::SynRcvd))
    }

    /// The error of a connection that has ended, which is told once.
    pub fn take_error(&mut self, number: i32) -> Result<i32> {
        let fd = self.fd(number)?;
        // EINPROGRESS is the stack's own; for Linux nothing is wrong yet.
        let error = self.on(|st| st.socket_error(fd.id)).unwrap_or(0);
        if fd.error_told || error == 0 || error == libc::EINPROGRESS {
            return Ok(0);
        }
        self.fd_mut(number)?.error_told = true;
        Ok(error)
    }

    /// `socket`.
    pub fn socket(&mut self, domain: i32, kind: i32, protocol: i32) -> Result<i32> {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        match (domain, kind & !flags, protocol) {
            (libc::AF_INET, libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => {}
            (libc::AF_INET, libc::SOCK_STREAM, _) => return Err(libc::EPROTONOSUPPORT),
            (libc::AF_INET, ..) => return Err(libc::ESOCKTNOSUPPORT),
            _ => return Err(libc::EAFNOSUPPORT),
        }
        let id = self.new_socket()?;
        self.give(id, kind & libc::SOCK_NONBLOCK != 0)
    }

    /// `bind`. Any address is taken for one of ours.
    pub fn bind(&mut self, fd: i32, to: SocketAddrV4) -> Result<()> {
        let fd = self.fd(fd)?;
        match self.named(&fd) {
            Named::Pipe | Named::Epoll => Err(libc::ENOTSOCK),
            Named::Fresh => plain(self.on(|st| st.bind(fd.id, to))),
            _ => Err(libc::EINVAL),
        }
    }

    /// `listen`. Linux lets one more wait than was said.
    pub fn listen(&mut self, fd: i32, backlog: i32) -> Result<()> {
        let fd = self.fd(fd)?;
        let backlog = if (0..MOST_BACKLOG).contains(&backlog) { backlog } else { MOST_BACKLOG } as usize + 1;
        match self.named(&fd) {
            Named::Pipe | Named::Epoll => Err(libc::ENOTSOCK),
            _ => plain(self.on(|st| st.listen(fd.id, backlog))),
        }
    }

    fn accept(&mut self, fd: i32) -> Result<Option<(i32, SocketAddrV4)>> {
        let fd = self.fd(fd)?;
        match self.named(&fd) {
            Named::Pipe | Named::Epoll => return Err(libc::ENOTSOCK),
            Named::Listener => {}
            _ => return Err(libc::EINVAL),
        }
        match plain(self.with(|e, m, t| e.accept(m, t, fd.id)))? {
            Some((id, peer)) => Ok(Some((self.give(id, false)?, peer))),
            None => Ok(None),
        }
    }

    fn connect(&mut self, number: i32, to: SocketAddrV4, again: bool) -> Result<Option<()>> {
        let fd = self.fd(number)?;
        match self.named(&fd) {
            Named::Pipe | Named::Epoll => return Err(libc::ENOTSOCK),
            Named::Listener => return Err(libc::EISCONN),
            Named::Connection if again || fd.connecting => {
                if self.is_opening(&fd) {
                    return if again { Ok(None) } else { Err(libc::EALREADY) };
                }
                self.fd_mut(number)?.connecting = false;
                return match (self.take_error(number)?, self.state(&fd)) {
                    (0, Some(State::Closed) | None) => Err(libc::ECONNABORTED),
                    (0, _) => Ok(Some(())),
                    (error, _) => Err(error),
                };
            }
            _ => {}
        }
        let opened = plain(self.with(|e, m, t| e.connect(m, t, fd.id, to, false)));
        // The reference's EINVAL stands for a missing route.
        opened.map_err(|e| if e == libc::EINVAL { libc::ENETUNREACH } else { e })?;
        let fd = self.fd_mut(number)?;
        fd.error_told = false;
        if fd.nonblocking {
            fd.connecting = true;
            return Err(libc::EINPROGRESS);
        }
        Ok(None)
    }

    /// What `connect` to AF_UNSPEC does, and `shutdown` to a socket that is not connected yet: the socket begins anew.
    pub fn disconnect(&mut self, number: i32) -> Result<()> {
        let fd = self.fd(number)?;
        let new = match self.named(&fd) {
            Named::Fresh => return Ok(()),
            Named::Connection => {
                // Its id is free afterwards, whatever it says.
                let _ = self.with(|e, m, t| e.abort(m, t, fd.id));
                self.new_socket()?
            }
            Named::Listener => {
                let _ = self.with(|e, m, t| e.close(m, t, fd.id));
                self.new_socket()?
            }
            _ => return Err(libc::ENOTSOCK),
        };
        *self.fd_mut(number)? = Fd { id: new, nonblocking: fd.nonblocking, ..Fd::default() };
        Ok(())
    }

    /// Reads; `None`: nothing is there yet.
    fn read(&mut self, number: i32, out: &mut [u8], peek: bool) -> Result<Option<usize>> {
        let fd = self.fd(number)?;
        match self.named(&fd) {
            Named::Epoll => return Err(libc::EINVAL),
            Named::Fresh | Named::Listener => return Err(libc::ENOTCONN),
            _ if out.is_empty() => return Ok(Some(0)),
            Named::Pipe => return plain(self.on(|st| st.read_pipe(fd.id, out, peek))),
            Named::Connection if self.is_opening(&fd) => return Ok(None),
            Named::Connection => {}
        }
        match self.on(|st| st.read(fd.id, out, peek)) {
            Ok(read) => Ok(read),
            // An error that was told already is the end of the stream.
            Err(_) => match self.take_error(number)? {
                0 => Ok(Some(0)),
                error => Err(error),
            },
        }
    }

    /// Writes what there is room for; `None`: none yet.
    fn write(&mut self, number: i32, from: &[u8]) -> Result<Option<usize>> {
        let fd = self.fd(number)?;
        match self.named(&fd) {
            Named::Epoll => return Err(libc::EINVAL),
            Named::Fresh | Named::Listener => return Err(libc::EPIPE),
            Named::Pipe => return plain(self.on(|st| st.write_pipe(fd.id, from))),
            Named::Connection if self.is_opening(&fd) && !fd.shut_write => return Ok(None),
            _ if from.is_empty() => return Ok(Some(0)),
            Named::Connection => {}
        }
        match self.on(|st| st.write(fd.id, from)) {
            Err(Errno(libc::ENOMEM)) => Err(libc::ENOMEM),
            Err(_) => match self.take_error(number)? {
                0 => Err(libc::EPIPE),
                error => Err(error),
            },
            Ok(written) => Ok(written),
        }
    }

    /// `shutdown`.
    pub fn shutdown(&mut self, number: i32, how: i32) -> Result<()> {
        let fd = self.fd(number)?;
        let (which, read, write) = match how {
            libc::SHUT_RD => (Shutdown::Read, true, false),
            libc::SHUT_WR => (Shutdown::Write, false, true),
            libc::SHUT_RDWR => (Shutdown::Both, true, true),
            _ => return Err(libc::EINVAL),
        };
        match self.named(&fd) {
            Named::Pipe | Named::Epoll => return Err(libc::ENOTSOCK),
            Named::Fresh => return Err(libc::ENOTCONN),
            Named::Listener if read => return self.disconnect(number),
            Named::Listener => return Ok(()),
            Named::Connection if self.state(&fd) == Some(State::SynSent) => return self.disconnect(number),
            Named::Connection => {}
        }
        plain(self.on(|st| st.shutdown(fd.id, which)))?;
        let fd = self.fd_mut(number)?;
        fd.shut_read |= read;
        fd.shut_write |= write;
        Ok(())
    }

    /// Closes a descriptor. A connection to linger for, and for how long, µs.
    fn close(&mut self, number: i32) -> Result<Option<(Id, u64)>> {
        let fd = self.take(number)?;
        let lingers = self.on(|st| st.stream(fd.id).map(|s| (s.conn, s.wishes.linger)));
        // A socket without connection is closed as well.
        let _ = self.with(|e, m, t| e.close(m, t, fd.id));
        Ok(match lingers {
            Some((conn, Some(seconds))) if seconds > 0 && !fd.nonblocking => {
                Some((conn, u64::from(seconds) * 1_000_000))
            }
            _ => None,
        })
    }

    /// `pipe`: the descriptor to read from, and the one to write to.
    pub fn pipe(&mut self) -> Result<[i32; 2]> {
        let [read, write] = plain(self.with(|e, m, t| e.pipe(m, t)))?;
        Ok([self.give(read, false)?, self.give(write, false)?])
    }

    fn splice(&mut self, from: i32, to: i32, len: usize) -> Result<Option<usize>> {
        let (source, target) = (self.fd(from)?, self.fd(to)?);
        if Named::Pipe != self.named(&source) && Named::Pipe != self.named(&target) {
            return Err(libc::EINVAL);
        }
        let mut moved = 0;
        let mut bytes = [0; SPLICED];
        while moved < len {
            let most = SPLICED.min(len - moved);
            let done = match self.read(from, &mut bytes[..most], true) {
                Ok(Some(count)) if count > 0 => self.write(to, &bytes[..count]),
                other => other,
            };
            match done {
                Ok(Some(count)) if count > 0 => {
                    self.read(from, &mut bytes[..count], false)?;
                    moved += count;
                }
                other if moved == 0 => return other,
                _ => break,
            }
        }
        Ok(Some(moved))
    }
}

/// Whether a call with these flags waits.
fn waits(world: &World, fd: i32, flags: i32) -> Result<bool> {
    Ok(!world.fd(fd)?.nonblocking && flags & libc::MSG_DONTWAIT == 0)
}

fn eagain<R>(result: Option<R>, waits: bool) -> Result<Option<R>> {
    if result.is_none() && !waits { Err(libc::EAGAIN) } else { Ok(result) }
}

impl Shared {
    fn endless<R>(&self, look: impl FnMut(&mut World) -> Result<Option<R>>) -> Result<R> {
        self.waiting(|_| None, look)?.ok_or(libc::EAGAIN)
    }

    /// `accept`: the descriptor, and who connected.
    pub fn accept(&self, fd: i32) -> Result<(i32, SocketAddrV4)> {
        self.endless(|w| {
            let accepted = w.accept(fd)?;
            eagain(accepted, waits(w, fd, 0)?)
        })
    }

    /// `connect`.
    pub fn connect(&self, fd: i32, to: SocketAddrV4) -> Result<()> {
        let mut again = false;
        self.endless(|w| w.connect(fd, to, std::mem::replace(&mut again, true)))
    }

    /// `recv` and its kin.
    pub fn read(&self, fd: i32, out: &mut [u8], flags: i32) -> Result<usize> {
        let known = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        if flags & libc::MSG_OOB != 0 {
            // There is no urgent data here.
            return Err(libc::EINVAL);
        }
        if flags & libc::MSG_ERRQUEUE != 0 {
            return Err(libc::EAGAIN);
        }
        if flags & !known != 0 {
            return Err(libc::EOPNOTSUPP);
        }
        let (peek, all) = (flags & libc::MSG_PEEK != 0, flags & libc::MSG_WAITALL != 0);
        let mut done = 0;
        self.endless(|w| match w.read(fd, &mut out[done..], peek) {
            Ok(Some(count)) => {
                done += count;
                let over = count == 0 || !all || peek || done == out.len();
                if over || !waits(w, fd, flags)? { Ok(Some(done)) } else { Ok(None) }
            }
            Ok(None) if done > 0 && !waits(w, fd, flags)? => Ok(Some(done)),
            Ok(None) => eagain(None, waits(w, fd, flags)?),
            Err(_) if done > 0 => Ok(Some(done)),
            Err(e) => Err(e),
        })
    }

    /// `send` and its kin: all of it, when the call may wait.
    pub fn write(&self, fd: i32, from: &[u8], flags: i32) -> Result<usize> {
        let known = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_EOR;
        if flags & !known != 0 {
            return Err(libc::EOPNOTSUPP);
        }
        let mut done = 0;
        self.endless(|w| match w.write(fd, &from[done..]) {
            Ok(Some(count)) => {
                done += count;
                if done == from.len() || !waits(w, fd, flags)? { Ok(Some(done)) } else { Ok(None) }
            }
            Ok(None) if done > 0 && !waits(w, fd, flags)? => Ok(Some(done)),
            Ok(None) => eagain(None, waits(w, fd, flags)?),
            Err(_) if done > 0 => Ok(Some(done)),
            Err(e) => Err(e),
        })
    }

    /// `close`; it lingers as SO_LINGER says.
    pub fn close(&self, fd: i32) -> Result<()> {
        let Some((conn, time)) = self.now(|w| w.close(fd))? else { return Ok(()) };
        self.waiting(
            |w| Some(w.now + time),
            |w| {
                let drained = w.on(|st| st.stack().and_then(|s| s.tcb(conn)).is_none_or(|t| t.is_drained()));
                Ok(drained.then_some(()))
            },
        )?;
        Ok(())
    }

    /// `splice`; one end is a pipe.
    pub fn splice(&self, from: i32, to: i32, len: usize, flags: u32) -> Result<usize> {
        self.endless(|w| {
            let moved = w.splice(from, to, len)?;
            let nonblocking = flags & libc::SPLICE_F_NONBLOCK != 0;
            eagain(moved, !nonblocking && waits(w, from, 0)? && waits(w, to, 0)?)
        })
    }
}
