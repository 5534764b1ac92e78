//! One packet's way through the monitor (K2): raw sockets, flow look-up, sender, SND callbacks, receiver, RCV
//! callbacks; forwarding and the end of the flow follow in the caller's hands.

use super::event::{Hook, ON_CONN_START, ON_ERROR, ON_ORPHAN, ON_PKT_IN, ON_REXMIT, ON_STATE_CHANGE};
use super::listener::Kind;
use super::segment::segment_of;
use super::socket::{FlowSocket, NO_SOCKET};
use super::state::{Monitor, State};
use crate::flow::arena::Id;
use crate::flow::record::{CLI, Flow, SVR};
use crate::flow::token::Token;
use crate::net::prepare::{Prepared, Sum};
use crate::tcp::machine::{self, ACK, FIN, RST, SYN, Segment, Verdict};
use crate::tcp::side::Side;
use crate::tcp::state::State as Tcp;
use crate::wire::parse::{Class, Reason};

/// What becomes of a packet after inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent on, if the configuration says so.
    Forward,
    /// Taken by this host.
    Consume,
    /// Malformed: not sent on.
    Malformed,
}

/// Marks a table entry of a flow's second, edited tuple.
pub(crate) const ALT: u32 = 1 << 31;

impl Monitor {
    /// Inspects packet `at` of the batch and runs all callbacks it causes; forwarding is the caller's.
    pub fn inspect(&self, t: &mut Token, at: usize) -> Fate {
        self.refresh_views(t);
        let st = self.state(t);
        st.cur.begin(at);
        let prep = &st.prepared[at];
        st.stats.rx_packets += 1;
        st.stats.rx_bytes += st.batch[at].cap_len as u64;
        st.stats.truncated += prep.parsed.truncated as u64;
        match prep.parsed.class {
            Class::Tcp | Class::OtherIpv4 | Class::Fragment => {}
            Class::NonIpv4 => {
                st.stats.in_non_ip += 1;
                return if st.has_stream { Fate::Forward } else { Fate::Consume };
            }
            Class::Malformed(reason) => {
                let counter = match reason {
                    Reason::EthLen => &mut st.stats.bad_eth,
                    Reason::IpLen => &mut st.stats.bad_ip_len,
                    Reason::IpVersion => &mut st.stats.bad_ip_version,
                    Reason::TcpLen => &mut st.stats.bad_tcp_len,
                };
                *counter += 1;
                return Fate::Malformed;
            }
        }
        if st.has_raw {
            self.tell_listeners(t, ON_PKT_IN, Some(Kind::Raw));
            if self.state(t).cur.edited {
                crate::net::prepare::again(self.state(t), self.settings.verify);
            }
        }
        self.inspect_ipv4(t, at)
    }

    fn inspect_ipv4(&self, t: &mut Token, at: usize) -> Fate {
        let st = self.state(t);
        if !st.has_stream {
            st.stats.in_unmonitored += 1;
            return Fate::Forward;
        }
        let prep = st.prepared[at];
        if prep.sum == Sum::BadIp {
            st.stats.bad_ip_checksum += 1;
            return Fate::Malformed;
        }
        match prep.parsed.class {
            Class::Tcp => {}
            Class::Fragment => {
                st.stats.in_fragment += 1;
                return Fate::Forward;
            }
            // A RAW callback's edit may have made it anything.
            _ => {
                st.stats.in_non_tcp += 1;
                return Fate::Forward;
            }
        }
        if prep.sum == Sum::BadTcp {
            st.stats.bad_tcp_checksum += 1;
            return Fate::Forward;
        }
        let found = match prep.hint {
            Some((id, from)) if st.flows.get(id).is_some() => Some((id, from as usize)),
            _ => st.find(&prep),
        };
        if let Some((id, from)) = found {
            if !self.judge_and_process(t, id, from, at) {
                // The old flow ended: this SYN opens a new one.
                self.open_or_orphan(t, at);
            }
        } else {
            self.open_or_orphan(t, at);
        }
        Fate::Forward
    }

    /// A packet of no known flow.
    fn open_or_orphan(&self, t: &mut Token, at: usize) {
        let flags = self.state(t).prepared[at].parsed.flags;
        let opens = match flags & (SYN | ACK | FIN | RST) {
            SYN => true,
            other => self.settings.midstream && other & RST == 0,
        };
        let from = self.state(t).prepared[at].likely_sender();
        match if opens { self.open(t, at, from) } else { None } {
            Some(id) => {
                let st = self.state(t);
                st.stats.in_flow += 1;
                let seg = st.segment(at);
                let extra = if seg.flags & (SYN | ACK) == SYN { 0 } else { st.pick_up(id, from, &seg) };
                self.process(t, id, from, at, seg, Verdict::Good, extra);
            }
            None => {
                self.state(t).stats.in_orphan += 1;
                self.tell_listeners(t, ON_ORPHAN, None);
            }
        }
    }

    /// A packet of a known flow. `false`: the packet ended that flow and belongs to none.
    fn judge_and_process(&self, t: &mut Token, id: Id, from: usize, at: usize) -> bool {
        let st = self.state(t);
        let seg = st.segment(at);
        let Some(flow) = st.flows.get_mut(id) else { return false };
        let (x, y) = flow.pair(from);
        let verdict = machine::judge(x, y, &seg, false);
        if verdict == Verdict::NewFlow {
            self.end_flow(t, id, CLI, false);
            return false;
        }
        st.stats.in_flow += 1;
        self.process(t, id, from, at, seg, verdict, 0);
        true
    }

    /// Sender, SND, receiver, RCV. `seg` and `verdict` are the packet as it came; `extra` is raised on both hooks.
    #[allow(clippy::too_many_arguments)]
    fn process(&self, t: &mut Token, id: Id, from: usize, at: usize, seg: Segment, verdict: Verdict, extra: u16) {
        let to = 1 - from;
        let st = self.state(t);
        st.cur.flow = Some((id, from as u8));
        let now = st.now_ms as u32;
        let dev = st.io.port_of(st.batch[at].dev);
        let Some(flow) = st.flows.get_mut(id) else { return };
        flow.set(Flow::BUSY);
        let idle = now.wrapping_sub(flow.last_seen);
        let mut events = ON_PKT_IN | extra;
        let mut acked_ahead = false;
        if verdict == Verdict::Good {
            if from == SVR || seg.flags & (ACK | SYN) != 0 {
                flow.last_seen = now;
            }
            let (x, y) = flow.pair(from);
            x.dev = dev;
            if !x.has(Side::UNTRACKED) {
                events |= machine::send(x, y, &seg);
                acked_ahead = seg.flags & ACK != 0
                    && x.state.receives()
                    && x.acked_offset().is_some_and(|a| a > x.tail() as i64);
                x.more |= if acked_ahead { Side::SKIP_DUE } else { 0 };
            }
        }
        if acked_ahead {
            self.look_later(t, id, from);
            self.take_syn_data(t, id, from);
        }
        self.raise(t, id, Hook::Snd, from, events);

        let st = self.state(t);
        let edited = st.cur.edited;
        let (seg, verdict) = if edited { self.judge_again(t, id, from, at, verdict) } else { (seg, verdict) };
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return };
        if flow.has(Flow::SILENT_END) {
            return self.end_flow(t, id, to, true);
        }
        if !flow.sides[SVR].has(Side::ATTACHED) {
            flow.sides[SVR].set(Side::ATTACHED);
            if edited {
                st.rekey_server(id, at);
            }
        }
        let events = ON_PKT_IN | extra | self.arrive(t, id, to, at, &seg, verdict, idle);
        self.raise(t, id, Hook::Rcv, to, events);

        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return };
        flow.clear(Flow::BUSY);
        // The end comes after forwarding: see `finish_packet`.
    }

    /// The packet as the SND callbacks left it.
    fn judge_again(&self, t: &mut Token, id: Id, from: usize, at: usize, before: Verdict) -> (Segment, Verdict) {
        let st = self.state(t);
        if st.prepared[at].parsed.class != Class::Tcp {
            return (Segment::default(), Verdict::Ignored);
        }
        let seg = st.segment(at);
        let Some(flow) = st.flows.get_mut(id) else { return (seg, Verdict::Ignored) };
        if before != Verdict::Good || !flow.sides[SVR].has(Side::ATTACHED) {
            return (seg, before);
        }
        let (x, y) = flow.pair(from);
        match machine::judge(x, y, &seg, true) {
            Verdict::NewFlow => (seg, Verdict::Ignored),
            verdict => (seg, verdict),
        }
    }

    /// The packet reaches its receiver; returns the receiver's events without PKT_IN.
    #[allow(clippy::too_many_arguments)]
    fn arrive(&self, t: &mut Token, id: Id, to: usize, at: usize, seg: &Segment, verdict: Verdict, idle: u32) -> u16 {
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return 0 };
        if flow.sides[to].has(Side::UNTRACKED) {
            return 0;
        }
        match verdict {
            Verdict::Good if machine::is_old(&flow.sides[to], seg, idle) => return 0,
            Verdict::Good => {}
            Verdict::Beyond => {
                let buffered = !flow.sides[to].has(Side::NO_BUFFER) && flow.sides[to].state.receives();
                st.stats.refused_bytes += seg.len as u64;
                if buffered {
                    self.raise(t, id, Hook::Null, to, ON_ERROR);
                }
                return 0;
            }
            Verdict::Ignored | Verdict::NewFlow => return 0,
        }
        if seg.len > 0 && st.retransmits(id, to, seg) {
            self.raise(t, id, Hook::Rcv, to, ON_REXMIT);
        }
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return 0 };
        let (x, y) = flow.pair(1 - to);
        let received = machine::receive(y, x, seg);
        let mut events = received.events;
        if received.stores {
            if seg.len > 0 || seg.has(FIN) || y.has(Side::SYN_DATA) {
                events |= self.store(t, id, to, at, seg);
            }
        } else if seg.has(SYN) && seg.len > 0 && y.has(Side::IRS) && seg.seq == y.irs && !y.has(Side::SYN_DATA) {
            st.keep_syn_data(id, to, at);
        }
        let time_wait = self.settings.time_wait_ms;
        if time_wait > 0 {
            self.state(t).note_time_wait(id, to, &self.settings);
        }
        events
    }

    /// After forwarding: ends the flow of the packet when both sides are finished.
    pub fn finish_packet(&self, t: &mut Token) {
        let st = self.state(t);
        let flow = st.cur.flow.take();
        st.cur.end();
        let Some((id, from)) = flow else { return };
        let Some(record) = st.flows.get(id) else { return };
        let time_wait = self.settings.time_wait_ms;
        let done = |s: &Side| {
            s.has(Side::UNTRACKED)
                || (s.has(Side::ATTACHED) && (s.state == Tcp::Closed || (s.state == Tcp::TimeWait && time_wait == 0)))
        };
        let [c, s] = &record.sides;
        // One test in the common case: neither side is in a final state.
        if (c.state == Tcp::Closed || c.state == Tcp::TimeWait || c.has(Side::UNTRACKED)) && done(c) && done(s) {
            let silent = c.has(Side::UNTRACKED) && s.has(Side::UNTRACKED);
            self.end_flow(t, id, 1 - from as usize, silent);
        }
    }

    /// Makes a flow for the packet `at`, if a listener wants it and there is room.
    fn open(&self, t: &mut Token, at: usize, from: usize) -> Option<Id> {
        let wanted = self.state(t).accepting().len();
        if wanted == 0 {
            return None;
        }
        if !self.make_room(t, wanted as u32) {
            self.state(t).stats.flows_refused += 1;
            return None;
        }
        self.refresh_views(t);
        let st = self.state(t);
        let listeners = st.accepting();
        let opened = self.attach(st, at, from, &listeners);
        match opened {
            Some(id) => {
                self.flow_count.store(st.stats.flows_now as u32, std::sync::atomic::Ordering::Relaxed);
                Some(id)
            }
            None => {
                st.stats.flows_refused += 1;
                None
            }
        }
    }

    fn attach(&self, st: &mut State, at: usize, from: usize, listeners: &[usize]) -> Option<Id> {
        let prep = st.prepared[at];
        let mut ids = Vec::with_capacity(listeners.len());
        {
            let mut setup = self.setup.lock();
            for _ in listeners {
                match setup.ids.alloc() {
                    Some(id) if st.sockets.reserve(id) => ids.push(id),
                    got => {
                        ids.extend(got);
                        for id in ids.drain(..) {
                            setup.ids.free(id);
                        }
                        return None;
                    }
                }
            }
        }
        let mut flow = Flow { key: prep.key, last_seen: st.now_ms as u32, socket: ids.first().copied()?, ..Flow::default() };
        // The canonical key is the same both ways; remember which end is the client's.
        if prep.forward != (from == CLI) {
            flow.set(Flow::REVERSED);
        }
        flow.sides[CLI].set(Side::ATTACHED);
        for side in [CLI, SVR] {
            if listeners.iter().all(|&l| st.views[l].buffer[side] == Some(0)) {
                flow.sides[side].set(Side::NO_BUFFER);
            }
        }
        for &l in listeners {
            flow.interest |= st.sets.get(st.views[l].set).map_or(0, |s| s.interest);
        }
        let room = st.flows.insert(flow).ok().and_then(|id| {
            let State { table, flows, hasher, alternate, .. } = st;
            let hash = |value: u32| hash_of(flows, alternate, hasher, value);
            if table.insert(prep.hash, id.index, hash).is_ok() {
                return Some(id);
            }
            flows.remove(id);
            None
        });
        let Some(id) = room else {
            st.stats.no_memory += 1;
            let mut setup = self.setup.lock();
            for id in ids.drain(..) {
                            setup.ids.free(id);
                        }
            return None;
        };
        for (n, &l) in listeners.iter().enumerate() {
            let set = st.views[l].set;
            st.sets.share(set);
            let socket = FlowSocket {
                flow: id,
                next: ids.get(n + 1).copied().unwrap_or(NO_SOCKET),
                set,
                follows: st.views[l].follows_mask(),
                live: true,
                ..FlowSocket::default()
            };
            st.sockets.put(ids[n], socket);
        }
        for side in [CLI, SVR] {
            let largest = listeners.iter().filter_map(|&l| st.views[l].buffer[side]).max().unwrap_or(0);
            let default = listeners.iter().any(|&l| st.views[l].buffer[side].is_none());
            let size = if default { largest.max(st.rmem) } else { largest };
            if size > 0
                && size != st.rmem
                && let Some(cold) = st.cold_of(id, side)
            {
                cold.stream.resize(0, size);
            }
        }
        if let Some(timeout) = self.settings.timeout_ms {
            st.arm(id, st.now_ms + timeout as u64, &self.settings);
        }
        if let Some(ages) = &mut st.ages {
            ages.add(id, st.now_ms as u32);
        }
        st.stats.flows_created += 1;
        st.stats.flows_now += 1;
        st.stats.flows_peak = st.stats.flows_peak.max(st.stats.flows_now);
        Some(id)
    }
}

/// The hash a table entry's key has.
fn hash_of(
    flows: &crate::flow::arena::Arena<Flow>,
    alternate: &std::collections::HashMap<u32, (crate::flow::key::ShortKey, bool)>,
    hasher: &crate::flow::hash::FlowHash,
    value: u32,
) -> u64 {
    if value & ALT != 0 {
        return alternate.get(&(value & !ALT)).map_or(0, |(key, _)| hasher.short(key));
    }
    flows.at(value).map_or(0, |f| hasher.short(&f.key))
}

impl State {
    /// The flow of a packet and the side that sent it.
    pub(crate) fn find(&self, prep: &Prepared) -> Option<(Id, usize)> {
        let mut from = CLI;
        let value = self.table.find(prep.hash, |value| {
            let index = value & !ALT;
            if value & ALT != 0 {
                // The server's packets, under the tuple the SND callbacks made of the first SYN.
                return match self.alternate.get(&index) {
                    Some((key, client_forward)) if *key == prep.key && prep.forward != *client_forward => {
                        from = SVR;
                        true
                    }
                    _ => false,
                };
            }
            let Some(flow) = self.flows.at(index) else { return false };
            if flow.key != prep.key {
                return false;
            }
            // Equal ends: always the client's.
            let client_forward = !flow.has(Flow::REVERSED);
            from = if prep.forward == client_forward { CLI } else { SVR };
            from == CLI || !flow.has(Flow::ALT_KEY)
        })?;
        Some((self.flows.id_of(value & !ALT)?, from))
    }

    /// The segment of packet `at` as its bytes are now.
    pub(super) fn segment(&self, at: usize) -> Segment {
        segment_of(&self.prepared[at].parsed, self.frame(at))
    }

    /// Listeners (by view) whose SYN filter accepts the packet in process.
    fn accepting(&self) -> Vec<usize> {
        let wants = |l: &super::listener::ListenerView| {
            l.kind == Kind::Stream && l.syn.as_ref().is_none_or(|f| f.matches(self.filter_input()))
        };
        self.views.iter().enumerate().filter(|(_, l)| wants(l)).map(|(n, _)| n).collect()
    }

    /// Whether a listener's own filter lets it see the packet in process.
    pub(super) fn view_matches(&self, view: usize, event: u16) -> bool {
        let Some(v) = self.views.get(view) else { return false };
        match v.kind {
            Kind::Raw => v.raw.as_ref().is_none_or(|f| f.matches(self.current_frame())),
            Kind::Stream if event == ON_ORPHAN => v.orphan.as_ref().is_none_or(|f| f.matches(self.filter_input())),
            Kind::Stream => true,
        }
    }

    /// Starts a flow in the middle (X3): both sides exist at once. The events that tell of it.
    fn pick_up(&mut self, id: Id, from: usize, seg: &Segment) -> u16 {
        let Some(flow) = self.flows.get_mut(id) else { return 0 };
        flow.set(Flow::MIDSTREAM);
        flow.sides[SVR].set(Side::ATTACHED);
        let (x, y) = flow.pair(from);
        machine::midstream(x, y, seg);
        ON_CONN_START | ON_STATE_CHANGE
    }

    /// The server's packets carry the tuple the SND callbacks made of the first SYN: a second table entry.
    fn rekey_server(&mut self, id: Id, at: usize) {
        let parsed = self.prepared[at].parsed;
        let (key, forward) = Prepared::key_of(&parsed);
        let Some(flow) = self.flows.get(id) else { return };
        if flow.key == key {
            return;
        }
        let hash = self.hasher.short(&key);
        self.alternate.insert(id.index, (key, forward));
        let State { table, flows, hasher, alternate, .. } = self;
        if table.insert(hash, id.index | ALT, |v| hash_of(flows, alternate, hasher, v)).is_err() {
            self.alternate.remove(&id.index);
            self.stats.no_memory += 1;
            return;
        }
        if let Some(flow) = self.flows.get_mut(id) {
            flow.set(Flow::ALT_KEY);
        }
    }
}
