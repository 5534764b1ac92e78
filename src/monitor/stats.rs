//! Counters of one core: every packet is counted once by what inspection made of it and once by its fate (X4).

/// Counters since the context was made. Units: packets, bytes, flows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, as captured.
    pub rx_bytes: u64,
    /// Inspection: packets of a flow.
    pub in_flow: u64,
    /// Inspection: TCP packets without a flow.
    pub in_orphan: u64,
    /// Inspection: IPv4 that is not TCP.
    pub in_non_tcp: u64,
    /// Inspection: not IPv4.
    pub in_non_ip: u64,
    /// Inspection: IPv4 fragments.
    pub in_fragment: u64,
    /// Inspection: addressed to this host.
    pub in_local: u64,
    /// Inspection: shorter than an Ethernet header.
    pub bad_eth: u64,
    /// Inspection: IPv4 lengths that contradict what was received.
    pub bad_ip_len: u64,
    /// Inspection: IPv4 EtherType with another version.
    pub bad_ip_version: u64,
    /// Inspection: wrong IPv4 header checksum.
    pub bad_ip_checksum: u64,
    /// Inspection: TCP header that does not fit its packet.
    pub bad_tcp_len: u64,
    /// Inspection: wrong TCP checksum.
    pub bad_tcp_checksum: u64,
    /// Inspection: nobody monitors streams.
    pub in_unmonitored: u64,
    /// Fate: sent on.
    pub forwarded: u64,
    /// Bytes sent on.
    pub forwarded_bytes: u64,
    /// Fate: taken by this host.
    pub consumed: u64,
    /// Fate: dropped because forwarding is off.
    pub drop_config: u64,
    /// Fate: dropped by a callback.
    pub drop_callback: u64,
    /// Fate: dropped, no way out is configured.
    pub drop_no_route: u64,
    /// Fate: dropped, malformed.
    pub drop_malformed: u64,
    /// Fate: dropped, the output took no more.
    pub drop_tx: u64,
    /// Fate: dropped, no memory.
    pub drop_memory: u64,
    /// Packets made here: resets, `mtcp_sendpkt`.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Flows opened.
    pub flows_created: u64,
    /// Flows ended.
    pub flows_ended: u64,
    /// Flows now.
    pub flows_now: u64,
    /// Most flows at one time.
    pub flows_peak: u64,
    /// Flows ended to make room (D13).
    pub flows_evicted: u64,
    /// Flows ended by silence.
    pub flows_timed_out: u64,
    /// SYNs for which there was no id or no memory.
    pub flows_refused: u64,
    /// Payload bytes accepted in order or out of order, both directions.
    pub stream_bytes: u64,
    /// Bytes of skipped holes (D5).
    pub missing_bytes: u64,
    /// Payload bytes refused: beyond the window or the buffer (D6, D8).
    pub refused_bytes: u64,
    /// Built-in events, by number, that reached a socket with a callback for them or below them.
    pub events: [u64; super::event::BUILTINS],
    /// Frames cut by the capture's snap length.
    pub truncated: u64,
    /// Records of a capture that were no packets.
    pub skipped: u64,
    /// Allocations for flows that failed.
    pub no_memory: u64,
    /// Panics caught in a round.
    pub panics: u64,
    /// Inspection: not finished, for lack of memory or because a fault was contained.
    pub in_fault: u64,
    /// Fate: dropped, a fault was contained.
    pub drop_fault: u64,
    /// Fate: dropped, the next hop does not answer ARP, or too many wait for it.
    pub drop_unresolved: u64,
    /// Fate: dropped, longer than the output takes.
    pub drop_too_long: u64,
    /// Fate: waiting for the next hop's hardware address now.
    pub waiting: u64,
    /// Of `consumed`: echo requests left unanswered by the rate limit.
    pub echo_limited: u64,
    /// Packets made here that could not be sent; not among `sent_packets`.
    pub sent_lost: u64,
    /// Live devices: frames that came when the receive ring was full.
    pub missed: u64,
    /// Live devices: frames for which there was no buffer.
    pub no_buffer: u64,
    /// Live devices: frames received with an error.
    pub rx_errors: u64,
    /// Frames handed over to their own core.
    pub resteered: u64,
    /// Frames that found their core's ring full.
    pub resteer_lost: u64,
}

impl Stats {
    /// What inspection made of a packet since `before` is counted elsewhere, what edits made of it too.
    pub fn take_back_inspection(&mut self, before: &Stats) {
        self.in_flow = before.in_flow;
        self.in_orphan = before.in_orphan;
        self.in_unmonitored = before.in_unmonitored;
        self.in_non_tcp = before.in_non_tcp;
        self.in_non_ip = before.in_non_ip;
        self.in_fragment = before.in_fragment;
        self.in_local = before.in_local;
        self.bad_eth = before.bad_eth;
        self.bad_ip_len = before.bad_ip_len;
        self.bad_ip_version = before.bad_ip_version;
        self.bad_ip_checksum = before.bad_ip_checksum;
        self.bad_tcp_len = before.bad_tcp_len;
        self.bad_tcp_checksum = before.bad_tcp_checksum;
    }

    /// As [`take_back_inspection`](Self::take_back_inspection), of packets that were not received at all.
    pub fn take_back_receipt(&mut self, before: &Stats) {
        self.take_back_inspection(before);
        self.truncated = before.truncated;
        self.rx_packets = before.rx_packets;
        self.rx_bytes = before.rx_bytes;
        self.in_fault = before.in_fault;
        self.drop_memory = before.drop_memory;
    }

    /// Packets that an output had taken, and that are lost with so many bytes. It does not say whose they were: of those received
    /// as far as it goes, then our own.
    pub fn take_back_sent(&mut self, lost: u64, bytes: u64) {
        let forwarded = lost.min(self.forwarded);
        let forwarded_bytes = bytes.min(self.forwarded_bytes);
        self.forwarded -= forwarded;
        self.forwarded_bytes -= forwarded_bytes;
        self.drop_tx += forwarded;
        let own = lost - forwarded;
        self.sent_packets -= own.min(self.sent_packets);
        self.sent_bytes -= (bytes - forwarded_bytes).min(self.sent_bytes);
        self.sent_lost += own;
    }

    /// Sum over what inspection made of packets: always `rx_packets`.
    pub fn inspected(&self) -> u64 {
        self.in_flow
            + self.in_orphan
            + self.in_non_tcp
            + self.in_non_ip
            + self.in_fragment
            + self.in_local
            + self.bad_eth
            + self.bad_ip_len
            + self.bad_ip_version
            + self.bad_ip_checksum
            + self.bad_tcp_len
            + self.bad_tcp_checksum
            + self.in_unmonitored
            + self.in_fault
    }

    /// Sum over what became of packets: always `rx_packets`.
    pub fn fates(&self) -> u64 {
        self.forwarded
            + self.consumed
            + self.drop_config
            + self.drop_callback
            + self.drop_no_route
            + self.drop_malformed
            + self.drop_tx
            + self.drop_memory
            + self.drop_fault
            + self.drop_unresolved
            + self.drop_too_long
            + self.waiting
    }

    /// After a fault: counts what it kept from being counted.
    pub fn settle_fault(&mut self) {
        self.in_fault += self.rx_packets.saturating_sub(self.inspected());
        self.drop_fault += self.rx_packets.saturating_sub(self.fates());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever inspection, edits and a lack of memory made of frames of our own: none was received.
    #[test]
    fn what_was_not_received_is_taken_back_whole() {
        let before =
            Stats { rx_packets: 3, rx_bytes: 300, in_flow: 2, bad_tcp_checksum: 1, ..Stats::default() };
        let mut s = before;
        for counter in [
            &mut s.in_flow,
            &mut s.in_orphan,
            &mut s.in_unmonitored,
            &mut s.in_non_tcp,
            &mut s.in_non_ip,
            &mut s.in_fragment,
            &mut s.in_local,
            &mut s.bad_eth,
            &mut s.bad_ip_len,
            &mut s.bad_ip_version,
            &mut s.bad_ip_checksum,
            &mut s.bad_tcp_len,
            &mut s.bad_tcp_checksum,
            &mut s.in_fault,
            &mut s.drop_memory,
            &mut s.truncated,
            &mut s.rx_packets,
        ] {
            *counter += 1;
        }
        s.rx_bytes += 1000;
        s.take_back_receipt(&before);
        assert_eq!((s.inspected(), s.rx_packets, s.rx_bytes), (3, 3, 300));
        assert_eq!((s.fates(), s.truncated), (0, 0));
    }

    #[test]
    fn what_an_output_lost_is_counted_with_its_bytes() {
        let own = Stats { sent_packets: 5, sent_bytes: 500, ..Stats::default() };
        let mut s = own;
        s.take_back_sent(2, 160);
        assert_eq!((s.sent_packets, s.sent_bytes, s.sent_lost, s.drop_tx), (3, 340, 2, 0));
        let mut s = Stats { forwarded: 3, forwarded_bytes: 3000, ..own };
        s.take_back_sent(2, 1800);
        assert_eq!((s.forwarded, s.forwarded_bytes, s.drop_tx), (1, 1200, 2));
        assert_eq!((s.sent_packets, s.sent_bytes, s.sent_lost), (5, 500, 0));
        // The last one received, and two of our own.
        s.take_back_sent(3, 1400);
        assert_eq!((s.forwarded, s.forwarded_bytes, s.drop_tx), (0, 0, 3));
        assert_eq!((s.sent_packets, s.sent_bytes, s.sent_lost), (3, 300, 2));
    }
}
