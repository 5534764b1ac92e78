//! One loop iteration (monitor.md §2.1): packets, timers, expiry, NEW_DATA — in that order.

use super::state::{Monitor, State};
use crate::flow::token::Token;
use crate::net::forward;
use crate::net::prepare;
use std::sync::atomic::Ordering;

impl State {
    /// After a fault in an iteration: the packet in process and those behind it in the batch are counted as lost to it.
    pub fn settle_fault(&mut self) {
        let counted = (self.stats.rx_packets - self.received_before) as usize;
        for rx in self.batch.drain(..).skip(counted) {
            self.stats.rx_packets += 1;
            self.stats.rx_bytes += u64::from(rx.cap_len);
        }
        self.stats.settle_fault();
    }
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

    /// Handles the packets of the batch (decision C: parse all, look all up, then one by one).
    pub fn packets(&self, t: &mut Token) {
        let st = self.state(t);
        st.received_before = st.stats.rx_packets;
        prepare::batch(st, self.settings.verify);
        for at in 0..self.state(t).batch.len() {
            let st = self.state(t);
            st.io.prefetch_after(&st.batch[at]);
            let fate = self.inspect(t, at);
            forward::packet(self.state(t), at, fate, self.settings.forward);
            self.finish_packet(t);
        }
        self.state(t).batch.clear();
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
        let host = self.state(t).host.deadline_ms();
        [flow, timer, host].into_iter().flatten().min()
    }
}
