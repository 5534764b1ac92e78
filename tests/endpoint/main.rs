//! End-host sockets on cores driven by hand, connected by a link in memory with time of its own.

mod lab;
mod monitored;
mod sockets;
mod transfers;
