//! A short sorted list of disjoint ranges of stream offsets.
//!
//! Used twice by one side's reassembly: for the bytes accepted out of order and for the holes that were given up.
//! Ranges that touch are merged, and the list has a fixed limit, so that no sender can make it grow.

use super::store::OutOfMemory;

/// The most ranges one list holds.
pub const MAX_RANGES: usize = 32;

/// The stream offsets `start..end`; never empty inside a [`Ranges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First offset.
    pub start: u64,
    /// One past the last offset.
    pub end: u64,
}

impl Range {
    /// Number of offsets covered.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether nothing is covered (never, for a range out of a [`Ranges`]).
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

/// Sorted, disjoint, non-adjacent ranges, at most [`MAX_RANGES`]. Owns no memory while empty from the start.
#[derive(Debug, Default)]
pub struct Ranges {
    list: Vec<Range>,
}

impl Ranges {
    /// An empty list.
    pub const fn new() -> Self {
        Ranges { list: Vec::new() }
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The ranges, ascending.
    pub fn as_slice(&self) -> &[Range] {
        &self.list
    }

    /// The lowest range.
    pub fn first(&self) -> Option<Range> {
        self.list.first().copied()
    }

    /// The highest range.
    pub fn last(&self) -> Option<Range> {
        self.list.last().copied()
    }

    /// Bytes of memory behind the list.
    pub fn allocated_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Range>()
    }

    /// Index of the first range that ends after `offset`.
    fn after(&self, offset: u64) -> usize {
        self.list.partition_point(|r| r.end <= offset)
    }

    /// The indices of the ranges that [`Ranges::insert`] would merge `start..end` with (those it overlaps or touches).
    fn merged_by(&self, start: u64, end: u64) -> (usize, usize) {
        let first = self.list.partition_point(|r| r.end < start);
        let last = self.list.partition_point(|r| r.start <= end);
        (first, last)
    }

    /// Whether `start..end` can be inserted within [`MAX_RANGES`].
    pub fn has_room(&self, start: u64, end: u64) -> bool {
        let (first, last) = self.merged_by(start, end);
        self.list.len() < MAX_RANGES || first < last || start >= end
    }

    /// Makes room in memory for `more` ranges, within [`MAX_RANGES`].
    pub fn try_reserve(&mut self, more: usize) -> Result<(), OutOfMemory> {
        let wanted = (self.list.len() + more).min(MAX_RANGES);
        if wanted > self.list.capacity() {
            self.list.try_reserve_exact(wanted.next_power_of_two().min(MAX_RANGES) - self.list.len())?;
        }
        Ok(())
    }

    /// Adds `start..end`, merging it with what it overlaps or touches. `Ok(false)`: one range too many, nothing changed.
    pub fn insert(&mut self, start: u64, end: u64) -> Result<bool, OutOfMemory> {
        if start >= end {
            return Ok(true);
        }
        let (first, last) = self.merged_by(start, end);
        if first == last {
            if self.list.len() >= MAX_RANGES {
                return Ok(false);
            }
            self.try_reserve(1)?;
            self.list.insert(first, Range { start, end });
        } else {
            let merged =
                Range { start: start.min(self.list[first].start), end: end.max(self.list[last - 1].end) };
            self.list[first] = merged;
            self.list.drain(first + 1..last);
        }
        Ok(true)
    }

    /// The range that holds `offset`.
    pub fn find(&self, offset: u64) -> Option<Range> {
        self.list.get(self.after(offset)).copied().filter(|r| r.start <= offset)
    }

    /// Whether any offset of `start..end` is covered.
    pub fn overlaps(&self, start: u64, end: u64) -> bool {
        start < end && self.list.get(self.after(start)).is_some_and(|r| r.start < end)
    }

    /// The covered parts of `start..end`, ascending.
    pub fn covered(&self, start: u64, end: u64) -> impl Iterator<Item = Range> + use<'_> {
        self.list[self.after(start)..]
            .iter()
            .take_while(move |r| start < end && r.start < end)
            .map(move |r| Range { start: r.start.max(start), end: r.end.min(end) })
    }

    /// How many offsets of `start..end` are covered.
    pub fn covered_len(&self, start: u64, end: u64) -> u64 {
        if self.list.is_empty() { 0 } else { self.covered(start, end).map(Range::len).sum() }
    }

    /// The parts of `start..end` that are not covered, ascending.
    pub fn gaps(&self, start: u64, end: u64) -> Gaps<'_> {
        Gaps { rest: &self.list[self.after(start)..], at: start, end }
    }

    /// Where a run that reaches `tail` ends once the ranges it reaches are joined to it (`tail` if none is).
    pub fn joined(&self, tail: u64) -> u64 {
        self.list.iter().take_while(|r| r.start <= tail).last().map_or(tail, |r| r.end.max(tail))
    }

    /// Joins the ranges that `tail` reaches to it and removes them: the in-order tail afterwards.
    pub fn absorb(&mut self, mut tail: u64) -> u64 {
        let mut reached = 0;
        while let Some(r) = self.list.get(reached).filter(|r| r.start <= tail) {
            tail = tail.max(r.end);
            reached += 1;
        }
        self.list.drain(..reached);
        tail
    }

    /// Removes and returns the lowest range.
    pub fn pop_first(&mut self) -> Option<Range> {
        if self.list.is_empty() { None } else { Some(self.list.remove(0)) }
    }

    /// Forgets every offset below `offset`.
    pub fn remove_below(&mut self, offset: u64) {
        let gone = self.after(offset);
        self.list.drain(..gone);
        if let Some(r) = self.list.first_mut() {
            r.start = r.start.max(offset);
        }
    }

    /// Forgets `offset` and every offset above it.
    pub fn remove_from(&mut self, offset: u64) {
        self.list.truncate(self.list.partition_point(|r| r.start < offset));
        if let Some(r) = self.list.last_mut() {
            r.end = r.end.min(offset);
        }
    }
}

/// The uncovered parts of an interval; see [`Ranges::gaps`].
#[derive(Clone, Debug)]
pub struct Gaps<'a> {
    rest: &'a [Range],
    at: u64,
    end: u64,
}

impl Iterator for Gaps<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        while self.at < self.end {
            let start = self.at;
            match self.rest.split_first() {
                Some((r, rest)) => {
                    self.rest = rest;
                    self.at = r.end;
                    if start < r.start {
                        return Some(Range { start, end: r.start.min(self.end) });
                    }
                }
                None => {
                    self.at = self.end;
                    return Some(Range { start, end: self.end });
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn list(parts: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::new();
        for &(start, end) in parts {
            assert!(ranges.insert(start, end).unwrap());
        }
        ranges
    }

    fn pairs(ranges: impl IntoIterator<Item = Range>) -> Vec<(u64, u64)> {
        ranges.into_iter().map(|r| (r.start, r.end)).collect()
    }

    fn runs(set: &BTreeSet<u64>) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for &x in set {
            match runs.last_mut() {
                Some(run) if run.1 == x => run.1 = x + 1,
                _ => runs.push((x, x + 1)),
            }
        }
        runs
    }

    #[test]
    fn touching_ranges_merge() {
        let ranges = list(&[(20, 30), (0, 10), (10, 20)]);
        assert_eq!(pairs(ranges.as_slice().iter().copied()), [(0, 30)]);
    }

    #[test]
    fn a_thirty_third_range_is_refused_but_a_bridge_is_not() {
        let mut ranges = Ranges::new();
        for i in 0..MAX_RANGES as u64 {
            assert!(ranges.insert(i * 10, i * 10 + 5).unwrap());
        }
        assert!(!ranges.has_room(1000, 1001));
        assert!(!ranges.insert(1000, 1001).unwrap());
        assert_eq!(ranges.len(), MAX_RANGES);
        assert!(ranges.has_room(5, 7));
        assert!(ranges.insert(5, 10).unwrap());
        assert_eq!(ranges.len(), MAX_RANGES - 1);
        assert!(ranges.insert(1000, 1001).unwrap());
        assert!(ranges.allocated_bytes() <= MAX_RANGES * size_of::<Range>());
    }

    #[test]
    fn an_empty_range_changes_nothing() {
        let mut ranges = list(&[(10, 20)]);
        assert!(ranges.insert(5, 5).unwrap());
        assert!(ranges.insert(25, 24).unwrap());
        assert_eq!(pairs(ranges.as_slice().iter().copied()), [(10, 20)]);
        assert!(!ranges.overlaps(12, 12));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(
            base in prop::sample::select(vec![0u64, (1 << 32) - 60, 1 << 40]),
            steps in prop::collection::vec((0u8..6, 0u64..160, 0u64..12), 1..80),
        ) {
            let mut ranges = Ranges::new();
            let mut set = BTreeSet::new();
            for (op, at, len) in steps {
                let (start, end) = (base + at, base + at + len);
                match op {
                    0 if at < 20 => {
                        ranges.remove_below(start);
                        set.retain(|&x| x >= start);
                    }
                    1 if at > 140 => {
                        ranges.remove_from(start);
                        set.retain(|&x| x < start);
                    }
                    2 if at < 30 => {
                        let joined = ranges.joined(start);
                        let tail = ranges.absorb(start);
                        prop_assert_eq!(joined, tail);
                        let mut expected = start;
                        while let Some(run) = runs(&set).first().copied().filter(|run| run.0 <= expected) {
                            expected = expected.max(run.1);
                            set.retain(|&x| x >= run.1);
                        }
                        prop_assert_eq!(tail, expected);
                    }
                    _ => {
                        let mut larger = set.clone();
                        larger.extend(start..end);
                        let fits = runs(&larger).len() <= MAX_RANGES;
                        prop_assert_eq!(ranges.has_room(start, end), fits);
                        prop_assert_eq!(ranges.insert(start, end).unwrap(), fits);
                        if fits {
                            set = larger;
                        }
                    }
                }
                prop_assert_eq!(pairs(ranges.as_slice().iter().copied()), runs(&set));
                let inside: BTreeSet<u64> = (start..end).filter(|x| set.contains(x)).collect();
                let outside: BTreeSet<u64> = (start..end).filter(|x| !set.contains(x)).collect();
                prop_assert_eq!(ranges.overlaps(start, end), !inside.is_empty());
                prop_assert_eq!(pairs(ranges.covered(start, end)), runs(&inside));
                prop_assert_eq!(pairs(ranges.gaps(start, end)), runs(&outside));
                prop_assert_eq!(ranges.covered_len(start, end), inside.len() as u64);
                prop_assert_eq!(ranges.find(start).is_some(), set.contains(&start));
            }
        }
    }
}
