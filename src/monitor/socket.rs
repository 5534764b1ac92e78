//! Monitor sockets of flows: one for each listener a flow is attached to.

use crate::flow::arena::Id;
use crate::flow::prefetch_lines;

/// "No socket".
pub const NO_SOCKET: u32 = u32::MAX;

/// A listener's view of one flow (40 bytes).
#[derive(Clone, Debug)]
pub struct FlowSocket {
    /// The flow; [`Id::NONE`]: the id names no flow socket.
    pub flow: Id,
    /// Next socket of the same flow, in creation order.
    pub next: u32,
    /// Number of its callback set and, in the two uppermost bits, the sides whose callbacks are wanted.
    set: u32,
    /// The application's pointer.
    pub uctx: usize,
    /// How far each side's stream has been peeked.
    pub peeked: [u64; 2],
}

/// Where the bits of the sides begin in `FlowSocket::set`.
const FOLLOWS: u32 = 30;

impl Default for FlowSocket {
    fn default() -> Self {
        FlowSocket { flow: Id::NONE, next: NO_SOCKET, set: 0, uctx: 0, peeked: [0; 2] }
    }
}

impl FlowSocket {
    /// A socket of a flow with a callback set, for the sides in `follows` (a bit each).
    pub fn new(flow: Id, next: u32, set: u32, follows: u8) -> Self {
        let set = set & ((1 << FOLLOWS) - 1) | u32::from(follows & 3) << FOLLOWS;
        FlowSocket { flow, next, set, ..FlowSocket::default() }
    }

    /// Number of its callback set.
    #[inline]
    pub fn set(&self) -> u32 {
        self.set & ((1 << FOLLOWS) - 1)
    }

    /// Gives it another callback set.
    pub fn put_set(&mut self, set: u32) {
        *self = FlowSocket {
            uctx: self.uctx,
            peeked: self.peeked,
            ..Self::new(self.flow, self.next, set, self.follows())
        };
    }

    /// The sides whose callbacks are wanted, a bit each.
    #[inline]
    pub fn follows(&self) -> u8 {
        (self.set >> FOLLOWS) as u8
    }

    /// Whether callbacks for a side are wanted.
    #[inline]
    pub fn follows_side(&self, side: usize) -> bool {
        self.set >> FOLLOWS & 1 << side != 0
    }

    /// Callbacks for the sides in `mask` are not wanted any more.
    pub fn unfollow(&mut self, mask: u8) {
        self.set &= !(u32::from(mask & 3) << FOLLOWS);
    }

    /// Whether the id names a flow socket at all.
    #[inline]
    fn is_live(&self) -> bool {
        self.flow.generation != 0
    }
}

const CHUNK: usize = 1024;

/// Flow sockets by id; memory grows in chunks with the highest id used.
#[derive(Debug, Default)]
pub struct Sockets {
    chunks: Vec<Vec<FlowSocket>>,
}

impl Sockets {
    /// Makes room for `id`. `false`: out of memory.
    pub fn reserve(&mut self, id: u32) -> bool {
        let wanted = id as usize / CHUNK + 1;
        while self.chunks.len() < wanted {
            let mut chunk = Vec::new();
            if self.chunks.try_reserve(1).is_err() || chunk.try_reserve_exact(CHUNK).is_err() {
                return false;
            }
            chunk.resize_with(CHUNK, FlowSocket::default);
            self.chunks.push(chunk);
        }
        true
    }

    /// The flow socket with this id.
    #[inline]
    pub fn get(&self, id: u32) -> Option<&FlowSocket> {
        let socket = self.chunks.get(id as usize / CHUNK)?.get(id as usize % CHUNK)?;
        socket.is_live().then_some(socket)
    }

    /// The flow socket with this id.
    #[inline]
    pub fn get_mut(&mut self, id: u32) -> Option<&mut FlowSocket> {
        let socket = self.chunks.get_mut(id as usize / CHUNK)?.get_mut(id as usize % CHUNK)?;
        socket.is_live().then_some(socket)
    }

    /// Whether all sockets of a flow, whose first is `first`, have read a side's stream up to `offset`.
    #[inline]
    pub fn all_read(&self, first: u32, side: usize, offset: u64) -> bool {
        let mut at = first;
        while let Some(socket) = self.get(at) {
            if socket.peeked[side] < offset {
                return false;
            }
            at = socket.next;
        }
        true
    }

    /// Fetches a flow socket in advance. Any id will do.
    #[inline]
    pub fn prefetch(&self, id: u32) {
        if let Some(socket) = self.chunks.get(id as usize / CHUNK).and_then(|c| c.get(id as usize % CHUNK)) {
            prefetch_lines(socket, 1);
            prefetch_lines(&socket.peeked[1], 1);
        }
    }

    /// Puts a socket under an id for which room was made.
    pub fn put(&mut self, id: u32, socket: FlowSocket) {
        if let Some(slot) =
            self.chunks.get_mut(id as usize / CHUNK).and_then(|c| c.get_mut(id as usize % CHUNK))
        {
            *slot = socket;
        }
    }

    /// Bytes held.
    pub fn allocated_bytes(&self) -> usize {
        self.chunks.len() * (CHUNK * size_of::<FlowSocket>() + size_of::<Vec<FlowSocket>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_socket_takes_40_bytes() {
        assert_eq!(size_of::<FlowSocket>(), 40);
    }
}
