//! Finding flows: the key of a packet, its hash, the table from hash to record, the arena the records live in, the
//! wheel that ends them in time, and the id space their sockets are numbered from.
//!
//! Nothing here knows sockets, TCP or a clock. Time, secrets and record types come in as arguments. All memory that
//! grows with flows grows fallibly and in fixed chunks, so that no insertion ever copies or clears a whole table.

pub mod arena;
#[allow(unsafe_code)]
pub(crate) mod fetch;
pub mod hash;
pub mod ids;
pub mod key;
pub mod record;
pub mod slab;
pub mod table;
pub mod token;
pub mod wheel;

pub use arena::{Arena, Id, Record};
pub(crate) use fetch::prefetch_lines;
pub use hash::FlowHash;
pub use ids::IdSpace;
pub use key::{Direction, FlowKey, LongKey, ShortKey};
pub use table::Table;
pub use wheel::{Links, Wheel};

/// Memory for one more entry could not be had. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

impl std::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("out of memory")
    }
}

impl std::error::Error for OutOfMemory {}

impl From<std::collections::TryReserveError> for OutOfMemory {
    fn from(_: std::collections::TryReserveError) -> Self {
        OutOfMemory
    }
}

/// Makes room for `more` further elements. All memory of this module comes through here.
#[inline]
pub(crate) fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<(), OutOfMemory> {
    if list.capacity() - list.len() >= more {
        return Ok(());
    }
    #[cfg(test)]
    if famine::reigns() {
        return Err(OutOfMemory);
    }
    Ok(list.try_reserve(more)?)
}

/// Which of eight numbers are equal to `wanted`, as a bit set.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code)]
fn equal_lanes(lanes: [u16; 8], wanted: u16) -> u8 {
    use std::arch::x86_64::*;
    let [a, b, c, d, e, f, g, h] = lanes.map(u16::cast_signed);
    // SAFETY: these need SSE2, which is part of x86-64, and nothing else.
    unsafe {
        let equal =
            _mm_cmpeq_epi16(_mm_set_epi16(h, g, f, e, d, c, b, a), _mm_set1_epi16(wanted.cast_signed()));
        _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u8
    }
}

/// Which of eight numbers are equal to `wanted`, as a bit set.
#[cfg(not(target_arch = "x86_64"))]
fn equal_lanes(lanes: [u16; 8], wanted: u16) -> u8 {
    lanes.iter().rev().fold(0, |found, &lane| found << 1 | u8::from(lane == wanted))
}

/// Lets tests see what happens without memory.
#[cfg(test)]
mod famine {
    use std::cell::Cell;

    thread_local! {
        static REIGNS: Cell<bool> = const { Cell::new(false) };
    }

    pub fn reigns() -> bool {
        REIGNS.get()
    }

    /// Runs `code` while this thread gets no more memory from [`super::reserve`].
    pub fn during<R>(code: impl FnOnce() -> R) -> R {
        REIGNS.set(true);
        let result = code();
        REIGNS.set(false);
        result
    }
}
