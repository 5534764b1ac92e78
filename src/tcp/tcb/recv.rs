//! The receive buffer: reassembly, the window it allows, and the SACK blocks that describe it.
//!
//! Offsets count from the peer's initial sequence number: its SYN is at 0, its first byte at 1. Bytes in order lie in a
//! [`ByteStore`], bytes ahead of them in a [`Loose`]: both follow what is held, so the window may be far larger than the
//! memory. An idle connection has none.

use crate::tcp::loose::Loose;
use crate::tcp::one::One;
use crate::tcp::ranges::Ranges;
use crate::tcp::store::{ByteStore, OutOfMemory};

/// Ranges whose order of arrival is remembered, for SACK blocks.
const RECENT: usize = 4;

/// What only a stream with loss or reordering needs.
#[derive(Debug, Default)]
struct Disorder {
    /// Received above `nxt`.
    ahead: Ranges,
    /// Its bytes.
    loose: Loose,
    /// An offset in each of the ranges that changed last, newest first (RFC 2018 4).
    recent: [u64; RECENT],
    /// Where the stream ends, if a FIN came before everything in front of it.
    fin: Option<u64>,
}

/// What a segment's payload was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes that became readable.
    pub in_order: usize,
    /// Some of it lies ahead of a hole.
    pub ahead: bool,
    /// It closed a hole, or there still is one: acknowledge at once (RFC 5681 4.2).
    pub disorder: bool,
    /// The first part that had been received before (RFC 2883).
    pub duplicate: Option<(u64, u64)>,
    /// Bytes that were beyond the window, or for which there was no room.
    pub refused: usize,
}

/// The receive side's bytes and its window.
#[derive(Debug)]
pub(super) struct RecvBuffer {
    bytes: ByteStore,
    disorder: One<Disorder>,
    /// RCV.NXT.
    pub nxt: u64,
    /// The right edge of the window as advertised. Never moves left (RFC 9293 3.8.6.2.1).
    pub edge: u64,
    /// Bytes unread at most, now.
    limit: u32,
    /// What `limit` may grow to.
    max: u32,
    /// Bytes that may be added, whatever the limit says: there is no memory for more.
    pub room: u32,
    /// Memory is scarce: only what is in order is taken.
    pub scarce: bool,
    /// Bytes read since `measured`, for tuning.
    copied: u32,
    measured: u64,
    /// Nobody reads any more: what comes is acknowledged and thrown away.
    pub discard: bool,
}

impl RecvBuffer {
    pub fn new(initial: u32, max: u32) -> Self {
        let max = max.clamp(1, 1 << 30);
        RecvBuffer {
            bytes: ByteStore::new(),
            disorder: One::none(),
            nxt: 0,
            edge: 0,
            limit: initial.clamp(1, max),
            max,
            room: u32::MAX,
            scarce: false,
            copied: 0,
            measured: 0,
            discard: false,
        }
    }

    /// The shift by which `max` fits a window field (RFC 7323 2.2), at most 14.
    pub fn shift(&self) -> u8 {
        (0..14).find(|shift| self.max >> shift <= 65_535).unwrap_or(14)
    }

    /// Changes the most that may be unread. What was advertised stays so.
    pub fn set_max(&mut self, max: u32) {
        self.max = max.clamp(1, 1 << 30);
        self.limit = self.max;
    }

    pub fn max(&self) -> u32 {
        self.max
    }

    /// Bytes to read.
    #[inline]
    pub fn unread(&self) -> usize {
        self.bytes.len()
    }

    /// Whether bytes are held ahead of a hole.
    #[inline]
    pub fn has_hole(&self) -> bool {
        self.disorder.get().is_some_and(|d| !d.ahead.is_empty())
    }

    /// Whether everything in front of a remembered FIN has come.
    pub fn fin_reached(&self) -> bool {
        self.disorder.get().is_some_and(|d| d.fin.is_some_and(|fin| fin <= self.nxt))
    }

    /// Remembers where the stream ends. The first such offset stays.
    pub fn remember_fin(&mut self, offset: u64) -> Result<(), OutOfMemory> {
        self.disorder.get_or_make()?.fin.get_or_insert(offset);
        Ok(())
    }

    /// The FIN is taken: it has a sequence number, and nothing follows it.
    pub fn take_fin(&mut self) {
        self.disorder.free();
        self.nxt += 1;
        self.edge = self.edge.max(self.nxt);
    }

    /// Stores `payload`, whose first byte is at `offset`, as far as the window goes. After an error nothing has changed but
    /// that the bytes are lost: they come again.
    pub fn accept(&mut self, offset: i64, payload: &[u8]) -> Result<Taken, OutOfMemory> {
        let mut taken = Taken::default();
        let end = offset.saturating_add(payload.len() as i64);
        let nxt = self.nxt as i64;
        if offset < nxt {
            taken.duplicate = Some((offset.max(0) as u64, end.clamp(0, nxt) as u64));
        }
        let from = offset.max(nxt) as u64;
        let mut to = end.min(self.edge as i64).max(0) as u64;
        if !self.discard {
            to = to.min(from.saturating_add(self.room.into()));
        }
        taken.refused = (end - (to as i64).max(offset)).max(0) as usize;
        if from >= to {
            return Ok(taken);
        }
        let bytes = &payload[(from as i64 - offset) as usize..(to as i64 - offset) as usize];
        if from > self.nxt && self.scarce {
            taken.refused += (to - from) as usize;
            return Ok(taken);
        }
        if from > self.nxt {
            taken.ahead = true;
            taken.disorder = true;
            self.store_ahead(from, to, bytes, &mut taken)?;
            return Ok(taken);
        }
        let before = self.nxt;
        if self.disorder.get().is_none_or(|d| d.ahead.is_empty()) {
            if !self.discard {
                self.bytes.push(bytes)?;
            }
            self.nxt = to;
        } else {
            taken.disorder = true;
            self.store_in_order(to, bytes)?;
        }
        taken.in_order = (self.nxt - before) as usize;
        Ok(taken)
    }

    fn store_ahead(
        &mut self,
        from: u64,
        to: u64,
        bytes: &[u8],
        taken: &mut Taken,
    ) -> Result<(), OutOfMemory> {
        let d = self.disorder.get_or_make()?;
        if !d.ahead.has_room(from, to) {
            taken.refused += bytes.len();
            return Ok(());
        }
        if taken.duplicate.is_none() {
            taken.duplicate = d.ahead.covered(from, to).next().map(|r| (r.start, r.end));
        }
        d.ahead.try_reserve(1)?;
        d.loose.fill(from, bytes, d.ahead.gaps(from, to))?;
        d.ahead.insert(from, to)?;
        // RFC 2018 4: the first block is the one that holds the segment that triggered the acknowledgment.
        let kept = d
            .recent
            .iter()
            .position(|&old| d.ahead.find(old).is_none_or(|r| r.start <= from && from < r.end));
        d.recent[..=kept.unwrap_or(RECENT - 1)].rotate_right(1);
        d.recent[0] = from;
        Ok(())
    }

    /// Stores bytes that begin at `nxt` and end at `to`, and joins what they reach.
    fn store_in_order(&mut self, to: u64, bytes: &[u8]) -> Result<(), OutOfMemory> {
        let RecvBuffer { bytes: store, disorder, nxt, discard, .. } = self;
        let Some(d) = disorder.get_mut() else { return Ok(()) };
        let joined = d.ahead.joined(to);
        if *discard {
            d.loose.take_below(joined, |_| Ok::<(), OutOfMemory>(()))?;
        } else {
            store.try_reserve((joined - *nxt) as usize)?;
            for gap in d.ahead.gaps(*nxt, to) {
                d.loose.take_below(gap.start, |part| store.push(part))?;
                store.push(&bytes[(gap.start - *nxt) as usize..(gap.end - *nxt) as usize])?;
            }
            d.loose.take_below(joined, |part| store.push(part))?;
        }
        d.ahead.absorb(joined);
        *nxt = joined;
        if d.ahead.is_empty() && d.fin.is_none() {
            disorder.free();
        }
        Ok(())
    }

    /// Up to `out.len()` blocks of what was received ahead, the latest first (RFC 2018 4); how many.
    pub fn sack_blocks(&self, out: &mut [(u64, u64)]) -> usize {
        let Some(d) = self.disorder.get() else { return 0 };
        let mut count = 0;
        let recent = d.recent.iter().filter_map(|&offset| d.ahead.find(offset));
        for range in recent.chain(d.ahead.as_slice().iter().copied()) {
            let block = (range.start, range.end);
            if count < out.len() && !out[..count].contains(&block) {
                out[count] = block;
                count += 1;
            }
        }
        count
    }

    /// Copies bytes to `out` without taking them.
    pub fn peek(&self, out: &mut [u8]) -> usize {
        self.bytes.read(0, out)
    }

    /// The bytes to read, in pieces.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.slices(0, usize::MAX)
    }

    /// Takes `count` bytes away. The limit grows when the application reads more in a round-trip time than half of it.
    pub fn consume(&mut self, count: usize, now: u64, rtt: u64) {
        self.bytes.pop_front(count);
        self.bytes.trim();
        if self.limit >= self.max {
            return;
        }
        self.copied = self.copied.saturating_add(count as u32);
        if now.saturating_sub(self.measured) >= rtt.max(1000) {
            // Room for what a sender in slow start has in flight by then: twice as much.
            if self.copied > self.limit / 2 {
                self.limit = self.limit.max(self.copied).saturating_mul(2).min(self.max);
            }
            self.copied = 0;
            self.measured = now;
        }
    }

    /// Throws away what is unread, and what will come.
    pub fn stop(&mut self) {
        self.discard = true;
        self.bytes.free();
    }

    /// Frees what lies ahead: nothing can close the hole any more.
    pub fn drop_ahead(&mut self) {
        self.disorder.free();
    }

    /// The window for the next segment, in units of `1 << shift`, and the right edge it means. RFC 9293 3.8.6.2.2: the edge
    /// stays until it can move by a segment or half of the buffer.
    pub fn window(&self, shift: u8, mss: u32) -> (u16, u64) {
        let free = (u64::from(self.limit)).saturating_sub(self.bytes.len() as u64).min(self.room.into());
        let candidate = self.nxt + free;
        let current = self.edge.saturating_sub(self.nxt);
        let gain = candidate.saturating_sub(self.edge);
        let mut field =
            if gain >= u64::from(mss.min(self.limit / 2).min(self.room).max(1)) { free >> shift } else { 0 };
        if field << shift < current {
            // RFC 7323 2.4: rounding down must not take back what was promised.
            field = current.div_ceil(1 << shift);
        }
        let field = field.min(65_535) as u16;
        (field, self.edge.max(self.nxt + (u64::from(field) << shift)))
    }

    /// Whether the application has made so much room that the peer should hear of it.
    pub fn update_due(&self, shift: u8, mss: u32) -> bool {
        let (_, edge) = self.window(shift, mss);
        let gain = edge - self.edge;
        let half = u64::from(self.limit / 2);
        let left = self.edge.saturating_sub(self.nxt);
        // A closed window opens at the first chance; otherwise acknowledgments of data carry most updates.
        gain > 0 && (gain >= half || (gain >= 2 * u64::from(mss) && left < half / 2) || left < u64::from(mss))
    }

    /// Memory behind the buffer.
    pub fn allocated_bytes(&self) -> usize {
        let disorder = self
            .disorder
            .get()
            .map_or(0, |d| size_of::<Disorder>() + d.ahead.allocated_bytes() + d.loose.allocated_bytes());
        self.bytes.allocated_bytes() + disorder
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buffer(limit: u32) -> RecvBuffer {
        let mut recv = RecvBuffer::new(limit, limit);
        recv.nxt = 1;
        recv.edge = 1 + u64::from(limit);
        recv
    }

    fn blocks(recv: &RecvBuffer) -> Vec<(u64, u64)> {
        let mut out = [(0, 0); 4];
        let count = recv.sack_blocks(&mut out);
        out[..count].to_vec()
    }

    #[test]
    fn in_order_then_read_holds_no_memory() {
        let mut recv = buffer(1000);
        assert_eq!(recv.accept(1, b"hello").unwrap(), Taken { in_order: 5, ..Taken::default() });
        let mut out = [0; 10];
        assert_eq!(recv.peek(&mut out), 5);
        recv.consume(5, 0, 0);
        assert_eq!((recv.unread(), recv.allocated_bytes()), (0, 0));
    }

    #[test]
    fn sack_blocks_come_latest_first() {
        let mut recv = buffer(1000);
        recv.accept(11, b"x").unwrap();
        recv.accept(21, b"x").unwrap();
        recv.accept(31, b"x").unwrap();
        assert_eq!(blocks(&recv), [(31, 32), (21, 22), (11, 12)]);
        recv.accept(12, b"y").unwrap();
        assert_eq!(blocks(&recv), [(11, 13), (31, 32), (21, 22)]);
        let taken = recv.accept(21, b"xz").unwrap();
        assert_eq!(taken.duplicate, Some((21, 22)));
        assert_eq!(blocks(&recv), [(21, 23), (11, 13), (31, 32)]);
        recv.accept(41, b"x").unwrap();
        recv.accept(51, b"x").unwrap();
        assert_eq!(blocks(&recv), [(51, 52), (41, 42), (21, 23), (11, 13)]);
    }

    #[test]
    fn a_fin_waits_for_what_is_in_front_of_it() {
        let mut recv = buffer(1000);
        recv.accept(3, b"cd").unwrap();
        recv.remember_fin(5).unwrap();
        assert!(!recv.fin_reached());
        assert_eq!(recv.accept(1, b"ab").unwrap().in_order, 4);
        assert!(recv.fin_reached());
        recv.take_fin();
        assert_eq!(recv.nxt, 6);
    }

    #[test]
    fn the_window_never_shrinks_and_opens_in_steps() {
        let mut recv = buffer(10_000);
        recv.accept(1, &[0; 9_500]).unwrap();
        assert_eq!(recv.window(0, 1000), (500, 10_001));
        recv.consume(400, 0, 0);
        assert_eq!(recv.window(0, 1000), (500, 10_001));
        assert!(!recv.update_due(0, 1000));
        recv.consume(600, 0, 0);
        assert_eq!(recv.window(0, 1000), (1500, 11_001));
        assert!(recv.update_due(0, 1000));
        // A shift that does not divide the rest rounds up.
        recv.consume(0, 0, 0);
        assert_eq!(recv.window(7, 2000), (4, 9501 + 4 * 128));
    }

    #[test]
    fn the_limit_follows_a_fast_reader() {
        let mut recv = RecvBuffer::new(1000, 6000);
        (recv.nxt, recv.edge) = (1, 1001);
        for now in [10_000, 20_000, 30_000, 40_000] {
            let (_, edge) = recv.window(0, 100);
            recv.edge = edge;
            let count = (recv.edge - recv.nxt) as usize;
            recv.accept(recv.nxt as i64, &vec![0; count]).unwrap();
            recv.consume(count, now, 5_000);
        }
        assert_eq!(recv.limit, 6000);
        let mut slow = RecvBuffer::new(1000, 6000);
        (slow.nxt, slow.edge) = (1, 1001);
        slow.accept(1, &[0; 400]).unwrap();
        slow.consume(400, 10_000, 5_000);
        assert_eq!(slow.limit, 1000);
    }

    #[test]
    fn shifts() {
        let shift = |max| RecvBuffer::new(1, max).shift();
        assert_eq!([shift(1), shift(65_535), shift(65_536), shift(4 << 20)], [0, 0, 1, 7]);
        assert_eq!(shift(u32::MAX), 14);
    }

    proptest! {
        #[test]
        fn any_order_gives_the_stream(cuts in prop::collection::vec((0usize..300, 1usize..60), 1..200), discard in any::<bool>()) {
            let stream: Vec<u8> = (0..400u32).map(|i| (i * 7) as u8).collect();
            let mut recv = buffer(400);
            if discard {
                recv.stop();
            }
            for (at, len) in cuts {
                let before = recv.nxt;
                let end = (at + len).min(400);
                let taken = recv.accept(1 + at as i64, &stream[at..end]).unwrap();
                prop_assert_eq!(taken.in_order as u64, recv.nxt - before);
            }
            for at in (0..400).rev().step_by(40) {
                recv.accept(at as i64 - 38, &stream[(at.max(39) - 39)..=at]).unwrap();
            }
            let held = recv.slices().collect::<Vec<_>>().concat();
            let expected = if discard { &[][..] } else { &stream[..(recv.nxt - 1) as usize] };
            prop_assert_eq!(&held[..], expected);
            for block in blocks(&recv) {
                prop_assert!(block.0 > recv.nxt && block.1 > block.0);
            }
        }
    }
}
