//! Pipes inside a context: what is written to one end is read from the other, in order (endpoint-io.md §4.11).
//!
//! Half-duplex, as pipe(2): the first id is read, the second written. Memory is there while bytes are.

use super::State;
use super::events::{ERR, HUP, IN, OUT};
use super::socket::{Kind, NONE, Socket};
use crate::monitor::{Errno, Result};
use std::collections::VecDeque;

/// Bytes a pipe holds.
pub const CAPACITY: usize = 10_240;
/// A write of at most so many bytes is not divided (POSIX PIPE_BUF).
pub const ATOMIC: usize = 4096;

/// One pipe.
#[derive(Debug)]
pub struct Pipe {
    bytes: VecDeque<u8>,
    /// Ids of the reading and the writing end; `NONE`: closed.
    ends: [u32; 2],
}

impl Pipe {
    fn room(&self) -> usize {
        CAPACITY - self.bytes.len()
    }

    /// Readiness of one end.
    fn readiness(&self, writes: bool) -> u32 {
        if writes {
            match (self.ends[0] == NONE, self.room() >= ATOMIC) {
                (true, _) => OUT | ERR,
                (false, true) => OUT,
                (false, false) => 0,
            }
        } else {
            match (self.ends[1] == NONE, self.bytes.is_empty()) {
                (true, _) => IN | HUP,
                (false, false) => IN,
                (false, true) => 0,
            }
        }
    }
}

impl State {
    /// Makes a pipe between two ids. ENOMEM: no room.
    pub fn make_pipe(&mut self, ends: [u32; 2]) -> Result<()> {
        let no_memory = |_| Errno(libc::ENOMEM);
        let pipe = self.pipes.insert(Pipe { bytes: VecDeque::new(), ends }).map_err(no_memory)?;
        for (id, writes) in ends.into_iter().zip([false, true]) {
            if self.sockets.put(id, Kind::Pipe { pipe, writes }).is_err() {
                self.sockets.take(ends[0]);
                self.pipes.remove(pipe);
                return Err(Errno(libc::ENOMEM));
            }
        }
        Ok(())
    }

    /// The pipe and direction of an id, when it names a pipe's end.
    pub fn pipe_end(&self, id: u32) -> Option<(u32, bool)> {
        match self.sockets.get(id) {
            Some(&Socket { kind: Kind::Pipe { pipe, writes }, .. }) => Some((pipe, writes)),
            _ => None,
        }
    }

    pub(super) fn pipe_readiness(&self, pipe: u32, writes: bool) -> u32 {
        self.pipes.get(pipe).map_or(0, |p| p.readiness(writes))
    }

    /// Reads into `out` in order; with `peek` the bytes stay. `None`: nothing is there yet.
    ///
    /// # Errors
    /// EBADF: the end that is written.
    pub fn read_pipe(&mut self, id: u32, out: &mut [u8], peek: bool) -> Result<Option<usize>> {
        let (number, writes) = self.pipe_end(id).ok_or(Errno(libc::EBADF))?;
        let pipe = self.pipes.get_mut(number).ok_or(Errno(libc::EBADF))?;
        if writes {
            return Err(Errno(libc::EBADF));
        }
        if out.is_empty() {
            return self.nothing_asked(id);
        }
        if pipe.bytes.is_empty() {
            return Ok((pipe.ends[1] == NONE).then_some(0));
        }
        let count = out.len().min(pipe.bytes.len());
        let (front, back) = pipe.bytes.as_slices();
        let first = count.min(front.len());
        out[..first].copy_from_slice(&front[..first]);
        out[first..count].copy_from_slice(&back[..count - first]);
        if peek {
            return Ok(Some(count));
        }
        let before = pipe.readiness(true);
        pipe.bytes.drain(..count);
        if pipe.bytes.is_empty() {
            pipe.bytes.shrink_to(0);
        }
        let (became, writer) = (pipe.readiness(true) & !before, pipe.ends[1]);
        // A writer may wait for less room than makes the end ready.
        self.wake(writer);
        if became != 0 {
            self.notify(writer, became);
        }
        Ok(Some(count))
    }

    /// Writes what there is room for; at most [`ATOMIC`] bytes go whole or not at all. `None`: no room yet.
    ///
    /// # Errors
    /// EBADF: the end that is read; EPIPE: nobody reads any more; ENOMEM.
    pub fn write_pipe(&mut self, id: u32, from: &[u8]) -> Result<Option<usize>> {
        let (number, writes) = self.pipe_end(id).ok_or(Errno(libc::EBADF))?;
        let pipe = self.pipes.get_mut(number).ok_or(Errno(libc::EBADF))?;
        if !writes {
            return Err(Errno(libc::EBADF));
        }
        if pipe.ends[0] == NONE {
            return Err(Errno(libc::EPIPE));
        }
        if from.is_empty() {
            return self.nothing_asked(id);
        }
        let room = pipe.room();
        if room == 0 || (from.len() <= ATOMIC && room < from.len()) {
            return Ok(None);
        }
        let count = from.len().min(room);
        pipe.bytes.try_reserve(count).map_err(|_| Errno(libc::ENOMEM))?;
        pipe.bytes.extend(&from[..count]);
        let reader = pipe.ends[0];
        self.notify(reader, IN);
        Ok(Some(count))
    }

    /// The reference's answers to a length of 0: EAGAIN, and 0 on a blocking socket.
    pub(super) fn nothing_asked(&self, id: u32) -> Result<Option<usize>> {
        let socket = self.sockets.get(id).ok_or(Errno(libc::EBADF))?;
        if socket.nonblocking { Err(Errno(libc::EAGAIN)) } else { Ok(Some(0)) }
    }

    /// Closes one end; the other is told.
    pub(super) fn close_pipe_end(&mut self, pipe: u32, writes: bool) {
        let Some(p) = self.pipes.get_mut(pipe) else { return };
        p.ends[usize::from(writes)] = NONE;
        let other = p.ends[usize::from(!writes)];
        if other == NONE {
            self.pipes.remove(pipe);
        } else {
            self.notify(other, if writes { IN | HUP } else { OUT | ERR });
        }
    }
}
