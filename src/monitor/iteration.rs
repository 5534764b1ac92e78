//! One loop iteration (monitor.md §2.1): packets, timers, expiry, NEW_DATA — in that order.

use super::plain::Taken;
use super::process::Fate;
use super::state::{Monitor, State};
use crate::flow::token::Token;
use crate::io::replay::Fill;
use crate::net::forward;
use crate::net::prepare;
use crate::net::route::Hop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

impl State {
    /// After a fault in an iteration: the packet in process and those behind it in the batch are counted as lost to it.
    pub fn settle_fault(&mut self) {
        let counted = (self.stats.rx_packets - self.received_before) as usize;
        for rx in self.batch.drain(..).skip(counted) {
            self.stats.rx_packets += 1;
            self.stats.rx_bytes += u64::from(rx.cap_len);
        }
        self.prepared.clear();
        self.stats.settle_fault();
    }
}

/// Who takes TCP packets that end at this host.
pub trait Terminal {
    /// Whether packet `at` of the batch is for this host.
    fn wants(&self, m: &Monitor, t: &mut Token, at: usize) -> bool;
    /// Takes packet `at`, as the callbacks left it.
    fn take(&self, m: &Monitor, t: &mut Token, at: usize);
}

/// No packet ends here.
impl Terminal for () {
    fn wants(&self, _: &Monitor, _: &mut Token, _: usize) -> bool {
        false
    }
    fn take(&self, _: &Monitor, _: &mut Token, _: usize) {}
}

impl Monitor {
    /// Sets the time of the iteration that begins.
    pub fn set_time(&self, t: &mut Token, now_ns: u64) {
        let st = self.state(t);
        let now_ns = now_ns.max(st.now_ns);
        st.now_ns = now_ns;
        st.now_ms = now_ns / 1_000_000;
        self.clock_ms.store(st.now_ms, Ordering::Release);
    }

    /// Takes the next packets from the source; [`Monitor::packets`] handles them.
    pub fn receive(&self, t: &mut Token) -> Fill {
        prepare::receive(self.state(t), self.settings.verify)
    }

    /// Handles the packets of the batch (decision C: parse all, look all up, then one by one). Those for this host go to
    /// `here` when the monitors have seen them.
    pub fn packets(&self, t: &mut Token, here: &impl Terminal) {
        let st = self.state(t);
        st.received_before = st.stats.rx_packets;
        prepare::batch(st, self.settings.verify);
        for at in 0..self.state(t).batch.len() {
            self.refresh_views(t);
            let st = self.state(t);
            st.stats.rx_packets += 1;
            st.stats.rx_bytes += st.batch[at].cap_len as u64;
            if here.wants(self, t, at) {
                self.packet_for_us(t, at, here);
                self.finish_packet(t);
                continue;
            }
            let taken = self.plain(t, at);
            let fate = if taken == Taken::No { self.inspect(t, at) } else { Fate::Forward };
            forward::packet(self.state(t), at, fate, self.settings.forward);
            // Forwarding may have completed its checksum.
            if taken != Taken::Silently || self.settings.forward {
                self.finish_packet(t);
            }
        }
        let st = self.state(t);
        st.batch.clear();
        st.prepared.clear();
    }

    /// A packet for this host: monitors see it as any other, and may drop it.
    #[inline(never)]
    fn packet_for_us(&self, t: &mut Token, at: usize, here: &impl Terminal) {
        let before = self.state(t).stats;
        let fate = self.inspect(t, at);
        if self.state(t).cur.edited {
            prepare::again(self.state(t), self.settings.verify);
            if !here.wants(self, t, at) {
                // Translated (NAT): it goes on to somebody else.
                return forward::rare_packet(self.state(t), at, fate, self.settings.forward);
            }
        }
        let st = self.state(t);
        // Of the inspection's counters it counts in this one only.
        st.stats.take_back_inspection(&before);
        st.stats.in_local += 1;
        if st.cur.dropped {
            st.stats.drop_callback += 1;
        } else {
            st.stats.consumed += 1;
            here.take(self, t, at);
        }
    }

    /// Packets this host sends itself, when there are monitors: these see them as any other, then they leave.
    pub fn outgoing(&self, t: &mut Token, mut frames: Vec<(Hop, Vec<u8>)>) {
        let st = self.state(t);
        let before = st.stats;
        let lent = frames.iter_mut().map(|(hop, frame)| (hop.port, std::mem::take(frame)));
        if !st.io.lend(st.now_ns, lent, &mut st.batch) {
            st.stats.no_memory += 1;
            st.stats.sent_lost += frames.len() as u64;
            return;
        }
        let mut seen = 0;
        let shown = catch_unwind(AssertUnwindSafe(|| self.show_outgoing(t, &frames, &mut seen)));
        let st = self.state(t);
        // They were not received, whatever became of them.
        st.stats.take_back_receipt(&before);
        st.stats.sent_lost += (frames.len() - seen) as u64;
        st.batch.clear();
        st.prepared.clear();
        st.io.give_back();
        forward::settle(st);
        if let Err(fault) = shown {
            resume_unwind(fault);
        }
    }

    /// See [`outgoing`](Self::outgoing): `frames` are lent by now; `seen` counts those whose fate is settled.
    fn show_outgoing(&self, t: &mut Token, frames: &[(Hop, Vec<u8>)], seen: &mut usize) {
        prepare::batch(self.state(t), false);
        for (at, &(hop, _)) in frames.iter().enumerate().take(self.state(t).batch.len()) {
            self.refresh_views(t);
            self.inspect(t, at);
            let st = self.state(t);
            *seen += 1;
            if st.cur.dropped {
                st.stats.sent_lost += 1;
            } else {
                let frame = st.current_frame();
                let mut copy = Vec::new();
                if copy.try_reserve_exact(frame.len()).is_ok() {
                    copy.extend_from_slice(frame);
                    st.host.send_to(hop, copy, false, st.now_ms);
                } else {
                    st.stats.no_memory += 1;
                    st.stats.sent_lost += 1;
                }
            }
            self.finish_packet(t);
        }
    }

    /// What follows the packets of an iteration.
    pub fn end_iteration(&self, t: &mut Token) {
        self.fire_timers(t);
        self.expire(t);
        self.flush(t);
        if self.wanted_ids.load(Ordering::Relaxed) > 0 {
            let wanted = self.wanted_ids.swap(0, Ordering::AcqRel);
            self.make_room(t, wanted);
        }
        forward::outbox(self.state(t));
    }

    /// Earliest virtual millisecond at which a timer, a flow or a packet that waits for its next hop may be due.
    pub fn next_deadline_ms(&self, t: &mut Token) -> Option<u64> {
        let flow = self.state(t).wheel.next_due();
        let timer = self.timers.lock().next_due_ms();
        let due = match (flow, timer) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match self.state(t).host.deadline_ms() {
            None => due,
            Some(host) => Some(due.map_or(host, |due| due.min(host))),
        }
    }
}
