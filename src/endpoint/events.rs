//! Readiness bits, numbered as `MOS_EPOLL*` of the C ABI (endpoint-io.md §1.3).

/// Readable, or a connection to accept, or the end of the stream.
pub const IN: u32 = 1 << 1;
/// Writable.
pub const OUT: u32 = 1 << 3;
/// The connection failed; or nobody reads the pipe any more.
pub const ERR: u32 = 1 << 9;
/// Both directions are over.
pub const HUP: u32 = 1 << 10;
/// The peer has closed its direction.
pub const RDHUP: u32 = 1 << 11;
/// Report once, then wait for a change of the entry.
pub const ONESHOT: u32 = 1 << 30;
/// Report changes only.
pub const ET: u32 = 1 << 31;

/// The bits that can be reported, in the order in which they are.
pub const REPORTED: [u32; 5] = [ERR, IN, OUT, RDHUP, HUP];
