//! One packet's way through the monitor (K2): raw sockets, flow look-up, sender, SND callbacks, receiver, RCV
//! callbacks; forwarding and the end of the flow follow in the caller's hands.

use super::event::{Hook, ON_ERROR, ON_ORPHAN, ON_PKT_IN, ON_REXMIT, ON_STATE_CHANGE, on_rcv, on_snd};
use super::listener::Kind;
use super::state::{Monitor, State};
use super::stats::Stats;
use crate::flow::arena::Id;
use crate::flow::record::{CLI, Flow, SVR};
use crate::flow::token::Token;
use crate::net::input;
use crate::net::prepare::Sum;
use crate::tcp::machine::{self, ACK, FIN, RST, SYN, Segment, Verdict};
use crate::tcp::side::{NO_COLD, Side};
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

impl Monitor {
    /// Inspects packet `at` of the batch and runs all callbacks it causes; forwarding is the caller's.
    pub fn inspect(&self, t: &mut Token, at: usize) -> Fate {
        let st = self.state(t);
        st.cur.begin(at);
        let prep = &st.prepared[at];
        st.stats.truncated += prep.parsed.truncated as u64;
        match prep.parsed.class {
            Class::Tcp | Class::OtherIpv4 | Class::Fragment => {}
            Class::NonIpv4 => {
                if st.host.local.has_own() && input::frame(st, at) {
                    st.stats.in_local += 1;
                    return Fate::Consume;
                }
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
        // Flows outlive the listener they came from (D18).
        if !st.has_stream && st.flows.is_empty() {
            return st.other_packet(at, |stats| &mut stats.in_unmonitored);
        }
        let prep = &st.prepared[at];
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
            _ => return st.other_packet(at, |stats| &mut stats.in_non_tcp),
        }
        if prep.sum == Sum::BadTcp {
            st.stats.bad_tcp_checksum += 1;
            return Fate::Forward;
        }
        let found = st.find_hinted(at);
        if !found.is_some_and(|(id, from)| self.judge_and_process(t, id, from, at)) {
            // No flow, or the old one ended and this SYN opens a new one.
            self.open_or_orphan(t, at);
        }
        Fate::Forward
    }

    /// A packet of no known flow.
    fn open_or_orphan(&self, t: &mut Token, at: usize) {
        let flags = self.state(t).prepared[at].parsed.flags;
        let opens = match flags & (SYN | ACK | FIN | RST) {
            SYN => true,
            // SYN with FIN opens nothing, seen in the middle or not (D10).
            other => self.settings.midstream && other & RST == 0 && other & (SYN | FIN) != SYN | FIN,
        };
        let from = self.state(t).prepared[at].likely_sender();
        match if opens { self.open(t, at, from) } else { None } {
            Some(id) => {
                let st = self.state(t);
                st.stats.in_flow += 1;
                let seg = st.prepared[at].segment();
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
        let seg = st.prepared[at].segment();
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
    fn process(
        &self,
        t: &mut Token,
        id: Id,
        from: usize,
        at: usize,
        mut seg: Segment,
        mut verdict: Verdict,
        extra: u16,
    ) {
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
            x.come_by(dev);
            if !x.has(Side::UNTRACKED) {
                events |= machine::send(x, y, &seg);
                acked_ahead = seg.flags & ACK != 0 && x.acked_ahead();
            }
        }
        let (first, wanted) = (flow.socket, flow.interest & on_snd(events));
        if acked_ahead {
            flow.sides[from].more |= Side::SKIP_DUE;
            self.look_later(t, id, from);
            self.take_syn_data(t, id, from);
        }
        if events & ON_STATE_CHANGE != 0 && self.settings.time_wait_ms > 0 {
            // A remembered FIN may have taken the sender to TIME_WAIT (D5c).
            self.state(t).note_time_wait(id, from, &self.settings);
        }
        if wanted != 0 {
            self.raise_wanted(t, first, Hook::Snd, from, events);
        }

        if self.state(t).cur.edited {
            (seg, verdict) = self.judge_again(t, id, from, at, verdict);
        }
        self.reach_receiver(t, id, from, at, &seg, verdict, extra, idle);
    }

    /// The second half of [`Monitor::process`], after the SND callbacks: receiver, RCV. `idle`: how long the flow was silent before.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn reach_receiver(
        &self,
        t: &mut Token,
        id: Id,
        from: usize,
        at: usize,
        seg: &Segment,
        verdict: Verdict,
        extra: u16,
        idle: u32,
    ) {
        let to = 1 - from;
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return };
        if flow.has(Flow::SILENT_END) {
            if flow.has(Flow::RESET_DUE) {
                st.send_resets(id);
            }
            return self.end_flow(t, id, to, true);
        }
        if !flow.sides[SVR].has(Side::ATTACHED) {
            flow.sides[SVR].set(Side::ATTACHED);
            if st.cur.edited {
                st.rekey_server(id, at);
            }
        }
        let events = ON_PKT_IN | extra | self.arrive(t, id, to, at, seg, verdict, idle);
        let st = self.state(t);
        let Some(flow) = st.flows.get(id) else { return };
        if flow.interest & on_rcv(events) != 0 {
            let first = flow.socket;
            self.raise_wanted(t, first, Hook::Rcv, to, events);
        }
        self.leave(t, id);
    }

    /// The packet has passed its flow, after the last callback.
    #[inline]
    pub(super) fn leave(&self, t: &mut Token, id: Id) {
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return };
        flow.clear(Flow::BUSY);
        // The end itself comes after forwarding.
        st.cur.ends = flow.is_over(self.settings.time_wait_ms == 0);
        if flow.has(Flow::RESET_DUE) {
            st.send_resets(id);
        }
    }

    /// The packet as the SND callbacks left it.
    pub(super) fn judge_again(
        &self,
        t: &mut Token,
        id: Id,
        from: usize,
        at: usize,
        before: Verdict,
    ) -> (Segment, Verdict) {
        let st = self.state(t);
        if st.prepared[at].parsed.class != Class::Tcp {
            return (Segment::default(), Verdict::Ignored);
        }
        let seg = st.prepared[at].segment();
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
    fn arrive(
        &self,
        t: &mut Token,
        id: Id,
        to: usize,
        at: usize,
        seg: &Segment,
        verdict: Verdict,
        idle: u32,
    ) -> u16 {
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
        let (in_order, cold) = (seg.seq == flow.sides[to].rcv_nxt, flow.sides[to].cold);
        let plain = in_order && cold == NO_COLD;
        if seg.len > 0 && !(in_order && st.is_unbroken(cold)) && st.retransmits(id, to, seg) {
            self.raise(t, id, Hook::Rcv, to, ON_REXMIT);
        }
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return 0 };
        let (x, y) = flow.pair(1 - to);
        let received = machine::receive(y, x, seg);
        let mut events = received.events;
        if received.stores {
            if plain && y.has(Side::NO_BUFFER) && seg.flags & FIN == 0 {
                y.set_tail(y.tail() + seg.len as u64);
                st.stats.stream_bytes += seg.len as u64;
            } else if seg.len > 0 || seg.has(FIN) || y.has(Side::SYN_DATA) {
                if seg.len == 0 || !st.store_plain(id, to, at, seg.seq, seg.len) {
                    events |= self.store(t, id, to, at, seg);
                } else if seg.has(FIN) {
                    events |= st.finish(id, to);
                }
            }
        } else if seg.has(SYN)
            && seg.len > 0
            && y.has(Side::IRS)
            && seg.seq == y.irs
            && !y.has(Side::SYN_DATA)
        {
            st.keep_syn_data(id, to, at);
        }
        let time_wait = self.settings.time_wait_ms;
        if time_wait > 0 {
            self.state(t).note_time_wait(id, to, &self.settings);
        }
        events
    }

    /// After forwarding: ends the flow of the packet when both sides are finished.
    #[inline]
    pub fn finish_packet(&self, t: &mut Token) {
        let cur = &mut self.state(t).cur;
        let (over, flow) = (cur.ends, cur.flow);
        cur.end();
        if over && let Some((id, from)) = flow {
            let silent =
                self.state(t).flows.get(id).is_some_and(|f| f.sides.iter().all(|s| s.has(Side::UNTRACKED)));
            self.end_flow(t, id, 1 - from as usize, silent);
        }
    }
}

impl State {
    /// A packet that no flow is looked up for: for ourselves, or counted and sent on.
    #[inline(never)]
    fn other_packet(&mut self, at: usize, counter: fn(&mut Stats) -> &mut u64) -> Fate {
        if self.host.local.has_own() && input::datagram(self, at) {
            self.stats.in_local += 1;
            return Fate::Consume;
        }
        *counter(&mut self.stats) += 1;
        Fate::Forward
    }

    /// Whether a listener's own filter lets it see the packet in process.
    pub(super) fn view_matches(&self, view: usize, event: u16) -> bool {
        let Some(v) = self.views.get(view) else { return false };
        match v.kind {
            Kind::Raw => {
                let frame = self.current_frame();
                let wire = (self.batch[self.cur.at].wire_len as usize).max(frame.len());
                v.raw.as_ref().is_none_or(|f| f.matches_cut(frame, wire))
            }
            Kind::Stream if event == ON_ORPHAN => {
                v.orphan.as_ref().is_none_or(|f| self.stream_filter_matches(f))
            }
            Kind::Stream => true,
        }
    }
}
