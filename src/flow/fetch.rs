//! Asking the processor for memory that will be needed soon.

/// Asks the processor to fetch the first `lines` cache lines (64 bytes each) from `target` on. A hint: it changes
/// nothing, and is nothing on processors other than x86-64.
#[inline(always)]
pub(crate) fn prefetch_lines<T>(target: &T, lines: usize) {
    prefetch_address(std::ptr::from_ref(target).cast(), lines);
}

#[inline(always)]
fn prefetch_address(first: *const u8, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in 0..lines {
            // SAFETY: a prefetch reads nothing a program can see and never faults, whatever the address; SSE is part
            // of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line * 64).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (first, lines);
}

/// As [`prefetch_lines`], for the first lines of a chunk that is to be written, however long it is now.
#[inline(always)]
pub(crate) fn prefetch_chunk(chunk: &[u8], lines: usize) {
    prefetch_address(chunk.as_ptr(), lines);
}

/// As [`prefetch_lines`], for the lines behind the end of what a chunk holds.
#[inline(always)]
pub(crate) fn prefetch_tail(chunk: &[u8], lines: usize) {
    prefetch_address(chunk.as_ptr().wrapping_add(chunk.len()), lines);
}
