//! What a run found.

use super::Event;

/// Counters of one monitor.
pub use crate::monitor::stats::Stats as Counters;

/// What [`Monitor::run`](super::Monitor::run) returns. In print: a few lines.
///
/// ```
/// # use mos::{Event, Hook, Monitor};
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
/// let mut monitor = Monitor::open(path)?;
/// monitor.stream()?.on(Event::Rexmit, Hook::Rcv, |_| ())?;
/// let summary = monitor.run()?;
/// println!("{summary}\n{} retransmissions", summary.events(Event::Rexmit));
/// # Ok::<(), mos::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// Packets, bytes, flows, and a reason for every packet that was not inspected or not forwarded.
    pub counters: Counters,
    /// What was wrong with the captures.
    pub warnings: Vec<String>,
}

impl Summary {
    /// How often a built-in event was raised to a socket that listens; 0 for user events.
    pub fn events(&self, event: Event) -> u64 {
        event.bit().map_or(0, |bit| self.counters.events[bit as usize])
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let c = &self.counters;
        writeln!(
            f,
            "{} packets ({} bytes): {} in flows, {} of no flow, {} not TCP",
            c.rx_packets,
            c.rx_bytes,
            c.in_flow,
            c.in_orphan,
            c.in_non_tcp + c.in_non_ip + c.in_fragment
        )?;
        write!(
            f,
            "{} flows, {} at one time, {} ended by silence; {} stream bytes, {} missing",
            c.flows_created, c.flows_peak, c.flows_timed_out, c.stream_bytes, c.missing_bytes
        )?;
        let malformed = c.bad_eth
            + c.bad_ip_len
            + c.bad_ip_version
            + c.bad_ip_checksum
            + c.bad_tcp_len
            + c.bad_tcp_checksum;
        for (count, what) in
            [(malformed, "malformed packets"), (c.truncated, "packets cut short"), (c.panics, "panics")]
        {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        for warning in &self.warnings {
            write!(f, "\n{warning}")?;
        }
        Ok(())
    }
}
