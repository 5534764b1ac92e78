//! Options of monitor sockets, user contexts, addresses (monitor.md §1.5, §1.9, §6.8 as changed by D3, D9).

use super::event::{EventId, Hook};
use super::hookset::Callback;
use super::socket::NO_SOCKET;
use super::state::Monitor;
use super::{Errno, Result};
use crate::flow::arena::Id;
use crate::flow::record::{CLI, Flow, SVR};
use crate::flow::token::Token;
use crate::tcp::reassembly::Overlap;
use crate::tcp::side::{NO_COLD, Side};
use crate::tcp::state::State as Tcp;
use std::net::SocketAddr;

/// What a socket id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A STREAM or RAW listener.
    Listener(super::listener::Kind),
    /// A flow's monitor socket.
    Flow,
    /// Nothing.
    Unused,
}

impl Monitor {
    /// What a socket id names, flows included.
    pub fn named(&self, t: &Token, sock: u32) -> Named {
        if let Some(l) = self.setup.lock().get(sock) {
            return Named::Listener(l.kind);
        }
        if self.view(t).sockets.get(sock).is_some() { Named::Flow } else { Named::Unused }
    }

    /// Registers a callback on a listener: flows opened later have it. `None`: the id is no listener's.
    pub fn register_on_listener(
        &self,
        sock: u32,
        hook: Hook,
        event: EventId,
        cb: Option<Callback>,
    ) -> Option<Result<()>> {
        // The forest first: its lock is never taken inside the set-up lock by anyone else either.
        let forest = self.forest().read();
        self.setup.lock().get(sock)?;
        Some(self.change_setup(|setup| {
            let listener = setup.get(sock).ok_or(Errno(libc::EINVAL))?;
            let changed = match cb {
                Some(cb) => listener.hooks.with(&forest, hook, event, cb),
                None => listener.hooks.without(&forest, hook, event),
            };
            listener.hooks = changed.ok_or(Errno(libc::ENOMEM))?;
            Ok(())
        }))
    }

    /// Registers a callback on one flow's socket: a set of its own from now on (copy on write).
    pub fn register_on_flow(
        &self,
        t: &mut Token,
        sock: u32,
        hook: Hook,
        event: EventId,
        cb: Option<Callback>,
    ) -> Result<()> {
        let st = self.state(t);
        let socket = st.sockets.get(sock).ok_or(Errno(libc::EINVAL))?;
        let (old, flow) = (socket.set(), socket.flow);
        let hooks = st.sets.handle(old).ok_or(Errno(libc::EINVAL))?;
        let forest = self.forest().read();
        let changed = match cb {
            Some(cb) => hooks.with(&forest, hook, event, cb),
            None => hooks.without(&forest, hook, event),
        };
        let set = changed.and_then(|set| st.sets.intern(&set)).ok_or(Errno(libc::ENOMEM))?;
        if let Some(socket) = st.sockets.get_mut(sock) {
            socket.put_set(set);
        }
        st.sets.release(old);
        let mut interest = 0;
        let mut at = st.flows.get(flow).map_or(NO_SOCKET, |f| f.socket);
        while let Some(s) = st.sockets.get(at) {
            interest |= st.sets.get(s.set()).map_or(0, |h| h.interest);
            at = s.next;
        }
        if let Some(flow) = st.flows.get_mut(flow) {
            flow.interest = interest;
        }
        Ok(())
    }

    /// The application's pointer; `None`: the id has none to give.
    pub fn uctx(&self, t: &Token, sock: u32) -> Option<usize> {
        if let Some(socket) = self.view(t).sockets.get(sock) {
            return Some(socket.uctx);
        }
        self.setup.lock().get(sock).map(|l| l.uctx)
    }

    /// Sets the application's pointer; ids that carry none are ignored.
    pub fn set_uctx(&self, t: &mut Token, sock: u32, uctx: usize) {
        if let Some(socket) = self.state(t).sockets.get_mut(sock) {
            socket.uctx = uctx;
        } else if let Some(listener) = self.setup.lock().get(sock) {
            listener.uctx = uctx;
        }
    }

    /// Client and server of a flow, as its first SYN had them (K8); `None`: no flow.
    pub fn peers(&self, t: &Token, sock: u32) -> Option<[SocketAddr; 2]> {
        let flow = self.view(t).flow_of(sock)?;
        let (low, high) = flow.key.ends();
        Some(if flow.has(Flow::REVERSED) { [high, low] } else { [low, high] })
    }

    /// MOS_TCP_STATE_CLI and _SVR; `None`: that side is not there (yet).
    pub fn tcp_state(&self, t: &Token, sock: u32, side: usize) -> Option<Tcp> {
        let s = &self.view(t).flow_of(sock)?.sides[side];
        s.has(Side::ATTACHED).then_some(s.state)
    }

    /// MOS_TIMESTAMP: when the flow was last active, in µs, truncated.
    pub fn last_active(&self, t: &Token, sock: u32) -> Option<u32> {
        Some(self.view(t).flow_of(sock)?.last_seen.wrapping_mul(1000))
    }

    /// MOS_CLIBUF, MOS_SVRBUF of one flow: 0 switches reassembly off for every monitor of it, more resizes the ring (D9).
    pub fn set_buffer(&self, t: &mut Token, sock: u32, side: usize, size: usize) -> Result<()> {
        let st = self.state(t);
        let id = st.sockets.get(sock).ok_or(Errno(libc::EBADF))?.flow;
        let flow = st.flows.get_mut(id).ok_or(Errno(libc::EBADF))?;
        let s = &mut flow.sides[side];
        if size == 0 {
            s.set(Side::NO_BUFFER);
            s.clear(Side::NEW_DATA);
            if let Some(cold) = st.cold.get_mut(s.cold) {
                let held = cold.stream.allocated_bytes();
                cold.stream.disable();
                let holds = cold.stream.allocated_bytes();
                st.account(held, holds);
            }
            return Ok(());
        }
        s.clear(Side::NO_BUFFER);
        if s.cold == NO_COLD && size == st.rmem {
            return Ok(());
        }
        let tail = s.data_tail();
        let cold = st.cold_of(id, side).ok_or(Errno(libc::ENOMEM))?;
        let held = cold.stream.allocated_bytes();
        cold.stream.resize(tail, size);
        let holds = cold.stream.allocated_bytes();
        st.account(held, holds);
        Ok(())
    }

    /// MOS_CLIOVERLAP, MOS_SVROVERLAP of one flow. EFAULT before any payload came on that side, then `overlap`'s own error.
    pub fn set_overlap(&self, t: &mut Token, sock: u32, side: usize, overlap: Result<Overlap>) -> Result<()> {
        let st = self.state(t);
        let cold = st.flow_of(sock).map(|f| f.sides[side].cold).and_then(|n| st.cold.get_mut(n));
        // The ring must exist: no payload has come on that side yet otherwise (C58).
        let cold = cold.filter(|c| c.stream.was_used()).ok_or(Errno(libc::EFAULT))?;
        cold.stream.set_overlap(overlap?);
        Ok(())
    }

    /// MOS_STOP_MON of one flow: this socket hears no more of the sides in `mask` (bit 0 client, bit 1 server).
    pub fn stop(&self, t: &mut Token, sock: u32, mask: u8) -> Result<()> {
        let st = self.state(t);
        let socket = st.sockets.get_mut(sock).ok_or(Errno(libc::EBADF))?;
        socket.unfollow(mask);
        let id = socket.flow;
        let mut followed = 0;
        let mut at = st.flows.get(id).map_or(NO_SOCKET, |f| f.socket);
        while let Some(s) = st.sockets.get(at) {
            followed |= s.follows();
            at = s.next;
        }
        let Some(flow) = st.flows.get_mut(id) else { return Ok(()) };
        for side in [CLI, SVR] {
            if mask & (1 << side) != 0 && followed & (1 << side) == 0 {
                let s = &mut flow.sides[side];
                s.set(Side::UNTRACKED);
                s.clear(Side::NEW_DATA);
            }
        }
        if flow.sides.iter().all(|s| s.has(Side::UNTRACKED)) && flow.has(Flow::BUSY) {
            flow.set(Flow::SILENT_END);
        }
        Ok(())
    }

    /// MOS_STOP_MON of a listener: later flows are not reported for those sides.
    pub fn stop_listener(&self, sock: u32, mask: u8) {
        self.change_setup(|setup| {
            if let Some(l) = setup.get(sock) {
                for side in [CLI, SVR] {
                    l.follows[side] &= mask & (1 << side) == 0;
                }
            }
        });
    }

    /// The flow of a socket, for `reset`.
    pub fn flow_id(&self, t: &Token, sock: u32) -> Option<Id> {
        self.view(t).sockets.get(sock).map(|s| s.flow)
    }
}
