//! Captures written by hand, byte by byte, and by the writer; hostile ones; all read both ways.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

/// A file that goes away at the end of its test.
pub(crate) struct Temp(PathBuf);

impl Temp {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mos-capture-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, bytes).unwrap();
        Self(path)
    }

    pub(crate) fn open(&self, preload: Preload) -> Result<CaptureReader, CaptureError> {
        CaptureReader::open(&self.0, preload)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const BOTH: [Preload; 2] = [Preload::Whole, Preload::Streaming];

type Frame = (u64, Vec<u8>, u32);

fn drain(reader: &mut CaptureReader) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut refills = 0;
    loop {
        match reader.next() {
            Next::Frame(f) => {
                let bytes = reader.frame(&f);
                assert_eq!(bytes.len(), f.cap_len as usize);
                assert!(f.wire_len >= f.cap_len);
                frames.push((f.ts_ns, bytes.to_vec(), f.wire_len));
                refills = 0;
            }
            Next::NeedRefill => {
                refills += 1;
                assert!(refills < 10_000, "refills without progress");
                reader.refill();
            }
            Next::End => {
                assert_eq!(reader.next(), Next::End);
                return frames;
            }
        }
    }
}

/// Reads both ways, twice each, and all the same.
fn read(bytes: &[u8]) -> (Vec<Frame>, Skipped, Option<String>) {
    let file = Temp::new(bytes);
    let mut results = BOTH.map(|preload| {
        let mut reader = file.open(preload).unwrap();
        let frames = drain(&mut reader);
        let result = (reader.skipped(), reader.warning().map(str::to_owned));
        reader.rewind().unwrap();
        assert_eq!(drain(&mut reader), frames, "after rewind");
        assert_eq!(drain(&mut reader.duplicate().unwrap()), frames, "duplicate");
        (frames, result.0, result.1)
    });
    assert_eq!(results[0].0, results[1].0);
    assert_eq!(results[0].1, results[1].1);
    std::mem::take(&mut results[0])
}

fn error(bytes: &[u8]) -> String {
    let file = Temp::new(bytes);
    let messages = BOTH.map(|preload| file.open(preload).err().expect("an error").to_string());
    assert_eq!(messages[0], messages[1]);
    assert!(messages[0].starts_with(file.0.to_str().unwrap()), "{}", messages[0]);
    messages[0].clone()
}

/// Bytes in one of the two orders.
#[derive(Clone)]
pub(crate) struct Bytes {
    big: bool,
    pub(crate) out: Vec<u8>,
}

impl Bytes {
    fn new(big: bool) -> Self {
        Self { big, out: Vec::new() }
    }

    fn u16(mut self, v: u16) -> Self {
        self.out.extend(if self.big { v.to_be_bytes() } else { v.to_le_bytes() });
        self
    }

    fn u32(mut self, v: u32) -> Self {
        self.out.extend(if self.big { v.to_be_bytes() } else { v.to_le_bytes() });
        self
    }

    fn raw(mut self, v: &[u8]) -> Self {
        self.out.extend_from_slice(v);
        self
    }

    pub(crate) fn pcap(big: bool, nano: bool, linktype: u32) -> Self {
        let magic = if nano { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        Self::new(big).u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65535).u32(linktype)
    }

    pub(crate) fn record(self, sec: u32, frac: u32, data: &[u8], wire: u32) -> Self {
        self.u32(sec).u32(frac).u32(data.len() as u32).u32(wire).raw(data)
    }

    fn block(self, kind: u32, body: &[u8]) -> Self {
        let padded = body.len().next_multiple_of(4);
        let len = padded as u32 + 12;
        self.u32(kind).u32(len).raw(body).raw(&vec![0; padded - body.len()]).u32(len)
    }

    fn section(mut self, big: bool) -> Self {
        self.big = big;
        let body = Self::new(big).u32(0x1a2b_3c4d).u16(1).u16(0).u32(u32::MAX).u32(u32::MAX);
        self.block(0x0a0d_0d0a, &body.out)
    }

    fn interface(self, linktype: u16, snaplen: u32, options: &[(u16, &[u8])]) -> Self {
        let mut body = Self::new(self.big).u16(linktype).u16(0).u32(snaplen);
        for (code, value) in options {
            body = body.u16(*code).u16(value.len() as u16).raw(value);
            let pad = value.len().next_multiple_of(4) - value.len();
            body = body.raw(&vec![0; pad]);
        }
        self.block(1, &body.u16(0).u16(0).out)
    }

    fn enhanced(self, interface: u32, units: u64, data: &[u8], wire: u32) -> Self {
        let body = Self::new(self.big).u32(interface).u32((units >> 32) as u32).u32(units as u32);
        let body = body.u32(data.len() as u32).u32(wire).raw(data);
        let pad = data.len().next_multiple_of(4) - data.len();
        // An option behind the data: it must not be taken for data.
        let body = body.raw(&vec![0xee; pad]).u16(2).u16(4).u32(0).u16(0).u16(0);
        self.block(6, &body.out)
    }
}

fn data(n: usize, seed: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + seed * 13) as u8).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn classic_both_orders_and_resolutions() {
    for (big, nano) in [(false, false), (false, true), (true, false), (true, true)] {
        let file = Bytes::pcap(big, nano, 1)
            .record(1_700_000_000, 123_456, &data(60, 1), 60)
            .record(1_700_000_000, 999_999, &data(10, 2), 1514)
            .record(4_294_967_295, 1, &[], 0)
            .record(5, 0, &data(65535, 3), 65535);
        let k = if nano { 1 } else { 1000 };
        let expected = vec![
            (1_700_000_000_000_000_000 + 123_456 * k, data(60, 1), 60),
            (1_700_000_000_000_000_000 + 999_999 * k, data(10, 2), 1514),
            (4_294_967_295_000_000_000 + k, vec![], 0),
            (5_000_000_000, data(65535, 3), 65535),
        ];
        assert_eq!(read(&file.out), (expected.clone(), Skipped::default(), None));
        assert_eq!(read(&gzip(&file.out)).0, expected);
    }
}

#[test]
fn longer_than_several_windows() {
    let mut file = Bytes::pcap(false, false, 1);
    let mut expected = Vec::new();
    for i in 0..1500usize {
        let frame = data(i * 37 % 9000, i);
        file = file.record(i as u32, 0, &frame, frame.len() as u32);
        expected.push((i as u64 * 1_000_000_000, frame.clone(), frame.len() as u32));
    }
    let largest = data(MAX_FRAME, 9);
    file = file.record(3000, 0, &largest, MAX_FRAME as u32);
    expected.push((3_000_000_000_000, largest, MAX_FRAME as u32));
    assert!(file.out.len() > 4 * 1024 * 1024);
    assert_eq!(read(&file.out).0, expected);
    // gzip members one after the other are one stream.
    let (a, b) = file.out.split_at(1_000_000);
    assert_eq!(read(&[gzip(a), gzip(b)].concat()).0, expected);
    // Everything copied: the same through the other buffer, as raw IP.
    let mut raw = file.out.clone();
    raw[20] = 101;
    let got = read(&raw).0;
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got.1[14..], expected.1);
        assert_eq!((got.0, got.2), (expected.0, expected.2 + 14));
    }
}

#[test]
fn a_frame_stays_until_the_refill() {
    let file = Bytes::pcap(false, false, 101).record(1, 0, &data(20, 1), 20).record(2, 0, &data(30, 2), 30);
    for preload in BOTH {
        let mut reader = Temp::new(&file.out).open(preload).unwrap();
        let Next::Frame(a) = reader.next() else { panic!() };
        assert_eq!(reader.peek(), Peek::Frame(2_000_000_000));
        reader.refill();
        assert_eq!(reader.peek(), Peek::Frame(2_000_000_000), "announced, not lost");
        let Next::Frame(b) = reader.next() else { panic!() };
        assert_eq!(reader.frame(&b)[14..], data(30, 2));
        let stale = FrameRef { off: a.off + 1_000_000, ..a };
        assert_eq!(reader.frame(&stale), b"");
        assert_eq!(reader.take(), None);
    }
}

#[test]
fn time_offset_applies_to_the_announced_frame_and_saturates() {
    let file = Bytes::pcap(false, true, 1).record(7, 5, &data(20, 1), 20);
    let mut reader = Temp::new(&file.out).open(Preload::Whole).unwrap();
    assert_eq!(reader.peek(), Peek::Frame(7_000_000_005));
    reader.set_time_offset(1_000);
    assert_eq!(reader.peek(), Peek::Frame(7_000_001_005));
    reader.set_time_offset(u64::MAX);
    assert_eq!(reader.peek(), Peek::Frame(u64::MAX));
}

#[test]
fn what_is_no_capture_says_so() {
    assert!(error(b"").ends_with("the file is empty"));
    assert!(error(b"x").contains("not a capture file"));
    assert!(error(&[0; 4096]).contains("not a capture file"));
    assert!(error(b"#!/bin/sh\necho this is a script, not packets\n").contains("not a capture file"));
    assert!(error(&Bytes::pcap(true, false, 1).out[..23]).contains("ends inside its header"));
    assert!(error(&0x0a0d_0d0au32.to_le_bytes()).contains("ends inside its header"));
    assert!(error(&[&0x0a0d_0d0au32.to_le_bytes()[..], &[0; 28]].concat()).contains("not a capture file"));
    assert!(error(&gzip(b"")).contains("empty"));
    assert!(error(&[0x1f, 0x8b, 8, 0]).contains("gzip"));
    assert!(error(&[0x1f, 0x8b, 99, 0, 1, 2, 3, 4, 5, 6, 7, 8]).contains("gzip"));
    assert!(error(b"\x34\xcd\xb2\xa1 modified").contains("Kuznetzov"));
    assert!(error(b"\x28\xb5\x2f\xfd packed").contains("zstd"));
    let mut old = Bytes::pcap(false, false, 1).out;
    old[4] = 1;
    assert!(error(&old).contains("pcap version"));
    assert!(
        error(&Bytes::pcap(false, false, 105).out).contains("link type 105 (IEEE802_11) is not supported")
    );
    assert!(error(&Bytes::pcap(true, true, 9999).out).contains("link type 9999 (unknown)"));
    let missing = CaptureReader::open("/nonexistent/x.pcap", Preload::Whole).err().unwrap().to_string();
    assert!(missing.starts_with("/nonexistent/x.pcap: No such file"), "{missing}");
    assert!(CaptureReader::open(std::env::temp_dir(), Preload::Streaming).is_err());
}

#[test]
fn a_header_alone_has_no_frames() {
    assert_eq!(read(&Bytes::pcap(false, false, 1).out), (vec![], Skipped::default(), None));
    assert_eq!(read(&Bytes::new(true).section(true).out), (vec![], Skipped::default(), None));
}

#[test]
fn cut_and_corrupt_records_are_counted() {
    let file = Bytes::pcap(false, false, 1).record(1, 0, &data(60, 1), 60).record(2, 0, &data(60, 2), 60);
    for cut in 1..76 {
        let (frames, skipped, warning) = read(&file.out[..file.out.len() - cut]);
        assert_eq!(frames.len(), 1);
        assert_eq!(skipped, Skipped { truncated: 1, ..Skipped::default() });
        assert!(warning.unwrap().contains("ends inside a record"));
    }
    let long = file.clone().u32(3).u32(0).u32(MAX_FRAME as u32 + 1).u32(60).raw(&data(300_000, 1));
    let (frames, skipped, warning) = read(&long.out);
    assert_eq!((frames.len(), skipped.oversized, skipped.total()), (2, 1, 1));
    assert!(warning.unwrap().contains("claims 262145 bytes"));
    let huge = file.u32(3).u32(0).u32(u32::MAX).u32(60);
    assert_eq!(read(&huge.out).1.oversized, 1);
}

#[test]
fn cut_and_corrupt_gzip_keeps_what_precedes() {
    let mut file = Bytes::pcap(false, false, 1);
    let mut state = 1u64;
    for i in 0..3000 {
        let noise: Vec<u8> = (0..600)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        file = file.record(i, 0, &noise, 600);
    }
    let whole = read(&file.out).0;
    let packed = gzip(&file.out);
    let (frames, skipped, warning) = read(&packed[..packed.len() / 2]);
    assert!(frames.len() > 1000 && frames[..] == whole[..frames.len()]);
    assert_eq!(skipped.read_error, 1);
    assert!(warning.unwrap().contains("cannot be read to its end"));
    let (frames, skipped, _) = read(&[&packed[..], b"trailing garbage"].concat());
    assert_eq!((frames.len(), skipped.read_error), (3000, 1));
}

#[test]
fn other_link_types_get_an_ethernet_header() {
    let v4 = [&[0x45u8][..], &data(39, 1)].concat();
    let v6 = [&[0x60u8][..], &data(59, 1)].concat();
    let cooked = |proto: u16, arphrd: u16, halen: u16, payload: &[u8]| {
        let b = Bytes::new(true).u16(0).u16(arphrd).u16(halen).raw(&[9, 8, 7, 6, 5, 4, 3, 2]).u16(proto);
        b.raw(payload).out
    };
    let cooked2 = |proto: u16, arphrd: u16, halen: u8, payload: &[u8]| {
        let b = Bytes::new(true).u16(proto).u16(0).u32(3).u16(arphrd).raw(&[4, halen]);
        b.raw(&[9, 8, 7, 6, 5, 4, 3, 2]).raw(payload).out
    };
    let own = [9, 8, 7, 6, 5, 4];
    let made = SYNTH_SRC_MAC;
    let with = |head: [u8; 4], p: &[u8]| [&head[..], p].concat();
    /// Link type, frame; source, type and payload expected.
    type Case<'a> = (u32, Vec<u8>, [u8; 6], u16, &'a [u8]);
    let cases: Vec<Case> = vec![
        (12, v4.clone(), made, 0x0800, &v4),
        (14, v6.clone(), made, 0x86dd, &v6),
        (101, v4.clone(), made, 0x0800, &v4),
        (228, v4.clone(), made, 0x0800, &v4),
        (229, v6.clone(), made, 0x86dd, &v6),
        (101, vec![], made, 0xffff, &[]),
        (101, vec![0x10, 2], made, 0xffff, &[0x10, 2]),
        (0, with([2, 0, 0, 0], &v4), made, 0x0800, &v4),
        (0, with([0, 0, 0, 2], &v4), made, 0x0800, &v4),
        (0, with([30, 0, 0, 0], &v6), made, 0x86dd, &v6),
        (108, with([0, 0, 0, 24], &v6), made, 0x86dd, &v6),
        (108, with([0, 0, 0, 7], b"iso"), made, 0xffff, b"iso"),
        (113, cooked(0x0800, 1, 6, &v4), own, 0x0800, &v4),
        (113, cooked(0x86dd, 772, 6, &v6), own, 0x86dd, &v6),
        (113, cooked(0x8100, 1, 6, &v4), own, 0x8100, &v4),
        (113, cooked(0x0800, 512, 0, &v4), made, 0x0800, &v4),
        (113, cooked(0x0800, 824, 0, &v4), made, 0xffff, &v4),
        (276, cooked2(0x0800, 1, 6, &v4), own, 0x0800, &v4),
        (276, cooked2(0x0806, 1, 8, &v4), made, 0x0806, &v4),
    ];
    for (linktype, frame, source, ethertype, payload) in cases {
        let wire = frame.len() as u32 + 100;
        let (frames, skipped, _) = read(&Bytes::pcap(false, false, linktype).record(1, 0, &frame, wire).out);
        let expected = [&SYNTH_DST_MAC[..], &source, &ethertype.to_be_bytes(), payload].concat();
        let wire = expected.len() as u32 + 100;
        assert_eq!(frames, vec![(1_000_000_000, expected, wire)], "link type {linktype}");
        assert_eq!(skipped.total(), 0);
    }
    for (linktype, need) in [(0, 4), (108, 4), (113, 16), (276, 20)] {
        let file = Bytes::pcap(true, false, linktype).record(1, 0, &data(need - 1, 1), 99);
        let (frames, skipped, warning) = read(&file.record(2, 0, &data(need, 1), 99).out);
        assert_eq!((frames.len(), skipped.short_link_header), (1, 1));
        assert!(warning.unwrap().contains("shorter than its link header"));
    }
}

#[test]
fn pcapng_both_orders_all_packet_blocks() {
    for big in [false, true] {
        let simple = Bytes::new(big).u32(100).raw(&data(64, 3));
        let obsolete = Bytes::new(big).u16(1).u16(77).u32(0).u32(5_000).u32(6).u32(70);
        let file = Bytes::new(big)
            .section(big)
            .interface(1, 64, &[(2, b"eth0")])
            .interface(1, 0, &[(9, &[3]), (1, b"ms")])
            .block(5, &data(20, 1)) // interface statistics
            .enhanced(0, 1_700_000_000_000_001, &data(61, 1), 1514)
            .enhanced(1, 1_700_000_000_002, &data(62, 2), 62)
            .block(3, &simple.out)
            .block(2, &obsolete.raw(&data(6, 4)).out)
            .block(0x0bad, &[]);
        let expected = vec![
            (1_700_000_000_000_001_000, data(61, 1), 1514),
            (1_700_000_000_002_000_000, data(62, 2), 62),
            (1_700_000_000_002_000_000, data(64, 3), 100),
            (5_000_000_000, data(6, 4), 70),
        ];
        assert_eq!(read(&file.out), (expected.clone(), Skipped::default(), None));
        assert_eq!(read(&gzip(&file.out)).0, expected);
    }
}

#[test]
fn pcapng_time_resolution_and_offset() {
    type Options<'a> = &'a [(u16, &'a [u8])];
    let cases: [(Options, u64, u64); 9] = [
        (&[], 1_000_001, 1_000_001_000),
        (&[(9, &[9])], 1_000_001, 1_000_001),
        (&[(9, &[0])], 12, 12_000_000_000),
        (&[(9, &[12])], 5_999, 5),
        (&[(9, &[127])], u64::MAX, 0),
        (&[(9, &[0x8a])], 1024 + 512, 1_500_000_000),
        (&[(9, &[0x80])], 3, 3_000_000_000),
        (&[(9, &[0])], u64::MAX, u64::MAX),
        (&[(9, &[6, 6])], 1, 1_000), // a resolution of the wrong length is none
    ];
    for (options, units, ts) in cases {
        let file = Bytes::new(false).section(false).interface(1, 0, options).enhanced(0, units, b"x", 1);
        assert_eq!(read(&file.out).0[0].0, ts, "{options:?}");
    }
    for big in [false, true] {
        let shift = |s: i64| if big { s.to_be_bytes() } else { s.to_le_bytes() };
        for (offset, ts) in [(100, 101_000_000_000), (-1, 0), (-5, 0), (i64::MAX, u64::MAX), (i64::MIN, 0)] {
            let value = shift(offset);
            let options: [(u16, &[u8]); 2] = [(9, &[6]), (14, &value)];
            let file = Bytes::new(big).section(big).interface(1, 0, &options).enhanced(0, 1_000_000, b"x", 1);
            assert_eq!(read(&file.out).0[0].0, ts, "{offset}");
        }
    }
}

#[test]
fn pcapng_sections_of_different_order_and_mixed_links() {
    let v4 = [&[0x45u8][..], &data(39, 1)].concat();
    let eth = data(60, 2);
    let file = Bytes::new(false)
        .section(false)
        .interface(1, 0, &[])
        .enhanced(0, 1, &eth, 60)
        .interface(105, 0, &[])
        .interface(101, 0, &[])
        .enhanced(1, 2, &data(40, 1), 40)
        .enhanced(2, 3, &v4, 40)
        .enhanced(0, 4, &eth, 60)
        .enhanced(3, 5, &eth, 60)
        .section(true)
        .enhanced(0, 6, &eth, 60) // the new section has no interface yet
        .block(3, &[0; 8])
        .interface(1, 0, &[])
        .enhanced(0, 7, &eth, 60);
    let (frames, skipped, warning) = read(&file.out);
    let stamps: Vec<u64> = frames.iter().map(|f| f.0 / 1000).collect();
    assert_eq!(stamps, [1, 3, 4, 7]);
    assert_eq!(frames[0].1, eth);
    assert_eq!(frames[1].1[12..], [&[8u8, 0][..], &v4].concat());
    assert_eq!((&frames[2].1, &frames[3].1), (&eth, &eth));
    assert_eq!(skipped, Skipped { unsupported_link: 1, unknown_interface: 3, ..Skipped::default() });
    assert!(warning.unwrap().contains("link type 105 (IEEE802_11)"));
}

#[test]
fn pcapng_corrupt_blocks() {
    let start = Bytes::new(false).section(false).interface(1, 0, &[]).enhanced(0, 1, b"abcd", 4);
    let check = |file: Bytes, frames: usize, skipped: Skipped, message: &str| {
        let (got, s, warning) = read(&file.out);
        assert_eq!((got.len(), s), (frames, skipped), "{message}");
        assert!(warning.as_deref().is_some_and(|w| w.contains(message)), "{warning:?}");
    };
    let corrupt = Skipped { corrupt_block: 1, ..Skipped::default() };
    check(start.clone().u32(6).u32(0).u32(0), 1, corrupt, "block of 0 bytes");
    check(start.clone().u32(6).u32(8).u32(8), 1, corrupt, "block of 8 bytes");
    check(start.clone().u32(6).u32(33).raw(&[0; 40]), 1, corrupt, "block of 33 bytes");
    check(start.clone().u32(0x0a0d_0d0a).u32(28).raw(&[0; 20]), 1, corrupt, "byte-order magic");
    // Lengths that differ: that block alone.
    let mut differ = start.clone().enhanced(0, 2, b"abcd", 4);
    let last = differ.out.len() - 4;
    differ.out[last] ^= 4;
    check(differ.enhanced(0, 3, b"abcd", 4), 2, corrupt, "two different lengths");
    // Too short for its fields; a frame longer than its block.
    check(start.clone().block(6, &[0; 8]).enhanced(0, 3, b"abcd", 4), 2, corrupt, "shorter than its fields");
    let liar = Bytes::new(false).u32(0).u32(0).u32(0).u32(100).u32(100).raw(&[0; 40]);
    check(
        start.clone().block(6, &liar.out).enhanced(0, 3, b"x", 1),
        2,
        corrupt,
        "longer than its pcapng block",
    );
    let future = Bytes::new(false).u32(0x1a2b_3c4d).u16(9).u16(0).u32(0).u32(0);
    check(start.clone().block(0x0a0d_0d0a, &future.out), 1, corrupt, "pcapng version 9.0");
    let cut = start.clone().enhanced(0, 2, &data(100, 1), 100);
    let cut = Bytes { out: cut.out[..cut.out.len() - 1].to_vec(), ..cut };
    check(cut, 1, Skipped { truncated: 1, ..Skipped::default() }, "ends inside a record");
    // Blocks beyond the limit are passed over; those that carry a packet are counted.
    let large = start.clone().block(0x0bad, &vec![1; MAX_BLOCK]).enhanced(0, 3, b"abcd", 4);
    let (frames, skipped, _) = read(&large.out);
    assert_eq!((frames.len(), skipped.total()), (2, 0));
    let oversized = Skipped { oversized: 1, ..Skipped::default() };
    let large = start.clone().enhanced(0, 2, &vec![1; 1_500_000], 1_500_000).enhanced(0, 3, b"abcd", 4);
    check(large, 2, oversized, "is skipped");
    let large = start.clone().enhanced(0, 2, &vec![1; MAX_FRAME + 1], 4).enhanced(0, 3, b"abcd", 4);
    check(large, 2, oversized, "limit 262144");
    let cut = start.u32(0x0bad).u32(4_000_000).raw(&vec![0; 700_000]);
    check(cut, 1, Skipped { truncated: 1, ..Skipped::default() }, "ends inside a block");
}

#[test]
fn the_writer_writes_what_the_reader_reads() {
    for (precision, unit) in [(Precision::Micro, 1000), (Precision::Nano, 1)] {
        let file = Temp::new(b"");
        let mut writer = CaptureWriter::create_with(&file.0, precision).unwrap();
        assert_eq!(drain(&mut file.open(Preload::Whole).unwrap()), vec![], "a header from the start");
        let mut expected = Vec::new();
        for i in 0..2000usize {
            let (ts, frame) = (1_700_000_000_123_456_789 + i as u64 * 1_000_003, data(i % 1515, i));
            writer.write(ts, &frame).unwrap();
            expected.push((ts / unit * unit, frame.clone(), frame.len() as u32));
        }
        writer.write_cut(u64::MAX, b"cut", 900).unwrap();
        writer.write(9_000, &vec![1; SNAPLEN as usize + 5]).unwrap();
        assert_eq!(writer.lost(), 0);
        drop(writer);
        let got = drain(&mut file.open(Preload::Streaming).unwrap());
        assert_eq!(got[..2000], expected);
        assert_eq!((&got[2000].1[..], got[2000].2), (&b"cut"[..], 900));
        assert_eq!((got[2001].1.len() as u32, got[2001].2), (SNAPLEN, SNAPLEN + 5));
        assert_eq!(got.len(), 2002);
    }
    assert!(CaptureWriter::create("/nonexistent/x.pcap").is_err());
}

#[test]
fn a_write_error_is_told_once() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    assert!(CaptureWriter::create(full).is_err());
    // A file that fails only later: read-only, through the same code.
    let file = Temp::new(b"");
    let mut writer = CaptureWriter::failing(fs::File::open(&file.0).unwrap());
    let results: Vec<bool> = (0..600).map(|_| writer.write(1, &data(1000, 1)).is_err()).collect();
    assert_eq!(results.iter().filter(|e| **e).count(), 1);
    let at = results.iter().position(|e| *e).unwrap();
    assert_eq!(writer.lost(), 600 - at as u64);
    writer.flush().unwrap();
}

fn valid_captures() -> Vec<Vec<u8>> {
    let frames: Vec<Vec<u8>> = (0..12).map(|i| data(20 + i * 11, i)).collect();
    let mut out = Vec::new();
    for linktype in [1, 101, 113, 0] {
        let mut file = Bytes::pcap(linktype == 0, false, linktype);
        for (i, f) in frames.iter().enumerate() {
            file = file.record(i as u32, 7, f, f.len() as u32);
        }
        out.push(file.out);
    }
    for big in [false, true] {
        let mut file = Bytes::new(big).section(big).interface(1, 0, &[(9, &[9])]).interface(113, 100, &[]);
        for (i, f) in frames.iter().enumerate() {
            file = file.enhanced(i as u32 % 3, i as u64, f, f.len() as u32);
            if i == 6 {
                file = file.section(!big).interface(276, 0, &[]);
            }
        }
        out.push(file.out);
    }
    out
}

/// Opens and drains both ways; gives the frames, or nothing when it does not open.
fn survive(bytes: &[u8]) -> Vec<Frame> {
    let file = Temp::new(bytes);
    let [a, b] = BOTH.map(|p| file.open(p).map(|mut r| drain(&mut r)).unwrap_or_default());
    assert_eq!(a, b);
    a
}

proptest! {
    #[test]
    fn random_bytes_never_panic(head in 0..7usize, body in proptest::collection::vec(any::<u8>(), 0..600)) {
        let start = match head {
            0 => vec![],
            1 => Bytes::pcap(false, false, 1).out,
            2 => Bytes::pcap(true, true, 113).out,
            3 => Bytes::new(false).section(false).out,
            4 => Bytes::new(true).section(true).interface(276, 0, &[]).out,
            5 => vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3],
            _ => Bytes::new(false).section(false).interface(1, 0, &[]).out,
        };
        survive(&[start, body].concat());
    }

    #[test]
    fn mutated_captures_never_panic(
        which in 0..6usize,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        compress in any::<bool>(),
    ) {
        let mut file = valid_captures().swap_remove(which);
        if compress {
            file = gzip(&file);
        }
        for (at, value) in edits {
            let at = at.index(file.len());
            file[at] = value;
        }
        survive(&file);
        file.truncate(cut.index(file.len()));
        survive(&file);
    }

    #[test]
    fn a_cut_capture_gives_a_prefix(which in 0..6usize, cut in any::<prop::sample::Index>()) {
        let file = valid_captures().swap_remove(which);
        let whole = survive(&file);
        let part = survive(&file[..cut.index(file.len())]);
        prop_assert_eq!(&whole[..part.len()], &part[..]);
        prop_assert!(whole.len() >= 6);
    }
}
