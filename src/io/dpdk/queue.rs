//! A core's queues of a DPDK port. A received packet is read where the device put it, and sent on as it is; only a frame that
//! came in several pieces is read from a copy.

use super::port::Running;
use super::{eal, thread};
use crate::io::device::{BURST, Device, DeviceCounters, Driver, Flushed, Native, Queued, RxView, Vouch};
use dpdk_sys as sys;
use dpdk_sys::{rte_mbuf, shim_packet, shim_stamp};
use parking_lot::Mutex;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Packets that wait for the device before new ones are refused.
const WAITING: usize = 512;
/// A device that has taken nothing for so long takes nothing any more: what waits is dropped.
const STALLED: Duration = Duration::from_millis(100);
/// Between two looks at the link.
const LINK_LOOK: Duration = Duration::from_millis(10);
/// Longest frame that is put together from pieces.
const MOST_PIECED: u32 = 1 << 18;

/// DPDK's packet buffers.
static MBUF: Driver = Driver { name: "dpdk", bytes, free };

unsafe fn bytes(buffer: *mut ()) -> (*const u8, usize) {
    let mut len = 0;
    // SAFETY: the buffer is a packet of ours.
    let data = unsafe { sys::shim_first(buffer.cast(), &mut len) };
    (data, len as usize)
}

unsafe fn free(buffer: *mut ()) {
    give_back(&mut [buffer.cast()]);
}

/// Frees packets that are ours, from whatever thread.
fn give_back(packets: &mut [*mut rte_mbuf]) {
    if !packets.is_empty() && eal::alive() {
        let pool = thread::pool(std::ptr::null_mut());
        // SAFETY: each was received or made by us and is given away here. Without a pool of its own, a packet goes back
        // past the caches, which is right for every thread.
        unsafe { sys::shim_free(pool, packets.as_mut_ptr(), packets.len() as u32) };
    }
}

/// A transmit queue; cores share one when the port has fewer queues than there are cores.
pub(super) struct TxQueue {
    port: u16,
    queue: u16,
    shared: Option<Mutex<()>>,
}

impl TxQueue {
    pub fn new(port: u16, queue: u16, shared: bool) -> Self {
        TxQueue { port, queue, shared: shared.then(|| Mutex::new(())) }
    }

    /// Sends from the front as many as the device takes now; their number.
    fn burst(&self, packets: &mut [*mut rte_mbuf]) -> usize {
        let _alone = self.shared.as_ref().map(|lock| lock.lock());
        let mut sent = 0;
        for chunk in packets.chunks_mut(BURST) {
            // SAFETY: the port is started (the core's `Running` says so), the queue is this core's or locked, the packets
            // are ours; those that are taken we forget.
            let n = unsafe { sys::shim_tx(self.port, self.queue, chunk.as_mut_ptr(), chunk.len() as u16) };
            sent += usize::from(n);
            if usize::from(n) < chunk.len() {
                break;
            }
        }
        sent
    }
}

/// One core's part of a port.
pub(super) struct Queue {
    running: Arc<Running>,
    /// Receive queues, and the one that is asked first.
    rx: Vec<u16>,
    turn: usize,
    tx: Arc<TxQueue>,
    /// It reports the port's counters.
    first: bool,
    /// What is unknown about a frame's checksums.
    unverified: Vouch,
    stamp: shim_stamp,
    stamp_ns: u64,
    longest: usize,
    /// Bytes that fit one buffer, and most buffers of a frame.
    room: usize,
    most_pieces: u16,
    /// The burst: NULL where a packet was taken out.
    burst: Vec<*mut rte_mbuf>,
    /// Whether it came in pieces, for each packet of the burst.
    pieced: Vec<bool>,
    /// Frames put together from pieces; the first `pieced` ones are the burst's.
    whole: Vec<Vec<u8>>,
    waiting: Vec<*mut rte_mbuf>,
    /// Since when the device takes nothing.
    stalled: Option<Instant>,
    /// When the link was last looked at, and what it was.
    looked: Option<Instant>,
    up: bool,
}

// SAFETY: the packets are this queue's alone, and DPDK's packets, queues and pools are bound to no thread.
unsafe impl Send for Queue {}

impl Queue {
    pub fn new(running: Arc<Running>, rx: Vec<u16>, tx: Arc<TxQueue>, first: bool) -> Self {
        let plan = &running.plan;
        // SAFETY: EAL is up; the names are C strings.
        let (offset, bit) = unsafe {
            (
                sys::rte_mbuf_dynfield_lookup(c"rte_dynfield_timestamp".as_ptr(), std::ptr::null_mut()),
                sys::rte_mbuf_dynflag_lookup(c"rte_dynflag_rx_timestamp".as_ptr(), std::ptr::null_mut()),
            )
        };
        let stamped = plan.stamp_ns > 0 && offset >= 0 && (0..64).contains(&bit);
        let stamp = match stamped {
            true => shim_stamp { offset, flag: 1 << bit },
            false => shim_stamp { offset: -1, flag: 0 },
        };
        Queue {
            rx,
            turn: 0,
            tx,
            first,
            unverified: if plan.local { Vouch::Local } else { Vouch::Unknown },
            stamp,
            stamp_ns: plan.stamp_ns.into(),
            longest: plan.longest as usize,
            room: usize::from(plan.buffer - sys::SHIM_HEADROOM),
            most_pieces: plan.pieces,
            burst: Vec::with_capacity(BURST),
            pieced: Vec::with_capacity(BURST),
            whole: Vec::new(),
            waiting: Vec::with_capacity(WAITING),
            stalled: None,
            looked: None,
            up: true,
            running,
        }
    }

    /// Gives back what is left of the last burst.
    fn end_burst(&mut self) {
        self.burst.retain(|m| !m.is_null());
        give_back(&mut self.burst);
        self.burst.clear();
        self.pieced.clear();
    }

    /// The view of a packet. One in pieces is copied to `whole[n]`; without memory for that, what its first piece holds is
    /// all that was captured.
    fn view(&mut self, p: &shim_packet, pieces: &mut usize) -> RxView {
        let vouch = match p.flags & (sys::SHIM_IP_GOOD | sys::SHIM_L4_GOOD) {
            both if both == sys::SHIM_IP_GOOD | sys::SHIM_L4_GOOD => Vouch::Good,
            _ => self.unverified,
        };
        let ts_ns = if p.flags & sys::SHIM_STAMPED != 0 { p.stamp.saturating_mul(self.stamp_ns) } else { 0 };
        if p.len < p.total
            && p.total <= MOST_PIECED
            && let Some(bytes) = piece_together(&mut self.whole, *pieces, p)
        {
            *pieces += 1;
            return RxView::new(bytes, p.total, ts_ns, vouch);
        }
        // SAFETY: DPDK says that so many bytes are there, and the packet is ours until the burst ends.
        let bytes = unsafe { std::slice::from_raw_parts(p.data, p.len as usize) };
        RxView::new(bytes, p.total, ts_ns, vouch)
    }

    /// A copy of a frame in a packet of our own.
    fn make(&self, frame: &[u8]) -> *mut rte_mbuf {
        let pool = thread::pool(self.running.pool);
        // SAFETY: the pool lives as long as EAL; the frame is read during the call.
        unsafe { sys::shim_make(pool, frame.as_ptr(), frame.len() as u32, self.most_pieces) }
    }

    fn sendable(&self, len: usize) -> bool {
        len <= self.longest && (len <= self.room || self.most_pieces > 1)
    }

    /// Makes room in a full queue, if the device takes something.
    fn make_room(&mut self) -> bool {
        if self.waiting.len() >= WAITING {
            self.push();
        }
        self.waiting.len() < WAITING
    }

    fn push(&mut self) -> bool {
        let sent = self.tx.burst(&mut self.waiting);
        self.waiting.drain(..sent);
        sent > 0
    }

    /// Whether the link is up, as of the last look.
    fn look_at_link(&mut self) -> bool {
        let now = Instant::now();
        if self.looked.is_none_or(|at| now - at >= LINK_LOOK) {
            self.looked = Some(now);
            self.up = self.running.link_up();
        }
        self.up
    }

    /// Whether the device has taken nothing for so long that nothing is to be hoped for.
    fn is_stalled(&mut self) -> bool {
        self.stalled.get_or_insert_with(Instant::now).elapsed() >= STALLED
    }

    /// Drops what waits.
    fn drop_waiting(&mut self) -> Flushed {
        // SAFETY: the packets are ours.
        let lost_bytes = self.waiting.iter().map(|&p| u64::from(unsafe { sys::shim_len(p) })).sum();
        let lost = self.waiting.len() as u64;
        give_back(&mut self.waiting);
        self.waiting.clear();
        Flushed { lost, lost_bytes, waiting: false }
    }
}

/// Copies a packet's pieces to `whole[n]`. `None`: there is no memory for that.
fn piece_together<'w>(whole: &'w mut Vec<Vec<u8>>, n: usize, p: &shim_packet) -> Option<&'w [u8]> {
    if whole.len() <= n {
        whole.try_reserve(1).ok()?;
        whole.push(Vec::new());
    }
    let total = p.total as usize;
    let bytes = &mut whole[n];
    bytes.clear();
    bytes.try_reserve(total).ok()?;
    bytes.resize(total, 0);
    // SAFETY: `total` bytes are there.
    unsafe { sys::shim_flatten(p.mbuf, bytes.as_mut_ptr()) };
    Some(bytes)
}

// SAFETY: a packet of the burst stays as it is until `end_burst`, which only `receive` and the drop call, or until `take`
// gives it away; frames put together stay until the next `receive` (growing `whole` moves none of them). Nothing here
// writes to a packet of the burst.
unsafe impl Device for Queue {
    fn receive(&mut self, most: usize, out: &mut Vec<RxView>) {
        self.end_burst();
        thread::enter();
        let mut packets = [shim_packet::default(); BURST];
        let most = most.min(BURST);
        if most == 0 {
            return;
        }
        let mut got = 0;
        for n in 0..self.rx.len() {
            let queue = self.rx[(self.turn + n) % self.rx.len()];
            let rest = &mut packets[got..most];
            // SAFETY: the port is started, and the queue is this core's alone; `rest` has room for as many as are asked for.
            got += usize::from(unsafe {
                sys::shim_rx(self.running.id, queue, &self.stamp, rest.as_mut_ptr(), rest.len() as u16)
            });
            if got == most {
                break;
            }
        }
        self.turn = self.turn.wrapping_add(1);
        let mut pieces = 0;
        for p in &packets[..got] {
            self.burst.push(p.mbuf);
            self.pieced.push(p.len < p.total);
            let view = self.view(p, &mut pieces);
            out.push(view);
        }
    }

    fn take(&mut self, n: usize) -> Option<Native> {
        if *self.pieced.get(n)? || self.burst[n].is_null() {
            return None;
        }
        let packet = std::mem::replace(&mut self.burst[n], std::ptr::null_mut());
        // SAFETY: the packet is the burst's, which forgets it.
        Some(unsafe { Native::new(packet.cast(), &MBUF) })
    }

    fn send(&mut self, frame: &[u8]) -> Queued {
        if !self.sendable(frame.len()) {
            return Queued::Never;
        }
        if !self.make_room() {
            return Queued::Full;
        }
        let packet = self.make(frame);
        if packet.is_null() {
            // All packets are in use; those that are being sent come back.
            return Queued::Full;
        }
        self.waiting.push(packet);
        Queued::Yes
    }

    fn send_native(&mut self, frame: Native, len: usize) -> Queued {
        let packet: *mut rte_mbuf = match frame.into_buffer(&MBUF) {
            Ok(buffer) => buffer.cast(),
            Err(other) => {
                let bytes = other.bytes();
                return self.send(&bytes[..len.min(bytes.len())]);
            }
        };
        // SAFETY: the packet is ours.
        let there = unsafe {
            sys::shim_shorten(packet, len as u32);
            sys::shim_len(packet)
        };
        let answer = match self.sendable(there as usize) {
            false => Queued::Never,
            true if !self.make_room() => Queued::Full,
            true => Queued::Yes,
        };
        if answer == Queued::Yes {
            self.waiting.push(packet);
        } else {
            give_back(&mut [packet]);
        }
        answer
    }

    fn has_room(&self, len: usize) -> Queued {
        match self.sendable(len) {
            false => Queued::Never,
            true if self.waiting.len() >= WAITING => Queued::Full,
            true => Queued::Yes,
        }
    }

    fn flush(&mut self) -> Flushed {
        if self.waiting.is_empty() {
            return Flushed::default();
        }
        thread::enter();
        // Without link a driver may take packets and forget them.
        if !self.look_at_link() {
            return self.drop_waiting();
        }
        if self.push() {
            self.stalled = None;
        } else if self.is_stalled() {
            return self.drop_waiting();
        }
        Flushed { waiting: !self.waiting.is_empty(), ..Flushed::default() }
    }

    fn link_up(&self) -> bool {
        self.running.link_up()
    }

    fn counters(&mut self) -> DeviceCounters {
        if !self.first {
            return DeviceCounters::default();
        }
        let (missed, no_buffer, errors) = self.running.counters();
        DeviceCounters { missed, no_buffer, errors, ..DeviceCounters::default() }
    }

    fn wait_on(&self, _fds: &mut Vec<RawFd>) -> bool {
        false
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.end_burst();
        self.push();
        give_back(&mut self.waiting);
    }
}
