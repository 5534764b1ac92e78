//! Segments that arrive for this host: to their connection, to a listener, or answered with a reset (RFC 9293 3.10.7).

use super::conn::Conn;
use super::reply::Reply;
use super::socket::Wishes;
use super::stack::{Stack, tuple_of};
use crate::flow::arena::Id;
use crate::net::output::Path;
use crate::tcp::tcb::segment::{OptionBytes, flags, reset_for};
use crate::tcp::tcb::{Icmp, Outcome, Segment, Tcb, cookies};
use std::net::SocketAddrV4;

/// Half-open connections at most; what comes beyond is answered by cookies (D19).
pub const MOST_HALF_OPEN: usize = 4096;

/// How long a cookie is good, µs.
const COOKIE_LIFETIME: u64 = 130_000_000;

/// What a segment found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A connection, or a listener.
    Socket,
    /// Nobody.
    Nobody,
}

impl Stack {
    /// Whether a segment between two ends would find somebody.
    pub fn wants(&self, local: SocketAddrV4, peer: SocketAddrV4) -> bool {
        self.listeners.find(local, 0).is_some() || self.find(&Self::key_of(local, peer).0).is_some()
    }

    /// A segment from `peer` to `local` has arrived. `path` is the way back; `answers`: whether the address is ours to answer
    /// for, so that what finds nobody is reset.
    pub fn arrive(
        &mut self,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        seg: &Segment<'_>,
        path: impl FnOnce() -> Option<Path>,
        answers: bool,
    ) -> Found {
        let key = Self::key_of(local, peer).0;
        if let Some(id) = self.find(&key) {
            if self.is_held_back(id, seg) {
                return Found::Socket;
            }
            self.wake_up(id);
            if self.conn(id).is_some_and(|c| c.has(Conn::HALF_OPEN))
                && self.cookie_of(local, peer, seg).is_some()
            {
                // One SYN was answered by a cookie, and the same SYN, come again, by this connection: the peer took the former.
                self.remove(id);
                return self.arrive_new(local, peer, seg, path(), answers, None);
            }
            let now = self.now;
            self.expect(id, seg);
            self.busy = Some(id);
            let outcome = self.tcb_mut(id).map(|tcb| tcb.on_segment(now, seg));
            let Some(Outcome::Reopen { above }) = outcome else {
                self.busy = None;
                self.changed(id);
                return Found::Socket;
            };
            let listens = self.listeners.find(local, 0).is_some();
            if let Some(tcb) = self.tcb_mut(id) {
                if listens { tcb.give_way() } else { tcb.stay(now) }
            }
            self.busy = None;
            self.changed(id);
            if !listens {
                return Found::Socket;
            }
            // A socket that has it keeps what is unread.
            self.bury(id);
            return self.arrive_new(local, peer, seg, path(), answers, Some(above));
        }
        let opens = !self.listeners.is_empty() && !seg.has(flags::RST);
        self.arrive_new(local, peer, seg, if opens { path() } else { None }, answers, None)
    }

    /// The last segment of a handshake for a listener whose queue is full is not taken: the peer sends it again.
    fn is_held_back(&self, id: Id, seg: &Segment<'_>) -> bool {
        let Some(conn) = self.conn(id).filter(|c| c.has(Conn::HALF_OPEN)) else { return false };
        !seg.has(flags::RST | flags::SYN) && self.listeners.get(conn.listener).is_some_and(|l| l.is_full())
    }

    fn arrive_new(
        &mut self,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        seg: &Segment<'_>,
        path: Option<Path>,
        answers: bool,
        above: Option<u32>,
    ) -> Found {
        let pick = u64::from(peer.ip().to_bits()) ^ u64::from(peer.port());
        let Some(sock) = self.listeners.find(local, pick) else {
            self.refuse(local, peer, seg, answers);
            return Found::Nobody;
        };
        // RFC 9293 3.10.7.2: RST, ACK, SYN; anything else is dropped. A SYN with a FIN is dropped, too: it opens nothing (D10).
        if seg.has(flags::RST) {
            return Found::Socket;
        }
        if seg.has(flags::ACK) {
            let known = !seg.has(flags::SYN)
                && path.is_some_and(|path| self.cookie_ack(sock, local, peer, seg, &path));
            // What came ahead of a cookie's acknowledgment is left to come again: a reset would end the connection for the peer.
            let may_come = self.gives_cookies() && cookies::may_follow(self.now, seg);
            if !known && !may_come {
                self.refuse(local, peer, seg, answers);
            }
        } else if seg.has(flags::SYN)
            && !seg.has(flags::FIN)
            && let Some(path) = path
        {
            self.syn(sock, local, peer, seg, &path, above);
        }
        Found::Socket
    }

    /// A SYN for a listener.
    fn syn(
        &mut self,
        sock: u32,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        seg: &Segment<'_>,
        path: &Path,
        above: Option<u32>,
    ) {
        let Some(listener) = self.listeners.get(sock) else { return };
        if listener.is_full() {
            // The peer tries again, when some may have been accepted.
            return;
        }
        let wishes = listener.wishes;
        if self.half_open >= self.memory.half_open(MOST_HALF_OPEN) {
            // Keeps nothing, so it needs no room.
            return self.answer_by_cookie(local, peer, seg, path, &wishes);
        }
        if self.admit().is_err() || !self.has_room() {
            // And when some may be over.
            return;
        }
        let mut open = self.open(local, peer, path, &wishes);
        if let Some(above) = above {
            // Beyond all that the old connection sent (RFC 9293 3.10.7.4).
            open.iss = crate::tcp::seq::max(open.iss, above.wrapping_add(64_000));
        }
        let Some(tcb) = Tcb::accept(self.config.clone(), self.now, &open, seg) else { return };
        if let Some(id) = self.add_half_open(sock, &wishes, local, peer, path, tcb) {
            self.changed(id);
        }
    }

    /// Adds a connection whose handshake the listener waits for. `None`: there is no room.
    fn add_half_open(
        &mut self,
        sock: u32,
        wishes: &Wishes,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        path: &Path,
        tcb: Tcb,
    ) -> Option<Id> {
        let id = self.add(local, peer, path, tcb).ok()?;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.listener = sock;
            conn.look(wishes);
            conn.flags |= Conn::HALF_OPEN;
            self.half_open += 1;
        }
        Some(id)
    }

    /// Answers a SYN, keeping nothing: there are too many half-open connections.
    fn answer_by_cookie(
        &mut self,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        seg: &Segment<'_>,
        path: &Path,
        wishes: &Wishes,
    ) {
        let open = self.open(local, peer, path, wishes);
        let tuple = tuple_of(local, peer);
        let made = cookies::reply(&self.config, &self.isn, &tuple, self.now, &open, seg);
        self.cookies_at = self.now.max(1);
        self.cookies_sent += 1;
        self.replies.add(Reply {
            local,
            peer,
            seq: made.seq,
            ack: made.ack,
            flags: flags::SYN | flags::ACK,
            window: made.window,
            ttl: wishes.ttl,
            tos: wishes.tos,
            options: made.options,
        });
    }

    /// Whether cookies were sent lately.
    fn gives_cookies(&self) -> bool {
        self.cookies_at != 0 && self.now.saturating_sub(self.cookies_at) <= COOKIE_LIFETIME
    }

    /// What a segment acknowledges, if that is a cookie that was sent lately.
    fn cookie_of(
        &self,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        seg: &Segment<'_>,
    ) -> Option<cookies::Found> {
        // Guesses are not even looked at while no cookies are out.
        if !self.gives_cookies() {
            return None;
        }
        cookies::check(&self.config, &self.isn, &tuple_of(local, peer), self.now, seg)
    }

    /// An acknowledgment for a listener: of a cookie, if one was sent lately. Whether it was.
    fn cookie_ack(
        &mut self,
        sock: u32,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        seg: &Segment<'_>,
        path: &Path,
    ) -> bool {
        let Some(listener) = self.listeners.get(sock) else { return false };
        let (wishes, full) = (listener.wishes, listener.is_full());
        let Some(found) = self.cookie_of(local, peer, seg) else { return false };
        if full || self.admit().is_err() || !self.has_room() {
            return true;
        }
        let open = self.open(local, peer, path, &wishes);
        let tcb = Tcb::from_cookie(self.config.clone(), self.now, &open, seg, &found);
        let Some(id) = self.add_half_open(sock, &wishes, local, peer, path, tcb) else { return true };
        let now = self.now;
        if let Some(tcb) = self.tcb_mut(id) {
            tcb.on_segment(now, seg);
        }
        self.changed(id);
        true
    }

    /// Answers what reached nobody.
    pub(super) fn refuse(
        &mut self,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        seg: &Segment<'_>,
        answers: bool,
    ) {
        let Some((seq, ack)) = reset_for(seg).filter(|_| answers) else { return };
        if !self.replies.may_reset(self.now / 1000) {
            return;
        }
        self.replies.add(Reply {
            local,
            peer,
            seq,
            ack: ack.unwrap_or(0),
            flags: flags::RST | if ack.is_some() { flags::ACK } else { 0 },
            window: 0,
            ttl: 0,
            tos: 0,
            options: OptionBytes::default(),
        });
    }

    /// An ICMP error about a packet of ours.
    pub fn icmp(&mut self, local: SocketAddrV4, peer: SocketAddrV4, seq: u32, error: Icmp) {
        let Some(id) = self.find(&Self::key_of(local, peer).0) else { return };
        if let Some(tcb) = self.tcb_mut(id) {
            tcb.on_icmp(error, seq);
        }
        self.changed(id);
    }
}
