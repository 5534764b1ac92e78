//! One core's monitor and all it owns.

use super::cold::Cold;
use super::event::EventId;
use super::forest::{FOREST, Forest};
use super::hookset::Callback;
use super::listener::{ListenerView, Setup};
use super::native::Natives;
use super::packet::Current;
use super::sets::HookSets;
use super::socket::Sockets;
use super::stats::Stats;
use super::timers::Timers;
use crate::flow::arena::{Arena, Id};
use crate::flow::hash::FlowHash;
use crate::flow::key::ShortKey;
use crate::flow::record::Flow;
use crate::flow::slab::Slab;
use crate::flow::table::Table;
use crate::flow::token::{Token, TokenCell};
use crate::flow::wheel::Wheel;
use crate::io::replay::RxFrame;
use crate::io::source::Source;
use crate::net::host::Host;
use crate::net::prepare::Prepared;
use crate::net::stations::Stations;
use crate::tcp::store::Pool;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What a monitor needs of the configuration. Times in milliseconds, sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Socket ids (flows, listeners) at most.
    pub max_ids: u32,
    /// Reassembly bytes per side.
    pub rmem: usize,
    /// Idle timeout; `None`: never.
    pub timeout_ms: Option<u32>,
    /// TIME_WAIT length.
    pub time_wait_ms: u32,
    /// Whether packets are forwarded at all.
    pub forward: bool,
    /// Whether IP and TCP checksums are verified.
    pub verify: bool,
    /// Whether flows are picked up in the middle (X3).
    pub midstream: bool,
    /// Bytes of stream memory at most, all flows together.
    pub memory_limit: Option<u64>,
}

/// How C functions are called: the only part of dispatch that knows addresses (installed by `capi`).
#[derive(Clone, Copy)]
pub struct ForeignCalls {
    /// Calls a callback: `(mctx, function, sock, side, event, arg)`.
    pub callback: fn(usize, usize, i32, i32, EventId, usize),
    /// Asks a filter; the same arguments.
    pub filter: fn(usize, usize, i32, i32, EventId, usize) -> bool,
}

impl std::fmt::Debug for ForeignCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ForeignCalls")
    }
}

/// One core's monitor.
#[derive(Debug)]
pub struct Monitor {
    /// Address of the `mtcp_context` callbacks are given.
    pub ctx: usize,
    /// The configuration.
    pub settings: Settings,
    /// What it owns.
    pub cell: TokenCell<State>,
    /// Listeners and ids: a leaf lock.
    pub setup: Mutex<Setup>,
    /// Counts changes of the listeners.
    pub setup_epoch: AtomicU64,
    /// Ids that calls from other threads wait for.
    pub wanted_ids: AtomicU32,
    /// User timers: a leaf lock.
    pub timers: Mutex<Timers>,
    /// Current time in virtual milliseconds, for calls from other threads; `u64::MAX` before it started.
    pub clock_ms: AtomicU64,
    /// Whether a callback of this core is running right now.
    pub in_callout: AtomicBool,
    /// A callback has called the library, or may have, since somebody cleared this: what was true before it may not be any more.
    pub called_back: AtomicBool,
    /// Flows now.
    pub flow_count: AtomicU32,
    /// Counters as of the last finished round.
    pub published: Mutex<Stats>,
    /// Way to C functions.
    pub foreign: ForeignCalls,
    /// User events of this monitor alone; `None`: those of the process.
    pub own_forest: Option<Box<RwLock<Forest>>>,
}

/// Everything the core owns: reached only with a token.
#[derive(Debug)]
pub struct State {
    /// Packet source and outputs.
    pub io: Source,
    /// Virtual or machine time of this iteration, nanoseconds.
    pub now_ns: u64,
    /// The same in milliseconds.
    pub now_ms: u64,
    /// Packets received together.
    pub batch: Vec<RxFrame>,
    /// Packets received before these.
    pub received_before: u64,
    /// Their parsed headers.
    pub prepared: Vec<Prepared>,
    /// The packet in process.
    pub cur: Current,
    /// The packet's bytes once a callback edited them.
    pub edit: Vec<u8>,
    /// What `mtcp_getlastpkt` hands out.
    pub copy: Vec<u8>,
    /// Own addresses, routes, neighbours, and frames to send when the iteration ends.
    pub host: Host,
    /// Hardware addresses between pairs of hosts.
    pub stations: Stations,
    /// Flows.
    pub flows: Arena<Flow>,
    /// Tuples to flows.
    pub table: Table,
    /// Keyed hash of tuples.
    pub hasher: FlowHash,
    /// Second tuples of flows whose first SYN was rewritten (NAT): by flow index.
    pub alternate: HashMap<u32, (ShortKey, bool)>,
    /// Flow deadlines.
    pub wheel: Wheel,
    /// Cold parts of sides.
    pub cold: Slab<Cold>,
    /// Bytes of stream memory held.
    pub stream_memory: u64,
    /// Bytes that this host's connections claim under the same limit.
    pub endpoint_memory: u64,
    /// Bytes of stream memory at most (X5, `memory_limit`).
    pub memory_limit: u64,
    /// Stream memory that flows gave back, for others.
    pub chunks: Pool,
    /// Payload of a SYN until its receiver acknowledges it (D5b), by the number of the receiver's cold part.
    pub syn_data: HashMap<u32, Vec<u8>>,
    /// Reassembly bytes per side of a new flow.
    pub rmem: usize,
    /// Bytes that enter a stream from elsewhere than the packet in process: a SYN's payload.
    pub aside: Vec<u8>,
    /// Monitor sockets by id.
    pub sockets: Sockets,
    /// Callback sets in use.
    pub sets: HookSets,
    /// Listeners as of `views_epoch`, in creation order.
    pub views: Vec<ListenerView>,
    /// See [`Monitor::setup_epoch`].
    pub views_epoch: u64,
    /// What a flow is opened with.
    pub(super) opening: super::open::Opening,
    /// Whether a STREAM listener exists.
    pub has_stream: bool,
    /// Whether a RAW listener exists.
    pub has_raw: bool,
    /// Whether some listener's flows hear of each packet: their sockets are fetched in advance.
    pub packets_heard: bool,
    /// The iteration that ends was a full burst: what fills a hole may still be waiting to be read (D5).
    pub more_waits: bool,
    /// Frames wait for a live device to take them.
    pub tx_waiting: bool,
    /// Sides to look at when the iteration ends.
    pub due: VecDeque<(Id, u8)>,
    /// Node whose filter or callback is running: who may raise.
    pub raising: Option<(u32, u16)>,
    /// Events raised by it.
    pub raised: Vec<u16>,
    /// Where a walk through user events is.
    pub(super) path: Vec<super::dispatch::Frame>,
    /// Depth of dispatch; callback sets are freed at zero.
    pub depth: u32,
    /// Flows by age, only kept when ids ran out once (D13).
    pub ages: Option<super::evict::Ages>,
    /// Counters.
    pub stats: Stats,
    /// Rust closures.
    pub natives: Natives,
    /// End of a jump over silence, for re-armed timers (design E).
    pub jump: Option<u64>,
}

impl Monitor {
    /// Makes a monitor that reads from `io`.
    pub fn new(ctx: usize, settings: Settings, foreign: ForeignCalls, hasher: FlowHash, io: Source) -> Self {
        Monitor {
            ctx,
            settings,
            cell: TokenCell::new(State {
                io,
                now_ns: 0,
                now_ms: 0,
                batch: Vec::new(),
                received_before: 0,
                prepared: Vec::new(),
                cur: Current::default(),
                edit: Vec::new(),
                copy: Vec::new(),
                host: Host::default(),
                stations: Stations::default(),
                flows: Arena::new(),
                table: Table::new(),
                hasher,
                alternate: HashMap::new(),
                wheel: Wheel::new(0),
                cold: Slab::new(),
                stream_memory: 0,
                endpoint_memory: 0,
                memory_limit: settings.memory_limit.unwrap_or(u64::MAX),
                chunks: Pool::new(),
                syn_data: HashMap::new(),
                rmem: settings.rmem,
                aside: Vec::new(),
                sockets: Sockets::default(),
                sets: HookSets::default(),
                views: Vec::new(),
                views_epoch: 0,
                opening: super::open::Opening::default(),
                has_stream: false,
                has_raw: false,
                packets_heard: false,
                more_waits: false,
                tx_waiting: false,
                due: VecDeque::new(),
                raising: None,
                raised: Vec::new(),
                path: Vec::new(),
                depth: 0,
                ages: None,
                stats: Stats::default(),
                natives: Natives::default(),
                jump: None,
            }),
            setup: Mutex::new(Setup::new(settings.max_ids)),
            setup_epoch: AtomicU64::new(1),
            wanted_ids: AtomicU32::new(0),
            timers: Mutex::new(Timers::default()),
            clock_ms: AtomicU64::new(u64::MAX),
            in_callout: AtomicBool::new(false),
            called_back: AtomicBool::new(false),
            flow_count: AtomicU32::new(0),
            published: Mutex::new(Stats::default()),
            foreign,
            own_forest: None,
        }
    }

    /// The core's state, lent against the token.
    #[inline]
    pub fn state<'a>(&'a self, token: &'a mut Token) -> &'a mut State {
        self.cell.get(token)
    }

    /// The core's state, for reading.
    #[inline]
    pub fn view<'a>(&'a self, token: &'a Token) -> &'a State {
        self.cell.view(token)
    }

    /// Where the monitor's user events are defined: in the process, unless it has a forest of its own.
    pub fn forest(&self) -> &RwLock<Forest> {
        self.own_forest.as_deref().unwrap_or(&FOREST)
    }

    /// Calls an application's callback. Nothing may be borrowed: the token sees to it.
    #[inline]
    pub fn call(
        &self,
        token: &mut Token,
        callback: Callback,
        sock: u32,
        side: usize,
        event: EventId,
        arg: usize,
    ) {
        match callback {
            Callback::Foreign(function) => {
                let outer = self.in_callout.swap_relaxed(true);
                (self.foreign.callback)(self.ctx, function, sock as i32, side as i32, event, arg);
                self.in_callout.store(outer, Ordering::Relaxed);
            }
            Callback::Native(number) => {
                self.called_back.store(true, Ordering::Relaxed);
                self.call_native(token, number, sock, side, event);
            }
        }
    }
}

/// Relaxed swap without a locked instruction: only the core's own thread writes the flag.
trait SwapRelaxed {
    fn swap_relaxed(&self, value: bool) -> bool;
}

impl SwapRelaxed for AtomicBool {
    #[inline]
    fn swap_relaxed(&self, value: bool) -> bool {
        let old = self.load(Ordering::Relaxed);
        self.store(value, Ordering::Relaxed);
        old
    }
}
