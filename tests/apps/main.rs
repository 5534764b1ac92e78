//! The applications `examples/nat` and `examples/simple_firewall`: on captures, and between real hosts.
#[path = "../harness/mod.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../conformance/packets.rs"]
mod packets;

#[path = "../netns/mod.rs"]
mod netns;

mod captures;
mod live;
