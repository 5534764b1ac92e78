//! Epoll objects: which sockets are watched for what, and which of them may be ready (endpoint-io.md §4.10, D19).
//!
//! Each entry returned carries one event bit (K9). An object keeps a list of the entries that may be ready, oldest first. What
//! is level-triggered goes back to the end of the list for as long as it is ready, so each ready socket has its turn however
//! few entries a caller takes; what is edge-triggered comes back with the next change. ERR is reported to everyone and
//! alone: who hears of it closes the socket. HUP and RDHUP go to those who asked for them.

use super::State;
use super::events::{ERR, ET, ONESHOT, REPORTED};
use super::socket::{Kind, NONE, Socket};
use crate::monitor::{Errno, Result};

/// One socket in one epoll object.
#[derive(Debug)]
pub struct Watch {
    epoll: u32,
    sock: u32,
    /// The application's.
    data: u64,
    /// What is asked for, with ET and ONESHOT.
    events: u32,
    /// What changed since the last report, for ET.
    changed: u32,
    /// What the last report had no room after: goes on from there.
    reported: u32,
    /// Next watch of the same socket.
    next_of_socket: u32,
    /// Neighbours in the list of all watches of the object.
    all: (u32, u32),
    /// Neighbours in the object's list of those that may be ready.
    ready: (u32, u32),
    listed: bool,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Active,
    /// ONESHOT has reported.
    Fired,
    /// Deleted. Kept, because a second DEL succeeds and ADD and MOD bring it back.
    Deleted,
}

/// What `mtcp_epoll_ctl` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Watch a socket for events; with data of the application's.
    Add(u32, u64),
    /// Change what is watched.
    Modify(u32, u64),
    /// Watch it no more.
    Delete,
}

/// An epoll object.
#[derive(Debug)]
pub struct Epoll {
    all: u32,
    first: u32,
    last: u32,
    listed: usize,
}

impl Default for Epoll {
    fn default() -> Self {
        Epoll { all: NONE, first: NONE, last: NONE, listed: 0 }
    }
}

impl State {
    fn epoll_mut(&mut self, epid: u32) -> Option<&mut Epoll> {
        match self.sockets.get_mut(epid) {
            Some(Socket { kind: Kind::Epoll(epoll), .. }) => Some(epoll),
            _ => None,
        }
    }

    /// Whether an id names an epoll object.
    ///
    /// # Errors
    /// EBADF: the id names nothing; EINVAL: it names something else.
    pub fn check_epoll(&self, epid: u32, others: bool) -> Result<()> {
        match self.sockets.get(epid) {
            Some(Socket { kind: Kind::Epoll(_), .. }) => Ok(()),
            Some(_) => Err(Errno(libc::EINVAL)),
            None => Err(Errno(if others { libc::EINVAL } else { libc::EBADF })),
        }
    }

    fn find_watch(&self, epid: u32, sock: u32) -> Option<u32> {
        let mut at = self.sockets.get(sock)?.watches;
        while let Some(w) = self.watches.get(at) {
            if w.epoll == epid {
                return Some(at);
            }
            at = w.next_of_socket;
        }
        None
    }

    /// `mtcp_epoll_ctl`, after the object was checked; `sock` is an end-host socket other than an epoll object.
    ///
    /// # Errors
    /// EEXIST, ENOENT, EINVAL (an epoll object inside another), ENOMEM.
    pub fn control(&mut self, epid: u32, sock: u32, change: Change) -> Result<()> {
        let socket = self.sockets.get(sock).ok_or(Errno(libc::EBADF))?;
        if matches!(socket.kind, Kind::Epoll(_)) {
            return Err(Errno(libc::EINVAL));
        }
        let found = self.find_watch(epid, sock);
        let mode = found.and_then(|n| self.watches.get(n)).map(|w| w.mode);
        match change {
            Change::Add(..) if matches!(mode, Some(Mode::Active | Mode::Fired)) => Err(Errno(libc::EEXIST)),
            Change::Add(events, data) => {
                let number = match found {
                    Some(number) => number,
                    None => self.add_watch(epid, sock)?,
                };
                self.arm(number, events, data);
                Ok(())
            }
            Change::Modify(events, data) => {
                self.arm(found.ok_or(Errno(libc::ENOENT))?, events, data);
                Ok(())
            }
            Change::Delete => {
                let number = found.ok_or(Errno(libc::ENOENT))?;
                self.unlist(number);
                if let Some(w) = self.watches.get_mut(number) {
                    w.mode = Mode::Deleted;
                }
                Ok(())
            }
        }
    }

    fn add_watch(&mut self, epid: u32, sock: u32) -> Result<u32> {
        let after = self.epoll_mut(epid).ok_or(Errno(libc::EBADF))?.all;
        let watch = Watch {
            epoll: epid,
            sock,
            data: 0,
            events: 0,
            changed: 0,
            reported: 0,
            next_of_socket: self.sockets.get(sock).map_or(NONE, |s| s.watches),
            all: (NONE, after),
            ready: (NONE, NONE),
            listed: false,
            mode: Mode::Deleted,
        };
        let number = self.watches.insert(watch).map_err(|_| Errno(libc::ENOMEM))?;
        if let Some(w) = self.watches.get_mut(after) {
            w.all.0 = number;
        }
        if let Some(epoll) = self.epoll_mut(epid) {
            epoll.all = number;
        }
        if let Some(socket) = self.sockets.get_mut(sock) {
            socket.watches = number;
        }
        Ok(number)
    }

    /// A watch begins anew: what is ready now is reported.
    fn arm(&mut self, number: u32, events: u32, data: u64) {
        let Some(w) = self.watches.get_mut(number) else { return };
        (w.events, w.data, w.mode, w.reported) = (events, data, Mode::Active, 0);
        let (sock, epid) = (w.sock, w.epoll);
        let ready = self.readiness(sock);
        if let Some(w) = self.watches.get_mut(number) {
            w.changed = ready;
            if ready & wanted(w) != 0 {
                self.list(number);
                self.wake(epid);
            }
        }
    }

    /// A socket's readiness changed: `bits` have become set.
    pub fn notify(&mut self, sock: u32, bits: u32) {
        let Some(socket) = self.sockets.get(sock) else { return };
        let mut at = socket.watches;
        self.wake(sock);
        while let Some(w) = self.watches.get_mut(at) {
            let (number, epid) = (at, w.epoll);
            at = w.next_of_socket;
            if w.mode == Mode::Active && wanted(w) & bits != 0 {
                w.changed |= bits;
                self.list(number);
                self.wake(epid);
            }
        }
    }

    /// Puts a watch at the end of its object's list, unless it is there.
    fn list(&mut self, number: u32) {
        let Some(w) = self.watches.get_mut(number) else { return };
        if w.listed {
            return;
        }
        w.listed = true;
        let epid = w.epoll;
        let Some(epoll) = self.epoll_mut(epid) else { return };
        let last = std::mem::replace(&mut epoll.last, number);
        epoll.listed += 1;
        if last == NONE {
            epoll.first = number;
        }
        if let Some(w) = self.watches.get_mut(last) {
            w.ready.1 = number;
        }
        if let Some(w) = self.watches.get_mut(number) {
            w.ready = (last, NONE);
        }
    }

    /// Puts a watch at the head of its object's list.
    fn list_first(&mut self, number: u32) {
        let Some(w) = self.watches.get_mut(number) else { return };
        w.listed = true;
        let epid = w.epoll;
        let Some(epoll) = self.epoll_mut(epid) else { return };
        let first = std::mem::replace(&mut epoll.first, number);
        epoll.listed += 1;
        if first == NONE {
            epoll.last = number;
        }
        if let Some(w) = self.watches.get_mut(first) {
            w.ready.0 = number;
        }
        if let Some(w) = self.watches.get_mut(number) {
            w.ready = (NONE, first);
        }
    }

    fn unlist(&mut self, number: u32) {
        let Some(w) = self.watches.get_mut(number) else { return };
        if !w.listed {
            return;
        }
        w.listed = false;
        let (epid, (before, after)) = (w.epoll, w.ready);
        if let Some(w) = self.watches.get_mut(before) {
            w.ready.1 = after;
        }
        if let Some(w) = self.watches.get_mut(after) {
            w.ready.0 = before;
        }
        let Some(epoll) = self.epoll_mut(epid) else { return };
        epoll.listed -= 1;
        if before == NONE {
            epoll.first = after;
        }
        if after == NONE {
            epoll.last = before;
        }
    }

    /// Reports at most `most` events of an object: one bit and the watch's data each. The number reported.
    pub fn report(&mut self, epid: u32, most: usize, mut out: impl FnMut(usize, u32, u64)) -> usize {
        let Some(epoll) = self.epoll_mut(epid) else { return 0 };
        let mut left = epoll.listed;
        let mut count = 0;
        while left > 0 && count < most {
            left -= 1;
            let Some(number) = self.epoll_mut(epid).map(|e| e.first) else { break };
            self.unlist(number);
            let Some(sock) = self.watches.get(number).map(|w| w.sock) else { break };
            let ready = self.readiness(sock);
            let Some(w) = self.watches.get_mut(number) else { break };
            let mut bits = ready & wanted(w);
            if w.events & ET != 0 {
                bits &= std::mem::take(&mut w.changed);
            }
            if bits & ERR != 0 {
                bits = ERR;
            }
            let before = std::mem::take(&mut w.reported);
            if bits & !before != 0 {
                bits &= !before;
            }
            if bits == 0 {
                continue;
            }
            let mut rest = bits;
            for bit in REPORTED {
                if rest & bit != 0 && count < most {
                    out(count, bit, w.data);
                    count += 1;
                    rest &= !bit;
                }
            }
            if w.events & ONESHOT != 0 {
                w.mode = Mode::Fired;
            } else if rest != 0 {
                (w.reported, w.changed) = (bits & !rest, w.changed | rest);
                self.list_first(number);
            } else if w.events & ET == 0 {
                self.list(number);
            }
        }
        count
    }

    /// A socket is closed: nobody watches it any more.
    pub(super) fn forget_socket(&mut self, sock: u32) {
        let Some(socket) = self.sockets.get_mut(sock) else { return };
        let mut at = std::mem::replace(&mut socket.watches, NONE);
        while let Some(next) = self.watches.get(at).map(|w| w.next_of_socket) {
            self.drop_watch(at);
            at = next;
        }
    }

    /// An epoll object is closed: it watches nothing any more.
    pub(super) fn forget_epoll(&mut self, epid: u32) {
        while let Some(number) = self.epoll_mut(epid).map(|e| e.all).filter(|&n| n != NONE) {
            let Some((sock, next)) = self.watches.get(number).map(|w| (w.sock, w.next_of_socket)) else {
                break;
            };
            let first = self.sockets.get(sock).map_or(NONE, |s| s.watches);
            if first == number {
                if let Some(socket) = self.sockets.get_mut(sock) {
                    socket.watches = next;
                }
            } else {
                let mut at = first;
                while let Some(w) = self.watches.get_mut(at) {
                    if w.next_of_socket == number {
                        w.next_of_socket = next;
                        break;
                    }
                    at = w.next_of_socket;
                }
            }
            self.drop_watch(number);
        }
    }

    /// Takes a watch out of its object's lists.
    fn drop_watch(&mut self, number: u32) {
        self.unlist(number);
        let Some(w) = self.watches.remove(number) else { return };
        let (before, after) = w.all;
        if let Some(w) = self.watches.get_mut(after) {
            w.all.0 = before;
        }
        match self.watches.get_mut(before) {
            Some(w) => w.all.1 = after,
            None => {
                if let Some(epoll) = self.epoll_mut(w.epoll) {
                    epoll.all = after;
                }
            }
        }
    }
}

/// The bits a watch would report.
fn wanted(w: &Watch) -> u32 {
    if w.mode == Mode::Active { w.events | ERR } else { 0 }
}

#[cfg(test)]
mod tests;
