//! Callbacks that do everything a callback may, at any time, and note what they were told.

use crate::random::Random;
use crate::traffic::byte_at;
use mos::flow::token::Token;
use mos::monitor::event::{
    BOTH, EventId, Hook, ON_CONN_END, ON_CONN_START, ON_ERROR, ON_NEW_DATA, ON_ORPHAN, ON_PKT_IN, ON_REXMIT,
    ON_STATE_CHANGE,
};
use mos::monitor::hookset::{Callback, Filter};
use mos::monitor::inject::Send;
use mos::monitor::listener::Kind;
use mos::monitor::native::Call;
use mos::monitor::packet::{Area, Edit};
use mos::monitor::{Errno, Monitor};
use mos::tcp::reassembly::Overlap;
use mos::wire::checksum;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const FLOW_EVENTS: [u16; 4] = [ON_PKT_IN, ON_CONN_START, ON_STATE_CHANGE, ON_CONN_END];

/// What the callbacks of one flow's socket were told.
#[derive(Debug, Default)]
struct Seen {
    /// START on SND and RCV.
    starts: [u32; 2],
    /// END by side, on SND and RCV.
    ends: [[u32; 2]; 2],
    /// Its callbacks were taken away: not every event comes.
    exempt: bool,
}

impl Seen {
    fn ended(&self) -> bool {
        self.ends[0] == [1, 1] && (self.ends[1] == [1, 1] || (self.ends[1] == [0, 0] && self.starts[1] == 0))
    }
}

/// What a case lets its callbacks do.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// A callback does something once in so many times; 0: it only reads.
    pub calm: usize,
    /// Streams hold only what was on the wire, where it was.
    pub checked: bool,
    /// The first SYN's tuple is rewritten.
    pub nat: bool,
}

pub struct World {
    pub random: Random,
    pub manners: Manners,
    /// Sockets of flows.
    flows: HashMap<u32, Seen>,
    /// Listeners whose callbacks are whole.
    pub listeners: Vec<u32>,
    user_events: Vec<EventId>,
    callback: [u32; 3],
    timer: u32,
    /// Timers that may still be set.
    timers: u32,
    pub wrong: Vec<String>,
    /// Values kept with flows that have not been dropped.
    pub kept: Arc<AtomicUsize>,
    pub calls: u64,
    pub read: u64,
    pub trace: bool,
    pub starts: u64,
}

struct Keep(Arc<AtomicUsize>);

impl Drop for Keep {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub type Shared = Arc<Mutex<World>>;

fn hook_number(hook: Hook) -> usize {
    match hook {
        Hook::Null => 0,
        Hook::Snd => 1,
        Hook::Rcv => 2,
    }
}

const HOOKS: [Hook; 3] = [Hook::Null, Hook::Snd, Hook::Rcv];

/// Makes callbacks, user events and listeners.
pub fn populate(m: &Monitor, t: &mut Token, random: Random, manners: Manners) -> Shared {
    let world = Arc::new(Mutex::new(World {
        random,
        manners,
        flows: HashMap::new(),
        listeners: Vec::new(),
        user_events: Vec::new(),
        callback: [0; 3],
        timer: 0,
        timers: 200,
        wrong: Vec::new(),
        kept: Arc::default(),
        calls: 0,
        read: 0,
        trace: std::env::var_os("HOSTILE_TRACE").is_some(),
        starts: 0,
    }));
    let natives = &mut m.state(t).natives;
    for hook in HOOKS {
        let shared = world.clone();
        let number = natives.add_callback(
            hook,
            Box::new(move |m, t, call| shared.try_lock().expect("callbacks do not nest").called(m, t, call)),
        );
        world.lock().unwrap().callback[hook_number(hook)] = number.unwrap();
    }
    let shared = world.clone();
    let timer = natives.add_callback(
        Hook::Null,
        Box::new(move |m, t, call| shared.try_lock().expect("callbacks do not nest").fired(m, t, call)),
    );
    let mut w = world.lock().unwrap();
    w.timer = timer.unwrap();
    for n in 0..4 {
        let shared = world.clone();
        let filter = Filter::Native(
            m.state(t)
                .natives
                .add_filter(Box::new(move |m, t, call| {
                    let mut w = shared.try_lock().expect("filters do not nest");
                    w.act(m, t, call);
                    !w.random.once_in(3)
                }))
                .unwrap(),
        );
        let parents = [ON_PKT_IN, ON_NEW_DATA, ON_STATE_CHANGE, ON_PKT_IN];
        let mut forest = m.forest().write();
        let parent = if n == 3 { w.user_events[0] } else { parents[n] as u64 };
        let event = forest.define(parent, Some(filter), &[n as u8], |_| Some(0));
        let raised = forest.define(event, None, &[], |_| Some(0));
        w.user_events.extend([event, raised]);
    }
    let listeners = 1 + w.random.below(3) + w.random.once_in(8) as usize;
    for n in 0..listeners {
        w.listen(m, n == 0);
    }
    if w.random.once_in(3) {
        w.timers -= 1;
        let _ = m.set_timer(1, 0, Callback::Native(w.timer));
    }
    drop(w);
    world
}

/// What must hold when all is over.
pub fn epilogue(world: &Shared) {
    let mut w = world.lock().unwrap();
    let left: Vec<String> = w
        .flows
        .iter()
        .filter(|(_, s)| !s.exempt && !s.ended())
        .map(|(id, s)| format!("socket {id}: {s:?}"))
        .collect();
    if !left.is_empty() {
        w.wrong.push(format!("flows that did not end: {left:?}"));
    }
    if w.kept.load(Ordering::Relaxed) != 0 {
        w.wrong.push("a value kept with a flow outlives it".into());
    }
}

/// Whether the packet in process is a segment with a right checksum, or one that nobody can verify, or none.
fn sum_is_right(m: &Monitor, t: &mut Token) -> bool {
    let st = m.state(t);
    let Ok(info) = st.copy_packet() else { return true };
    let packet = &st.copy[info.l3 as usize..st.copy.len() - 16];
    let cut = st.prepared[st.cur.at].parsed.truncated;
    info.l4.is_none() || cut || checksum::tcp_ok(packet, packet[0] & 15, info.ip_len)
}

impl World {
    fn listen(&mut self, m: &Monitor, whole: bool) -> Option<u32> {
        let raw = !whole && self.random.once_in(3);
        let kind = if raw { Kind::Raw } else { Kind::Stream };
        let id = m.change_setup(|s| s.add(kind))?;
        let on = |hook: Hook, event: EventId| {
            let callback = Some(Callback::Native(self.callback[hook_number(hook)]));
            let _ = m.register_on_listener(id, hook, event, callback);
        };
        if raw {
            on(Hook::Null, ON_PKT_IN as u64);
        } else {
            for event in FLOW_EVENTS {
                on(Hook::Snd, event as u64);
                on(Hook::Rcv, event as u64);
            }
            on(Hook::Rcv, ON_REXMIT as u64);
            for event in [ON_NEW_DATA, ON_ERROR, ON_ORPHAN] {
                on(Hook::Null, event as u64);
            }
            for (n, &event) in self.user_events.iter().enumerate() {
                on(HOOKS[n % 3], event);
                on(HOOKS[(n + 1) % 3], event);
            }
        }
        self.filters(m, id, raw);
        self.listeners.push(id);
        Some(id)
    }

    fn filters(&mut self, m: &Monitor, id: u32, raw: bool) {
        use mos::monitor::filter::{RawFilter, StreamFilter};
        let stream = ["tcp port 80", "src net 10.0.0.0 mask 255.255.255.0", "not dst port 443"];
        let text = self.random.pick(&stream);
        let (syn, orphan) = (self.random.once_in(5), self.random.once_in(3));
        let packet = self.random.pick(&["udp", "tcp[13] & 2 != 0", "greater 200", "ip[6:2] & 0x1fff != 0"]);
        m.change_setup(|s| {
            let Some(l) = s.get(id) else { return };
            if syn && !raw {
                l.syn = StreamFilter::new(text).ok().map(Arc::new);
            }
            if orphan && !raw {
                l.orphan = StreamFilter::new(text).ok().map(Arc::new);
            }
            if syn && raw {
                l.raw = RawFilter::new(packet).ok().map(Arc::new);
            }
        });
        if self.random.once_in(8) {
            let size = self.random.pick(&[0, 1, 1000, 1024, 100_000]);
            m.set_listener_buffer(id, self.random.below(2), size);
        }
    }

    fn called(&mut self, m: &Monitor, t: &mut Token, call: Call) {
        self.calls += 1;
        if self.trace {
            println!("    {call:?}");
        }
        if call.side != BOTH {
            self.note(m, t, call);
        }
        self.act(m, t, call);
        if call.side != BOTH && call.event == ON_NEW_DATA as u64 && !self.random.once_in(5) {
            self.read_all(m, t, call.sock, call.side);
        }
    }

    fn note(&mut self, m: &Monitor, t: &Token, call: Call) {
        if m.view(t).sockets.get(call.sock).is_none() {
            self.wrong.push(format!("{call:?}: the socket is not there"));
            return;
        }
        let hook = (call.hook == Hook::Rcv) as usize;
        let seen = self.flows.entry(call.sock).or_default();
        if call.event == ON_CONN_START as u64 {
            self.starts += 1;
            if seen.ended() {
                // The socket's id is another flow's now.
                *seen = Seen::default();
            }
            if seen.exempt && seen.starts[hook] > 0 {
                *seen = Seen { exempt: true, ..Seen::default() };
            }
            seen.starts[hook] += 1;
            if seen.starts[hook] > 1 {
                let said = format!("{call:?}: began twice: {seen:?}");
                self.wrong.push(said);
            }
        } else if call.event == ON_CONN_END as u64 {
            seen.ends[call.side][hook] += 1;
            if seen.ends[call.side][hook] > 1 && !seen.exempt {
                let said = format!("{call:?}: ended twice: {seen:?}");
                self.wrong.push(said);
            }
        }
    }

    /// A flow ended whose callbacks had been changed: what comes under its id is another one's.
    fn exempt(&mut self, sock: u32) {
        let seen = self.flows.entry(sock).or_default();
        if seen.ended() {
            // Another flow has the id, and its START is still to come in this very packet.
            *seen = Seen::default();
        }
        seen.exempt = true;
    }

    /// Forgets the sockets that no flow has.
    pub fn settle(&mut self, m: &Monitor, t: &Token) {
        let st = m.view(t);
        let wrong = &mut self.wrong;
        self.flows.retain(|&id, seen| {
            let live = st.sockets.get(id).is_some();
            if !live && !seen.exempt && !seen.ended() {
                wrong.push(format!("socket {id} is gone without its CONN_ENDs: {seen:?}"));
            }
            live
        });
    }

    fn check(&mut self, m: &Monitor, t: &Token, sock: u32, side: usize, at: u64, bytes: &[u8]) {
        self.read += bytes.len() as u64;
        if !self.manners.checked {
            return;
        }
        let Some(info) = m.buffer_info(t, sock, side) else {
            self.wrong.push(format!("socket {sock} gives bytes and has no buffer"));
            return;
        };
        let first = info.init_seq.wrapping_add(at as u32);
        if let Some(n) = (0..bytes.len()).find(|&n| bytes[n] != byte_at(first.wrapping_add(n as u32))) {
            self.wrong.push(format!(
                "socket {sock} side {side}: byte {n} of {} read at offset {at} (sequence number {first}) was never sent there",
                bytes.len()
            ));
        }
    }

    fn read_all(&mut self, m: &Monitor, t: &mut Token, sock: u32, side: usize) {
        let size = self.random.pick(&[1, 7, 100, 4096, 70_000]);
        let mut out = vec![0xee; size];
        for _ in 0..100 {
            let before = m.view(t).sockets.get(sock).map_or(0, |s| s.peeked[side]);
            match m.peek(t, sock, side, &mut out) {
                Ok(Ok(n)) if n > 0 && n <= size => self.check(m, t, sock, side, before, &out[..n]),
                Ok(Ok(0)) | Err(_) => break,
                Ok(Ok(n)) => self.wrong.push(format!("{n} bytes read into {size}")),
                Ok(Err(0)) => self.wrong.push("a hole of no bytes".into()),
                Ok(Err(_)) => {}
            }
        }
    }

    fn fired(&mut self, m: &Monitor, t: &mut Token, call: Call) {
        if self.random.once_in(2) {
            self.set_timer(m);
            self.set_timer(m);
        }
        self.act(m, t, Call { side: BOTH, ..call });
    }

    fn set_timer(&mut self, m: &Monitor) {
        if self.timers > 0 {
            self.timers -= 1;
            let delay = self.random.pick(&[0, 0, 1, 999, 1_000_000, u64::MAX, 1 << 40]);
            let _ = m.set_timer(self.random.bits() as i32, delay, Callback::Native(self.timer));
        }
    }

    /// Does something, most of the time nothing.
    fn act(&mut self, m: &Monitor, t: &mut Token, call: Call) {
        let calm = self.manners.calm;
        if self.manners.nat && call.event == ON_CONN_START as u64 && call.hook == Hook::Snd {
            let address = [10, 9, self.random.below(2) as u8, self.random.below(256) as u8];
            let off = if self.random.once_in(3) { 12 } else { 16 };
            let _ = m.edit_packet(t, Area::Ip, off, Edit::Overwrite(&address), true, true);
            if self.random.once_in(3) {
                let _ = m.edit_packet(t, Area::Tcp, 2, Edit::Overwrite(&[0, 80]), true, true);
            }
        }
        if calm == 0 || !self.random.once_in(calm) {
            return;
        }
        let mut sock = call.sock;
        if self.random.once_in(20) {
            // Another flow's, or nobody's.
            sock = self.random.pick(&[0, 1, 2, 3, 5, 8, 1023, 1024, u32::MAX]);
        }
        let side = self.random.below(2);
        for _ in 0..1 + self.random.below(3) {
            self.one_thing(m, t, sock, side);
        }
    }

    fn one_thing(&mut self, m: &Monitor, t: &mut Token, sock: u32, side: usize) {
        let what = self.random.below(22);
        if self.trace {
            println!("      does {what} to {sock} side {side}");
        }
        match what {
            0 | 1 => self.read_all(m, t, sock, side),
            2 | 3 => self.look_at(m, t, sock, side),
            4 => self.fragments(m, t, sock, side),
            5 | 6 => self.copy(m, t),
            7 => {
                let _ = m.drop_packet(t);
            }
            8..=10 if !self.manners.checked => self.edit(m, t),
            8..=10 => self.edit_gently(m, t),
            11 if self.random.once_in(4) => {
                let mask = 1 + self.random.below(3) as u8;
                if m.view(t).sockets.get(sock).is_some() && m.stop(t, sock, mask).is_ok() {
                    self.exempt(sock);
                }
            }
            12 | 13 => {
                let size = self.random.pick(&[0, 0, 1, 10, 1000, 1024, 5000, 65536, 1 << 20, usize::MAX]);
                let _ = m.set_buffer(t, sock, side, size);
            }
            14 => {
                let overlap = if self.random.once_in(3) { Overlap::First } else { Overlap::Last };
                let _ = m.set_overlap(
                    t,
                    sock,
                    side,
                    if self.random.once_in(9) { Err(Errno(22)) } else { Ok(overlap) },
                );
            }
            15 => self.register(m, t, sock),
            16 => {
                let _ = m.reset(t, sock);
            }
            17 => self.send(m, t, sock),
            18 => {
                let event = self.random.below(9);
                let event = self.user_events.get(event).copied().unwrap_or(self.random.bits());
                let _ = m.raise_event(t, event);
            }
            19 => self.set_timer(m),
            20 => self.keep(m, t, sock),
            _ if self.random.once_in(20) => self.change_listeners(m),
            _ => {
                let _ = (m.peers(t, sock), m.tcp_state(t, sock, side), m.named(t, sock), m.uctx(t, sock));
            }
        }
    }

    fn look_at(&mut self, m: &Monitor, t: &Token, sock: u32, side: usize) {
        let Some(info) = m.buffer_info(t, sock, side) else { return };
        let near = self.random.pick(&[info.last_byte_read, info.next_byte_expected, info.last_byte_received]);
        let off = match self.random.below(8) {
            0 => self.random.bits(),
            1 => u64::MAX,
            _ => (near as u64 + self.random.below(2000) as u64).saturating_sub(1000),
        };
        let mut out = vec![0xee; self.random.pick(&[0, 1, 3, 1500, 9000])];
        if let Ok(n) = m.ppeek(t, sock, side, off, &mut out) {
            if n > out.len() {
                self.wrong.push(format!("{n} bytes read into {}", out.len()));
            }
            self.check(m, t, sock, side, off, &out[..n.min(out.len())]);
        }
    }

    fn fragments(&mut self, m: &Monitor, t: &Token, sock: u32, side: usize) {
        let mut all = Vec::new();
        m.fragments(t, sock, side, |start, end| {
            all.push((start, end));
            true
        });
        let ordered = all.windows(2).all(|w| w[0].1 < w[1].0) && all.iter().all(|(s, e)| s < e);
        if !ordered {
            self.wrong.push(format!("fragments {all:?}"));
        }
        // What is said to be held can be read.
        for (start, end) in all {
            let mut out = vec![0xee; ((end - start) as usize).min(70_000)];
            match m.ppeek(t, sock, side, start, &mut out) {
                Ok(n) if n > 0 => self.check(m, t, sock, side, start, &out[..n]),
                other => self.wrong.push(format!("fragment {start}..{end} gives {other:?}")),
            }
        }
    }

    fn copy(&mut self, m: &Monitor, t: &mut Token) {
        let st = m.state(t);
        if let Ok(info) = st.copy_packet() {
            let room = st.copy.len();
            let end = info.payload as usize + info.payload_len as usize;
            let ip_end = if info.ip_len > 0 { info.l3 as usize + info.ip_len as usize } else { 0 };
            if room < info.eth_len as usize + 16 || end > room - 16 || ip_end > room {
                self.wrong.push(format!("a copy of {room} bytes for {info:?}"));
            }
        }
    }

    fn edit(&mut self, m: &Monitor, t: &mut Token) {
        let area = self.random.pick(&[
            Area::Ethernet,
            Area::Ip,
            Area::Ip,
            Area::Tcp,
            Area::Tcp,
            Area::Payload,
            Area::Payload,
        ]);
        let off = self.random.pick(&[0, 0, 1, 2, 4, 6, 9, 12, 13, 16, 20, 24, 100, usize::MAX]);
        let off = if self.random.once_in(4) { self.random.below(64) } else { off };
        let size = self.random.pick(&[0, 1, 2, 4, 4, 8, 40, 1000, 65536]);
        let data = self.random.bytes(size);
        let edit = match self.random.below(3) {
            0 => Edit::Overwrite(&data),
            1 => Edit::Chomp(if self.random.once_in(9) { usize::MAX } else { size }),
            _ => Edit::Insert(&data),
        };
        let (ip, tcp) = (!self.random.once_in(3), !self.random.once_in(3));
        let _ = m.edit_packet(t, area, off, edit, ip, tcp);
    }

    /// Edits that leave every payload byte at its sequence number.
    fn edit_gently(&mut self, m: &Monitor, t: &mut Token) {
        let data = self.random.bytes(4);
        if !sum_is_right(m, t) {
            // A raw socket's: with a new checksum, bytes that were never sent would pass for good.
            return;
        }
        let (area, off, edit) = match self.random.below(6) {
            0 => (Area::Tcp, 8, Edit::Overwrite(&data[..])),
            1 => (Area::Tcp, 14, Edit::Overwrite(&data[..2])),
            2 => (Area::Tcp, 20, Edit::Insert(&data[..])),
            3 => (Area::Tcp, 20, Edit::Chomp(4)),
            4 => (Area::Ip, 20, Edit::Insert(&data[..])),
            _ => (Area::Ethernet, 0, Edit::Overwrite(&data[..])),
        };
        let _ = m.edit_packet(t, area, off, edit, true, true);
    }

    fn register(&mut self, m: &Monitor, t: &mut Token, sock: u32) {
        if m.view(t).sockets.get(sock).is_none() {
            return;
        }
        let hook = self.random.pick(&HOOKS);
        let event = match self.random.below(3) {
            0 => self.random.pick(&self.user_events.clone()),
            _ => self.random.pick(&FLOW_EVENTS) as u64,
        };
        if event < 4096 && !hook.accepts(event) {
            return;
        }
        let callback = self.random.once_in(2).then_some(Callback::Native(self.callback[hook_number(hook)]));
        if callback.is_none() {
            self.exempt(sock);
        }
        let _ = m.register_on_flow(t, sock, hook, event, callback);
    }

    fn send(&mut self, m: &Monitor, t: &mut Token, sock: u32) {
        let size = self.random.pick(&[0, 1, 1460, 1461]);
        let payload = self.random.bytes(size);
        let header = |r: &mut Random| <[u8; 20]>::try_from(r.bytes(20)).unwrap_or_default();
        let (ip, tcp) = (header(&mut self.random), header(&mut self.random));
        let macs = if self.random.once_in(2) { Some([7; 12]) } else { None };
        let bits = self.random.bits();
        let (seq, ack, window) = (bits as u32, (bits >> 32) as u32, bits as u16);
        let _ = m.send_packet(t, sock, &Send { ip, tcp, macs, seq, ack, window, payload: &payload });
    }

    fn keep(&mut self, m: &Monitor, t: &mut Token, sock: u32) {
        let st = m.state(t);
        let Some(socket) = st.sockets.get_mut(sock) else { return };
        self.kept.fetch_add(1, Ordering::Relaxed);
        let kept = Box::new(Keep(self.kept.clone()));
        let Ok((place, old)) = st.natives.keep(socket.uctx, kept) else { return };
        socket.uctx = place;
        drop(old);
    }

    fn change_listeners(&mut self, m: &Monitor) {
        match self.random.below(3) {
            0 if self.listeners.len() > 1 => {
                let at = self.random.below(self.listeners.len());
                let id = self.listeners.swap_remove(at);
                m.change_setup(|s| s.remove(id));
            }
            1 if self.listeners.len() < 6 => {
                self.listen(m, false);
            }
            _ => {
                let size = self.random.pick(&[0, 1, 1024, 100_000]);
                if let Some(&id) = self.listeners.first() {
                    m.set_listener_buffer(id, self.random.below(2), size);
                }
            }
        }
    }
}
