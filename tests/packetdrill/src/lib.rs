//! The end-host stack of libmos behind the interface by which packetdrill drives a stack in user space
//! (`packetdrill --so_filename=libmos_packetdrill.so --so_flags=… script.pkt`).
//!
//! One context with one port, sockets, epoll objects and pipes, the IP layer below: everything but devices and clocks. Packets
//! are handed in and taken out by calls, and time is virtual: it passes in `usleep`, while the next packet is waited for, and
//! by a microsecond with each look at the clock.
//!
//! | file | what |
//! |---|---|
//! | `table.rs` | the table of functions: the C side and nothing else |
//! | `flags.rs` | `--so_flags` |
//! | `world.rs` | the context, its packets, its time |
//! | `threads.rs` | calls that block, and when time may pass |
//! | `sockets.rs` | calls on sockets, as Linux answers them |
//! | `options.rs` | socket options |
//! | `tso.rs` | segments put together as for a device that cuts them itself |
//! | `ready.rs` | poll, epoll, in Linux's bits |

pub mod flags;
mod options;
mod ready;
mod sockets;
pub mod table;
mod threads;
mod tso;
mod world;

/// A call's result, or the error number.
type Result<R> = std::result::Result<R, i32>;
