//! What the parts of the packet path cost, in ns per operation: a few seconds in total.
//!
//! `cargo bench -p mos --bench micro [-- PATTERN]`. Each figure is the median of its rounds, beside the shortest and the longest.

use mos::flow::{Arena, FlowHash, Links, Record, ShortKey, Table, Wheel};
use mos::io::capture::{CaptureReader, Preload};
use mos::io::replay::{Fill, Replay, ReplayOptions, RxFrame};
use mos::runtime::affinity::{pin, thread_cpu_ns};
use mos::tcp::reassembly::{Read, Reassembly};
use mos::tcp::tcb::{Config, Open, Segment, Tcb};
use mos::wire::{checksum, ipv4, parse};
use std::hint::black_box;
use std::io::Write;

const ROUNDS: usize = 9;

/// Runs and prints the measurements whose name contains `pattern`.
struct Bench {
    pattern: String,
    /// A call without `--bench` (from `cargo test --benches`) only tries everything once.
    rounds: usize,
}

impl Bench {
    /// Measures `run`, which does `per` operations a call.
    fn measure(&self, name: &str, per: usize, mut run: impl FnMut()) {
        if !name.contains(&self.pattern) {
            return;
        }
        run();
        let mut times: Vec<f64> = (0..self.rounds)
            .map(|_| {
                let start = thread_cpu_ns();
                run();
                (thread_cpu_ns() - start) as f64 / per as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{name:<44} {:>9.2} ns   ({:.2}-{:.2})",
            times[times.len() / 2],
            times[0],
            times[times.len() - 1]
        );
    }

    fn wants(&self, group: &str) -> bool {
        group.contains(&self.pattern) || self.pattern.contains(group)
    }
}

/// Stands for a flow: two cache lines.
#[derive(Default)]
#[repr(C, align(64))]
struct Flow {
    key: ShortKey,
    generation: u32,
    next_free: u32,
    links: (u32, u32),
    due: u64,
    rest: [u64; 10],
}

impl Record for Flow {
    fn generation(&self) -> u32 {
        self.generation
    }
    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }
    fn next_free(&self) -> u32 {
        self.next_free
    }
    fn set_next_free(&mut self, index: u32) {
        self.next_free = index;
    }
}

/// The records with the neighbours that the wheel links.
struct Timed(Arena<Flow>);

impl Links for Timed {
    fn links(&self, index: u32) -> (u32, u32) {
        self.0.at(index).map_or((0, 0), |flow| flow.links)
    }
    fn set_links(&mut self, index: u32, links: (u32, u32)) {
        if let Some(flow) = self.0.at_mut(index) {
            flow.links = links;
        }
    }
    fn due(&self, index: u32) -> u64 {
        self.0.at(index).map_or(0, |flow| flow.due)
    }
}

/// An Ethernet frame of `len` bytes with an IPv4 TCP packet whose checksums are right.
fn frame(len: usize, sport: u16) -> Vec<u8> {
    let mut frame = vec![0x5a; len];
    frame[12..14].copy_from_slice(&[8, 0]);
    let packet = &mut frame[14..];
    let tot_len = packet.len() as u16;
    packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 192, 168, 0, 1]);
    packet[ipv4::OFF_TOTAL_LEN..][..2].copy_from_slice(&tot_len.to_be_bytes());
    packet[20..22].copy_from_slice(&sport.to_be_bytes());
    packet[22..24].copy_from_slice(&80u16.to_be_bytes());
    packet[32..34].copy_from_slice(&[0x50, 0x10]);
    checksum::fill_ipv4(packet).and_then(|()| checksum::fill_tcp(packet)).expect("a whole packet");
    frame
}

/// Frames enough to leave the first cache, not the second: the sum, not the memory, is measured.
fn wire(bench: &Bench) {
    for len in [54usize, 609, 1031] {
        let frames: Vec<Vec<u8>> =
            (0..(256 * 1024usize).div_ceil(len)).map(|i| frame(len, i as u16)).collect();
        let turns = 20_000_000 / (len + 200) / frames.len() + 1;
        bench.measure(&format!("checksum, IP and TCP of {len} B"), turns * frames.len(), || {
            for _ in 0..turns {
                for frame in &frames {
                    let packet = &frame[14..];
                    let (ip, tcp) = checksum::verify(packet, 5, packet.len() as u16, true);
                    assert!(black_box(ip && tcp));
                }
            }
        });
    }
    let frames: Vec<Vec<u8>> = (0..1000).map(|i| frame(64, i)).collect();
    bench.measure("parse", 200 * frames.len(), || {
        for _ in 0..200 {
            for frame in &frames {
                black_box(parse(black_box(frame), frame.len() as u32));
            }
        }
    });
}

/// A sequence of numbers that looks random.
fn scatter(step: u64) -> u64 {
    let word = step.wrapping_add(0x1234_5678).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word ^ word >> 31).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 20
}

fn lookups(bench: &Bench, flows: usize) {
    const PACKETS: usize = 1 << 18;
    let hash = FlowHash::with_seed(1);
    let (mut arena, mut table) = (Arena::<Flow>::new(), Table::new());
    let key = |flow: u64| {
        let client = 0x0a00_0000 + (flow / 60_000) as u32;
        ShortKey::new(client, 0xc0a8_0001, 1024 + (flow % 60_000) as u16, 80, 0).0
    };
    for flow in 0..flows as u64 {
        let key = key(flow);
        let id = arena.insert(Flow { key, ..Flow::default() }).expect("memory");
        let rehash = |index| arena.at(index).map_or(0, |flow| hash.short(&flow.key));
        table.insert(hash.short(&key), id.index, rehash).expect("memory");
    }
    let keys: Vec<ShortKey> = (0..PACKETS as u64).map(|step| key(scatter(step) % flows as u64)).collect();
    bench.measure(&format!("look-up, one by one, {flows} flows"), PACKETS, || {
        let hits = keys
            .iter()
            .filter(|key| {
                let is_it = |index: u32| arena.at(index).is_some_and(|flow| flow.key == **key);
                table.find(hash.short(key), is_it).is_some()
            })
            .count();
        assert_eq!(hits, PACKETS);
    });
    bench.measure(&format!("look-up, bursts of 64, {flows} flows"), PACKETS, || {
        let mut hits = 0;
        let mut burst = [(0u64, None); 64];
        for keys in keys.chunks(64) {
            for (key, slot) in keys.iter().zip(&mut burst) {
                *slot = (hash.short(key), None);
                table.prefetch(slot.0);
            }
            for (hash, candidate) in &mut burst[..keys.len()] {
                *candidate = table.candidate(*hash);
                if let Some(index) = *candidate {
                    arena.prefetch(index, 2);
                }
            }
            for (key, (hash, candidate)) in keys.iter().zip(&burst) {
                let is_it = |index: u32| arena.at(index).is_some_and(|flow| flow.key == *key);
                let found = candidate.filter(|&index| is_it(index)).or_else(|| table.find(*hash, is_it));
                hits +=
                    usize::from(found.is_some_and(|index| arena.at(index).is_some_and(|f| f.rest[9] == 0)));
            }
        }
        assert_eq!(hits, PACKETS);
    });
}

/// One stream, read after each segment; and many streams of two segments each, with their memory.
fn reassembly(bench: &Bench) {
    const MSS: usize = 1448;
    let segment = [7u8; MSS];
    let mut out = [0u8; 2 * MSS];
    let mut take = |stream: &mut Reassembly, tail: u64| {
        let accepted = stream.accept(tail, tail, &segment, MSS).expect("memory");
        assert_eq!(stream.read(accepted.tail, tail, &mut out[..MSS]), Read::Bytes(MSS));
        accepted.tail
    };
    bench.measure("reassembly, accept and read 1448 B in order", 20_000, || {
        let mut stream = Reassembly::new(0, 8192);
        (0..20_000).fold(0, |tail, _| take(&mut stream, tail));
    });
    bench.measure("reassembly, a new stream's first 1448 B", 20_000, || {
        for _ in 0..20_000 {
            take(&mut Reassembly::new(0, 8192), 0);
        }
    });
    bench.measure("reassembly, two segments exchanged", 20_000, || {
        let mut stream = Reassembly::new(0, 8192);
        (0..10_000).fold(0, |tail, _| {
            let ahead = stream.accept(tail, tail + MSS as u64, &segment, MSS).expect("memory");
            assert_eq!(ahead.tail, tail);
            stream.accept(tail, tail, &segment, MSS).expect("memory").tail
        });
    });
}

fn wheel(bench: &Bench) {
    const FLOWS: u32 = 100_000;
    let mut arena = Arena::<Flow>::new();
    for _ in 0..FLOWS {
        arena.insert(Flow::default()).expect("memory");
    }
    let mut flows = Timed(arena);
    let mut now = 1_000_000;
    let mut wheel = Wheel::new(now);
    bench.measure("timer wheel, insert and pop", FLOWS as usize, || {
        for index in 0..FLOWS {
            let due = now + 30_000 + u64::from(index / 100);
            if let Some(flow) = flows.0.at_mut(index) {
                flow.due = due;
            }
            wheel.insert(&mut flows, index, due);
        }
        let mut popped = 0;
        while let Some(due) = wheel.next_due() {
            now = due;
            while wheel.pop_due(&mut flows, now).is_some() {
                popped += 1;
            }
        }
        assert_eq!(popped, FLOWS);
    });
}

/// The replay reader over a preloaded capture of 64-byte frames, one a microsecond.
fn replay(bench: &Bench) -> std::io::Result<()> {
    const PACKETS: usize = 200_000;
    let frame = frame(64, 1);
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 262_144, 1u32] {
        file.extend(word.to_le_bytes());
    }
    for at in 0..PACKETS as u32 {
        for word in [1_700_000_000 + at / 1_000_000, at % 1_000_000, 64, 64] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&frame);
    }
    let path = std::env::temp_dir().join(format!("mos-micro-{}.pcap", std::process::id()));
    std::fs::File::create(&path)?.write_all(&file)?;
    let reader = CaptureReader::open(&path, Preload::Whole);
    std::fs::remove_file(&path)?;
    let reader = reader.map_err(std::io::Error::other)?;

    let options = ReplayOptions { preload: Preload::Whole, ..ReplayOptions::default() };
    bench.measure("replay, fill", PACKETS, || {
        let again = reader.duplicate().and_then(|reader| Replay::new(vec![reader], options));
        let mut replay = again.expect("a reader of bytes in memory");
        let mut batch: Vec<RxFrame> = Vec::new();
        let mut seen = 0;
        while let Fill::Batch { .. } = replay.fill(&mut batch) {
            seen += black_box(&batch).len();
        }
        assert_eq!(seen, PACKETS);
    });
    Ok(())
}

/// What `from` has to send, handed to `to`; payloads are copied once, as into a packet.
fn carry(from: &mut Tcb, to: &mut Tcb, now: u64, packet: &mut [u8]) -> usize {
    from.poll_transmit(now, usize::MAX, |t| {
        let len = t.payload.copy_to(packet);
        let seg = Segment {
            seq: t.seq,
            ack: t.ack,
            flags: t.flags,
            window: t.window,
            options: t.options,
            payload: &packet[..len],
        };
        to.on_segment(now, &seg);
        true
    })
}

/// Two connections of an end host, back to back.
fn connections(bench: &Bench) {
    let config = std::sync::Arc::new(Config::default());
    let mut now = 1_000_000;
    let (mut packet, mut buffer) = (vec![0; 2048], vec![0; 1 << 16]);
    let mut client = Tcb::connect(config.clone(), now, &Open::new(1));
    let mut server = None;
    client.poll_transmit(now, 1, |t| {
        let syn = Segment {
            seq: t.seq,
            ack: 0,
            flags: t.flags,
            window: t.window,
            options: t.options,
            payload: &[],
        };
        server = Tcb::accept(config.clone(), now, &Open::new(2), &syn);
        true
    });
    let Some(mut server) = server else { return };
    carry(&mut server, &mut client, now, &mut packet);
    carry(&mut client, &mut server, now, &mut packet);
    // Opens the windows.
    for _ in 0..2000 {
        now += 100;
        let _ = client.write(&buffer);
        carry(&mut client, &mut server, now, &mut packet);
        while let Ok(1..) = server.read(now, &mut buffer) {}
        carry(&mut server, &mut client, now, &mut packet);
    }
    bench.measure("connection: 45 segments of data, read, acked", 45 * 100, || {
        for _ in 0..100 {
            now += 100;
            let sent = client.write(&buffer[..45 * 1448]);
            assert_eq!(sent, Ok(45 * 1448));
            carry(&mut client, &mut server, now, &mut packet);
            while let Ok(1..) = server.read(now, &mut buffer) {}
            carry(&mut server, &mut client, now, &mut packet);
        }
    });
    bench.measure("connection: request and answer of 64 bytes", 1000, || {
        for _ in 0..1000 {
            now += 100;
            let _ = black_box(client.write(&buffer[..64]));
            carry(&mut client, &mut server, now, &mut packet);
            let _ = black_box(server.read(now, &mut buffer));
            let _ = black_box(server.write(&buffer[..64]));
            carry(&mut server, &mut client, now, &mut packet);
            let _ = black_box(client.read(now, &mut buffer));
        }
    });
}

fn main() -> std::io::Result<()> {
    let measured = std::env::args().any(|arg| arg == "--bench");
    let pattern = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let bench = Bench { pattern, rounds: if measured { ROUNDS } else { 1 } };
    pin(0);
    wire(&bench);
    if bench.wants("look-up") {
        for flows in [1_000, 200_000, 1_000_000] {
            lookups(&bench, flows);
        }
    }
    reassembly(&bench);
    wheel(&bench);
    connections(&bench);
    if bench.wants("replay") {
        replay(&bench)?;
    }
    Ok(())
}
