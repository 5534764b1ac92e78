//! The end-host sockets of a context, by id.
//!
//! Ids come from the context's one id space (K9), which the monitor's sockets share; here lies what an id names when it is
//! an end-host socket. A slot's generation tells a waiter that the socket it waited for was closed and its id used again.

use crate::flow::arena::Id;
use crate::flow::{OutOfMemory, reserve};
use std::net::SocketAddrV4;

/// "No watch": the end of a list.
pub const NONE: u32 = u32::MAX;

/// What an application asked of a stream socket by options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `TCP_NODELAY`.
    pub nodelay: bool,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
    /// `SO_REUSEADDR`. Every address can be used again here; it is only remembered.
    pub reuse_addr: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_SNDBUF`; 0: as configured.
    pub send_buffer: u32,
    /// `SO_RCVBUF`; 0: as configured.
    pub recv_buffer: u32,
    /// `IP_TTL`; 0: the usual.
    pub ttl: u8,
    /// `IP_TOS`, without its ECN bits: these are TCP's (RFC 3168 6.1), and we speak no ECN.
    pub tos: u8,
    /// `TCP_MAXSEG` for connections to come; 0: as configured.
    pub mss: u16,
    /// `SO_LINGER`, seconds. With 0 a close resets; else it waits so long, if the socket is a blocking one, until all is
    /// acknowledged.
    pub linger: Option<u16>,
}

impl Wishes {
    /// `IP_TTL` as an application says it: -1 for the usual. Whether it is one.
    #[must_use]
    pub fn set_ttl(&mut self, value: i32) -> bool {
        let ttl = if value == -1 { Some(0) } else { u8::try_from(value).ok().filter(|&ttl| ttl > 0) };
        self.ttl = ttl.unwrap_or(self.ttl);
        ttl.is_some()
    }

    /// `IP_TOS` as an application says it.
    pub fn set_tos(&mut self, value: i32) {
        self.tos = value as u8 & !3;
    }

    /// The time to live that packets have.
    pub fn used_ttl(&self) -> u8 {
        if self.ttl == 0 { super::output::TTL } else { self.ttl }
    }
}

/// A stream socket that is no listener.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Its connection, once there is one.
    pub conn: Id,
    /// Its own address as far as `mtcp_bind` said.
    pub bound: Option<SocketAddrV4>,
    /// Its options.
    pub wishes: Wishes,
}

impl Default for Stream {
    fn default() -> Self {
        Stream { conn: Id::NONE, bound: None, wishes: Wishes::default() }
    }
}

/// What an end-host socket is.
#[derive(Debug, Default)]
pub enum Kind {
    /// No end-host socket.
    #[default]
    Unused,
    /// A stream socket.
    Stream(Stream),
    /// A listening socket.
    Listener,
    /// An epoll object.
    Epoll(super::epoll::Epoll),
    /// One end of a pipe.
    Pipe {
        /// Which pipe.
        pipe: u32,
        /// Whether this is the end that is written to.
        writes: bool,
    },
}

/// One socket.
#[derive(Debug)]
pub struct Socket {
    /// What it is.
    pub kind: Kind,
    /// How many sockets had this id before.
    pub generation: u32,
    /// First of the epoll entries that watch it.
    pub watches: u32,
    /// Calls return at once.
    pub nonblocking: bool,
}

impl Default for Socket {
    fn default() -> Self {
        Socket { kind: Kind::Unused, generation: 0, watches: NONE, nonblocking: false }
    }
}

/// Slots in a chunk of memory.
const CHUNK: usize = 256;

/// Sockets by id; memory grows in chunks with the highest id used.
#[derive(Debug, Default)]
pub struct Sockets {
    chunks: Vec<Vec<Socket>>,
    in_use: u32,
}

impl Sockets {
    /// Puts a socket under an id that is free.
    ///
    /// # Errors
    /// [`OutOfMemory`]: there is no room for it.
    pub fn put(&mut self, id: u32, kind: Kind) -> Result<(), OutOfMemory> {
        let (chunk, at) = (id as usize / CHUNK, id as usize % CHUNK);
        while self.chunks.len() <= chunk {
            reserve(&mut self.chunks, 1)?;
            self.chunks.push(Vec::new());
        }
        let slots = &mut self.chunks[chunk];
        if slots.is_empty() {
            reserve(slots, CHUNK)?;
            slots.resize_with(CHUNK, Socket::default);
        }
        let slot = &mut slots[at];
        slot.kind = kind;
        slot.watches = NONE;
        slot.nonblocking = false;
        self.in_use += 1;
        Ok(())
    }

    /// The socket with this id.
    #[inline]
    pub fn get(&self, id: u32) -> Option<&Socket> {
        let socket = self.chunks.get(id as usize / CHUNK)?.get(id as usize % CHUNK)?;
        (!matches!(socket.kind, Kind::Unused)).then_some(socket)
    }

    /// The socket with this id.
    #[inline]
    pub fn get_mut(&mut self, id: u32) -> Option<&mut Socket> {
        let socket = self.chunks.get_mut(id as usize / CHUNK)?.get_mut(id as usize % CHUNK)?;
        (!matches!(socket.kind, Kind::Unused)).then_some(socket)
    }

    /// Takes a socket out: the id names nothing any more.
    pub fn take(&mut self, id: u32) -> Option<Kind> {
        let socket = self.get_mut(id)?;
        socket.generation = socket.generation.wrapping_add(1);
        self.in_use -= 1;
        Some(std::mem::take(&mut self.get_mut(id)?.kind))
    }

    /// The generation of an id's slot.
    pub fn generation(&self, id: u32) -> u32 {
        let slot = self.chunks.get(id as usize / CHUNK).and_then(|c| c.get(id as usize % CHUNK));
        slot.map_or(0, |s| s.generation)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.in_use as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.in_use == 0
    }

    /// Ids below this may be in use.
    pub fn bound(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// Bytes held.
    pub fn allocated_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Vec<Socket>>()
            + self.chunks.iter().map(|c| c.capacity() * size_of::<Socket>()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_used_again_has_another_generation() {
        let mut sockets = Sockets::default();
        assert!(sockets.get(7).is_none() && sockets.take(7).is_none());
        sockets.put(700, Kind::Pipe { pipe: 3, writes: true }).expect("room");
        let before = sockets.generation(700);
        assert_eq!(sockets.len(), 1);
        assert!(matches!(sockets.take(700), Some(Kind::Pipe { pipe: 3, writes: true })));
        assert!(sockets.get(700).is_none() && sockets.is_empty());
        sockets.put(700, Kind::Pipe { pipe: 4, writes: false }).expect("room");
        assert_ne!(sockets.generation(700), before);
    }
}
