//! A core on the test's own thread, fed by hand, and a recorder that writes the notation of monitor.md §0.3.
//!
//! `sc.PKT` is PKT_IN on MOS_HK_SND for side CLI; hooks `s r n`, sides `c v b`. What a handler returns is appended
//! (`nv.NEW=HELLO`), an asked filter reads `v?name`, a timer `timer7`. With several listeners each token is led by its
//! listener's letter (`B:sc.PKT`). In expectations `SYN1`, `HS` and `KILL(x,y)` stand for their blocks, `A{ … }` leads
//! every token inside, and `|` is for the reader.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mos::capi::abi::*;
use mos::capi::foreign;
use mos::config::{Config, Mos};
use mos::flow::token::Token;
use mos::io::output::{Frames, Output};
use mos::io::source::{Port, Source};
use mos::monitor::stats::Stats;
use mos::runtime::context::Context;
use mos::runtime::{core_loop, enter, registry};

use crate::calls::{Api, mtcp_alloc_event, mtcp_define_event};
use crate::packets::{CLIENT_DEV, Frame, Packet, SERVER_DEV, ack, syn, syn_ack};

/// Virtual time of `lab.at(0)`, in milliseconds.
pub const START_MS: u64 = 1_000_000;

/// Hooks in the recorder's order.
const HOOKS: [c_int; 3] = [MOS_HK_SND, MOS_HK_RCV, MOS_NULL];
const EVENTS: [&str; 12] =
    ["PKT", "OUT", "START", "SETUP", "NEW", "ERR", "TIMEOUT", "ST", "ORPH", "REX", "END", "DEBUG"];
const SIDES: [char; 3] = ['c', 'v', 'b'];

/// Side CLI.
pub const CLI: c_int = MOS_SIDE_CLI;
/// Side SVR.
pub const SVR: c_int = MOS_SIDE_SVR;
/// Both sides.
pub const BOTH: c_int = MOS_SIDE_BOTH;

/// What a callback or filter was called with.
#[derive(Clone, Copy)]
pub struct Call {
    /// The library.
    pub api: Api,
    /// Socket.
    pub sock: c_int,
    /// Side.
    pub side: c_int,
    /// Event.
    pub event: u64,
    /// Argument, as it came.
    pub arg: *mut FilterArg,
}

impl Call {
    /// The bytes of the argument; `None`: a null pointer.
    pub fn argument(&self) -> Option<Vec<u8>> {
        if self.arg.is_null() {
            return None;
        }
        // SAFETY: the library's own structure, valid during the callback.
        let FilterArg { arg, len } = unsafe { *self.arg };
        if len == 0 {
            return Some(Vec::new());
        }
        // SAFETY: as above.
        Some(unsafe { std::slice::from_raw_parts(arg.cast::<u8>(), len) }.to_vec())
    }

    /// States of client and server, as `SYN_SENT/-`.
    pub fn states(&self) -> String {
        self.api.states(self.sock)
    }
}

type Handler = Rc<RefCell<dyn FnMut(&Call) -> String>>;
type Asked = Rc<RefCell<dyn FnMut(&Call) -> bool>>;

#[derive(Default)]
struct Recorder {
    trace: Vec<String>,
    handlers: Vec<(String, Handler)>,
    filters: Vec<(String, Asked)>,
    names: HashMap<u64, String>,
    labelled: bool,
    sock: c_int,
    panic: Option<Box<dyn Any + Send>>,
}

thread_local! {
    static RECORDER: RefCell<Recorder> = RefCell::default();
}

fn recorder<R>(work: impl FnOnce(&mut Recorder) -> R) -> R {
    RECORDER.with(|r| work(&mut r.borrow_mut()))
}

fn event_name(r: &Recorder, event: u64) -> String {
    match r.names.get(&event) {
        Some(name) => name.clone(),
        None if event.is_power_of_two() && event < 1 << EVENTS.len() => {
            EVENTS[event.trailing_zeros() as usize].to_owned()
        }
        None => format!("?{event}"),
    }
}

/// Runs what tests wrote; a failed assertion is carried over the C frames and raised when the round is over.
fn guarded<R>(fallback: R, work: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        recorder(|r| r.panic = r.panic.take().or(Some(panic)));
        fallback
    })
}

/// Writes a token and lets the test's handlers for it run.
fn note(token: String, bare: &str, call: Call) {
    let (at, handlers) = recorder(|r| {
        let wants = |p: &String| {
            *p == token || p == bare || p == "*" || (p.starts_with('.') && bare.ends_with(p.as_str()))
        };
        let handlers: Vec<Handler> =
            r.handlers.iter().filter(|(p, _)| wants(p)).map(|(_, h)| h.clone()).collect();
        r.trace.push(token.clone());
        (r.trace.len() - 1, handlers)
    });
    for handler in handlers {
        let said = (handler.borrow_mut())(&call);
        if !said.is_empty() {
            recorder(|r| {
                r.trace[at].push('=');
                r.trace[at].push_str(&said);
            });
        }
    }
}

unsafe extern "C" fn record<const L: usize, const H: usize>(
    mctx: Mctx,
    sock: c_int,
    side: c_int,
    event: u64,
    arg: *mut FilterArg,
) {
    guarded((), || {
        let (bare, token) = recorder(|r| {
            if H < 2 {
                r.sock = sock;
            }
            let side = SIDES.get(side as usize).copied().unwrap_or('?');
            let bare = format!("{}{side}.{}", ['s', 'r', 'n'][H], event_name(r, event));
            let token =
                if r.labelled { format!("{}:{bare}", (b'A' + L as u8) as char) } else { bare.clone() };
            (bare, token)
        });
        note(token, &bare, Call { api: Api(mctx as usize), sock, side, event, arg });
    });
}

unsafe extern "C" fn timer(mctx: Mctx, id: c_int, side: c_int, event: u64, arg: *mut FilterArg) {
    guarded((), || {
        let mut token = format!("timer{id}");
        if (side, event, arg.is_null()) != (0, 0, true) {
            token.push_str(&format!("({side},{event},{arg:?})"));
        }
        note(token.clone(), &token, Call { api: Api(mctx as usize), sock: id, side, event, arg });
    });
}

unsafe extern "C" fn asked<const N: usize>(
    mctx: Mctx,
    sock: c_int,
    side: c_int,
    event: u64,
    arg: *mut FilterArg,
) -> u8 {
    guarded(0, || {
        let found = recorder(|r| r.filters.get(N).cloned());
        let Some((name, filter)) = found else { panic!("filter {N} is not this test's") };
        let side_name = SIDES.get(side as usize).copied().unwrap_or('?');
        recorder(|r| r.trace.push(format!("{side_name}?{name}")));
        let answer = (filter.borrow_mut())(&Call { api: Api(mctx as usize), sock, side, event, arg });
        answer as u8
    })
}

macro_rules! by_number {
    ($function:ident: $($n:literal)*) => { [$(Some($function::<$n>)),*] };
}
const FILTERS: [Filter; 8] = by_number!(asked: 0 1 2 3 4 5 6 7);
const CALLBACKS: [[Callback; 3]; 4] = [
    [Some(record::<0, 0>), Some(record::<0, 1>), Some(record::<0, 2>)],
    [Some(record::<1, 0>), Some(record::<1, 1>), Some(record::<1, 2>)],
    [Some(record::<2, 0>), Some(record::<2, 1>), Some(record::<2, 2>)],
    [Some(record::<3, 0>), Some(record::<3, 1>), Some(record::<3, 2>)],
];
/// The recorder's timer callback.
pub const TIMER: Callback = Some(timer);

/// The callback that records for listener `number` on `hook`.
pub fn callback(number: usize, hook: c_int) -> Callback {
    CALLBACKS[number][HOOKS.iter().position(|&h| h == hook).expect("a hook")]
}

/// Events are one process-wide list: whoever adds to it holds this.
static DEFINING: Mutex<()> = Mutex::new(());
/// Makes definitions of different tests differ.
static TAG: AtomicU64 = AtomicU64::new(1);
static CORES: Mutex<u64> = Mutex::new(0);

/// Keeps other tests from defining events.
pub fn defining() -> MutexGuard<'static, ()> {
    DEFINING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_core() -> usize {
    let mut used = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let core = used.trailing_ones() as usize;
    assert!(core < registry::MAX_CORES, "a core id for each test that runs");
    *used |= 1 << core;
    core
}

/// A loop iteration to come: its time in nanoseconds, devices and frames.
type Iteration = (u64, Vec<(u8, Vec<u8>)>);

/// What a step of a test made the library call.
#[must_use = "say what it gives"]
#[derive(Debug)]
pub struct Step(Vec<String>);

impl Step {
    /// Compares with an expectation.
    #[track_caller]
    pub fn gives(self, expected: &str) {
        let expected = expand(expected);
        let (got, expected) = (self.0.join(" "), expected.join(" "));
        assert!(got == expected, "\n  expected: {expected}\n       got: {got}");
    }

    /// The tokens.
    pub fn tokens(self) -> Vec<String> {
        self.0
    }

    /// Only the tokens that `keep` accepts.
    pub fn only(mut self, keep: impl Fn(&str) -> bool) -> Step {
        self.0.retain(|t| keep(t));
        self
    }
}

fn expand(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut prefix = String::new();
    for word in text.split_whitespace() {
        match word {
            "|" => {}
            "}" => prefix.clear(),
            w if w.ends_with('{') => prefix = format!("{}:", &w[..w.len() - 1]),
            "SYN1" => block(&mut all, &prefix, "sc.PKT sc.START sc.ST rv.PKT rv.START rv.ST"),
            "HS" => block(
                &mut all,
                &prefix,
                "sc.PKT sc.START sc.ST rv.PKT rv.START rv.ST sv.PKT rc.PKT rc.ST sc.PKT rv.PKT rv.ST",
            ),
            "KILL(v,c)" => {
                block(&mut all, &prefix, "rv.ST rv.END sv.ST sv.END rc.ST rc.END sc.ST sc.END");
            }
            "KILL(c,v)" => {
                block(&mut all, &prefix, "rc.ST rc.END sc.ST sc.END rv.ST rv.END sv.ST sv.END");
            }
            w => all.push(format!("{prefix}{w}")),
        }
    }
    all
}

fn block(all: &mut Vec<String>, prefix: &str, tokens: &str) {
    all.extend(tokens.split(' ').map(|t| format!("{prefix}{t}")));
}

/// A core of its own, driven by the test.
pub struct Lab {
    /// The library as the application sees it.
    pub api: Api,
    context: Arc<Context>,
    between: bool,
    now_ms: u64,
    listeners: Vec<c_int>,
    outputs: [Frames; 2],
}

impl Lab {
    /// One STREAM listener with callbacks for every legal event and hook; defaults of monitor.md §10.
    pub fn new() -> Lab {
        Lab::with(|_| {})
    }

    /// As [`Lab::new`] with another `mos` block.
    pub fn with(change: impl FnOnce(&mut Mos)) -> Lab {
        let mut lab = Lab::bare(change);
        lab.listen();
        lab
    }

    /// As [`Lab::new`], the connection of §10 established.
    pub fn established() -> Lab {
        Lab::established_with(|_| {})
    }

    /// As [`Lab::with`], the connection of §10 established.
    pub fn established_with(change: impl FnOnce(&mut Mos)) -> Lab {
        let mut lab = Lab::with(change);
        lab.handshake();
        lab
    }

    /// No listener.
    pub fn bare(change: impl FnOnce(&mut Mos)) -> Lab {
        Lab::between(change, |_| {})
    }

    /// As [`Lab::bare`], with other ports.
    pub fn between(change: impl FnOnce(&mut Mos), ports: impl Fn(&mut Port)) -> Lab {
        let mut mos = Mos::default();
        change(&mut mos);
        let outputs = [Frames::default(), Frames::default()];
        let port = |n: usize, name: &str| Port {
            name: name.to_owned(),
            mate: Some(1 - n as u8),
            output: Some(Output::Memory(outputs[n].clone())),
            ..Port::default()
        };
        let mut both = vec![port(0, "client"), port(1, "server")];
        both.iter_mut().for_each(ports);
        let source = Source::script(both);
        let core = take_core();
        let config = Arc::new(Config { apps: Vec::new(), mos });
        let context = Arc::new(Context::detached(core, config, foreign::CALLS, source));
        assert!(registry::add(context.clone()), "core {core} is free");
        // Events can be defined only with a configuration.
        registry::REGISTRY.write().config.get_or_insert_with(|| context.config.clone());
        recorder(|r| *r = Recorder { sock: -1, ..Recorder::default() });
        let mut lab = Lab {
            api: Api(registry::handle(core)),
            context,
            between: true,
            now_ms: START_MS,
            listeners: Vec::new(),
            outputs,
        };
        // The clock starts.
        lab.batch(Vec::<Frame>::new()).gives("");
        lab
    }

    /// One more STREAM listener with callbacks for every legal event and hook.
    pub fn listen(&mut self) -> c_int {
        let sock = self.socket(MOS_SOCK_MONITOR_STREAM);
        for n in 0..EVENTS.len() {
            let event = 1 << n;
            let only_null = event & (MOS_ON_CONN_NEW_DATA | MOS_ON_ORPHAN | MOS_ON_ERROR) != 0;
            let never_null =
                event & (MOS_ON_CONN_START | MOS_ON_REXMIT | MOS_ON_TCP_STATE_CHANGE | MOS_ON_CONN_END) != 0;
            for hook in HOOKS {
                if if hook == MOS_NULL { !never_null } else { !only_null } {
                    self.register(sock, event, hook);
                }
            }
        }
        sock
    }

    /// One more RAW listener with callbacks for PKT_IN and ORPHAN.
    pub fn listen_raw(&mut self) -> c_int {
        let sock = self.socket(MOS_SOCK_MONITOR_RAW);
        self.register(sock, MOS_ON_PKT_IN, MOS_NULL);
        self.register(sock, MOS_ON_ORPHAN, MOS_NULL);
        sock
    }

    /// One more listener without callbacks; it takes the next letter.
    pub fn socket(&mut self, kind: c_int) -> c_int {
        let (sock, errno) = self.api.socket(kind);
        assert!(sock >= 0, "mtcp_socket: errno {errno}");
        self.listeners.push(sock);
        recorder(|r| r.labelled = self.listeners.len() > 1);
        sock
    }

    /// Registers the recorder on a listener.
    #[track_caller]
    pub fn register(&self, sock: c_int, event: u64, hook: c_int) {
        let number = self.listeners.iter().position(|&s| s == sock).expect("a listener of this lab");
        assert_eq!(self.api.register(sock, event, hook, callback(number, hook)), (0, 0), "event {event}");
    }

    /// Runs `handler` in every callback whose token (with or without its letter) is `token`, or ends with it (`.PKT`), or
    /// in all (`*`); what it returns is appended to the token.
    pub fn on<R: Into<String>>(&self, token: &str, mut handler: impl FnMut(&Call) -> R + 'static) {
        let handler: Handler = Rc::new(RefCell::new(move |call: &Call| handler(call).into()));
        recorder(|r| r.handlers.push((token.to_owned(), handler)));
    }

    /// Takes all handlers away.
    pub fn no_handlers(&self) {
        recorder(|r| r.handlers.clear());
    }

    /// Runs `handler` in the first callback of that token only.
    pub fn once<R: Into<String>>(&self, token: &str, handler: impl FnOnce(&Call) -> R + 'static) {
        let mut handler = Some(handler);
        self.on(token, move |call| handler.take().map_or(String::new(), |h| h(call).into()));
    }

    /// Defines an event whose filter is `filter`; it is called `name`.
    pub fn define(&self, parent: u64, name: &str, filter: impl FnMut(&Call) -> bool + 'static) -> u64 {
        let tag = TAG.fetch_add(1, Ordering::Relaxed).to_ne_bytes();
        let function = self.filter(name, filter);
        let _one = defining();
        let mut arg = FilterArg { arg: tag.as_ptr().cast_mut().cast::<c_void>(), len: tag.len() };
        // SAFETY: the argument is valid for the call.
        let id = unsafe { mtcp_define_event(parent, function, &mut arg) };
        assert_ne!(id, 0, "mtcp_define_event");
        recorder(|r| r.names.insert(id, name.to_owned()));
        id
    }

    /// A C filter that runs `filter`.
    pub fn filter(&self, name: &str, filter: impl FnMut(&Call) -> bool + 'static) -> Filter {
        let number = recorder(|r| {
            r.filters.push((name.to_owned(), Rc::new(RefCell::new(filter))));
            r.filters.len() - 1
        });
        FILTERS[number]
    }

    /// Allocates an event below `parent`; it is called `name`.
    pub fn alloc(&self, parent: u64, name: &str) -> u64 {
        let _one = defining();
        // SAFETY: no pointers.
        let id = unsafe { mtcp_alloc_event(parent) };
        assert_ne!(id, 0, "mtcp_alloc_event");
        recorder(|r| r.names.insert(id, name.to_owned()));
        id
    }

    /// Sets the time of what follows, in milliseconds since the lab's start.
    pub fn at(&mut self, ms: u64) -> &mut Self {
        assert!(START_MS + ms >= self.now_ms, "time does not go back");
        self.now_ms = START_MS + ms;
        self
    }

    /// One packet in a loop iteration of its own.
    pub fn packet(&mut self, packet: impl Into<Frame>) -> Step {
        self.batch([packet])
    }

    /// Several packets in one loop iteration.
    pub fn batch<P: Into<Frame>>(&mut self, packets: impl IntoIterator<Item = P>) -> Step {
        let frames = packets.into_iter().map(Into::into).map(|f: Frame| (f.dev, f.bytes)).collect();
        let now_ns = self.now_ms * 1_000_000;
        self.round((now_ns, frames))
    }

    /// Packets nobody asks about, each in a loop iteration of its own.
    pub fn feed<P: Into<Frame>>(&mut self, packets: impl IntoIterator<Item = P>) {
        for packet in packets {
            let _ = self.packet(packet);
        }
    }

    /// The handshake of §10.
    pub fn handshake(&mut self) {
        self.feed([syn(), syn_ack(), ack()]);
    }

    /// A handshake from another client port.
    pub fn handshake_from(&mut self, port: u16) {
        self.feed([syn(), syn_ack(), ack()].map(|p: Packet| p.port(port)));
    }

    /// Lets time pass until `ms` after the start, with an iteration there.
    pub fn until(&mut self, ms: u64) -> Step {
        self.at(ms).batch(Vec::<Frame>::new())
    }

    fn round(&mut self, packets: Iteration) -> Step {
        recorder(|r| r.trace.clear());
        let context = self.context.clone();
        {
            let _running = enter::running(&context);
            self.with_token(|m, t| {
                m.state(t).io.script_mut().expect("a script").waiting.push_back(packets);
            });
            let mut between = self.between;
            loop {
                let waiting = self.with_token(|m, t| {
                    core_loop::round(m, &context.endpoint, t, &mut between);
                    !m.state(t).io.script_mut().expect("a script").waiting.is_empty()
                });
                if !waiting && between {
                    break;
                }
            }
            self.between = between;
        }
        self.taken()
    }

    fn taken(&self) -> Step {
        if let Some(panic) = recorder(|r| r.panic.take()) {
            resume_unwind(panic);
        }
        let s = self.stats();
        assert_eq!(s.inspected(), s.rx_packets, "every packet is inspected once: {s:?}");
        assert_eq!(s.fates(), s.rx_packets, "every packet has one fate: {s:?}");
        Step(recorder(|r| std::mem::take(&mut r.trace)))
    }

    fn with_token<R>(&self, work: impl FnOnce(&mos::monitor::Monitor, &mut Token) -> R) -> R {
        let _held = self.context.baton.take();
        // SAFETY: the core's lock is held, and this thread has no other token for the core in use.
        let mut token = unsafe { Token::new() };
        work(&self.context.monitor, &mut token)
    }

    /// Calls the library as a callback without packet would, at the present time.
    pub fn ask<R>(&self, work: impl FnOnce(Api) -> R) -> R {
        let _running = enter::running(&self.context);
        let _held = self.context.baton.take();
        self.context.monitor.in_callout.store(true, Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| work(self.api)));
        self.context.monitor.in_callout.store(false, Ordering::Relaxed);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The active socket of the last flow callback.
    pub fn sock(&self) -> c_int {
        recorder(|r| r.sock)
    }

    /// States of client and server of that flow, as `ESTABLISHED/SYN_RCVD`.
    pub fn states(&self) -> String {
        self.ask(|api| api.states(self.sock()))
    }

    /// Ends all flows as destroying the context does.
    pub fn end_all(&mut self) -> Step {
        recorder(|r| r.trace.clear());
        let _running = enter::running(&self.context);
        self.with_token(|m, t| m.end_all(t));
        self.taken()
    }

    /// Frames sent towards the server since the last look.
    pub fn to_server(&self) -> Vec<Vec<u8>> {
        taken_from(&self.outputs[SERVER_DEV as usize])
    }

    /// Frames sent towards the client since the last look.
    pub fn to_client(&self) -> Vec<Vec<u8>> {
        taken_from(&self.outputs[CLIENT_DEV as usize])
    }

    /// How many frames were sent in both directions since the last look.
    pub fn sent(&self) -> usize {
        self.to_server().len() + self.to_client().len()
    }

    /// The core's counters.
    pub fn stats(&self) -> Stats {
        self.with_token(|m, t| m.state(t).stats)
    }
}

fn taken_from(frames: &Frames) -> Vec<Vec<u8>> {
    std::mem::take(&mut *frames.lock()).into_iter().map(|(_, frame)| frame).collect()
}

impl Drop for Lab {
    fn drop(&mut self) {
        registry::remove(&self.context);
        let mut used = CORES.lock().unwrap_or_else(PoisonError::into_inner);
        *used &= !(1 << self.context.core);
        // Handlers may own what the test shares with them.
        let _ = RECORDER.try_with(|r| r.try_borrow_mut().map(|mut r| *r = Recorder::default()));
    }
}
