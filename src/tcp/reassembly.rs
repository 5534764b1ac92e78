//! What one monitored side keeps of the stream it receives.
//!
//! Offsets count from the first byte after the SYN. The in-order tail is not here: it belongs to the flow's hot
//! record and is passed in and handed back, so that in-order data of a side without buffer never touches this object.
//! With a buffer, `head..tail` is readable (minus the holes that were given up) and so is every out-of-order range; no
//! byte at or beyond `tail + capacity` is accepted, and storing a byte at `x` evicts the bytes below `x + 1 - capacity`.
//! Storing never calls anybody: [`Reassembly::plan`] says beforehand what it will evict and refuse, so that
//! the caller can deliver and report first.

use super::loose::Loose;
use super::one::One;
use super::ranges::{Gaps, MAX_RANGES, Range, Ranges};
use super::store::{ByteStore, Pool};

mod read;
mod skip;

pub use super::store::OutOfMemory;
pub use read::Fragments;

/// Which bytes win where a segment overlaps bytes already received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// The bytes received first stay.
    #[default]
    First,
    /// The segment's bytes replace them wherever they are retained, also where they were read already.
    Last,
}

/// What storing a segment would do; see [`Reassembly::plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of the segment that one [`Reassembly::accept`] deals with: all of them, or the first piece of an in-order
    /// segment that reaches further than the buffer.
    pub consumed: usize,
    /// Retained bytes below this offset will be evicted; the present head when none will. Never above the tail, unless the head is.
    pub evict_to: u64,
    /// Bytes that will be discarded because they lie beyond the buffer or would need one more out-of-order range.
    pub refused: usize,
    /// The in-order tail afterwards.
    pub tail: u64,
}

/// What storing a segment did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The in-order tail now.
    pub tail: u64,
    /// Bytes of the segment dealt with; fewer than all of them: call again with the rest, after delivering.
    pub consumed: usize,
    /// Bytes accepted that were not accepted before.
    pub stored: usize,
    /// Bytes discarded, as [`Plan::refused`].
    pub refused: usize,
}

/// What giving up on missing bytes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Bytes given up, over all holes.
    pub missing: u64,
    /// The in-order tail now.
    pub tail: u64,
}

/// The outcome of reading at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes were copied, all of the fragment that holds the offset.
    Bytes(usize),
    /// Nothing is stored there yet.
    Nothing,
    /// The byte was evicted or given up. The stream goes on at `next`, where a byte may or may not be stored already.
    Missing {
        /// The lowest offset above that was not lost.
        next: u64,
    },
}

/// What only a side with loss or reordering needs.
#[derive(Debug, Default)]
struct Disorder {
    /// Accepted bytes above the tail.
    ahead: Ranges,
    /// Holes given up, all below the tail. The newest [`MAX_RANGES`] of them.
    skipped: Ranges,
    /// The bytes of `ahead`, where kept.
    loose: Loose,
    /// Where the stream ends, if a FIN came before everything in front of it.
    fin: Option<u64>,
}

static NO_RANGES: Ranges = Ranges::new();

/// So many bytes of a stream need no memory beside this object.
const SHORT: usize = 32;
/// In `Reassembly::short_len`: the bytes are in the store.
const LONG: u8 = u8::MAX;

/// The receive-side stream of one monitored endpoint.
///
/// All that a few short messages in order write lies in the first cache line, if the object begins with one.
#[derive(Debug)]
#[repr(C)]
pub struct Reassembly {
    /// Nothing below is retained. Above the tail only after [`Reassembly::resize`] switched a buffer on again.
    head: u64,
    /// What an unbroken stream has not.
    disorder: One<Disorder>,
    /// Offsets between the head and the end of what is stored, at most.
    capacity: u32,
    /// The tail before the latest segment that could move it, truncated.
    pile: u32,
    /// The tail when the owner last told its readers, truncated.
    told: u32,
    overlap: Overlap,
    /// Bytes are kept, not only ranges.
    buffered: bool,
    /// Whether a segment was ever taken while bytes were kept.
    was_used: bool,
    /// How many bytes `short` holds, which then are all of `head..tail`, in order; or [`LONG`].
    short_len: u8,
    short: [u8; SHORT],
    /// The retained bytes of `head..tail`, without the skipped holes, unless `short` has them.
    store: ByteStore,
}

/// A buffer size as it is stored: at least one byte, at most what a C `int` holds.
fn clamped(capacity: usize) -> u32 {
    capacity.clamp(1, i32::MAX as usize) as u32
}

/// The part of a segment that can be accepted.
struct Fit {
    end: u64,
    consumed: usize,
    refused: usize,
}

impl Reassembly {
    /// A side whose stream was in order, and not kept, up to `tail`. `capacity` is the buffer's size in bytes; 0: keep no
    /// bytes, only ranges.
    pub fn new(tail: u64, capacity: usize) -> Self {
        Reassembly {
            head: tail,
            disorder: One::none(),
            capacity: clamped(capacity),
            pile: tail as u32,
            told: tail as u32,
            overlap: Overlap::First,
            buffered: capacity > 0,
            was_used: false,
            short_len: if capacity > 0 { 0 } else { LONG },
            short: [0; SHORT],
            store: ByteStore::new(),
        }
    }

    // ---- A few bytes ----------------------------------------------------------------------------------------

    /// The bytes of `head..tail`, while they are few.
    #[inline]
    fn short(&self) -> Option<&[u8]> {
        self.short.get(..self.short_len as usize)
    }

    /// Stores the next bytes of a stream for which [`Reassembly::plan_plain`] says yes, if they and all others are few and all of them
    /// stay; `false`: they are not, and nothing was done.
    #[inline]
    pub fn take_short(&mut self, tail: u64, bytes: &[u8]) -> bool {
        let len = self.short_len as usize;
        let all = len + bytes.len();
        if all > SHORT || all > self.capacity as usize {
            return false;
        }
        self.short[len..all].copy_from_slice(bytes);
        self.short_len = all as u8;
        self.pile = tail as u32;
        true
    }

    /// Moves few bytes to where there may be many.
    fn lengthen(&mut self) -> Result<(), OutOfMemory> {
        if let Some(short) = self.short.get(..self.short_len as usize) {
            if !short.is_empty() {
                self.store.push(short)?;
            }
            self.short_len = LONG;
        }
        Ok(())
    }

    // ---- Retransmissions, the FIN, options ------------------------------------------------------------------

    /// Whether payload `start..end` overlaps bytes accepted before: below the tail, unless in a hole given up, or in an
    /// out-of-order range.
    pub fn retransmits(&self, tail: u64, start: u64, end: u64) -> bool {
        if start >= end {
            return false;
        }
        let Some(d) = self.disorder.get() else { return start < tail };
        d.skipped.gaps(start, end.min(tail)).next().is_some() || d.ahead.overlaps(start, end)
    }

    /// Remembers that the stream ends at `offset`, to take effect when the tail gets there. The first such offset stays.
    pub fn remember_fin(&mut self, offset: u64) -> Result<(), OutOfMemory> {
        self.lengthen()?;
        self.disorder.get_or_make()?.fin.get_or_insert(offset);
        Ok(())
    }

    /// The remembered end of the stream.
    pub fn fin(&self) -> Option<u64> {
        self.disorder.get().and_then(|d| d.fin)
    }

    /// Whether a remembered FIN is reached by `tail`; it is forgotten then.
    pub fn take_fin(&mut self, tail: u64) -> bool {
        let Some(d) = self.disorder.get_mut() else { return false };
        let reached = d.fin.is_some_and(|fin| fin <= tail);
        if reached {
            d.fin = None;
            self.tidy();
        }
        reached
    }

    /// The readers are told of everything up to the in-order tail.
    #[inline]
    pub fn mark_told(&mut self, tail: u64) {
        self.told = tail as u32;
    }

    /// Whether evicting what lies below `to` would take bytes that readers were not told of. Less than 4 GB are ever untold.
    #[inline]
    pub fn is_untold(&self, tail: u64, to: u64) -> bool {
        let untold = (tail as u32).wrapping_sub(self.told);
        to > tail.saturating_sub(untold.into())
    }

    /// A segment was taken while bytes are kept.
    #[inline]
    pub fn mark_used(&mut self) {
        // Written once, for the same reason as a side's flags.
        if !self.was_used {
            self.was_used = true;
        }
    }

    /// Whether a segment was ever taken while bytes were kept.
    pub fn was_used(&self) -> bool {
        self.was_used
    }

    /// The overlap policy.
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// Sets the overlap policy for segments to come.
    pub fn set_overlap(&mut self, overlap: Overlap) {
        self.overlap = overlap;
    }

    /// Whether bytes are kept.
    #[inline]
    pub fn is_buffered(&self) -> bool {
        self.buffered
    }

    /// The buffer's size in bytes (the last one, while no bytes are kept).
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    // ---- Accepting ------------------------------------------------------------------------------------------

    /// Whether this is the common case: the next bytes of a stream without holes, no more of them than the buffer holds. The
    /// store then is exactly `head..tail`.
    #[inline]
    fn is_plain(&self, tail: u64, off: u64, len: usize) -> bool {
        off == tail
            && self.disorder.is_none()
            && self.buffered
            && self.head <= tail
            && (1..=self.capacity as usize).contains(&len)
            && tail <= u64::MAX - len as u64
    }

    /// Fetches in advance what storing the next `more` bytes touches beside this object, which should have been fetched.
    #[inline]
    pub fn prefetch(&self, more: usize) {
        if self.short_len == LONG {
            self.store.prefetch(more);
        }
    }

    /// Whether nothing is out of order, no hole was given up and no FIN is waited for.
    #[inline]
    pub fn is_unbroken(&self) -> bool {
        self.disorder.is_none()
    }

    /// In the common case, that the next bytes of a stream without holes fit into the buffer: the offset below which
    /// `len` of them will evict bytes, as [`Plan::evict_to`]. Then [`Reassembly::take_plain`] may follow.
    #[inline]
    pub fn plan_plain(&self, tail: u64, len: usize) -> Option<u64> {
        self.is_plain(tail, tail, len).then(|| self.head_for(tail, tail, tail + len as u64))
    }

    /// Stores the next bytes of a stream for which [`Reassembly::plan_plain`] says yes: all of them. After an error nothing
    /// has changed.
    #[inline]
    pub fn take_plain(
        &mut self,
        tail: u64,
        bytes: &[u8],
        pool: Option<&mut Pool>,
    ) -> Result<(), OutOfMemory> {
        if self.short_len != LONG {
            if self.take_short(tail, bytes) {
                return Ok(());
            }
            self.lengthen()?;
        }
        self.store.slide(bytes, self.capacity as usize, pool)?;
        self.pile = tail as u32;
        self.head = self.head_for(tail, tail, tail + bytes.len() as u64);
        Ok(())
    }

    /// What of the segment `off..off + len` can be accepted by one call.
    fn fit(&self, tail: u64, off: u64, len: usize) -> Fit {
        let end = off.saturating_add(len as u64);
        let limit = tail.saturating_add(u64::from(self.capacity));
        if end <= limit && off <= tail {
            return Fit { end, consumed: len, refused: 0 };
        }
        if off <= tail {
            return Fit { end: limit, consumed: (limit - off) as usize, refused: 0 };
        }
        let end = end.min(limit).max(off);
        if !self.ahead().has_room(off, end) {
            return Fit { end: off, consumed: len, refused: len };
        }
        Fit { end, consumed: len, refused: len - (end - off) as usize }
    }

    /// The head after the offsets below `end` were stored.
    fn head_for(&self, tail: u64, off: u64, end: u64) -> u64 {
        // Bytes below the tail need no room, and refused bytes none either.
        if end <= tail || end <= off {
            return self.head;
        }
        self.head.max(end - u64::from(self.capacity).min(end))
    }

    /// What [`Reassembly::accept`] would do with `len` captured bytes at offset `off`, without doing it. For a side that
    /// keeps no bytes only `tail` and `refused` can differ from "nothing".
    pub fn plan(&self, tail: u64, off: u64, len: usize) -> Plan {
        if self.is_plain(tail, off, len) {
            let end = tail + len as u64;
            let evict_to = self.head_for(tail, off, end);
            return Plan { consumed: len, evict_to, refused: 0, tail: end };
        }
        if !self.buffered {
            let end = off.saturating_add(len as u64);
            let refused = if off > tail && !self.ahead().has_room(off, end) { len } else { 0 };
            let new_tail = if off <= tail { self.ahead().joined(tail.max(end)) } else { tail };
            return Plan { consumed: len, evict_to: tail, refused, tail: new_tail };
        }
        let fit = self.fit(tail, off, len);
        let evict_to = self.head_for(tail, off, fit.end);
        let tail = if off <= tail && fit.end > tail { self.ahead().joined(fit.end) } else { tail };
        Plan { consumed: fit.consumed, evict_to, refused: fit.refused, tail }
    }

    /// Accepts the payload of a segment at offset `off`: `bytes` is what was captured of its `wire_len` bytes.
    ///
    /// Bytes that were not captured are a hole where bytes are kept; where they are not, all of `wire_len` counts as
    /// accepted. An in-order segment that reaches further than the buffer is taken in pieces: see
    /// [`Accepted::consumed`]. After an error the tail has not moved and no byte was added.
    pub fn accept(
        &mut self,
        tail: u64,
        off: u64,
        bytes: &[u8],
        wire_len: usize,
    ) -> Result<Accepted, OutOfMemory> {
        if self.is_plain(tail, off, bytes.len()) {
            let len = bytes.len();
            self.take_plain(tail, bytes, None)?;
            return Ok(Accepted { tail: tail + len as u64, consumed: len, stored: len, refused: 0 });
        }
        if !self.buffered {
            return self.note(tail, off, wire_len.max(bytes.len()));
        }
        self.lengthen()?;
        let fit = self.fit(tail, off, bytes.len());
        let kept = (fit.end - off) as usize;
        let mut accepted = Accepted { tail, consumed: fit.consumed, stored: 0, refused: fit.refused };
        if kept == 0 {
            return Ok(accepted);
        }
        let bytes = &bytes[..kept];
        if fit.end >= tail {
            self.pile = tail as u32;
            let head = self.head_for(tail, off, fit.end);
            self.evict(head, tail);
        }
        if self.overlap == Overlap::Last {
            self.overwrite(tail, off, bytes);
        }
        if fit.end <= tail {
            return Ok(accepted);
        }
        if off > tail {
            accepted.stored = self.store_ahead(off, bytes)?;
        } else if self.ahead().is_empty() {
            let from = tail.max(self.head);
            if from < fit.end {
                self.store.push(&bytes[(from - off) as usize..])?;
            }
            accepted.stored = (fit.end - tail) as usize;
            accepted.tail = fit.end;
        } else {
            accepted.stored = self.ahead().gaps(tail, fit.end).map(|gap| gap.len() as usize).sum();
            accepted.tail = self.store_in_order(tail, off, bytes)?;
        }
        self.tidy();
        Ok(accepted)
    }

    /// Accepts a segment's range alone.
    fn note(&mut self, tail: u64, off: u64, len: usize) -> Result<Accepted, OutOfMemory> {
        let end = off.saturating_add(len as u64);
        let mut accepted = Accepted { tail, consumed: len, stored: 0, refused: 0 };
        if end <= tail || off == end {
            return Ok(accepted);
        }
        let fresh = self.ahead().gaps(off.max(tail), end).map(|gap| gap.len() as usize).sum();
        if off > tail {
            if self.disorder.get_or_make()?.ahead.insert(off, end)? {
                accepted.stored = fresh;
            } else {
                accepted.refused = len;
            }
        } else {
            self.pile = tail as u32;
            accepted.stored = fresh;
            accepted.tail = match self.disorder.get_mut() {
                Some(d) => d.ahead.absorb(end),
                None => end,
            };
            self.tidy();
        }
        Ok(accepted)
    }

    /// Stores bytes above the tail where there are none yet; how many.
    fn store_ahead(&mut self, off: u64, bytes: &[u8]) -> Result<usize, OutOfMemory> {
        let head = self.head;
        let end = off + bytes.len() as u64;
        let d = self.disorder.get_or_make()?;
        d.ahead.try_reserve(1)?;
        let fresh = d.ahead.gaps(off, end).map(|gap| gap.len() as usize).sum();
        d.loose.fill(off, bytes, d.ahead.gaps(off.max(head), end))?;
        d.ahead.insert(off, end)?;
        Ok(fresh)
    }

    /// Stores the new bytes of a segment that starts at or below the tail and joins the ranges it reaches; the new tail.
    fn store_in_order(&mut self, tail: u64, off: u64, bytes: &[u8]) -> Result<u64, OutOfMemory> {
        let Reassembly { store, head, disorder, .. } = self;
        let Some(d) = disorder.get_mut() else { return Ok(tail) };
        let head = *head;
        let end = off + bytes.len() as u64;
        let new_tail = d.ahead.joined(end);
        store.try_reserve(new_tail.saturating_sub(tail.max(head)) as usize)?;
        for gap in d.ahead.gaps(tail.max(head), end) {
            d.loose.take_below(gap.start, |part| store.push(part))?;
            store.push(&bytes[(gap.start - off) as usize..(gap.end - off) as usize])?;
        }
        d.loose.take_below(new_tail, |part| store.push(part))?;
        d.ahead.absorb(new_tail);
        Ok(new_tail)
    }

    /// Replaces what is retained of the offsets from `off` on by `bytes`.
    fn overwrite(&mut self, tail: u64, off: u64, bytes: &[u8]) {
        let end = off + bytes.len() as u64;
        let from = off.max(self.head);
        let mut at = self.position(from);
        let Reassembly { store, disorder, .. } = self;
        let skipped = disorder.get().map_or(&NO_RANGES, |d| &d.skipped);
        for part in skipped.gaps(from, end.min(tail)) {
            store.overwrite(at, &bytes[(part.start - off) as usize..(part.end - off) as usize]);
            at += part.len() as usize;
        }
        if let Some(d) = disorder.get_mut() {
            d.loose.overwrite(off, bytes);
        }
    }

    /// The position in the store of `offset`, which lies in `head..=tail`.
    fn position(&self, offset: u64) -> usize {
        (offset.saturating_sub(self.head) - self.skipped().covered_len(self.head, offset)) as usize
    }

    /// Moves the head up to `to`.
    fn evict(&mut self, to: u64, tail: u64) {
        if to > self.head {
            self.store.pop_front(self.position(to.min(tail)));
            self.head = to;
        }
    }

    /// Gives back memory that is no longer needed.
    fn tidy(&mut self) {
        if let Some(d) = self.disorder.get_mut() {
            if d.ahead.is_empty() && d.skipped.is_empty() && d.fin.is_none() {
                self.disorder.free();
            } else if d.ahead.is_empty() {
                d.ahead = Ranges::new();
            }
            self.store.trim();
        }
    }

    fn ahead(&self) -> &Ranges {
        self.disorder.get().map_or(&NO_RANGES, |d| &d.ahead)
    }

    fn skipped(&self) -> &Ranges {
        self.disorder.get().map_or(&NO_RANGES, |d| &d.skipped)
    }

    /// The lowest retained offset; the tail where no bytes are kept. Exceeds the tail only while a buffer that was switched on
    /// again waits for the bytes it did not keep.
    pub fn head(&self, tail: u64) -> u64 {
        if self.buffered { self.head } else { tail }
    }

    /// A segment that reaches the tail is about to be stored: what is in order now may be evicted from here on.
    pub fn mark_read(&mut self, tail: u64) {
        self.pile = tail as u32;
    }

    /// The in-order tail before the latest segment that reached it (`tcpbi_last_byte_read`), truncated as that is.
    pub fn pile(&self) -> u32 {
        self.pile
    }

    /// The end of the last fragment (`tcpbi_last_byte_received`), or the tail if that is higher.
    pub fn end(&self, tail: u64) -> u64 {
        self.ahead().last().map_or(tail, |r| r.end.max(tail))
    }

    /// Whether bytes were accepted above the tail.
    pub fn has_hole(&self) -> bool {
        !self.ahead().is_empty()
    }

    // ---- The buffer -----------------------------------------------------------------------------------------

    /// Resizes the buffer to `capacity` bytes. A smaller one first evicts the oldest in-order bytes, then drops (and
    /// forgets having accepted) the out-of-order bytes that do not fit. 0 is [`Reassembly::disable`]. A side that keeps no
    /// bytes begins to: with the first byte above everything accepted so far.
    pub fn resize(&mut self, tail: u64, capacity: usize) {
        if capacity == 0 {
            return self.disable();
        }
        self.capacity = clamped(capacity);
        if !self.buffered {
            self.buffered = true;
            self.head = self.end(tail);
            self.pile = tail as u32;
            // What was not kept needs no telling.
            self.told = tail as u32;
            return;
        }
        if let Some(short) = self.short.get_mut(..self.short_len as usize) {
            let gone = short.len().saturating_sub(self.capacity as usize);
            short.copy_within(gone.., 0);
            self.short_len -= gone as u8;
            self.head += gone as u64;
            return;
        }
        if let Some(d) = self.disorder.get_mut() {
            let limit = tail.saturating_add(u64::from(self.capacity));
            d.ahead.remove_from(limit);
            d.loose.remove_from(limit);
        }
        let end = self.end(tail);
        self.evict(end.saturating_sub(u64::from(self.capacity)), tail);
        self.tidy();
        self.store.trim();
    }

    /// Frees the bytes and keeps none from now on. Ranges, holes and a remembered FIN stay.
    pub fn disable(&mut self) {
        self.buffered = false;
        self.short_len = LONG;
        self.store.free();
        if let Some(d) = self.disorder.get_mut() {
            d.loose.free();
        }
    }

    /// Frees everything; memory that others can use goes to `pool`.
    pub fn retire(&mut self, pool: &mut Pool) {
        self.store.retire(pool);
        self.disorder.free();
    }

    /// Whether this object says nothing that the tail alone does not: with buffers off and nothing out of order, skipped or
    /// remembered it may be dropped.
    pub fn is_idle(&self) -> bool {
        !self.buffered && self.disorder.is_none()
    }

    /// Payload bytes held, in order and out of order.
    pub fn held_bytes(&self) -> usize {
        self.short().map_or(0, <[u8]>::len)
            + self.store.len()
            + self.disorder.get().map_or(0, |d| d.loose.held_bytes())
    }

    /// Bytes of memory allocated behind this object.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        let disorder = self.disorder.get().map_or(0, |d| {
            size_of::<Disorder>()
                + d.ahead.allocated_bytes()
                + d.skipped.allocated_bytes()
                + d.loose.allocated_bytes()
        });
        self.store.allocated_bytes() + disorder
    }
}

// One side must not cost more than its share of the 128 bytes that a side with bytes may take.
const _: () = assert!(size_of::<Reassembly>() == 112 && std::mem::offset_of!(Reassembly, store) == 64);
const _: () = assert!(MAX_RANGES == 32);

#[cfg(test)]
mod tests;
