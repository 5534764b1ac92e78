//! Live traffic: real peers in network namespaces, the library between or beside them.
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../netns/mod.rs"]
mod netns;

mod cores;
mod deploy;
#[cfg(feature = "dpdk")]
mod dpdk;
mod edits;
mod lab;
mod life;
mod transfers;
