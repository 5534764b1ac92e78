//! Runs one case on a core of its own and looks at everything that must hold, after each iteration and at the end.

use crate::random::Random;
use crate::traffic::Frame;
use crate::world::{self, Manners, Shared};
use mos::config::{Config, Mos};
use mos::endpoint::Endpoint;
use mos::flow::token::Token;
use mos::io::capture::{CaptureReader, Next, Preload};
use mos::io::output::{Frames, Output};
use mos::io::source::{Port, Source};
use mos::monitor::forest::Forest;
use mos::monitor::socket::NO_SOCKET;
use mos::monitor::state::ForeignCalls;
use mos::monitor::{Monitor, Settings};
use mos::runtime::context::Context;
use mos::runtime::core_loop::{self, Round};
use parking_lot::RwLock;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};

/// A monitor's settings, its callbacks' manners, its packets.
pub struct Case {
    pub settings: Settings,
    pub manners: Manners,
    pub seed: u64,
    /// Virtual nanoseconds and what arrives then.
    pub batches: Vec<(u64, Vec<Frame>)>,
    /// Whether frames may leave.
    pub output: bool,
}

/// What cases reached.
#[derive(Debug, Default)]
pub struct Reached {
    pub flows: u64,
    pub calls: u64,
    starts: u64,
    read: u64,
    packets: u64,
    in_flow: u64,
    evicted: u64,
    missing: u64,
    refused: u64,
}

impl Reached {
    pub fn add(&mut self, o: &Reached) {
        self.flows += o.flows;
        self.calls += o.calls;
        self.starts += o.starts;
        self.read += o.read;
        self.packets += o.packets;
        self.in_flow += o.in_flow;
        self.evicted += o.evicted;
        self.missing += o.missing;
        self.refused += o.refused;
    }
}

impl Case {
    pub fn new(r: &mut Random, checked: bool) -> Case {
        let settings = Settings {
            max_ids: r.pick(&[8, 16, 64, 100_000]),
            rmem: r.pick(&[1024, 1024, 4096, 8192, 1 << 20]),
            timeout_ms: r.pick(&[None, Some(1000), Some(30_000), Some(1)]),
            time_wait_ms: r.pick(&[0, 0, 1, 5000]),
            forward: !r.once_in(10),
            verify: checked || !r.once_in(3),
            midstream: r.once_in(3),
            memory_limit: r.pick(&[None, None, Some(0), Some(3000), Some(50_000)]),
        };
        let manners = Manners { calm: r.pick(&[0, 2, 6, 30]), checked, nat: r.once_in(6) };
        Case { settings, manners, seed: r.bits(), batches: Vec::new(), output: !r.once_in(8) }
    }
}

/// The frames of a capture file.
pub fn frames_of(path: &Path) -> Vec<Vec<u8>> {
    let Ok(mut reader) = CaptureReader::open(path, Preload::Whole) else { return Vec::new() };
    let mut frames = Vec::new();
    while let Next::Frame(frame) = reader.next() {
        frames.push(reader.frame(&frame).to_vec());
    }
    frames
}

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes panics of cases, which are told with their seed; others are printed as ever.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.location().is_some_and(|l| l.file().ends_with("main.rs")) {
                usual(info);
            }
            let _ = LAST_PANIC.try_with(|p| p.borrow_mut().get_or_insert_with(|| info.to_string()).len());
        }));
    });
}

/// Runs a case: what it reached, and what was wrong.
pub fn run(case: Case) -> (Reached, Vec<String>) {
    watch_panics();
    LAST_PANIC.with(|p| p.borrow_mut().take());
    let result = catch_unwind(AssertUnwindSafe(|| play(case)));
    let panic = LAST_PANIC.with(|p| p.borrow_mut().take());
    let (reached, mut wrong) = result.unwrap_or_default();
    if let Some(panic) = panic {
        wrong.insert(0, panic);
    }
    (reached, wrong)
}

fn play(case: Case) -> (Reached, Vec<String>) {
    let outputs = [Frames::default(), Frames::default()];
    let port = |n: usize| Port {
        mate: Some(1 - n as u8),
        output: case.output.then(|| Output::Memory(outputs[n].clone())),
        ..Port::default()
    };
    let source = Source::script(vec![port(0), port(1)]);
    let foreign = ForeignCalls { callback: |_, _, _, _, _, _| {}, filter: |_, _, _, _, _, _| false };
    let config = Arc::new(Config { apps: Vec::new(), mos: Mos::default() });
    let mut context = Context::with_settings(0, config, case.settings, foreign, source);
    context.monitor.own_forest = Some(Box::new(RwLock::new(Forest::default())));
    let m = &context.monitor;
    let _held = context.baton.take();
    // SAFETY: the core's lock is held, and this thread has no other token for the core.
    let mut token = unsafe { Token::new() };
    let t = &mut token;
    let world = world::populate(m, t, Random::new(case.seed), case.manners);

    let received = case.batches.iter().map(|(_, frames)| frames.len() as u64).sum::<u64>();
    let trace = world.lock().unwrap().trace;
    for (now, frames) in case.batches {
        arrive(m, t, now, frames, trace);
        look(m, t, &world);
        if !world.lock().unwrap().wrong.is_empty() {
            break;
        }
    }
    drain(m, t, &world);
    look(m, t, &world);
    world::epilogue(&world);
    let fault = nothing_left(m, t, &world);
    let mut w = world.lock().unwrap();
    w.wrong.extend(fault);
    let st = m.state(t).stats;
    if w.wrong.is_empty() && st.rx_packets != received {
        w.wrong.push(format!("{} of {received} packets", st.rx_packets));
    }
    let reached = Reached {
        flows: st.flows_created,
        calls: w.calls,
        starts: w.starts,
        read: w.read,
        packets: st.rx_packets,
        in_flow: st.in_flow,
        evicted: st.flows_evicted,
        missing: st.missing_bytes,
        refused: st.refused_bytes,
    };
    (reached, std::mem::take(&mut w.wrong))
}

/// The silence before the packets and the packets, as the core's loop has them; frames may be cut.
fn arrive(m: &Monitor, t: &mut Token, now_ns: u64, frames: Vec<Frame>, trace: bool) {
    let now_ms = now_ns / 1_000_000;
    if m.clock_ms.load(Ordering::Relaxed) == u64::MAX {
        m.set_time(t, now_ms * 1_000_000);
        m.start_timers(now_ms);
    }
    let mut steps = 0;
    while let Some(due) = m.next_deadline_ms(t).filter(|&due| due < now_ms) {
        m.set_time(t, due * 1_000_000);
        m.state(t).jump = Some(now_ms);
        m.end_iteration(t);
        m.state(t).jump = None;
        steps += 1;
        assert!(steps < 100_000, "deadlines without end before {now_ms} ms");
    }
    let cut: Vec<u32> = frames.iter().map(|f| f.wire_len).collect();
    if trace {
        println!("at {now_ms} ms");
        for f in &frames {
            println!(
                "  {} bytes of {}: {:02x?}",
                f.bytes.len(),
                f.wire_len,
                &f.bytes[..f.bytes.len().min(80)]
            );
        }
    }
    let frames = frames.into_iter().map(|f| (f.dev, f.bytes)).collect();
    let st = m.state(t);
    st.io.script_mut().expect("a script").waiting.push_back((now_ns, frames));
    st.io.fill(&mut st.batch, |_, _| ());
    for (rx, wire_len) in st.batch.iter_mut().zip(cut) {
        rx.wire_len = wire_len;
    }
    m.set_time(t, now_ms * 1_000_000);
    m.packets(t, &());
    m.end_iteration(t);
}

fn drain(m: &Monitor, t: &mut Token, world: &Shared) {
    let mut between = true;
    for _ in 0..100_000 {
        if core_loop::round(m, &Endpoint::default(), t, &mut between) == Round::Done {
            m.end_all(t);
            return;
        }
        look(m, t, world);
    }
    world.lock().unwrap().wrong.push("the run does not end".into());
}

/// What holds after each iteration.
fn look(m: &Monitor, t: &mut Token, world: &Shared) {
    let mut w = world.lock().unwrap();
    w.settle(m, t);
    let st = m.state(t);
    let s = &st.stats;
    let mut say = |ok: bool, what: String| {
        if !ok && w.wrong.len() < 10 {
            w.wrong.push(what);
        }
    };
    say(s.panics == 0, "a panic was contained".into());
    say(s.inspected() == s.rx_packets, format!("inspection: {s:?}"));
    say(s.fates() == s.rx_packets, format!("fates: {s:?}"));
    say(s.flows_now == st.flows.len() as u64, format!("{} flows, {} counted", st.flows.len(), s.flows_now));
    say(s.flows_created - s.flows_ended == s.flows_now, format!("flows: {s:?}"));
    say(st.depth == 0 && !st.cur.active, "a dispatch does not end".into());

    let (mut held, mut sockets) = (0, 0);
    for id in (0..st.flows.slots()).filter_map(|i| st.flows.id_of(i)) {
        let Some(flow) = st.flows.get(id) else { continue };
        held += flow
            .sides
            .iter()
            .filter_map(|s| st.cold.get(s.cold))
            .map(|c| c.stream.allocated_bytes())
            .sum::<usize>();
        let mut at = flow.socket;
        while let Some(socket) = st.sockets.get(at) {
            sockets += 1;
            at = socket.next;
        }
        say(at == NO_SOCKET, format!("the chain of {id:?} ends in {at}"));
        if m.settings.timeout_ms.is_some_and(|ms| (st.now_ms as u32).wrapping_sub(flow.last_seen) > ms) {
            say(false, format!("{id:?} outlives its time at {} ms, seen at {}", st.now_ms, flow.last_seen));
        }
    }
    say(
        st.stream_memory == held as u64,
        format!("{held} bytes of streams held, {} counted", st.stream_memory),
    );
    if let Some(limit) = m.settings.memory_limit {
        // A store grows by whole blocks.
        say(held <= limit as usize + 65536, format!("{held} bytes of at most {limit}"));
    }
    let setup = m.setup.lock();
    let (used, listeners) = (setup.ids.in_use(), setup.listeners.len() as u32);
    say(used == listeners + sockets, format!("{used} ids for {listeners} listeners and {sockets} sockets"));
    say(used <= m.settings.max_ids, format!("{used} ids"));
}

/// What is still there after the last flow.
fn nothing_left(m: &Monitor, t: &mut Token, world: &Shared) -> Option<String> {
    let listeners = std::mem::take(&mut world.lock().unwrap().listeners);
    for id in listeners {
        m.change_setup(|s| s.remove(id));
    }
    let ids = m.setup.lock().ids.in_use();
    let st = m.state(t);
    let left = [
        ("flows", st.flows.len()),
        ("table entries", st.table.len()),
        ("second tuples", st.alternate.len()),
        ("deadlines", st.wheel.len()),
        ("bytes of streams", st.stream_memory as usize),
        ("ids", ids as usize),
        ("queued frames", st.host.ready.len()),
    ];
    left.iter().find(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what} are left"))
}
