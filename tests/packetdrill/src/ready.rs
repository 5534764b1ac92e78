//! poll and epoll with Linux's bits.
//!
//! Edges are the stack's: its epoll object says which watches have something new, one bit an entry. What a watch then reports is,
//! as in Linux, all that the socket is ready for.

use crate::Result;
use crate::sockets::Named;
use crate::threads::Shared;
use crate::world::{Fd, World};
use mos::endpoint::epoll::Change;
use mos::endpoint::events;

/// Bits of both calls (poll(2), epoll_ctl(2)); they have the same values.
const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const ERR: u32 = libc::EPOLLERR as u32;
const HUP: u32 = libc::EPOLLHUP as u32;
const RDHUP: u32 = libc::EPOLLRDHUP as u32;
const RDNORM: u32 = libc::EPOLLRDNORM as u32;
const WRNORM: u32 = libc::EPOLLWRNORM as u32;

/// The stack's bits and Linux's.
const BITS: [(u32, u32); 5] = [
    (events::IN, IN | RDNORM),
    (events::OUT, OUT | WRNORM),
    (events::ERR, ERR),
    (events::HUP, HUP),
    (events::RDHUP, RDHUP),
];

/// One socket in one epoll object.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    events: u32,
    data: u64,
    fd: i32,
    /// Reported by the stack, and not yet to the application, which had no room.
    pending: bool,
}

impl World {
    /// What a descriptor is ready for.
    fn ready(&self, fd: &Fd) -> u32 {
        let named = self.named(fd);
        if named == Named::Fresh {
            return OUT | WRNORM | HUP;
        }
        let ready = self.on(|st| st.readiness(fd.id));
        let mut bits = BITS.iter().filter(|(ours, _)| ready & ours != 0).fold(0, |bits, b| bits | b.1);
        if fd.error_told {
            bits &= !ERR;
        }
        // What was shut down can be used without waiting: there is an answer at once.
        if fd.shut_read {
            bits |= IN | RDNORM | RDHUP;
        }
        if fd.shut_write {
            bits |= OUT | WRNORM;
        }
        if fd.shut_read && fd.shut_write {
            bits |= HUP;
        }
        if bits & ERR != 0 && named == Named::Connection {
            bits |= IN | RDNORM | OUT | WRNORM | RDHUP | HUP;
        }
        bits
    }

    fn poll(&self, fds: &mut [libc::pollfd]) -> usize {
        for entry in fds.iter_mut() {
            entry.revents = match self.fd(entry.fd) {
                _ if entry.fd < 0 => 0,
                Ok(fd) => (self.ready(&fd) & (entry.events as u16 as u32 | ERR | HUP)) as i16,
                Err(_) => libc::POLLNVAL,
            };
        }
        fds.iter().filter(|entry| entry.revents != 0).count()
    }

    fn epoll(&self, epfd: i32) -> Result<u32> {
        let fd = self.fd(epfd)?;
        if self.named(&fd) == Named::Epoll { Ok(fd.id) } else { Err(libc::EINVAL) }
    }

    /// `epoll_create`.
    pub fn epoll_create(&mut self, size: i32) -> Result<i32> {
        if size <= 0 {
            return Err(libc::EINVAL);
        }
        let id = self.with(|e, m, t| e.epoll_create(m, t)).map_err(|e| e.0)?;
        self.give(id, false)
    }

    /// `epoll_ctl`; `event` is not looked at by EPOLL_CTL_DEL.
    pub fn epoll_ctl(&mut self, epfd: i32, op: i32, fd: i32, event: Option<(u32, u64)>) -> Result<()> {
        let sock = self.fd(fd)?.id;
        let epoll = self.epoll(epfd)?;
        if epoll == sock {
            return Err(libc::EINVAL);
        }
        let there = self.watched.contains_key(&(epoll, sock));
        let change = match (op, there) {
            (libc::EPOLL_CTL_ADD, true) => return Err(libc::EEXIST),
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, false) => return Err(libc::ENOENT),
            (libc::EPOLL_CTL_DEL, true) => {
                self.watched.remove(&(epoll, sock));
                Change::Delete
            }
            (libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD, _) => {
                let (events, data) = event.ok_or(libc::EFAULT)?;
                let how = events & (events::ET | events::ONESHOT);
                let asked = BITS.iter().filter(|(_, theirs)| events & theirs != 0);
                let asked = asked.fold(how | events::ERR | events::HUP, |bits, b| bits | b.0);
                self.watched.insert((epoll, sock), Watched { events, data, fd, pending: false });
                if op == libc::EPOLL_CTL_ADD {
                    Change::Add(asked, sock.into())
                } else {
                    Change::Modify(asked, sock.into())
                }
            }
            _ => return Err(libc::EINVAL),
        };
        self.on(|st| st.control(epoll, sock, change)).map_err(|e| e.0)
    }

    /// At most `most` watches of an object that have something to report: events and data.
    fn report(&mut self, epfd: i32, most: usize) -> Result<Vec<(u32, u64)>> {
        let epoll = self.epoll(epfd)?;
        let mut order = Vec::new();
        let everything = 8 * self.watched.len();
        self.on(|st| st.report(epoll, everything, |_, _, sock| order.push(sock as u32)));
        let level = |w: &Watched| w.events & (events::ET | events::ONESHOT) == 0;
        for (&(_, sock), w) in self.watched.iter().filter(|((e, _), _)| *e == epoll) {
            // What was kept back; and what readiness the stack's sockets do not have of their own.
            let fresh = || self.fd(w.fd).is_ok_and(|fd| self.named(&fd) == Named::Fresh && level(w));
            if w.pending || fresh() {
                order.push(sock);
            }
        }
        let mut found = Vec::new();
        let mut seen = Vec::new();
        for sock in order {
            if seen.contains(&sock) {
                continue;
            }
            seen.push(sock);
            let Some(&watch) = self.watched.get(&(epoll, sock)) else { continue };
            let ready = self.ready(&self.fd(watch.fd)?) & (watch.events | ERR | HUP);
            let full = found.len() == most;
            if ready != 0 && !full {
                found.push((ready, watch.data));
            }
            if let Some(watch) = self.watched.get_mut(&(epoll, sock)) {
                watch.pending = full && !level(&*watch);
            }
        }
        Ok(found)
    }
}

/// When a time-out of so many milliseconds is over.
fn deadline(timeout: i32) -> impl FnOnce(&World) -> Option<u64> {
    move |world| u64::try_from(timeout).ok().map(|ms| world.now + 1000 * ms)
}

impl Shared {
    /// `poll`.
    pub fn poll(&self, fds: &mut [libc::pollfd], timeout: i32) -> Result<usize> {
        let found = self.waiting(deadline(timeout), |w| Ok(Some(w.poll(fds)).filter(|&count| count > 0)))?;
        Ok(found.unwrap_or(0))
    }

    /// `epoll_wait`.
    pub fn epoll_wait(&self, epfd: i32, most: i32, timeout: i32) -> Result<Vec<(u32, u64)>> {
        let most = usize::try_from(most).ok().filter(|&most| most > 0).ok_or(libc::EINVAL)?;
        let found = self.waiting(deadline(timeout), |w| {
            let found = w.report(epfd, most)?;
            Ok(Some(found).filter(|found| !found.is_empty()))
        })?;
        Ok(found.unwrap_or_default())
    }
}
