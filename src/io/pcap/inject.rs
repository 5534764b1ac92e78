//! Sending frames over an interface: a packet socket of its own, which takes a queue of frames with one call.

use super::super::device::{Flushed, Queued};
use super::interface::Interface;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Frames the queue holds.
const QUEUE: usize = 256;
/// Frames of one call.
const CALL: usize = 64;
/// Bytes a frame may have over the MTU: Ethernet header and a VLAN tag.
const OVER_MTU: usize = 18;
/// Bytes the kernel keeps for the socket before it takes no more.
const SEND_BUFFER: libc::c_int = 8 << 20;

/// The sending half of a device.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
    longest: usize,
    /// Queued frames, one behind the other.
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Injector {
    /// Opens a socket that receives nothing.
    pub fn open(interface: &Interface) -> io::Result<Self> {
        // SAFETY: no preconditions. Protocol 0: nothing is received.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: plain data, valid when zeroed.
        let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        addr.sll_family = libc::AF_PACKET as u16;
        addr.sll_ifindex = interface.index;
        // SAFETY: `addr` is a whole address of its family.
        let bound = unsafe { libc::bind(fd, (&raw const addr).cast(), size_of_val(&addr) as u32) };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        let room = SEND_BUFFER;
        for option in [libc::SO_SNDBUF, libc::SO_SNDBUFFORCE] {
            // SAFETY: an int. What the kernel does not grant is not needed.
            unsafe {
                libc::setsockopt(
                    fd,
                    libc::SOL_SOCKET,
                    option,
                    (&raw const room).cast(),
                    size_of_val(&room) as u32,
                )
            };
        }
        let longest = interface.mtu() as usize + OVER_MTU;
        Ok(Injector { socket, longest, bytes: Vec::new(), ends: Vec::new() })
    }

    /// Whether a frame of `len` bytes would be queued.
    pub fn has_room(&self, len: usize) -> Queued {
        match len {
            len if len > self.longest || len == 0 => Queued::Never,
            _ if self.ends.len() >= QUEUE => Queued::Full,
            _ => Queued::Yes,
        }
    }

    /// Queues a copy.
    pub fn send(&mut self, frame: &[u8]) -> Queued {
        match self.has_room(frame.len()) {
            Queued::Yes
                if self.bytes.try_reserve(frame.len()).is_ok() && self.ends.try_reserve(1).is_ok() =>
            {
                self.bytes.extend_from_slice(frame);
                self.ends.push(self.bytes.len());
                Queued::Yes
            }
            Queued::Yes => Queued::Full,
            no => no,
        }
    }

    /// Gives the kernel what is queued. What it has no room for waits; what it refuses is lost.
    pub fn flush(&mut self) -> Flushed {
        let mut flushed = Flushed::default();
        let mut done = 0;
        while done < self.ends.len() {
            match self.call(done) {
                Ok(n) => done += n.max(1),
                Err(e) => match e.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN | libc::ENOBUFS) => {
                        flushed.waiting = true;
                        break;
                    }
                    _ => {
                        // This frame, not those behind it.
                        flushed.lost += 1;
                        flushed.lost_bytes += (self.ends[done] - self.start(done)) as u64;
                        done += 1;
                    }
                },
            }
        }
        if done == self.ends.len() {
            self.bytes.clear();
            self.ends.clear();
        } else if done > 0 {
            let cut = self.ends[done - 1];
            self.bytes.drain(..cut);
            self.ends.drain(..done);
            self.ends.iter_mut().for_each(|end| *end -= cut);
        }
        flushed
    }

    fn start(&self, n: usize) -> usize {
        if n == 0 { 0 } else { self.ends[n - 1] }
    }

    /// One call for frames from number `first` on; how many went.
    fn call(&self, first: usize) -> io::Result<usize> {
        let count = (self.ends.len() - first).min(CALL);
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; CALL];
        // SAFETY: plain data, valid when zeroed.
        let mut messages: [libc::mmsghdr; CALL] = unsafe { std::mem::zeroed() };
        for (n, (part, message)) in parts.iter_mut().zip(&mut messages).take(count).enumerate() {
            let frame = &self.bytes[self.start(first + n)..self.ends[first + n]];
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: `count` messages of one part each, all alive through the call, which only reads the frames.
        let sent = unsafe {
            libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}
