//! The cases of the behaviour contract that concern one side's stream, by their names, and a comparison with a model that
//! keeps one entry per byte.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One side, driven as the monitor drives it: plan, deliver, accept, until the segment is dealt with.
struct Side {
    r: Reassembly,
    tail: u64,
    /// Offset of a reader that reads only when the test says so.
    peeked: u64,
    /// Segments that would evict bytes not yet read, or of which bytes were refused.
    errors: usize,
}

impl Side {
    fn new(capacity: usize) -> Self {
        Side::from(0, capacity)
    }

    fn from(tail: u64, capacity: usize) -> Self {
        Side { r: Reassembly::new(tail, capacity), tail, peeked: tail, errors: 0 }
    }

    /// New in-order bytes.
    fn segment(&mut self, off: u64, mut bytes: &[u8]) -> u64 {
        let (before, mut off) = (self.tail, off);
        loop {
            let plan = self.r.plan(self.tail, off, bytes.len());
            if plan.refused > 0 || (self.peeked < plan.evict_to && self.r.is_buffered()) {
                self.errors += 1;
            }
            let done = self.r.accept(self.tail, off, bytes, bytes.len()).unwrap();
            assert_eq!((plan.consumed, plan.refused, plan.tail), (done.consumed, done.refused, done.tail));
            if self.r.is_buffered() {
                assert_eq!(self.r.head(done.tail), plan.evict_to);
            }
            self.tail = done.tail;
            bytes = &bytes[done.consumed..];
            off = off.saturating_add(done.consumed as u64);
            if bytes.is_empty() {
                return self.tail - before;
            }
            assert!(done.consumed > 0);
        }
    }

    fn fill(&mut self, off: u64, byte: u8, len: usize) -> u64 {
        self.segment(off, &vec![byte; len])
    }

    /// As `mtcp_peek`: the bytes, or how many are missing.
    fn peek(&mut self, len: usize) -> Result<Vec<u8>, u64> {
        let mut out = vec![0; len];
        match self.r.read(self.tail, self.peeked, &mut out) {
            Read::Bytes(n) => {
                self.peeked += n as u64;
                out.truncate(n);
                Ok(out)
            }
            Read::Nothing => Ok(Vec::new()),
            Read::Missing { next } => {
                let missing = next - self.peeked;
                self.peeked = next;
                Err(missing)
            }
        }
    }

    fn ppeek(&self, off: u64, len: usize) -> Option<Vec<u8>> {
        let mut out = vec![0; len];
        match self.r.read(self.tail, off, &mut out) {
            Read::Bytes(n) => {
                out.truncate(n);
                Some(out)
            }
            _ => None,
        }
    }

    fn fragments(&self) -> Vec<(u64, u64)> {
        self.r.fragments(self.tail).map(|f| (f.start, f.len())).collect()
    }

    fn retransmits(&self, off: u64, len: u64) -> bool {
        self.r.retransmits(self.tail, off, off + len)
    }
}

#[test]
fn c26_ten_bytes() {
    let mut s = Side::new(8192);
    assert!(!s.retransmits(0, 10));
    assert_eq!(s.segment(0, b"0123456789"), 10);
    assert_eq!(s.peek(100), Ok(b"0123456789".to_vec()));
    assert_eq!((s.r.pile(), s.r.end(s.tail)), (0, 10));
}

#[test]
fn c28_c29_reordering_and_repetition() {
    let mut s = Side::new(8192);
    assert_eq!(s.fill(20, b'c', 10), 0);
    assert!(s.r.has_hole());
    assert_eq!(s.fill(0, b'a', 10), 10);
    assert_eq!(s.fragments(), [(0, 10), (20, 10)]);
    assert_eq!(s.r.end(s.tail), 30);
    assert_eq!(s.fill(10, b'b', 10), 20);
    assert_eq!(s.fragments(), [(0, 30)]);
    assert!(!s.r.has_hole());
    assert_eq!(s.peek(100), Ok(b"aaaaaaaaaabbbbbbbbbbcccccccccc".to_vec()));
    assert!(s.retransmits(0, 10));
    assert_eq!(s.fill(0, b'x', 10), 0);
}

#[test]
fn c30_c31_partial_overlap() {
    let mut s = Side::new(8192);
    s.fill(0, b'a', 20);
    assert!(s.retransmits(5, 10));
    assert_eq!(s.fill(5, b'b', 10), 0);
    s.fill(20, b'a', 10);
    assert!(s.retransmits(25, 15));
    assert_eq!(s.fill(25, b'b', 15), 10);
    assert_eq!(s.peek(100), Ok([vec![b'a'; 30], vec![b'b'; 10]].concat()));
    assert!(!s.retransmits(40, 5));
    assert!(!s.retransmits(40, 0));
}

#[test]
fn c34_c35_repetition_of_evicted_and_retained_bytes() {
    let mut s = Side::new(8192);
    for i in 0..12 {
        s.fill(i * 1000, b'a', 1000);
    }
    assert_eq!(s.fragments(), [(3808, 8192)]);
    assert!(s.retransmits(0, 1000));
    assert!(s.retransmits(9000, 1000));
    assert_eq!(s.fill(0, b'b', 1000), 0);
    assert_eq!(s.fragments(), [(3808, 8192)]);
}

#[test]
fn c36_buffers_off_still_tells_retransmissions() {
    let mut s = Side::new(0);
    assert_eq!(s.fill(0, b'a', 10), 10);
    assert_eq!(s.fill(20, b'a', 10), 0);
    assert!(s.retransmits(0, 10));
    assert!(s.retransmits(25, 10));
    assert!(!s.retransmits(10, 10));
    assert_eq!(s.fragments(), []);
    assert_eq!(s.ppeek(0, 1), None);
    assert_eq!(s.r.held_bytes(), 0);
    assert_eq!(s.fill(10, b'a', 10), 20);
    assert!(s.r.is_idle());
    assert_eq!(s.r.allocated_bytes(), 0);
}

#[test]
fn c41_c42_a_reader_that_never_reads() {
    let mut s = Side::new(8192);
    for i in 0..8 {
        assert_eq!(s.fill(i * 1000, b'a' + i as u8, 1000), 1000);
    }
    assert_eq!(s.errors, 0);
    assert_eq!(s.fill(8000, b'i', 1000), 1000);
    assert_eq!(s.errors, 1);
    assert_eq!(s.fragments(), [(808, 8192)]);
    assert_eq!((s.r.pile(), s.tail, s.r.end(s.tail)), (8000, 9000, 9000));
    assert_eq!(s.peek(100), Err(808));
    assert_eq!(s.peek(100), Ok(vec![b'a'; 100]));
    assert_eq!(s.peeked, 908);
}

#[test]
fn c43_half_of_the_first_segment_read() {
    let mut s = Side::new(8192);
    s.fill(0, b'a', 1000);
    assert_eq!(s.peek(500).unwrap().len(), 500);
    for i in 1..9 {
        s.fill(i * 1000, b'a', 1000);
    }
    assert_eq!(s.errors, 1);
    assert_eq!(s.peek(100), Err(308));
}

#[test]
fn c44_a_reader_that_keeps_up() {
    let mut s = Side::new(8192);
    for i in 0..12u64 {
        s.fill(i * 1000, i as u8, 1000);
        assert_eq!(s.peek(2000), Ok(vec![i as u8; 1000]));
        assert_eq!(s.peek(2000), Ok(vec![]));
    }
    assert_eq!(s.errors, 0);
    assert_eq!(s.fragments(), [(3808, 8192)]);
}

#[test]
fn c45_the_plan_leaves_time_to_read() {
    let mut s = Side::new(8192);
    let mut errors = Vec::new();
    for i in 0..20u64 {
        if s.peeked < s.r.plan(s.tail, i * 1000, 1000).evict_to {
            errors.push(i);
            assert_eq!(s.peek(10_000).unwrap().len(), 8000);
        }
        s.fill(i * 1000, 0, 1000);
    }
    assert_eq!(errors, [8, 16]);
}

#[test]
fn c46_a_segment_larger_than_the_buffer() {
    let bytes: Vec<u8> = (0..2000u32).map(|i| (i % 251) as u8).collect();
    let mut s = Side::new(1024);
    let mut read = Vec::new();
    for (start, end) in [(0usize, 1400usize), (1400, 2000)] {
        let mut at = start;
        while at < end {
            let plan = s.r.plan(s.tail, at as u64, end - at);
            if plan.evict_to > s.peeked {
                read.extend(s.peek(4096).unwrap());
            }
            let done = s.r.accept(s.tail, at as u64, &bytes[at..end], end - at).unwrap();
            assert_eq!(done.refused, 0);
            s.tail = done.tail;
            at += done.consumed;
        }
        read.extend(s.peek(4096).unwrap());
    }
    assert_eq!(read, bytes);
    assert_eq!(s.fragments(), [(976, 1024)]);
    assert!(s.r.allocated_bytes() <= 1280);
}

#[test]
fn c47_a_lost_segment_and_the_skip_past_it() {
    let mut s = Side::new(8192);
    s.fill(0, b'a', 1000);
    assert_eq!(s.peek(1000).unwrap().len(), 1000);
    for i in 2..14 {
        assert_eq!(s.fill(i * 1000, b'b', 1000), 0);
    }
    // 2000..9192 fits: the segment that crosses the end is cut, the four behind it are refused.
    assert_eq!(s.errors, 5);
    assert_eq!(s.fragments(), [(2000, 7192)]);
    assert!(s.retransmits(9000, 1000) && !s.retransmits(9192, 5000));
    assert_eq!(s.peek(10_000), Ok(vec![]));
    s.tail = s.r.skip_to(s.tail, 14_000).unwrap().tail;
    assert_eq!(s.peek(10_000), Err(1000));
    assert_eq!(s.peek(10_000), Ok(vec![b'b'; 7192]));
    assert_eq!(s.peek(10_000), Err(4808));
    assert_eq!(s.fill(14_000, b'c', 1000), 1000);
    assert_eq!(s.peek(10_000), Ok(vec![b'c'; 1000]));
    assert_eq!(s.errors, 5);
}

#[test]
fn d5_what_precedes_a_hole_stays_readable() {
    let mut s = Side::new(8192);
    s.fill(0, b'a', 1000);
    s.fill(2000, b'b', 1000);
    s.fill(4000, b'c', 10);
    let skip = s.r.skip_to(s.tail, 5000).unwrap();
    assert_eq!(skip, Skip { missing: 1000 + 1000 + 990, tail: 5000 });
    s.tail = skip.tail;
    assert_eq!(s.fragments(), [(0, 1000), (2000, 1000), (4000, 10)]);
    assert_eq!(s.ppeek(1500, 1), None);
    assert_eq!(s.ppeek(2999, 5), Some(b"b".to_vec()));
    assert_eq!(s.peek(5000), Ok(vec![b'a'; 1000]));
    assert_eq!(s.peek(5000), Err(1000));
    assert_eq!(s.peek(5000), Ok(vec![b'b'; 1000]));
    assert_eq!(s.peek(5000), Err(1000));
    assert_eq!(s.peek(5000), Ok(vec![b'c'; 10]));
    assert_eq!(s.peek(5000), Err(990));
    assert_eq!(s.peek(5000), Ok(vec![]));
    // What still comes of a hole is discarded and no retransmission; the rest is one.
    assert!(!s.retransmits(1000, 1000));
    assert!(s.retransmits(999, 1000));
    assert!(s.retransmits(1500, 501));
    s.r.set_overlap(Overlap::Last);
    assert_eq!(s.fill(1000, b'x', 1001), 0);
    assert_eq!(s.ppeek(1500, 1), None);
    assert_eq!(s.ppeek(2000, 2), Some(b"xb".to_vec()));
    assert_eq!(s.fill(5000, b'd', 10), 10);
    assert_eq!(s.peek(5000), Ok(vec![b'd'; 10]));
    assert_eq!(s.r.held_bytes(), 2020);
}

#[test]
fn d5_a_skip_that_ends_inside_a_range() {
    let mut s = Side::new(100);
    s.fill(10, b'b', 10);
    assert_eq!(s.r.skip_to(0, 0).unwrap(), Skip { missing: 0, tail: 0 });
    assert_eq!(s.r.skip_to(0, 15).unwrap(), Skip { missing: 10, tail: 20 });
    let mut s = Side::new(100);
    s.fill(10, b'b', 10);
    assert_eq!(s.r.skip_to(0, 10).unwrap(), Skip { missing: 10, tail: 20 });
    let mut s = Side::new(100);
    s.fill(10, b'b', 10);
    assert_eq!(s.r.skip_to(0, 5).unwrap(), Skip { missing: 5, tail: 5 });
    assert_eq!(s.r.skip_to(5, 7).unwrap(), Skip { missing: 2, tail: 7 });
    s.tail = 7;
    assert_eq!(s.fill(7, b'a', 3), 13);
    assert_eq!(s.peek(50), Err(7));
    assert_eq!(s.peek(50), Ok(b"aaabbbbbbbbbb".to_vec()));
}

#[test]
fn d5_a_hole_larger_than_the_buffer_costs_nothing() {
    let mut s = Side::new(1000);
    s.fill(0, b'a', 500);
    s.tail = s.r.skip_to(s.tail, 1 << 30).unwrap().tail;
    assert_eq!(s.fragments(), [(0, 500)]);
    s.fill(1 << 30, b'b', 10);
    assert_eq!(s.peek(1000), Err(1 << 30));
    assert_eq!(s.peek(1000), Ok(vec![b'b'; 10]));
    assert_eq!(s.r.held_bytes(), 10);
    assert!(s.r.allocated_bytes() < 400);
}

#[test]
fn d5_more_holes_than_are_remembered() {
    let mut s = Side::new(10_000);
    for i in 0..40u64 {
        s.fill(i * 20, b'a', 10);
        s.tail = s.r.skip_to(s.tail, i * 20 + 20).unwrap().tail;
    }
    assert_eq!(s.tail, 800);
    // The eight oldest are gone with what preceded them.
    assert_eq!(s.r.head(s.tail), 160);
    assert_eq!(s.fragments().len(), MAX_RANGES);
    assert_eq!(s.peek(100), Err(160));
    assert_eq!(s.peek(100), Ok(vec![b'a'; 10]));
    assert!(s.retransmits(10, 10));
    assert!(!s.retransmits(170, 10));
}

#[test]
fn d4_thirty_three_ranges() {
    for capacity in [0, 100_000] {
        let mut s = Side::new(capacity);
        for i in 1..=32u64 {
            s.fill(i * 20, b'a', 10);
        }
        assert_eq!(s.errors, 0);
        s.fill(2000, b'a', 10);
        assert_eq!(s.errors, 1);
        assert!(!s.retransmits(2000, 10));
        assert_eq!(s.r.accept(0, 2000, b"abc", 3).unwrap().refused, 3);
        s.fill(30, b'a', 10);
        s.fill(2000, b'a', 10);
        assert!(s.retransmits(2000, 10));
        assert_eq!(s.errors, 1);
    }
}

#[test]
fn d5c_a_fin_beyond_a_hole() {
    let mut s = Side::new(100);
    assert_eq!(s.r.fin(), None);
    assert!(!s.r.take_fin(u64::MAX));
    s.r.remember_fin(30).unwrap();
    s.r.remember_fin(40).unwrap();
    assert_eq!(s.r.fin(), Some(30));
    assert!(!s.r.take_fin(29));
    assert!(s.r.take_fin(30));
    assert!(!s.r.take_fin(30));
}

#[test]
fn d12_a_frame_cut_by_the_snap_length() {
    let mut s = Side::new(1000);
    assert_eq!(s.r.accept(0, 0, b"abcd", 100).unwrap().tail, 4);
    s.tail = 4;
    assert_eq!(s.fill(100, b'x', 4), 0);
    assert_eq!(s.fragments(), [(0, 4), (100, 4)]);
    assert!(!s.retransmits(4, 96));
    let mut off = Reassembly::new(0, 0);
    assert_eq!(off.accept(0, 0, b"abcd", 100).unwrap().tail, 100);
    assert!(off.is_idle());
}

#[test]
fn c49_c53_reading_in_pieces() {
    let mut s = Side::new(8192);
    s.segment(0, b"HELLO");
    assert_eq!(s.peek(3), Ok(b"HEL".to_vec()));
    assert_eq!(s.peek(10), Ok(b"LO".to_vec()));
    assert_eq!(s.peek(10), Ok(vec![]));
    assert_eq!(s.ppeek(0, 5), Some(b"HELLO".to_vec()));
}

#[test]
fn c52_reading_at_offsets() {
    let mut s = Side::new(8192);
    s.segment(0, b"abcde");
    s.segment(10, b"klm");
    assert_eq!(s.ppeek(0, 100), Some(b"abcde".to_vec()));
    assert_eq!(s.ppeek(2, 100), Some(b"cde".to_vec()));
    assert_eq!(s.ppeek(12, 100), Some(b"m".to_vec()));
    assert_eq!(s.ppeek(5, 100), None);
    assert_eq!(s.ppeek(100, 100), None);
    assert_eq!(s.ppeek(u64::MAX, 100), None);
    assert_eq!(s.ppeek(12, 0), Some(vec![]));
}

fn three_and_capitals(overlap: Overlap) -> Side {
    let mut s = Side::new(8192);
    s.r.set_overlap(overlap);
    for (i, byte) in (0..).zip(*b"abc") {
        s.fill(i * 5, byte, 5);
    }
    for (i, byte) in (0..).zip(*b"ABC") {
        assert!(s.retransmits(i * 5, 5));
        assert_eq!(s.fill(i * 5, byte, 5), 0);
    }
    s
}

#[test]
fn c55_overlap_first() {
    let mut s = three_and_capitals(Overlap::First);
    assert_eq!(s.ppeek(0, 99).unwrap(), b"aaaaabbbbbccccc");
    s.fill(8, b'D', 10);
    assert_eq!(s.ppeek(0, 99).unwrap(), b"aaaaabbbbbcccccDDD");
    s.fill(0, b'E', 20);
    assert_eq!(s.ppeek(0, 99).unwrap(), b"aaaaabbbbbcccccDDDEE");
}

#[test]
fn c56_d11_overlap_last() {
    let mut s = three_and_capitals(Overlap::Last);
    assert_eq!(s.ppeek(0, 99).unwrap(), b"AAAAABBBBBCCCCC");
    s.fill(8, b'D', 10);
    assert_eq!(s.ppeek(0, 99).unwrap(), b"AAAAABBBDDDDDDDDDD");
    s.fill(0, b'E', 20);
    assert_eq!(s.ppeek(0, 99).unwrap(), vec![b'E'; 20]);
}

#[test]
fn c57_overlap_last_inside_an_out_of_order_range() {
    let mut s = Side::new(8192);
    s.r.set_overlap(Overlap::Last);
    s.fill(30, b'f', 10);
    s.fill(35, b'h', 2);
    assert_eq!(s.ppeek(30, 99).unwrap(), b"fffffhhfff");
    s.fill(28, b'g', 4);
    assert_eq!(s.ppeek(28, 99).unwrap(), b"ggggfffhhfff");
    s.fill(0, b'i', 30);
    assert_eq!(s.ppeek(28, 99).unwrap(), b"iiggfffhhfff");
}

#[test]
fn d9_resizing() {
    let mut s = Side::new(100);
    s.fill(0, b'a', 60);
    s.fill(80, b'b', 20);
    s.r.resize(s.tail, 50);
    // Out-of-order bytes up to 60 + 50 fit; in-order bytes make room for them.
    assert_eq!(s.fragments(), [(50, 10), (80, 20)]);
    s.r.resize(s.tail, 30);
    assert_eq!(s.fragments(), [(80, 10)]);
    assert!(!s.retransmits(90, 10));
    assert!(s.retransmits(89, 10));
    s.r.resize(s.tail, 200);
    s.fill(60, b'c', 20);
    s.fill(90, b'c', 100);
    assert_eq!(s.fragments(), [(60, 130)]);
    assert_eq!(s.r.capacity(), 200);
}

#[test]
fn d9_a_buffer_switched_off_and_on_again() {
    let mut s = Side::new(100);
    s.fill(0, b'a', 10);
    s.fill(20, b'b', 10);
    s.r.resize(s.tail, 0);
    assert!(!s.r.is_buffered());
    assert_eq!((s.r.held_bytes(), s.fragments()), (0, vec![]));
    assert!(s.retransmits(25, 1) && s.retransmits(0, 1) && !s.retransmits(10, 10));
    s.r.resize(s.tail, 100);
    assert_eq!(s.fragments(), []);
    s.fill(40, b'c', 10);
    assert_eq!(s.fragments(), [(40, 10)]);
    assert_eq!(s.fill(10, b'd', 25), 25);
    assert_eq!(s.fragments(), [(30, 5), (40, 10)]);
    assert_eq!(s.peek(100), Err(30));
    assert_eq!(s.peek(100), Ok(vec![b'd'; 5]));
}

#[test]
fn offsets_past_four_gibibytes() {
    let base = (1u64 << 32) - 500;
    let mut s = Side::from(base, 1024);
    for i in 0..10u64 {
        assert_eq!(s.fill(base + i * 200, i as u8, 200), 200);
    }
    assert_eq!(s.fragments(), [(base + 2000 - 1024, 1024)]);
    assert_eq!(s.ppeek(base + 1999, 4), Some(vec![9]));
    assert_eq!(s.fill(u64::MAX - 3, 1, 100), 0);
    assert_eq!(s.errors, 6);
}

#[test]
fn memory_follows_the_bytes_held() {
    for step in [1usize, 10, 100, 536, 1448] {
        let mut s = Side::new(65_536);
        let bytes = vec![1u8; step];
        while s.tail < 100_000 {
            s.segment(s.tail, &bytes);
            let (held, allocated) = (s.r.held_bytes(), s.r.allocated_bytes());
            // 24 bytes are the least an allocator gives.
            assert!(allocated <= (held + held / 4).max(24), "{allocated} for {held}");
        }
        assert!(s.r.allocated_bytes() >= 65_536);
    }
    // One byte at the far end of a large buffer.
    let mut s = Side::new(1 << 20);
    s.fill((1 << 20) - 1, 1, 1);
    assert!(s.r.allocated_bytes() < 200, "{}", s.r.allocated_bytes());
}

/// The same rules, one byte at a time.
struct Model {
    tail: u64,
    head: u64,
    capacity: u64,
    last: bool,
    buffered: bool,
    ahead: BTreeSet<u64>,
    skipped: BTreeSet<u64>,
    bytes: BTreeMap<u64, u8>,
}

fn runs<'a>(offsets: impl Iterator<Item = &'a u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &x in offsets {
        match runs.last_mut() {
            Some(run) if run.0 + run.1 == x => run.1 += 1,
            _ => runs.push((x, 1)),
        }
    }
    runs
}

impl Model {
    /// How many bytes are dealt with, and how many are refused.
    fn accept(&mut self, off: u64, bytes: &[u8]) -> (usize, usize) {
        let limit = if self.buffered { self.tail + self.capacity } else { u64::MAX };
        let segment: Vec<(u64, u8)> =
            (off..).zip(bytes.iter().copied()).filter(|&(x, _)| x < limit).collect();
        let mut refused = bytes.len() - segment.len();
        if off > self.tail {
            let mut larger = self.ahead.clone();
            larger.extend(segment.iter().map(|s| s.0));
            if runs(larger.iter()).len() > MAX_RANGES {
                return (bytes.len(), bytes.len());
            }
        } else {
            refused = 0;
        }
        let consumed = if off > self.tail { bytes.len() } else { segment.len() };
        for (x, _) in segment {
            if x >= self.tail && self.buffered {
                self.head = self.head.max((x + 1).saturating_sub(self.capacity));
                self.bytes = self.bytes.split_off(&self.head);
            }
        }
        for (x, byte) in (off..).zip(bytes.iter().copied()).filter(|&(x, _)| x < limit) {
            if x < self.tail {
                if self.last {
                    self.bytes.entry(x).and_modify(|b| *b = byte);
                }
            } else if (self.ahead.insert(x) || self.last) && self.buffered && x >= self.head {
                self.bytes.insert(x, byte);
            }
        }
        self.join();
        (consumed, refused)
    }

    fn join(&mut self) {
        while self.ahead.remove(&self.tail) {
            self.tail += 1;
        }
    }

    fn skip_to(&mut self, to: u64) -> u64 {
        let mut missing = 0;
        while self.tail < to {
            if !self.ahead.remove(&self.tail) {
                if !self.skipped.contains(&(self.tail.wrapping_sub(1))) {
                    let holes = runs(self.skipped.iter());
                    if holes.len() == MAX_RANGES {
                        let end = holes[0].0 + holes[0].1;
                        self.skipped = self.skipped.split_off(&end);
                        self.head = self.head.max(end);
                        self.bytes = self.bytes.split_off(&self.head);
                    }
                }
                self.skipped.insert(self.tail);
                missing += 1;
            }
            self.tail += 1;
        }
        self.join();
        missing
    }

    fn resize(&mut self, capacity: u64) {
        let end = self.ahead.last().map_or(self.tail, |&x| x + 1);
        if capacity == 0 {
            self.buffered = false;
            self.bytes.clear();
            return;
        }
        if !self.buffered {
            self.capacity = capacity;
            self.buffered = true;
            self.head = end;
            return;
        }
        self.capacity = capacity;
        let limit = self.tail + capacity;
        self.ahead.retain(|&x| x < limit);
        self.bytes.retain(|&x, _| x < limit);
        let end = self.ahead.last().map_or(self.tail, |&x| x + 1);
        self.head = self.head.max(end.saturating_sub(capacity));
        self.bytes = self.bytes.split_off(&self.head);
    }

    fn head(&self) -> u64 {
        if self.buffered { self.head } else { self.tail }
    }

    fn retransmits(&self, start: u64, end: u64) -> bool {
        (start..end).any(|x| (x < self.tail && !self.skipped.contains(&x)) || self.ahead.contains(&x))
    }

    fn read(&self, off: u64, len: usize) -> (Read, Vec<u8>) {
        if self.bytes.contains_key(&off) {
            let found: Vec<u8> = (off..off + len as u64).map_while(|x| self.bytes.get(&x).copied()).collect();
            return (Read::Bytes(found.len()), found);
        }
        let lost = |x: u64| x < self.head() || (x < self.tail && self.skipped.contains(&x));
        if lost(off) {
            let next = (off..).find(|&x| !lost(x)).unwrap();
            return (Read::Missing { next }, Vec::new());
        }
        (Read::Nothing, Vec::new())
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A segment: distance from the tail, captured bytes, bytes cut off.
    Segment(i64, usize, usize),
    InOrder(usize),
    Skip(u64),
    Policy(bool),
    Resize(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (-150i64..150, 0usize..70, prop::sample::select(vec![0usize, 0, 0, 9])).prop_map(|(d, n, c)| Step::Segment(d, n, c)),
        4 => (0i64..400, 1usize..4).prop_map(|(d, n)| Step::Segment(d, n, 0)),
        6 => (0usize..90).prop_map(Step::InOrder),
        2 => (0u64..120).prop_map(Step::Skip),
        1 => any::<bool>().prop_map(Step::Policy),
        1 => prop_oneof![Just(0u64), 1u64..300].prop_map(Step::Resize),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_a_byte_map(
        base in prop::sample::select(vec![0u64, 7, (1 << 32) - 300, 1 << 45]),
        capacity in prop_oneof![1u64..40, 40u64..400],
        steps in steps(),
    ) {
        let mut r = Reassembly::new(base, capacity as usize);
        let mut tail = base;
        let mut model = Model {
            tail: base, head: base, capacity, last: false, buffered: true,
            ahead: BTreeSet::new(), skipped: BTreeSet::new(), bytes: BTreeMap::new(),
        };
        let mut next = 0u8;
        for step in steps {
            match step {
                Step::Policy(last) => {
                    model.last = last;
                    r.set_overlap(if last { Overlap::Last } else { Overlap::First });
                }
                Step::Resize(capacity) => {
                    model.resize(capacity);
                    r.resize(tail, capacity as usize);
                }
                Step::Skip(n) => {
                    let missing = model.skip_to(tail + n);
                    let skip = r.skip_to(tail, tail + n).unwrap();
                    tail = skip.tail;
                    prop_assert_eq!(skip, Skip { missing, tail: model.tail });
                }
                Step::Segment(..) | Step::InOrder(_) => {
                    let (distance, n, cut) = match step {
                        Step::Segment(d, n, c) => (d, n, c),
                        Step::InOrder(n) => (0, n, 0),
                        _ => unreachable!(),
                    };
                    let mut off = tail.saturating_add_signed(distance).max(base);
                    let segment: Vec<u8> = (0..n).map(|_| { next = next.wrapping_add(1); next }).collect();
                    prop_assert_eq!(r.retransmits(tail, off, off + n as u64), model.retransmits(off, off + n as u64));
                    let mut bytes = &segment[..];
                    while !bytes.is_empty() {
                        let known = model.ahead.len() as u64 + model.tail;
                        let plan = r.plan(tail, off, bytes.len());
                        let done = r.accept(tail, off, bytes, bytes.len() + cut).unwrap();
                        let whole = [bytes, &vec![0; cut]].concat();
                        let seen = if model.buffered { bytes } else { &whole };
                        let (consumed, refused) = model.accept(off, seen);
                        tail = done.tail;
                        let stored = (model.ahead.len() as u64 + model.tail - known) as usize;
                        prop_assert_eq!(done, Accepted { tail: model.tail, consumed, stored, refused });
                        if model.buffered {
                            prop_assert_eq!(plan, Plan { consumed, evict_to: model.head, refused, tail: model.tail });
                        } else if cut == 0 {
                            prop_assert_eq!((plan.consumed, plan.refused, plan.tail), (consumed, refused, model.tail));
                        }
                        prop_assert!(consumed > 0);
                        bytes = &bytes[consumed.min(bytes.len())..];
                        off += consumed as u64;
                    }
                }
            }
            prop_assert_eq!(tail, model.tail);
            prop_assert_eq!(r.head(tail), model.head());
            prop_assert_eq!(r.held_bytes(), model.bytes.len());
            let fragments: Vec<(u64, u64)> = r.fragments(tail).map(|f| (f.start, f.len())).collect();
            prop_assert_eq!(fragments, runs(model.bytes.keys()));
            for off in [model.head.saturating_sub(5), model.head, tail.saturating_sub(next.into()), tail, tail + u64::from(next)] {
                let mut out = [0; 23];
                let (expected, found) = model.read(off, out.len());
                prop_assert_eq!(r.read(tail, off, &mut out), expected);
                prop_assert_eq!(&out[..found.len()], &found[..]);
            }
            let held = r.held_bytes();
            let lists = (2 * MAX_RANGES + 99) * size_of::<Range>() + size_of::<Disorder>();
            prop_assert!(r.allocated_bytes() <= held + held / 4 + 64 + lists);
        }
    }

    /// D6: a reader that reads before every eviction and after every segment loses no byte that arrives in order,
    /// whatever the sizes.
    #[test]
    fn d6_a_reader_that_keeps_up_loses_nothing(
        capacity in 1usize..600,
        sizes in prop::collection::vec(1usize..1500, 1..60),
    ) {
        let mut s = Side::new(capacity);
        let (mut sent, mut read) = (Vec::new(), Vec::new());
        for n in sizes {
            let start = sent.len();
            sent.extend((0..n).map(|i| ((start + i) * 31 % 253) as u8));
            let mut at = start;
            while at < sent.len() {
                let plan = s.r.plan(s.tail, at as u64, sent.len() - at);
                if plan.evict_to > s.peeked {
                    read.extend(s.peek(capacity).unwrap());
                }
                let done = s.r.accept(s.tail, at as u64, &sent[at..], sent.len() - at).unwrap();
                prop_assert_eq!(done.refused, 0);
                s.tail = done.tail;
                at += done.consumed;
            }
        }
        read.extend(s.peek(capacity).unwrap());
        prop_assert_eq!(read, sent);
    }

    /// With buffers off the same bytes are told to be retransmissions as with a large buffer.
    #[test]
    fn d4_buffers_off_tells_the_same(steps in prop::collection::vec((0u64..300, 0u64..40, 0u8..10), 1..80)) {
        let (mut on, mut off) = (Side::new(100_000), Side::new(0));
        for (at, n, kind) in steps {
            if kind == 0 {
                on.tail = on.r.skip_to(on.tail, on.tail + n).unwrap().tail;
                off.tail = off.r.skip_to(off.tail, off.tail + n).unwrap().tail;
            } else {
                prop_assert_eq!(on.retransmits(at, n), off.retransmits(at, n));
                prop_assert_eq!(on.fill(at, 0, n as usize), off.fill(at, 0, n as usize));
            }
            prop_assert_eq!(on.tail, off.tail);
            prop_assert_eq!(off.r.held_bytes(), 0);
        }
    }
}

#[test]
fn few_bytes_need_no_memory_and_move_when_there_are_more() {
    let mut s = Side::new(8192);
    for (off, word) in [(0, "GET"), (3, " / "), (6, "HTTP/1.0"), (14, "\r\nHost: mos\r\n\r\n")] {
        s.segment(off, word.as_bytes());
        assert_eq!((s.r.allocated_bytes(), s.r.held_bytes() as u64), (0, s.tail));
    }
    assert_eq!(s.ppeek(4, 8).unwrap(), b"/ HTTP/1");
    assert_eq!(s.ppeek(29, 8), None);
    assert_eq!(s.peek(100).unwrap(), b"GET / HTTP/1.0\r\nHost: mos\r\n\r\n");
    // Those that follow join them, in order or not.
    let mut other = Side::new(8192);
    other.segment(0, b"0123456789");
    other.segment(20, b"klmno");
    assert!(other.r.allocated_bytes() > 0);
    other.segment(10, b"abcdefghij");
    assert_eq!(other.peek(100).unwrap(), b"0123456789abcdefghijklmno");
    s.fill(29, b'x', 100);
    assert!((129..200).contains(&s.r.allocated_bytes()));
    assert_eq!(
        s.ppeek(0, 200).unwrap(),
        [b"GET / HTTP/1.0\r\nHost: mos\r\n\r\n".to_vec(), vec![b'x'; 100]].concat()
    );
}

#[test]
fn few_bytes_are_cut_to_a_smaller_buffer() {
    let mut s = Side::new(20);
    s.segment(0, b"0123456789abcdefghij");
    s.r.resize(s.tail, 5);
    assert_eq!((s.r.head(s.tail), s.fragments()), (15, vec![(15, 5)]));
    assert_eq!(s.ppeek(15, 9).unwrap(), b"fghij");
    assert_eq!(s.r.allocated_bytes(), 0);
    s.segment(20, b"klm");
    assert_eq!(s.ppeek(18, 9).unwrap(), b"ijklm");
    // A buffer switched off and on again begins behind what it held.
    s.r.disable();
    assert_eq!(s.r.held_bytes(), 0);
    s.r.resize(s.tail, 9);
    s.segment(23, b"no");
    assert_eq!((s.ppeek(20, 9), s.ppeek(23, 9).unwrap()), (None, b"no".to_vec()));
}
