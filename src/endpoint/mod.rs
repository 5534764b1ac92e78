//! End-host sockets: streams, listeners, epoll objects, pipes (endpoint-io.md §4).
//!
//! [`Endpoint`] is one core's. What it owns lies in [`State`] behind the core's token, as the monitor's does (decision B).
//! Nothing here waits or knows threads: a call does what can be done now, or says that it cannot yet; who waits, and how,
//! is `runtime`'s. What changes notes the sockets whose waiters are to look again ([`State::take_woken`]).

mod addresses;
pub mod calls;
pub mod conn;
pub mod epoll;
pub mod events;
pub mod input;
pub mod listener;
pub mod memory;
pub mod output;
pub mod pipe;
pub mod ports;
pub mod reply;
pub mod round;
pub mod socket;
pub mod stack;

use crate::flow::slab::Slab;
use crate::flow::token::{Token, TokenCell};
use crate::monitor::{Errno, Monitor, Result};
use crate::tcp::tcb::Config;
use epoll::{Epoll, Watch};
use pipe::Pipe;
use ports::{Sources, Steering};
use socket::{Kind, Socket, Sockets};
use stack::Stack;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU32;

/// One core's end-host sockets.
#[derive(Debug, Default)]
pub struct Endpoint {
    cell: TokenCell<State>,
    /// Connections now, for other threads.
    pub connections: AtomicU32,
}

/// Everything they own: reached only with a token.
#[derive(Debug, Default)]
pub struct State {
    /// By id.
    pub sockets: Sockets,
    watches: Slab<Watch>,
    pipes: Slab<Pipe>,
    /// Connections and listeners, once there is a stream socket.
    stack: Option<Box<Stack>>,
    /// What it is made with.
    config: Config,
    /// Connections it may have at most.
    most: usize,
    /// Bytes they may hold at most (X5, `memory_limit`).
    memory_limit: Option<u64>,
    steering: Steering,
    /// Source addresses that `mtcp_init_rss` prepared.
    sources: Option<Sources>,
    /// Addresses that are no port's and were given by bind or `mtcp_init_rss`: packets to them may be ours.
    foreign: addresses::Addresses,
    /// The core's time, µs.
    now: u64,
    /// Threads that sleep until something changes; with none, nothing needs noting.
    pub sleepers: u32,
    woken: Vec<u32>,
    /// Too many to note: all are to look.
    all_woken: bool,
}

impl Endpoint {
    /// Without sockets, of which there may be `ids`; connections will have these settings.
    pub fn new(config: Config, ids: u32) -> Self {
        // For each socket one that it has and one that it had before, which still waits for its peer's last words.
        let most = 2 * ids as usize + input::MOST_HALF_OPEN;
        let state = State { config, most, ..State::default() };
        Endpoint { cell: TokenCell::new(state), connections: AtomicU32::new(0) }
    }

    /// Connections will hold so many bytes at most (X5, `memory_limit`).
    pub fn limit_memory(&mut self, limit: Option<u64>) {
        self.get_mut().memory_limit = limit;
    }

    /// The state, lent against the token.
    #[inline]
    pub fn state<'a>(&'a self, token: &'a mut Token) -> &'a mut State {
        self.cell.get(token)
    }

    /// The state, before others know of it.
    pub fn get_mut(&mut self) -> &mut State {
        self.cell.get_mut()
    }

    /// The state, for reading.
    #[inline]
    pub fn view<'a>(&'a self, token: &'a Token) -> &'a State {
        self.cell.view(token)
    }

    /// Makes an epoll object. ENFILE: no id is free; ENOMEM.
    pub fn epoll_create(&self, m: &Monitor, t: &mut Token) -> Result<u32> {
        let [id] = new_ids(m)?;
        let put = self.state(t).sockets.put(id, Kind::Epoll(Epoll::default()));
        kept(m, &[id], put.map_err(|_| Errno(libc::ENOMEM)))?;
        Ok(id)
    }

    /// Makes a pipe: the id to read from and the id to write to. ENFILE: no ids are free; ENOMEM.
    pub fn pipe(&self, m: &Monitor, t: &mut Token) -> Result<[u32; 2]> {
        let ids = new_ids(m)?;
        kept(m, &ids, self.state(t).make_pipe(ids))?;
        Ok(ids)
    }

    /// Ends a connection with a RST; its socket's id is free afterwards. ENOTSOCK, ENOTCONN.
    pub fn abort(&self, m: &Monitor, t: &mut Token, id: u32) -> Result<()> {
        let st = self.state(t);
        let result = st.abort(id);
        if result != Err(Errno(libc::ENOTSOCK)) {
            st.wake(id);
            st.forget_socket(id);
            st.sockets.take(id);
            m.setup.lock().ids.free(id);
        }
        result
    }

    /// Closes a socket; its id is free afterwards, also after an error. `None`: the id names no end-host socket.
    pub fn close(&self, m: &Monitor, t: &mut Token, id: u32) -> Option<Result<()>> {
        let st = self.state(t);
        st.sockets.get(id)?;
        st.wake(id);
        st.forget_socket(id);
        st.forget_epoll(id);
        let result = match st.sockets.take(id)? {
            Kind::Pipe { pipe, writes } => {
                st.close_pipe_end(pipe, writes);
                Ok(())
            }
            Kind::Stream(stream) => st.close_stream(&stream),
            Kind::Listener => {
                if let Some(stack) = st.stack_mut() {
                    stack.unlisten(id);
                }
                st.pass_on();
                Ok(())
            }
            Kind::Epoll(_) | Kind::Unused => Ok(()),
        };
        m.setup.lock().ids.free(id);
        Some(result)
    }
}

/// Ids from the context's one space (K9): all or none.
fn new_ids<const N: usize>(m: &Monitor) -> Result<[u32; N]> {
    let mut setup = m.setup.lock();
    let mut ids = [0; N];
    for n in 0..N {
        match setup.ids.alloc() {
            Some(id) => ids[n] = id,
            None => {
                for &id in &ids[..n] {
                    setup.ids.free(id);
                }
                return Err(Errno(libc::ENFILE));
            }
        }
    }
    Ok(ids)
}

/// Gives ids back if what was to be made under them could not be.
fn kept<T>(m: &Monitor, ids: &[u32], made: Result<T>) -> Result<T> {
    if made.is_err() {
        let mut setup = m.setup.lock();
        for &id in ids {
            setup.ids.free(id);
        }
    }
    made
}

impl State {
    /// Connections and listeners.
    pub fn stack(&self) -> Option<&Stack> {
        self.stack.as_deref()
    }

    /// Connections and listeners.
    pub fn stack_mut(&mut self) -> Option<&mut Stack> {
        self.stack.as_deref_mut()
    }

    /// Makes room for connections. ENOMEM.
    fn stack_or_new(&mut self) -> Result<()> {
        if self.stack.is_none() {
            let mut stack = Stack::new(self.config.clone(), self.steering, self.most, self.now);
            stack.memory = memory::Memory::new(self.memory_limit);
            self.stack = Some(Box::new(stack));
        }
        Ok(())
    }

    /// Settings of connections.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Which tuples are this core's, as of now.
    pub fn steer(&mut self, steering: Steering) {
        self.steering = steering;
        if let Some(stack) = self.stack_mut() {
            stack.steering = steering;
        }
    }

    /// Remembers addresses that may be no port's: `count` from `base` on.
    fn take_foreign(&mut self, base: Ipv4Addr, count: u32) -> Result<()> {
        if base.is_unspecified() {
            return Ok(());
        }
        self.foreign.add(base, count).map_err(|_| Errno(libc::ENOMEM))
    }

    /// Passes on to sockets what the connections have told.
    pub(crate) fn pass_on(&mut self) {
        let Some(stack) = self.stack_mut() else { return };
        let mut told = stack.take_told();
        for (sock, bits) in told.drain(..) {
            self.notify(sock, bits);
        }
        if let Some(stack) = self.stack_mut() {
            stack.give_back(told);
        }
    }

    /// What a socket is ready for now.
    pub fn readiness(&self, id: u32) -> u32 {
        match self.sockets.get(id) {
            Some(&Socket { kind: Kind::Pipe { pipe, writes }, .. }) => self.pipe_readiness(pipe, writes),
            Some(Socket { kind: Kind::Stream(stream), .. }) => self.stream_readiness(stream),
            Some(Socket { kind: Kind::Listener, .. }) => {
                let ready = self.stack().and_then(|s| s.listeners.get(id)).is_some_and(|l| l.is_ready());
                if ready { events::IN } else { 0 }
            }
            _ => 0,
        }
    }

    /// Notes that those who wait for a socket are to look again.
    #[inline]
    pub(crate) fn wake(&mut self, id: u32) {
        if self.sleepers == 0 || self.woken.contains(&id) {
            return;
        }
        if self.woken.len() < 64 && self.woken.try_reserve(1).is_ok() {
            self.woken.push(id);
        } else {
            self.all_woken = true;
        }
    }

    /// Whether somebody is to look again.
    #[inline]
    pub fn has_woken(&self) -> bool {
        !self.woken.is_empty() || self.all_woken
    }

    /// Whether those who wait for a socket are to look again.
    pub fn is_woken(&self, id: u32) -> bool {
        self.all_woken || self.woken.contains(&id)
    }

    /// All have been told.
    pub fn clear_woken(&mut self) {
        self.woken.clear();
        self.all_woken = false;
    }
}

#[cfg(test)]
mod tests;
