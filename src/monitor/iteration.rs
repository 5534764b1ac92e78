//! One loop iteration (monitor.md §2.1): packets, timers, expiry, NEW_DATA — in that order.

use super::plain::Taken;
use super::process::Fate;
use super::state::Monitor;
use crate::flow::token::Token;
use crate::io::replay::Fill;
use crate::net::forward;
use crate::net::prepare;
use std::sync::atomic::Ordering;

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

    /// Handles the packets of the batch (decision C: parse all, look all up, then one by one).
    pub fn packets(&self, t: &mut Token) {
        prepare::batch(self.state(t), self.settings.verify);
        for at in 0..self.state(t).batch.len() {
            self.refresh_views(t);
            let st = self.state(t);
            st.stats.rx_packets += 1;
            st.stats.rx_bytes += st.batch[at].cap_len as u64;
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

    /// Earliest virtual millisecond at which a timer or a flow may be due.
    pub fn next_deadline_ms(&self, t: &mut Token) -> Option<u64> {
        let flow = self.state(t).wheel.next_due();
        let timer = self.timers.lock().next_due_ms();
        match (flow, timer) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
