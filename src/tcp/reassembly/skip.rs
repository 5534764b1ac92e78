//! Giving up holes: the tail moves on without their bytes.

use super::{OutOfMemory, Reassembly, Skip};

impl Reassembly {
    /// Gives up every hole between the tail and `to`, and joins the out-of-order ranges reached. What precedes a hole stays
    /// readable until it is evicted; the bytes of a hole are discarded if they still come. At most [`MAX_RANGES`] holes are
    /// remembered: to note one more, the oldest is forgotten and, if it is still retained, what precedes it evicted.
    ///
    /// After an error nothing has changed.
    pub fn skip_to(&mut self, tail: u64, to: u64) -> Result<Skip, OutOfMemory> {
        let mut skip = Skip { missing: 0, tail };
        if to <= tail {
            return Ok(skip);
        }
        self.lengthen()?;
        let buffered = self.buffered;
        let d = self.disorder.get_or_make()?;
        d.skipped.try_reserve(d.ahead.len() + 1)?;
        let joined = d.ahead.joined(to);
        if buffered {
            let merged = d.loose.held_below(joined);
            self.store.try_reserve(merged)?;
        }
        while skip.tail < joined {
            let (next, end) = match self.ahead().first() {
                Some(r) if r.start <= to.max(skip.tail) => (r.start, r.end),
                _ => (to, to),
            };
            if skip.tail < next {
                skip.missing += next - skip.tail;
                self.give_up(skip.tail, next)?;
            }
            let Reassembly { store, disorder, .. } = self;
            if let Some(d) = disorder.get_mut() {
                d.loose.take_below(end, |part| store.push(part))?;
                d.ahead.absorb(end);
            }
            skip.tail = end;
        }
        self.tidy();
        Ok(skip)
    }

    /// Notes the hole `start..end`, which begins at the tail.
    fn give_up(&mut self, start: u64, end: u64) -> Result<(), OutOfMemory> {
        if !self.skipped().has_room(start, end)
            && let Some(oldest) = self.skipped().first()
        {
            self.evict(oldest.end, start);
            self.disorder.get_or_make()?.skipped.pop_first();
        }
        self.disorder.get_or_make()?.skipped.insert(start, end)?;
        Ok(())
    }

    /// Releases what precedes the hole at `hole` and the hole itself: the head moves behind it. `tail` is the in-order tail.
    pub fn release_hole(&mut self, hole: u64, tail: u64) {
        if let Some(gap) = self.skipped().find(hole) {
            self.evict(gap.end.min(tail), tail);
            self.tidy();
        }
    }
}
