//! Listening sockets: who takes a SYN, and the connections that wait to be accepted (endpoint-io.md §4.2).

use super::conn::Conn;
use super::socket::{NONE, Wishes};
use super::stack::Stack;
use crate::flow::arena::Id;
use crate::monitor::{Errno, Result};
use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};

/// One listener.
#[derive(Debug)]
pub struct Listener {
    /// Its own address; unspecified: any.
    pub addr: SocketAddrV4,
    /// Most connections that wait to be accepted.
    pub backlog: usize,
    /// What connections that come in are made with.
    pub wishes: Wishes,
    /// Connections that wait; some may have ended meanwhile.
    queue: VecDeque<Id>,
    /// Of those, how many live.
    waiting: usize,
}

/// All listeners of a context.
#[derive(Debug, Default)]
pub struct Listeners {
    by_sock: HashMap<u32, Listener>,
    /// Sockets by port, in the order they began.
    by_port: HashMap<u16, Vec<u32>>,
}

impl Listeners {
    /// A socket's listener.
    pub fn get(&self, sock: u32) -> Option<&Listener> {
        self.by_sock.get(&sock)
    }

    /// A socket's listener.
    pub fn get_mut(&mut self, sock: u32) -> Option<&mut Listener> {
        self.by_sock.get_mut(&sock)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_sock.is_empty()
    }

    /// The listening sockets.
    pub fn socks(&self) -> Vec<u32> {
        self.by_sock.keys().copied().collect()
    }

    /// Whether a listener has an address and port already, unless both share it (SO_REUSEPORT). One on any address and one on
    /// a certain one do not exclude each other.
    pub fn is_taken(&self, addr: SocketAddrV4, shares: bool) -> bool {
        self.by_port.get(&addr.port()).is_some_and(|socks| {
            socks
                .iter()
                .filter_map(|s| self.by_sock.get(s))
                .any(|l| *l.addr.ip() == *addr.ip() && !(shares && l.wishes.reuse_port))
        })
    }

    /// The socket that takes a connection to `to` from `from`: bound to that very address before one bound to any; of several the
    /// one that `pick` falls on.
    pub fn find(&self, to: SocketAddrV4, pick: u64) -> Option<u32> {
        let socks = self.by_port.get(&to.port())?;
        let on = |ip: Ipv4Addr| {
            socks.iter().copied().filter(move |s| self.by_sock.get(s).is_some_and(|l| *l.addr.ip() == ip))
        };
        for ip in [*to.ip(), Ipv4Addr::UNSPECIFIED] {
            let count = on(ip).count();
            if count > 0 {
                return on(ip).nth(pick as usize % count);
            }
        }
        None
    }

    fn add(&mut self, sock: u32, listener: Listener) -> Result<()> {
        let no_memory = |_| Errno(libc::ENOMEM);
        self.by_sock.try_reserve(1).map_err(no_memory)?;
        self.by_port.try_reserve(1).map_err(no_memory)?;
        let socks = self.by_port.entry(listener.addr.port()).or_default();
        socks.try_reserve(1).map_err(no_memory)?;
        socks.push(sock);
        self.by_sock.insert(sock, listener);
        Ok(())
    }

    fn remove(&mut self, sock: u32) -> Option<Listener> {
        let listener = self.by_sock.remove(&sock)?;
        if let Some(socks) = self.by_port.get_mut(&listener.addr.port()) {
            socks.retain(|s| *s != sock);
            if socks.is_empty() {
                self.by_port.remove(&listener.addr.port());
            }
        }
        Some(listener)
    }
}

impl Listener {
    /// Whether no more connections may wait.
    pub fn is_full(&self) -> bool {
        self.waiting >= self.backlog
    }

    /// Whether a connection waits to be accepted.
    pub fn is_ready(&self) -> bool {
        self.waiting > 0
    }
}

impl Stack {
    /// A socket begins to listen. EADDRINUSE, ENOMEM.
    pub fn listen(&mut self, sock: u32, addr: SocketAddrV4, backlog: usize, wishes: Wishes) -> Result<()> {
        if let Some(listener) = self.listeners.get_mut(sock) {
            listener.backlog = backlog;
            return Ok(());
        }
        if self.listeners.is_taken(addr, wishes.reuse_port) {
            return Err(Errno(libc::EADDRINUSE));
        }
        self.listeners.add(sock, Listener { addr, backlog, wishes, queue: VecDeque::new(), waiting: 0 })
    }

    /// A connection's handshake is over: it waits to be accepted.
    pub(super) fn enqueue(&mut self, id: Id) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.flags &= !Conn::HALF_OPEN;
        self.half_open -= 1;
        let sock = conn.listener;
        let Some(listener) = self.listeners.get_mut(sock) else { return self.abort(id) };
        if listener.queue.try_reserve(1).is_err() {
            return self.abort(id);
        }
        conn.flags |= Conn::QUEUED;
        listener.queue.push_back(id);
        listener.waiting += 1;
        self.tell(sock, super::events::IN);
    }

    /// A connection that waited, or whose handshake was not over, has ended.
    pub(super) fn leave_listener(&mut self, id: Id) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (sock, flags) = (std::mem::replace(&mut conn.listener, NONE), conn.flags);
        conn.flags &= !(Conn::HALF_OPEN | Conn::QUEUED);
        if flags & Conn::HALF_OPEN != 0 {
            self.half_open -= 1;
        }
        if flags & Conn::QUEUED != 0
            && let Some(listener) = self.listeners.get_mut(sock)
        {
            listener.waiting -= 1;
            // What has ended does not stay in the queue for ever when nobody accepts.
            if listener.queue.len() > 2 * listener.waiting + 64 {
                let conns = &self.conns;
                listener.queue.retain(|&id| conns.get(id).is_some_and(|c| c.has(Conn::QUEUED)));
            }
        }
    }

    /// Takes the next connection that waits; it belongs to socket `to` from now on.
    pub fn accept(&mut self, sock: u32, to: u32) -> Option<Id> {
        let listener = self.listeners.get_mut(sock)?;
        while let Some(id) = listener.queue.pop_front() {
            if let Some(conn) = self.conns.get_mut(id)
                && conn.has(Conn::QUEUED)
            {
                conn.flags &= !Conn::QUEUED;
                (conn.listener, conn.sock) = (NONE, to);
                listener.waiting -= 1;
                return Some(id);
            }
        }
        None
    }

    /// A listener ends: connections that wait, or are in handshake, are reset.
    pub fn unlisten(&mut self, sock: u32) {
        let Some(listener) = self.listeners.remove(sock) else { return };
        for id in listener.queue {
            if self.conns.get(id).is_some_and(|c| c.has(Conn::QUEUED)) {
                self.abort(id);
            }
        }
        for index in 0..if self.half_open > 0 { self.conns.slots() } else { 0 } {
            if let Some(id) = self.conns.id_of(index)
                && self.conns.get(id).is_some_and(|c| c.listener == sock)
            {
                self.abort(id);
            }
        }
    }
}
