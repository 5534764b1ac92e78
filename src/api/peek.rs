//! Reading the reassembled streams.

use super::event::Side;
use super::{Ctx, Error};
use std::ops::Range;

/// What [`Ctx::peek`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// So many bytes were copied; the next peek goes on behind them.
    Bytes(usize),
    /// So many bytes are lost (not captured, or overwritten before they were read); the next peek goes on behind them.
    Missing(u64),
    /// Nothing is unread.
    Empty,
}

/// Bytes read at once by [`Ctx::read_all`].
const PIECE: usize = 16 << 10;

impl Ctx<'_> {
    /// Reads on in the stream that `side` receives: in order, each byte once per socket.
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor, Peek};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::open(path)?;
    /// let stream = monitor.stream()?;
    /// stream.on(Event::NewData, Hook::Null, |ev| {
    ///     let mut buf = [0; 4096];
    ///     loop {
    ///         match ev.peek(ev.side(), &mut buf) {
    ///             Ok(Peek::Bytes(n)) => println!("{n} bytes"),
    ///             Ok(Peek::Missing(n)) => println!("{n} bytes are lost"),
    ///             Ok(Peek::Empty) | Err(_) => break,
    ///         }
    ///     }
    /// })?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoFlow`]; [`Error::NoBuffer`].
    pub fn peek(&mut self, side: Side, out: &mut [u8]) -> Result<Peek, Error> {
        let sock = self.flow_socket()?;
        if self.state(side).is_none() {
            return Ok(Peek::Empty);
        }
        match self.monitor.peek(self.token, sock, side.index(), out) {
            Ok(Ok(0)) => Ok(Peek::Empty),
            Ok(Ok(n)) => Ok(Peek::Bytes(n)),
            Ok(Err(missing)) => Ok(Peek::Missing(missing)),
            Err(_) => Err(Error::NoBuffer { side }),
        }
    }

    /// Bytes between where the socket reads next and the in-order end of the stream that `side` receives.
    pub fn unread(&self, side: Side) -> u64 {
        let state = self.monitor.view(self.token);
        let (Some(socket), Some(flow)) = (state.sockets.get(self.call.sock), state.flow_of(self.call.sock))
        else {
            return 0;
        };
        if self.no_flow() {
            0
        } else {
            flow.sides[side.index()].data_tail().saturating_sub(socket.peeked[side.index()])
        }
    }

    /// Appends all unread bytes of the stream that `side` receives to `out`; returns how many were missing in between.
    ///
    /// # Errors
    /// As [`Ctx::peek`]; [`Error::OutOfMemory`]: what was read stays read.
    pub fn read_into(&mut self, side: Side, out: &mut Vec<u8>) -> Result<u64, Error> {
        let mut missing = 0;
        loop {
            let len = out.len();
            // One byte more than is there: a hole in front of it is noticed too.
            let piece = self.unread(side).saturating_add(1).min(PIECE as u64) as usize;
            out.try_reserve(piece).map_err(|_| Error::OutOfMemory)?;
            out.resize(len + piece, 0);
            let found = self.peek(side, &mut out[len..]);
            out.truncate(len + if let Ok(Peek::Bytes(n)) = found { n } else { 0 });
            match found? {
                Peek::Bytes(_) => {}
                Peek::Missing(n) => missing += n,
                Peek::Empty => return Ok(missing),
            }
        }
    }

    /// All unread bytes of the stream that `side` receives; holes are skipped. Empty when there are none, or the stream
    /// is not kept. [`Ctx::peek`] and [`Ctx::read_into`] tell these cases apart.
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor, Side};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::open(path)?;
    /// monitor.stream()?.on(Event::NewData, Hook::Null, |ev| {
    ///     let side = ev.side(); // who received it
    ///     println!("{} {side:?} received {} bytes", ev.flow(), ev.read_all(side).len());
    /// })?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    pub fn read_all(&mut self, side: Side) -> Vec<u8> {
        let mut all = Vec::new();
        // What was read before an error is worth having.
        let _ = self.read_into(side, &mut all);
        all
    }

    /// Reads at `offset` of the stream that `side` receives, out-of-order bytes too, without moving anything. The number
    /// of bytes copied; 0: nothing is held there (any more, or yet).
    ///
    /// # Errors
    /// As [`Ctx::peek`].
    pub fn peek_at(&self, side: Side, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        let sock = self.flow_socket()?;
        if self.state(side).is_none() || out.is_empty() {
            return Ok(0);
        }
        match self.monitor.ppeek(self.token, sock, side.index(), offset, out) {
            Ok(n) => Ok(n),
            Err(e) if e.0 == libc::EACCES => Err(Error::NoBuffer { side }),
            Err(_) => Ok(0),
        }
    }

    /// What is held of the stream that `side` receives, in stream offsets, ascending; more than one range while bytes
    /// are missing.
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::open(path)?;
    /// let stream = monitor.stream()?;
    /// stream.on(Event::PktIn, Hook::Rcv, |ev| {
    ///     if let [in_order, later] = &ev.fragments(ev.side())[..] {
    ///         println!("{}: {} bytes are missing", ev.flow(), later.start - in_order.end);
    ///     }
    /// })?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    pub fn fragments(&self, side: Side) -> Vec<Range<u64>> {
        let mut all = Vec::new();
        if let Ok(sock) = self.flow_socket() {
            self.monitor.fragments(self.token, sock, side.index(), |start, end| {
                all.push(start..end);
                true
            });
        }
        all
    }
}
