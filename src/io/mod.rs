//! Packets in and out: capture files and their replay, live devices behind one trait, and the outputs that take what is forwarded.

pub mod capture;
pub mod clock;
#[allow(unsafe_code)]
pub mod device;
#[cfg(feature = "dpdk")]
#[allow(unsafe_code)]
pub mod dpdk;
pub mod interface;
#[allow(unsafe_code)]
pub mod live;
#[cfg(test)]
#[allow(unsafe_code)]
pub mod memory;
pub mod output;
#[allow(unsafe_code)]
pub mod pcap;
pub mod progress;
pub mod queue;
pub mod replay;
#[allow(unsafe_code)]
pub mod resteer;
pub mod source;
#[allow(unsafe_code)]
pub mod stamped;
#[allow(unsafe_code)]
pub mod wake;
