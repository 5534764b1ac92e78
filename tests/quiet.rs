//! Who listens to less is told the same: packets that nobody hears of on their sender's side take shorter ways through the monitor
//! (`monitor/plain.rs`, `monitor/quiet.rs`), and what is heard of the flow must not tell.

use mos::{Event, Hook, Monitor, Side};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a capture is looked at.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Every packet is heard of at its sender: the long way.
    each_packet: bool,
    /// Bytes of stream buffer.
    buffer: usize,
    time_wait: Duration,
}

/// All that happens where it arrives, one line each, and the counters.
fn heard(capture: &PathBuf, look: Look) -> Vec<String> {
    let Ok(mut monitor) = Monitor::builder()
        .capture(capture)
        .reassembly(look.buffer.max(1))
        .time_wait(look.time_wait)
        .midstream(true)
        .build()
    else {
        // Not every file of a collection can be read.
        return Vec::new();
    };
    let lines = Arc::new(Mutex::new(Vec::new()));
    let stream = monitor.stream().unwrap();
    for side in [Side::Client, Side::Server] {
        stream.buffer(side, look.buffer);
    }
    if look.each_packet {
        stream.on(Event::PktIn, Hook::Snd, |_| ()).unwrap();
    }
    let listened = [
        (Event::ConnStart, Hook::Rcv),
        (Event::StateChange, Hook::Rcv),
        (Event::Rexmit, Hook::Rcv),
        (Event::NewData, Hook::Null),
        (Event::Error, Hook::Null),
        (Event::ConnEnd, Hook::Rcv),
        (Event::ConnEnd, Hook::Snd),
    ];
    for (event, hook) in listened {
        let lines = lines.clone();
        let on = move |ev: &mut mos::Ctx<'_>| {
            let states = [Side::Client, Side::Server].map(|side| ev.state(side));
            let (side, flow, now) = (ev.side(), ev.flow(), ev.now());
            let mut bytes = Vec::new();
            let missed = if event == Event::NewData { ev.read_into(side, &mut bytes).ok() } else { None };
            let sum = bytes.iter().fold(0u64, |sum, &b| sum.wrapping_mul(31).wrapping_add(b.into()));
            let line = format!(
                "{now:?} {flow} {event:?} {hook:?} {side:?} {states:?} {missed:?} {} {sum}",
                bytes.len()
            );
            lines.lock().unwrap().push(line);
        };
        stream.on(event, hook, on).unwrap();
    }
    let summary = monitor.run().unwrap();
    let mut lines = std::mem::take(&mut *lines.lock().unwrap());
    let mut counters = summary.counters;
    // The packets heard of.
    counters.events[0] = 0;
    lines.push(format!("{counters:?}"));
    lines
}

fn captures() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut dirs = vec![root.join("tests/cases")];
    dirs.extend(std::env::var_os("MOS_TEST_CAPTURES").map(PathBuf::from));
    let files =
        dirs.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path());
    let mut captures: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "pcap" || e == "pcapng")).collect();
    captures.sort();
    captures
}

#[test]
fn who_hears_less_is_told_the_same() {
    let captures = captures();
    assert!(captures.len() > 50, "{}", captures.len());
    let mut changes = 0;
    for capture in captures {
        for (buffer, seconds) in [(0, 0), (8192, 0), (0, 5), (8192, 5)] {
            let look = Look { each_packet: false, buffer, time_wait: Duration::from_secs(seconds) };
            let (short, long) = (heard(&capture, look), heard(&capture, Look { each_packet: true, ..look }));
            for (a, b) in short.iter().zip(&long) {
                assert_eq!(a, b, "{} {look:?}", capture.display());
            }
            assert_eq!(short.len(), long.len(), "{} {look:?}", capture.display());
            changes += short.iter().filter(|line| line.contains("StateChange")).count();
        }
    }
    // Most changes of state come by packets without payload.
    assert!(changes > 1000, "{changes}");
}
