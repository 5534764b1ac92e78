//! Reading what is retained, wherever it lies.

use super::{Gaps, Range, Read, Reassembly};

impl Reassembly {
    /// Reads from `off` on, up to the end of the fragment that holds it.
    #[inline]
    pub fn read(&self, tail: u64, off: u64, out: &mut [u8]) -> Read {
        let head = self.head(tail);
        if off >= head && off < tail && self.disorder.is_none() {
            let at = (off - head) as usize;
            return Read::Bytes(match self.short() {
                Some(short) => {
                    let part = &short[at.min(short.len())..];
                    let count = part.len().min(out.len());
                    out[..count].copy_from_slice(&part[..count]);
                    count
                }
                None => self.store.read(at, out),
            });
        }
        self.read_broken(tail, head, off, out)
    }

    /// As [`Reassembly::read`], where the stream is not in order.
    #[inline(never)]
    fn read_broken(&self, tail: u64, head: u64, off: u64, out: &mut [u8]) -> Read {
        if off >= head && off < tail {
            let skipped = self.skipped();
            return match skipped.gaps(off, tail).next() {
                Some(run) if run.start == off => {
                    let count = out.len().min(usize::try_from(run.len()).unwrap_or(usize::MAX));
                    Read::Bytes(self.store.read(self.position(off), &mut out[..count]))
                }
                Some(run) => Read::Missing { next: run.start },
                None => Read::Missing { next: tail },
            };
        }
        if off < head {
            return Read::Missing { next: self.skipped().find(head).map_or(head, |hole| hole.end) };
        }
        match self.disorder.get() {
            Some(d) if self.buffered && d.ahead.find(off).is_some() => Read::Bytes(d.loose.read(off, out)),
            _ => Read::Nothing,
        }
    }

    /// The readable fragments, ascending: the in-order run, in parts where holes were given up, then each out-of-order range.
    pub fn fragments(&self, tail: u64) -> Fragments<'_> {
        let head = self.head(tail);
        let ahead = if self.buffered { self.ahead().as_slice() } else { &[] };
        Fragments { in_order: self.skipped().gaps(head, tail), ahead: ahead.iter(), head }
    }
}

/// The readable fragments of a side; see [`Reassembly::fragments`].
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    in_order: Gaps<'a>,
    ahead: std::slice::Iter<'a, Range>,
    head: u64,
}

impl Iterator for Fragments<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        if let Some(run) = self.in_order.next() {
            return Some(run);
        }
        let head = self.head;
        // Below the head there are ranges only after a buffer was switched on again: accepted, but not kept.
        self.ahead.by_ref().find(|r| r.end > head).map(|r| Range { start: r.start.max(head), end: r.end })
    }
}
