//! DPDK ports (endpoint-io.md §6.2). `dpdk0`, `dpdk1` … are the ports in the order of DPDK's port numbers, those that
//! belong to another port (a bond's members) left out; with `mos { io = dpdk }` a device may also have DPDK's own name for
//! it: a PCI address, or a virtual device's such as `net_pcap0`.
//!
//! * `eal`: DPDK's runtime environment, once a process.
//! * `thread`: the threads that poll, none of which is EAL's.
//! * `plan`: what a port can do → how it is set up. No DPDK call.
//! * `port`: a port set up by its plan, shared out over the cores.
//! * `queue`: a core's queues of it, which move the packets.
//!
//! Nothing outside this directory calls DPDK.

mod eal;
mod plan;
mod port;
mod queue;
mod thread;

pub use eal::{Arguments, shut_down};
pub use port::{Options, open};

use std::ffi::CStr;

/// What DPDK calls an error: a negative number it returned, or `rte_errno`.
fn reason(code: i32) -> String {
    // SAFETY: no preconditions; the answer is a constant, or a buffer of this thread that is copied at once.
    unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(code.abs())) }.to_string_lossy().into_owned()
}
