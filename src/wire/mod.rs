//! What is on the wire: header views, the one-pass parser and checksums, over plain byte slices.
//!
//! Nothing here knows flows, sockets, devices or time.

pub mod checksum;
pub mod ethernet;
pub mod ipv4;
pub mod parse;
pub mod rss;
#[allow(unsafe_code)]
mod simd;
pub mod tcp;
pub mod udp;

pub use parse::{Class, Parsed, Reason, parse};

/// Fetches in advance `len` bytes that lie `ahead` bytes behind the start of `bytes`, wherever that is.
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8], ahead: usize, len: usize) {
    simd::prefetch(bytes, ahead, len);
}

/// Two bytes at `at` as the number they mean on the wire. The caller has checked the length.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes at `at` as the number they mean on the wire. The caller has checked the length.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes `value` at `at` in wire order. The caller has checked the length.
#[inline]
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes `value` at `at` in wire order. The caller has checked the length.
#[inline]
pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
