//! Real captures by others, when they are there: the reader finds the packets that the manifest and tcpdump find.
//!
//! The folder is `MOS_TEST_CAPTURES`, by default `../shared/traffic`. Present but nothing checked is a failure.

use mos::io::capture::{CaptureReader, Preload};
use mos::io::replay::{Fill, Replay, ReplayOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> Option<PathBuf> {
    let (path, asked) = match std::env::var_os("MOS_TEST_CAPTURES") {
        Some(p) => (PathBuf::from(p), true),
        None => (Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/traffic"), false),
    };
    let there = path.join("MANIFEST.tsv").is_file();
    assert!(there || !asked, "MOS_TEST_CAPTURES={} has no MANIFEST.tsv", path.display());
    if !there {
        println!("skipped: no captures at {}", path.display());
    }
    there.then_some(path)
}

/// Packets, and a sum over stamps and bytes.
fn replay(path: &Path, preload: Preload) -> (u64, u64) {
    let reader = CaptureReader::open(path, preload).unwrap_or_else(|e| panic!("{e}"));
    let mut replay = Replay::new(vec![reader], ReplayOptions::default()).unwrap();
    let (mut out, mut count, mut sum) = (Vec::new(), 0, 0u64);
    while let Fill::Batch { now_ns, .. } = replay.fill(&mut out) {
        for f in &out {
            count += 1;
            sum = sum.rotate_left(5) ^ f.ts_ns ^ now_ns ^ u64::from(f.wire_len);
            for b in replay.frame_bytes(f) {
                sum = sum.wrapping_mul(31).wrapping_add(u64::from(*b));
            }
        }
    }
    let reader = &replay.readers()[0];
    assert_eq!(reader.skipped().total(), 0, "{:?}", reader.warning());
    (count, sum)
}

/// Lines of `tcpdump -r`, one a packet; `None` when it is not installed or cannot read the file.
fn tcpdump(path: &Path) -> Option<u64> {
    let run = Command::new("tcpdump").args(["-nn", "-t", "-q", "--count", "-r"]).arg(path).output().ok()?;
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    text.lines().rev().find_map(|l| l.split_once(" packet")?.0.parse().ok())
}

#[test]
fn every_packet_of_every_capture() {
    let Some(folder) = folder() else { return };
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let mut lines = manifest.lines().map(|l| l.split('\t').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let column = |name| header.iter().position(|c| *c == name).unwrap();
    let (file, packets) = (column("file"), column("packets"));
    let (mut checked, mut compared, mut total) = (0, 0, 0);
    for line in lines {
        let path = folder.join(line[file]);
        let expected: u64 = line[packets].parse().unwrap();
        let whole = replay(&path, Preload::Whole);
        assert_eq!(whole.0, expected, "{}", line[file]);
        assert_eq!(replay(&path, Preload::Streaming), whole, "{}", line[file]);
        if let Some(n) = tcpdump(&path) {
            assert_eq!(n, expected, "tcpdump, {}", line[file]);
            compared += 1;
        }
        checked += 1;
        total += whole.0;
    }
    println!("{checked} captures, {total} packets; {compared} of them compared with tcpdump");
    assert!(checked > 0);
}
