//! What look-ups, insertions and timers cost on this machine, and in memory. Run with
//! `cargo test --release --lib flow::measure -- --ignored --nocapture --test-threads 1`.

use super::*;
use std::hint::black_box;
use std::time::Instant;

/// Stands for a flow: two cache lines.
#[derive(Debug)]
#[repr(C, align(64))]
struct Flow {
    key: ShortKey,
    generation: u32,
    next_free: u32,
    links: (u32, u32),
    due: u64,
    packets: u64,
    rest: [u64; 9],
}

impl Default for Flow {
    fn default() -> Self {
        Flow {
            key: ShortKey::default(),
            generation: 0,
            next_free: 0,
            links: (0, 0),
            due: 0,
            packets: 0,
            rest: [0; 9],
        }
    }
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

impl Links for Arena<Flow> {
    fn links(&self, index: u32) -> (u32, u32) {
        self.at(index).map_or((0, 0), |flow| flow.links)
    }
    fn set_links(&mut self, index: u32, links: (u32, u32)) {
        if let Some(flow) = self.at_mut(index) {
            flow.links = links;
        }
    }
    fn due(&self, index: u32) -> u64 {
        self.at(index).map_or(0, |flow| flow.due)
    }
}

/// A sequence of numbers that looks random.
fn scatter(step: u64) -> u64 {
    let word = step.wrapping_add(0x1234_5678).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word ^ word >> 31).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 20
}

fn tuple(flow: u64) -> (u32, u32, u16, u16) {
    (0x0a00_0000 + (flow as u32 >> 4), 0xc0a8_0001, 1024 + (flow as u16 & 15) * 7, 80)
}

fn nanoseconds(since: Instant, per: usize) -> f64 {
    since.elapsed().as_secs_f64() * 1e9 / per as f64
}

fn lookups(flows: usize) {
    let hash = FlowHash::with_seed(1);
    let (mut arena, mut table) = (Arena::<Flow>::new(), Table::new());
    let start = Instant::now();
    for flow in 0..flows as u64 {
        let (src, dst, sport, dport) = tuple(flow);
        let (key, _) = ShortKey::new(src, dst, sport, dport, 0);
        let id = arena.insert(Flow { key, ..Flow::default() }).unwrap();
        table.insert(hash.short(&key), id.index, |index| hash.short(&arena.at(index).unwrap().key)).unwrap();
    }
    let insert = nanoseconds(start, flows);
    let packets = 4_000_000usize;
    let tuples: Vec<(u32, u32, u16, u16)> =
        (0..1 << 20).map(|step| tuple(scatter(step) % flows as u64)).collect();
    let parse = |step: usize| {
        let (src, dst, sport, dport) = tuples[step & (tuples.len() - 1)];
        ShortKey::new(src, dst, sport, dport, 0).0
    };

    let start = Instant::now();
    let mut sum = 0u64;
    for step in 0..packets {
        sum ^= hash.short(&parse(step));
    }
    black_box(sum);
    let hashing = nanoseconds(start, packets);

    let start = Instant::now();
    let mut hits = 0;
    for step in 0..packets {
        let key = parse(step);
        let found = table.find(hash.short(&key), |index| arena.at(index).is_some_and(|flow| flow.key == key));
        hits += usize::from(found.is_some());
    }
    let single = nanoseconds(start, packets);
    assert_eq!(hits, packets);

    // As the burst does it: hash and fetch buckets, guess and fetch records, then confirm and touch both lines.
    let start = Instant::now();
    let mut hits = 0;
    let mut burst = [(ShortKey::default(), 0u64); 64];
    for first in (0..packets).step_by(64) {
        for (offset, slot) in burst.iter_mut().enumerate() {
            let key = parse(first + offset);
            *slot = (key, hash.short(&key));
            table.prefetch(slot.1);
        }
        for (_, hash) in &burst {
            if let Some(index) = table.candidate(*hash) {
                arena.prefetch(index, 2);
            }
        }
        for (key, hash) in &burst {
            let found = table.find(*hash, |index| arena.at(index).is_some_and(|flow| flow.key == *key));
            if let Some(flow) = found.and_then(|index| arena.at_mut(index)) {
                flow.packets += 1;
                flow.rest[8] += 1;
                hits += 1;
            }
        }
    }
    let burst = nanoseconds(start, packets);
    assert_eq!(hits, packets);
    let (entry, record) =
        (table.allocated_bytes() as f64 / flows as f64, arena.allocated_bytes() as f64 / flows as f64);
    println!(
        "{flows:>8} flows: insert {insert:.1} ns, hash {hashing:.1} ns, find {single:.1} ns, burst of 64 {burst:.1} ns; \
         {entry:.1} B an entry, {record:.1} B a record; {table:?}"
    );
    assert!(flows < 10_000 || entry < 16.0 && record < 136.0);
}

#[test]
#[ignore = "a measurement: minutes in a debug build"]
fn look_ups() {
    for flows in [1_000, 200_000, 1_000_000, 4_000_000] {
        lookups(flows);
    }
}

#[test]
#[ignore = "a measurement: minutes in a debug build"]
fn timers() {
    let mut arena = Arena::<Flow>::new();
    let flows = 1_000_000u32;
    for _ in 0..flows {
        arena.insert(Flow::default()).unwrap();
    }
    let mut wheel = Wheel::new(1_000_000);
    let start = Instant::now();
    for index in 0..flows {
        let due = 1_030_000 + u64::from(index / 100);
        arena.at_mut(index).unwrap().due = due;
        wheel.insert(&mut arena, index, due);
    }
    let insert = nanoseconds(start, flows as usize);

    // Half of them were seen again: their expiry is put off when it comes up.
    for index in (0..flows).step_by(2) {
        arena.at_mut(index).unwrap().due += 20_000;
    }
    let (start, mut popped, mut stops, mut longest) = (Instant::now(), 0usize, 0, 0.0f64);
    while let Some(now) = wheel.next_due() {
        let stop = Instant::now();
        while let Some(index) = wheel.pop_due(&mut arena, now) {
            assert_eq!(arena.at(index).unwrap().due, now);
            popped += 1;
        }
        longest = longest.max(stop.elapsed().as_secs_f64() * 1e6);
        stops += 1;
    }
    let expire = nanoseconds(start, popped);
    assert_eq!(popped, flows as usize);

    for index in 0..flows {
        wheel.insert(&mut arena, index, 2_000_000 + scatter(u64::from(index)) % 30_000);
    }
    let start = Instant::now();
    for step in 0..flows {
        let index = step.wrapping_mul(7_777_777) % flows;
        wheel.remove(&mut arena, index);
    }
    let remove = nanoseconds(start, flows as usize);
    assert!(wheel.is_empty());
    println!(
        "timers: insert {insert:.1} ns, expire {expire:.1} ns ({stops} stops, longest {longest:.0} us), remove {remove:.1} ns"
    );
}
