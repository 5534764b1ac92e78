//! All connections of a core: the table that finds them, their timers, and what each one's state machine says has happened.
//!
//! Sockets are only numbers here: what they hear of is noted ([`Stack::tell`]) and passed on by who called. Segments that
//! leave are made later, in the round ([`Stack::transmit`]): calls and arriving segments only mark their connection.

use super::conn::{Conn, Deadlines};
use super::events::{ERR, HUP, IN, OUT, RDHUP};
use super::listener::Listeners;
use super::memory::Memory;
use super::ports::Steering;
use super::reply::Replies;
use super::socket::{NONE, Wishes};
use crate::flow::arena::{Arena, Id};
use crate::flow::hash::FlowHash;
use crate::flow::key::{Direction, ShortKey};
use crate::flow::table::Table;
use crate::flow::wheel::Wheel;
use crate::monitor::{Errno, Result};
use crate::net::output::Path;
use crate::tcp::one::One;
use crate::tcp::tcb::isn::Secret;
use crate::tcp::tcb::{Cause, Config, Events, Open, Readiness, State as TcpState, Tcb};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// Connections and listeners of one core.
#[derive(Debug)]
pub struct Stack {
    /// Settings of all connections.
    pub config: Arc<Config>,
    /// Which tuples are this core's.
    pub steering: Steering,
    /// Listening sockets.
    pub listeners: Listeners,
    /// Answers that no connection makes.
    pub(super) replies: Replies,
    pub(super) conns: Arena<Conn>,
    table: Table,
    hasher: FlowHash,
    wheel: Wheel,
    /// Connections that may have something to send.
    pub(super) dirty: VecDeque<Id>,
    /// Connections whose handshake a listener waits for.
    pub(super) half_open: usize,
    /// Connections that are being opened here; some may be over that.
    opening: Vec<Id>,
    /// Connections at most, in whatever state. Those at rest in TIME_WAIT make room for new ones.
    pub(super) most: usize,
    /// What they hold, and may.
    pub memory: Memory,
    /// Connections at rest, the one that has rested longest first; some are no more.
    resting: VecDeque<Id>,
    /// How many are at rest.
    pub(super) rested: usize,
    /// How many of them made room before their time.
    pub evicted: u64,
    /// What sockets are to hear: readiness that has become set.
    told: Vec<(u32, u32)>,
    /// The core's time, µs.
    pub now: u64,
    /// Behind sequence numbers, timestamps and cookies.
    pub(super) isn: Secret,
    secret: RandomState,
    /// Counts what is drawn from `secret`.
    drawn: u64,
    /// When the last cookie was sent, µs; 0: none yet.
    pub(super) cookies_at: u64,
    /// A segment in the making.
    pub(super) frame: Vec<u8>,
    /// Cookies sent so far.
    pub cookies_sent: u64,
    /// The connection something is being done with.
    pub(super) busy: Option<Id>,
    /// Connections refused for want of memory.
    pub no_memory: u64,
}

impl Stack {
    /// Without connections, of which there may be `most`, at a time.
    pub fn new(config: Config, steering: Steering, most: usize, now: u64) -> Self {
        Stack {
            config: Arc::new(config),
            steering,
            listeners: Listeners::default(),
            replies: Replies::default(),
            conns: Arena::new(),
            table: Table::new(),
            hasher: FlowHash::random(),
            wheel: Wheel::new(now / 1000),
            dirty: VecDeque::new(),
            half_open: 0,
            opening: Vec::new(),
            most,
            memory: Memory::new(None),
            resting: VecDeque::new(),
            rested: 0,
            evicted: 0,
            told: Vec::new(),
            now,
            isn: Secret(new_secret()),
            secret: RandomState::new(),
            drawn: 0,
            cookies_at: 0,
            frame: Vec::new(),
            cookies_sent: 0,
            busy: None,
            no_memory: 0,
        }
    }

    /// How many connections there are, in whatever state.
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// How many are not at rest.
    pub fn active(&self) -> usize {
        self.conns.len() - self.rested
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// A number nobody can guess.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.secret.hash_one(self.drawn)
    }

    /// The canonical tuple of our end and the peer's, and whether ours is its second.
    pub(super) fn key_of(local: SocketAddrV4, peer: SocketAddrV4) -> (ShortKey, bool) {
        let (l, p) = (local.ip().to_bits(), peer.ip().to_bits());
        let (key, direction) = ShortKey::new(l, p, local.port(), peer.port(), 0);
        (key, direction == Direction::Reverse)
    }

    /// The connection of a tuple.
    #[inline]
    pub fn find(&self, key: &ShortKey) -> Option<Id> {
        let hash = self.hasher.short(key);
        let index = self.table.find(hash, |index| self.conns.at(index).is_some_and(|c| c.key == *key))?;
        self.conns.id_of(index)
    }

    /// A connection.
    #[inline]
    pub fn conn(&self, id: Id) -> Option<&Conn> {
        self.conns.get(id)
    }

    /// A connection's state machine.
    #[inline]
    pub fn tcb(&self, id: Id) -> Option<&Tcb> {
        self.conns.get(id)?.tcb.get()
    }

    /// A connection's state machine; [`changed`](Self::changed) follows.
    #[inline]
    pub(super) fn tcb_mut(&mut self, id: Id) -> Option<&mut Tcb> {
        self.conns.get_mut(id)?.tcb.get_mut()
    }

    /// Adds a connection.
    pub(super) fn add(
        &mut self,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        path: &Path,
        tcb: Tcb,
    ) -> Result<Id> {
        let (key, reversed) = Self::key_of(local, peer);
        let ip_id = self.draw() as u16;
        let made = One::new(tcb).ok().and_then(|tcb| {
            let conn = Conn { ip_id, ..Conn::new(tcb, key, reversed, path.hop) };
            let id = self.conns.insert(conn).ok()?;
            let Stack { table, conns, hasher, .. } = self;
            let hash = |index: u32| conns.at(index).map_or(0, |c| hasher.short(&c.key));
            if table.insert(hasher.short(&key), id.index, hash).is_ok() {
                return Some(id);
            }
            self.conns.remove(id);
            None
        });
        match made {
            Some(id) => {
                self.charge(id);
                self.give_room(id);
            }
            None => self.no_memory += 1,
        }
        made.ok_or(Errno(libc::ENOMEM))
    }

    /// Opens a connection for a socket.
    pub fn connect(
        &mut self,
        sock: u32,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        path: &Path,
        wishes: &Wishes,
    ) -> Result<Id> {
        // Memory first: who refuses lets nobody go for it.
        self.admit()?;
        if !self.has_room() {
            return Err(Errno(libc::ENOMEM));
        }
        let open = self.open(local, peer, path, wishes);
        let tcb = Tcb::connect(self.config.clone(), self.now, &open);
        let id = self.add(local, peer, path, tcb)?;
        if self.opening.len() == self.opening.capacity() {
            self.forget_opened();
        }
        if self.opening.try_reserve(1).is_ok() {
            self.opening.push(id);
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.sock = sock;
            conn.look(wishes);
        }
        self.changed(id);
        Ok(id)
    }

    fn forget_opened(&mut self) {
        let conns = &self.conns;
        let opens = |id: &Id| {
            conns.get(*id).and_then(|c| c.tcb.get()).is_some_and(|t| t.state() == TcpState::SynSent)
        };
        self.opening.retain(opens);
    }

    /// A next hop does not answer: connections that are being opened by it fail.
    pub fn unreachable(&mut self, dst: Ipv4Addr) {
        self.forget_opened();
        for n in 0..self.opening.len() {
            let id = self.opening[n];
            let Some(conn) = self.conns.get_mut(id).filter(|c| *c.ends().1.ip() == dst) else { continue };
            if let Some(tcb) = conn.tcb.get_mut() {
                tcb.fail(Cause::HostUnreachable);
                self.changed(id);
            }
        }
    }

    /// What a connection begins with.
    pub(super) fn open(&self, local: SocketAddrV4, peer: SocketAddrV4, path: &Path, wishes: &Wishes) -> Open {
        let tuple = tuple_of(local, peer);
        Open {
            ts_offset: self.isn.ts_offset(&tuple),
            mtu: path.mtu,
            send_limit: wishes.send_buffer,
            recv_limit: wishes.recv_buffer,
            mss: wishes.mss,
            nodelay: wishes.nodelay,
            keepalive: wishes.keepalive,
            ..Open::new(self.config.iss.unwrap_or_else(|| self.isn.isn(&tuple, self.now)))
        }
    }

    /// Notes that a socket's readiness has become set in `bits`.
    pub(super) fn tell(&mut self, sock: u32, bits: u32) {
        if sock != NONE && bits != 0 && self.told.try_reserve(1).is_ok() {
            self.told.push((sock, bits));
        }
    }

    /// Takes the notes for sockets; [`give_back`](Self::give_back) returns the memory.
    pub(super) fn take_told(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.told)
    }

    /// Returns what [`take_told`](Self::take_told) gave.
    pub(super) fn give_back(&mut self, list: Vec<(u32, u32)>) {
        if self.told.is_empty() {
            self.told = list;
        }
    }

    /// Puts a connection in the list of those that may have something to send.
    #[inline]
    pub(super) fn mark(&mut self, id: Id) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if !conn.has(Conn::DIRTY) && self.dirty.try_reserve(1).is_ok() {
            conn.flags |= Conn::DIRTY;
            self.dirty.push_back(id);
        }
    }

    /// After anything was done with a connection: tells who has to hear of it, has its segments sent and its timer set.
    pub(super) fn changed(&mut self, id: Id) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (sock, listener) = (conn.sock, conn.listener);
        let Some(tcb) = conn.tcb.get_mut() else { return };
        let events = tcb.take_events();
        let closed = tcb.is_closed();
        if !events.is_empty() {
            if events.has(Events::CONNECTED)
                && listener != NONE
                && self.conns.get(id).is_some_and(|c| c.has(Conn::HALF_OPEN))
            {
                self.enqueue(id);
            }
            self.tell(sock, bits_of(events));
        }
        if closed {
            if listener != NONE {
                self.leave_listener(id);
            }
            self.let_go(id);
        }
        self.charge(id);
        self.give_room(id);
        self.mark(id);
        self.arm(id);
    }

    /// Sets a connection's timer when it has become due earlier than the wheel knows.
    pub(super) fn arm(&mut self, id: Id) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let due = conn.due_ms();
        if due < conn.armed {
            conn.armed = due;
            self.wheel.insert(&mut Deadlines(&mut self.conns), id.index, due);
        }
    }

    /// Earliest time, in ms, at which a timer may be due.
    pub fn next_due(&self) -> Option<u64> {
        self.wheel.next_due()
    }

    /// Time has come to `now`: timers run.
    pub fn expire(&mut self, now: u64) {
        self.now = self.now.max(now);
        while let Some(index) = self.wheel.pop_due(&mut Deadlines(&mut self.conns), self.now / 1000) {
            let now = self.now;
            let Some(id) = self.conns.id_of(index) else { continue };
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.armed = u64::MAX;
            if conn.due_ms() > now / 1000 {
                // It has become later since.
                self.arm(id);
                continue;
            }
            if !conn.rest.is_none() {
                self.remove(id);
                continue;
            }
            self.busy = Some(id);
            if let Some(tcb) = conn.tcb.get_mut() {
                tcb.on_deadline(now);
            }
            self.changed(id);
        }
        self.busy = None;
    }

    /// Whether there is room for another connection; if need be, the one that has rested longest in TIME_WAIT goes before its time:
    /// both its ends have said and heard everything, and a new connection is worth more than its late segments.
    pub(super) fn has_room(&mut self) -> bool {
        while self.conns.len() >= self.most {
            if !self.evict() {
                return false;
            }
        }
        true
    }

    /// Frees the connection that has rested longest. Whether there was one.
    pub(super) fn evict(&mut self) -> bool {
        while let Some(id) = self.resting.pop_front() {
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.flags &= !Conn::RESTING;
            if !conn.rest.is_none() {
                self.evicted += 1;
                self.remove(id);
                return true;
            }
        }
        false
    }

    /// Puts a connection to rest that only waits in TIME_WAIT.
    pub(super) fn put_to_rest(&mut self, id: Id) {
        if self.resting.len() == self.resting.capacity() {
            // What is over, or has been woken and has not come back, is in the list no longer.
            let conns = &mut self.conns;
            self.resting.retain(|&id| {
                let Some(conn) = conns.get_mut(id) else { return false };
                if conn.rest.is_none() {
                    conn.flags &= !Conn::RESTING;
                }
                conn.has(Conn::RESTING)
            });
        }
        let Some(conn) = self.conns.get_mut(id).filter(|c| c.sock == NONE && c.listener == NONE) else {
            return;
        };
        if let Some(rest) = conn.tcb.get_mut().and_then(Tcb::rest)
            && let Ok(rest) = One::new(rest)
        {
            conn.rest = rest;
            conn.tcb.free();
            self.rested += 1;
            if !conn.has(Conn::RESTING) && self.resting.try_reserve(1).is_ok() {
                conn.flags |= Conn::RESTING;
                self.resting.push_back(id);
            }
            self.charge(id);
        }
    }

    /// A segment has come for a connection at rest: it is made again. Without memory the segment is lost.
    pub(super) fn wake_up(&mut self, id: Id) {
        let Stack { conns, config, now, .. } = self;
        let Some(conn) = conns.get_mut(id) else { return };
        let Some(rest) = conn.rest.get() else { return };
        if let Ok(tcb) = One::new(Tcb::from_rest(config.clone(), *now, rest)) {
            conn.tcb = tcb;
            conn.rest.free();
            self.rested -= 1;
            self.charge(id);
        }
    }

    /// Frees a connection that has ended, if nobody has a use for it any more.
    pub(super) fn bury(&mut self, id: Id) {
        let over = self
            .conns
            .get(id)
            .is_some_and(|c| c.sock == NONE && c.listener == NONE && c.tcb.get().is_some_and(Tcb::is_closed));
        if over {
            self.remove(id);
        }
    }

    /// A connection that is over lets go of its tuple, though its socket may keep it: what comes for the tuple is for others.
    fn let_go(&mut self, id: Id) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.has(Conn::UNLISTED)) else { return };
        conn.flags |= Conn::UNLISTED;
        let hash = self.hasher.short(&conn.key);
        self.table.remove(hash, id.index);
    }

    /// Frees a connection.
    pub(super) fn remove(&mut self, id: Id) {
        self.leave_listener(id);
        self.let_go(id);
        self.discharge(id);
        if self.conns.get(id).is_some_and(|c| !c.rest.is_none()) {
            self.rested -= 1;
        }
        self.wheel.remove(&mut Deadlines(&mut self.conns), id.index);
        self.conns.remove(id);
    }

    /// After a fault: the connection it was about is no more.
    pub(super) fn drop_busy(&mut self) {
        if let Some(id) = self.busy.take() {
            let sock = self.conns.get(id).map_or(NONE, |c| c.sock);
            self.remove(id);
            self.tell(sock, ERR | IN | OUT);
        }
    }

    /// Ends a connection with a RST.
    pub fn abort(&mut self, id: Id) {
        if self.conns.get(id).is_some_and(|c| !c.rest.is_none()) {
            return self.remove(id);
        }
        if let Some(tcb) = self.tcb_mut(id) {
            tcb.abort();
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.sock = NONE;
        }
        self.leave_listener(id);
        self.changed(id);
    }

    /// The application has closed: what was written is sent, and a FIN.
    pub fn close(&mut self, id: Id) {
        let now = self.now;
        if let Some(tcb) = self.tcb_mut(id) {
            tcb.close(now);
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.sock = NONE;
        }
        self.changed(id);
    }

    /// What a connection's socket is ready for.
    pub fn readiness(&self, id: Id) -> u32 {
        let Some(tcb) = self.tcb(id) else { return ERR };
        let ready = tcb.readiness();
        let withheld = if tcb.write_room() > 0 && self.room_to_write(id) == 0 { OUT } else { 0 };
        let mut bits = 0;
        for (flag, bit) in [
            (Readiness::READABLE, IN),
            (Readiness::WRITABLE, OUT),
            (Readiness::READ_CLOSED, RDHUP),
            (Readiness::HUNG_UP, HUP),
            (Readiness::ERROR, ERR),
        ] {
            if ready.has(flag) {
                bits |= bit;
            }
        }
        bits & !withheld
    }

    /// Ends all listeners, and begins to close every connection.
    pub fn close_all(&mut self) {
        for sock in self.listeners.socks() {
            self.unlisten(sock);
        }
        for index in 0..self.conns.slots() {
            if let Some(id) = self.conns.id_of(index) {
                self.close(id);
            }
        }
    }

    /// Resets what is not closed yet.
    pub fn abort_all(&mut self) {
        for index in 0..self.conns.slots() {
            if let Some(id) = self.conns.id_of(index) {
                self.abort(id);
            }
        }
    }

    /// Whether a connection still has something to say or to hear; those in TIME_WAIT have not.
    pub fn is_busy(&self) -> bool {
        let over = |t: &Tcb| matches!(t.state(), TcpState::TimeWait | TcpState::Closed);
        (0..self.conns.slots())
            .filter_map(|index| self.conns.at(index))
            .any(|c| !c.tcb.get().is_none_or(over))
    }

    /// How many are in TIME_WAIT and at rest.
    pub fn at_rest(&self) -> usize {
        (0..self.conns.slots()).filter_map(|index| self.conns.at(index)).filter(|c| !c.rest.is_none()).count()
    }

    /// Every connection, for tests that want to know what is stuck.
    pub fn describe(&self) -> String {
        let all = (0..self.conns.slots()).filter_map(|index| self.conns.at(index));
        all.map(|c| {
            format!("{:?} {:?} flags {:#x} sock {} {:?}\n", c.ends(), c.armed, c.flags, c.sock, c.tcb.get())
        })
        .collect()
    }
}

/// Sixteen bytes nobody can guess.
fn new_secret() -> [u8; 16] {
    let mut bytes = [0; 16];
    let source = RandomState::new();
    bytes[..8].copy_from_slice(&source.hash_one(0).to_ne_bytes());
    bytes[8..].copy_from_slice(&source.hash_one(1).to_ne_bytes());
    bytes
}

/// Both ends as bytes, for the hashes of sequence numbers, timestamps and cookies.
pub(super) fn tuple_of(local: SocketAddrV4, peer: SocketAddrV4) -> [u8; 12] {
    let mut tuple = [0; 12];
    for (at, end) in [local, peer].into_iter().enumerate() {
        tuple[6 * at..][..4].copy_from_slice(&end.ip().octets());
        tuple[6 * at + 4..][..2].copy_from_slice(&end.port().to_be_bytes());
    }
    tuple
}

/// Readiness that events stand for.
fn bits_of(events: Events) -> u32 {
    let mut bits = 0;
    for (event, bit) in [
        (Events::CONNECTED, OUT),
        (Events::DATA, IN),
        (Events::FIN, IN | RDHUP | HUP),
        (Events::SPACE, OUT),
        (Events::ERROR, ERR | IN | OUT),
        (Events::CLOSED, IN | OUT | HUP),
    ] {
        if events.has(event) {
            bits |= bit;
        }
    }
    bits
}

/// The error number of a connection's end.
pub fn errno_of(cause: Cause) -> i32 {
    match cause {
        Cause::Refused => libc::ECONNREFUSED,
        Cause::Reset => libc::ECONNRESET,
        Cause::TimedOut => libc::ETIMEDOUT,
        Cause::HostUnreachable => libc::EHOSTUNREACH,
        Cause::NetUnreachable => libc::ENETUNREACH,
        Cause::Aborted => libc::ECONNABORTED,
    }
}
