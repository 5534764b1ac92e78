//! End-host sockets on cores driven by hand, connected by a link in memory with time of its own.

mod edges;
mod lab;
mod memory;
mod mixes;
mod monitored;
mod sockets;
mod transfers;
mod waits;
