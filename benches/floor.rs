//! The floor under every monitor: what a packet costs before anything is known about its flow.
//!
//! In bursts of 64, for each packet of a preloaded capture: the record header is walked, the headers parsed, every byte
//! checksummed, the tuple hashed; then one bucket of the flow table and both cache lines of one flow record are
//! read, each fetched in advance. Nothing else. The routines are the library's own.
//!
//! The table holds as many flows as the capture has at its peak. Before the measurement the capture's copy in
//! memory is prepared for that: a flow takes the tuple of one that has ended, as its record takes the other's slot.
//!
//! `floor CAPTURE [--passes N] [--warmup N] [--cores N]` prints one line of `key=value` for each core: its thread is pinned to it and
//! has the packets that a card would give it, its own table and records. The first so many packets of each are not in the figures.

use mos::flow::{Arena, Direction, FlowHash, Record, ShortKey, Table};
use mos::runtime::affinity::{pin, thread_cpu_ns};
use mos::wire::checksum::{fill_ipv4, fill_tcp, verify};
use mos::wire::rss::{Rss, RssForm};
use mos::wire::{Parsed, ipv4, parse, tcp};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Barrier;

const BURST: usize = 64;
/// Bytes of a pcap file's and a pcap record's header.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// pcap with microseconds, little endian, as the generator writes it.
const MAGIC: u32 = 0xa1b2_c3d4;

/// Stands for a flow: two cache lines.
#[derive(Default)]
#[repr(C, align(64))]
struct Flow {
    key: ShortKey,
    generation: u32,
    next_free: u32,
    first_line: [u64; 5],
    second_line: [u64; 8],
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

/// One frame: where it begins, its bytes present and its bytes on the wire.
#[derive(Clone, Copy)]
struct Place {
    off: usize,
    cap_len: usize,
    wire_len: u32,
}

/// The record at `*at`, which is moved behind it.
#[inline(always)]
fn next(bytes: &[u8], at: &mut usize) -> Option<Place> {
    let head = bytes.get(*at..)?.first_chunk::<RECORD_HEADER>()?;
    let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let (off, cap_len) = (*at + RECORD_HEADER, word(8) as usize);
    *at = off + cap_len;
    (*at <= bytes.len()).then_some(Place { off, cap_len, wire_len: word(12) })
}

#[inline(always)]
fn key_of(p: &Parsed) -> (ShortKey, Direction) {
    ShortKey::new(u32::from_be(p.src), u32::from_be(p.dst), p.src_port(), p.dst_port(), 0)
}

/// A flow of the capture.
struct Span {
    key: ShortKey,
    hash: u64,
    last_packet: usize,
    /// Which of the tuples left it takes.
    slot: Option<usize>,
}

/// The capture's flows, and the flow of each packet.
fn spans(bytes: &[u8], hash: &FlowHash) -> Result<(Vec<Span>, Vec<u32>), String> {
    let (mut spans, mut packets) = (Vec::<Span>::new(), Vec::new());
    let (mut table, mut at) = (Table::new(), FILE_HEADER);
    while let Some(place) = next(bytes, &mut at) {
        let parsed = parse(&bytes[place.off..place.off + place.cap_len], place.wire_len);
        if !parsed.is_tcp() || parsed.truncated {
            return Err(format!("the frame at byte {} is not a whole TCP packet", place.off));
        }
        let key = key_of(&parsed).0;
        let code = hash.short(&key);
        let flow = match table.find(code, |index| spans[index as usize].key == key) {
            Some(flow) => flow,
            None => {
                let flow = spans.len() as u32;
                spans.push(Span { key, hash: code, last_packet: 0, slot: None });
                table
                    .insert(code, flow, |index| spans[index as usize].hash)
                    .map_err(|error| error.to_string())?;
                flow
            }
        };
        spans[flow as usize].last_packet = packets.len();
        packets.push(flow);
    }
    Ok((spans, packets))
}

/// Gives each flow the tuple of one that ended before it began, if there is one. Returns the tuples left: as many as
/// there are flows at the peak.
fn share_tuples(bytes: &mut [u8], hash: &FlowHash) -> Result<Vec<ShortKey>, String> {
    let (mut spans, packets) = spans(bytes, hash)?;
    let (mut tuples, mut free) = (Vec::new(), Vec::new());
    let mut at = FILE_HEADER;
    for (number, &flow) in packets.iter().enumerate() {
        let Some(place) = next(bytes, &mut at) else { break };
        let span = &mut spans[flow as usize];
        let slot = *span.slot.get_or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                tuples.push(span.key);
                tuples.len() - 1
            })
        });
        if tuples[slot] != span.key {
            rename(&mut bytes[place.off..place.off + place.cap_len], place.wire_len, &tuples[slot]);
        }
        if span.last_packet == number {
            free.push(slot);
        }
    }
    Ok(tuples)
}

/// Writes another tuple into a packet, with right checksums.
fn rename(frame: &mut [u8], wire_len: u32, to: &ShortKey) {
    let parsed = parse(frame, wire_len);
    let ((low, high), (low_port, high_port)) = (to.addresses(), to.ports());
    let (src, dst, sport, dport) = match key_of(&parsed).1 {
        Direction::Forward => (low, high, low_port, high_port),
        Direction::Reverse => (high, low, high_port, low_port),
    };
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    frame[l3 + ipv4::OFF_SRC..][..4].copy_from_slice(&src.to_be_bytes());
    frame[l3 + ipv4::OFF_DST..][..4].copy_from_slice(&dst.to_be_bytes());
    frame[l4 + tcp::OFF_SPORT..][..2].copy_from_slice(&sport.to_be_bytes());
    frame[l4 + tcp::OFF_DPORT..][..2].copy_from_slice(&dport.to_be_bytes());
    let packet = &mut frame[l3..l3 + usize::from(parsed.ip_len)];
    let filled = fill_ipv4(packet).and_then(|()| fill_tcp(packet));
    assert!(filled.is_some(), "a whole TCP packet takes its checksums");
}

#[derive(Default)]
struct Totals {
    packets: u64,
    bytes: u64,
    bad: u64,
    missed: u64,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.bad += other.bad;
        self.missed += other.missed;
    }
}

/// The measured loop: packets from `*at` on, `most` of them rounded up to a burst, or all.
fn pass(
    bytes: &[u8],
    at: &mut usize,
    most: u64,
    hash: &FlowHash,
    table: &Table,
    flows: &Arena<Flow>,
) -> Totals {
    let mut totals = Totals::default();
    let mut burst = [(ShortKey::default(), 0u64, None::<u32>); BURST];
    while totals.packets < most {
        let mut count = 0;
        for slot in &mut burst {
            let Some(place) = next(bytes, at) else { break };
            let frame = &bytes[place.off..place.off + place.cap_len];
            let parsed = parse(frame, place.wire_len);
            let l3 = usize::from(parsed.l3);
            let (ip, tcp) = verify(&frame[l3..], parsed.ihl, parsed.ip_len, true);
            totals.bad += u64::from(!(ip && tcp));
            totals.bytes += place.cap_len as u64;
            let key = key_of(&parsed).0;
            *slot = (key, hash.short(&key), None);
            table.prefetch(slot.1);
            count += 1;
        }
        let burst = &mut burst[..count];
        for (_, hash, candidate) in burst.iter_mut() {
            *candidate = table.candidate(*hash);
            if let Some(index) = *candidate {
                flows.prefetch(index, 2);
            }
        }
        for (key, hash, candidate) in burst.iter() {
            let is_it = |index: u32| flows.at(index).is_some_and(|flow| flow.key == *key);
            let found = candidate.filter(|&index| is_it(index)).or_else(|| table.find(*hash, is_it));
            match found.and_then(|index| flows.at(index)) {
                Some(flow) => _ = black_box(flow.second_line[0]),
                None => totals.missed += 1,
            }
        }
        totals.packets += count as u64;
        if count < BURST {
            break;
        }
    }
    totals
}

/// The capture's packets, dealt out to so many cores.
fn deal(bytes: Vec<u8>, cores: u32) -> Vec<Vec<u8>> {
    if cores == 1 {
        return vec![bytes];
    }
    let rss = Rss::new(RssForm::Fair);
    let mut parts = vec![bytes[..FILE_HEADER].to_vec(); cores as usize];
    let mut at = FILE_HEADER;
    while let Some(place) = next(&bytes, &mut at) {
        let p = parse(&bytes[place.off..place.off + place.cap_len], place.wire_len);
        let part = &mut parts[rss.queue(p.src, p.dst, p.sport, p.dport, cores) as usize];
        part.extend_from_slice(&bytes[place.off - RECORD_HEADER..place.off + place.cap_len]);
    }
    parts
}

/// One core's packets: the line about them.
fn run_core(core: usize, mut bytes: Vec<u8>, options: &Options, start: &Barrier) -> Result<String, String> {
    let pinned = pin(core);
    let hash = FlowHash::with_seed(1);
    let (mut table, mut flows) = (Table::new(), Arena::<Flow>::new());
    let tuples = share_tuples(&mut bytes, &hash).and_then(|tuples| {
        for key in &tuples {
            let id =
                flows.insert(Flow { key: *key, ..Flow::default() }).map_err(|error| error.to_string())?;
            let rehash = |index| flows.at(index).map_or(0, |flow| hash.short(&flow.key));
            table.insert(hash.short(key), id.index, rehash).map_err(|error| error.to_string())?;
        }
        Ok(tuples.len())
    });
    // Also with an error: the others wait.
    start.wait();
    let tuples = tuples?;

    let (mut totals, mut thread_ns) = (Totals::default(), 0);
    for number in 0..options.passes {
        let mut at = FILE_HEADER;
        if number == 0 && options.warmup > 0 {
            pass(&bytes, &mut at, options.warmup, &hash, &table, &flows);
        }
        let start = thread_cpu_ns();
        totals.add(&pass(&bytes, &mut at, u64::MAX, &hash, &table, &flows));
        thread_ns += thread_cpu_ns() - start;
    }
    let Totals { packets, bytes, bad, missed } = totals;
    if bad + missed > 0 {
        return Err(format!("{bad} wrong checksums, {missed} packets without a flow"));
    }
    Ok(format!(
        "FLOOR core={core} packets={packets} bytes={bytes} flows={tuples} ns_per_packet={:.2} thread_ns={thread_ns} pinned={}",
        thread_ns as f64 / packets.max(1) as f64,
        u8::from(pinned),
    ))
}

/// The command line.
struct Options {
    path: String,
    passes: u32,
    warmup: u64,
    cores: u32,
}

impl Options {
    fn read(args: &[String]) -> Option<Options> {
        let [path, rest @ ..] = args else { return None };
        let mut options = Options { path: path.clone(), passes: 1, warmup: 0, cores: 1 };
        for pair in rest.chunks(2) {
            let [name, value] = pair else { return None };
            match name.as_str() {
                "--passes" => options.passes = value.parse().ok().filter(|&n| n > 0)?,
                "--warmup" => options.warmup = value.parse().ok()?,
                "--cores" => options.cores = value.parse().ok().filter(|n| (1..=64).contains(n))?,
                _ => return None,
            }
        }
        Some(options)
    }
}

fn run(options: &Options) -> Result<(), String> {
    let bytes = std::fs::read(&options.path).map_err(|error| error.to_string())?;
    if bytes.len() < FILE_HEADER || bytes[..4] != MAGIC.to_le_bytes() {
        return Err("expected a little-endian pcap file with microseconds".into());
    }
    let start = &Barrier::new(options.cores as usize);
    let lines: Vec<_> = std::thread::scope(|scope| {
        let parts = deal(bytes, options.cores).into_iter().enumerate();
        let threads: Vec<_> =
            parts.map(|(core, part)| scope.spawn(move || run_core(core, part, options, start))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())))
            .collect()
    });
    for line in lines {
        println!("{}", line?);
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let Some(options) = Options::read(&args) else {
        println!("usage: floor CAPTURE [--passes N] [--warmup N] [--cores N]; benches/run.py calls it");
        return if args.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {}: {error}", options.path);
            ExitCode::FAILURE
        }
    }
}
