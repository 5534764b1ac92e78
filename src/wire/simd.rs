//! The ones' complement sum over a byte range, with AVX2 where the machine has it.
//!
//! Both ways return a partial sum of native-order 16-bit words in 32 bits. They may differ by a
//! multiple of 0xffff and are the same checksum after a full fold.

/// Fetches the cache lines that begin in `len` bytes from `ahead` bytes behind the start of `bytes` on, wherever that is: called for
/// one range behind the other, it fetches each line once.
#[inline(always)]
pub(super) fn prefetch(bytes: &[u8], ahead: usize, len: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let from = bytes.as_ptr().wrapping_add(ahead);
        let end = from.wrapping_add(len).addr() & !63;
        let mut line = from.map_addr(|address| address & !63);
        while line.addr() < end {
            // SAFETY: a prefetch reads nothing a program can see and never faults, whatever the address; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
            line = line.wrapping_add(64);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, ahead, len);
}

/// Partial ones' complement sum of `bytes`; an odd last byte is padded with zero.
#[inline(always)]
pub(super) fn sum(bytes: &[u8]) -> u32 {
    if bytes.len() <= 16 {
        return up_to_16(bytes);
    }
    #[cfg(target_arch = "x86_64")]
    if bytes.len() > SHORT && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2 (std asks once and remembers), and there are more than
        // `SHORT` bytes.
        return unsafe { avx2(bytes) };
    }
    scalar(bytes)
}

/// Up to here the vector path's set-up and reduction cost more than they save.
#[cfg(target_arch = "x86_64")]
const SHORT: usize = 64;

/// Adds with end-around carry: 2^64 is 1 modulo 0xffff.
#[inline(always)]
fn add(acc: u64, word: u64) -> u64 {
    let (sum, carry) = acc.overflowing_add(word);
    sum + u64::from(carry)
}

/// Brings an accumulation of native-order words down to 32 bits: 2^32 is 1 modulo 0xffff.
#[inline(always)]
pub(super) fn halve(acc: u64) -> u32 {
    // The upper half of a word plus itself with its halves exchanged is their end-around sum.
    (acc.wrapping_add(acc.rotate_left(32)) >> 32) as u32
}

/// The sum of up to 16 bytes: most often a header's options, or a payload of a few bytes.
#[inline(always)]
fn up_to_16(bytes: &[u8]) -> u32 {
    let (first, last) = match bytes.len() {
        0 => return 0,
        // What both words hold is shifted out of the second, at whose end zeros stand then.
        len @ 8.. => match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) => {
                let shared = 16 - len as u32;
                let last = u64::from_le_bytes(*last).checked_shr(8 * shared).unwrap_or(0);
                (u64::from_ne_bytes(*first), u64::from_ne_bytes(last.to_le_bytes()))
            }
            _ => (0, 0),
        },
        _ => return scalar(bytes),
    };
    halve(add(first, last))
}

/// The sum without vector instructions: any machine, and short ranges.
#[inline]
pub(super) fn scalar(bytes: &[u8]) -> u32 {
    let (mut even, mut odd) = (0u64, 0u64);
    let mut pairs = bytes.chunks_exact(16);
    for pair in &mut pairs {
        even = add(even, word8(pair));
        odd = add(odd, word8(&pair[8..]));
    }
    let mut rest = pairs.remainder();
    if rest.len() >= 8 {
        even = add(even, word8(rest));
        rest = &rest[8..];
    }
    if rest.len() >= 4 {
        odd = add(odd, u64::from(u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]])));
        rest = &rest[4..];
    }
    if rest.len() >= 2 {
        odd = add(odd, u64::from(u16::from_ne_bytes([rest[0], rest[1]])));
        rest = &rest[2..];
    }
    if let [last] = rest {
        odd = add(odd, u64::from(u16::from_ne_bytes([*last, 0])));
    }
    halve(add(even, odd))
}

#[inline(always)]
fn word8(b: &[u8]) -> u64 {
    u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}

/// Zeros, then ones: a load that starts `n` bytes into it keeps the last `n` bytes of a vector.
#[cfg(target_arch = "x86_64")]
static KEEP_LAST: [u8; 64] = {
    let mut mask = [0; 64];
    let mut i = 32;
    while i < 64 {
        mask[i] = 0xff;
        i += 1;
    }
    mask
};

/// The sum with 256-bit vectors, at any alignment.
///
/// A word less 2^15 is a signed number: one exclusive or. Then one instruction adds pairs of words to 32-bit lanes and a second adds
/// those up, three a vector with the load in the first. What was taken off is put back for all words at the end.
///
/// # Safety
/// The processor has AVX2, and `bytes` is at least 32 bytes long.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(bytes: &[u8]) -> u32 {
    debug_assert!(bytes.len() >= 32);
    if bytes.len() <= BLOCK {
        // SAFETY: as here.
        return unsafe { avx2_block(bytes) };
    }
    let mut sum = 0;
    for block in bytes.chunks(BLOCK) {
        // A rest that is too short for vectors ends the last block's words, all of them whole: `BLOCK` is even.
        // SAFETY: as here; a block is not longer than `BLOCK`.
        let block = if block.len() < 32 { scalar(block) } else { unsafe { avx2_block(block) } };
        sum = add(sum, u64::from(block));
    }
    halve(sum)
}

/// Bytes whose words less 2^15 add up to 31 bits, whatever they are: 64 KiB, and so every packet.
#[cfg(target_arch = "x86_64")]
const BLOCK: usize = 1 << 16;

/// # Safety
/// The processor has AVX2, and `bytes` is 32 to `BLOCK` bytes long.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn avx2_block(bytes: &[u8]) -> u32 {
    use std::arch::x86_64::*;

    debug_assert!((32..=BLOCK).contains(&bytes.len()));
    let even = bytes.len() & !1;
    let last = if even == bytes.len() { 0 } else { u32::from(u16::from_ne_bytes([bytes[even], 0])) };
    let start = bytes.as_ptr();
    let (bias, ones, zero) = (_mm256_set1_epi16(i16::MIN), _mm256_set1_epi16(1), _mm256_setzero_si256());
    let words = |at: usize| {
        debug_assert!(at + 32 <= bytes.len());
        // SAFETY: every call below is for 32 bytes inside the range; unaligned loads are allowed.
        _mm256_xor_si256(bias, unsafe { _mm256_loadu_si256(start.add(at).cast()) })
    };
    let pairs = |at: usize| _mm256_madd_epi16(words(at), ones);

    let (mut a, mut b, mut c, mut d) = (zero, zero, zero, zero);
    let mut at = 0;
    while even - at >= 256 {
        a = _mm256_add_epi32(a, pairs(at));
        b = _mm256_add_epi32(b, pairs(at + 32));
        c = _mm256_add_epi32(c, pairs(at + 64));
        d = _mm256_add_epi32(d, pairs(at + 96));
        a = _mm256_add_epi32(a, pairs(at + 128));
        b = _mm256_add_epi32(b, pairs(at + 160));
        c = _mm256_add_epi32(c, pairs(at + 192));
        d = _mm256_add_epi32(d, pairs(at + 224));
        at += 256;
    }
    if even - at >= 128 {
        a = _mm256_add_epi32(a, pairs(at));
        b = _mm256_add_epi32(b, pairs(at + 32));
        c = _mm256_add_epi32(c, pairs(at + 64));
        d = _mm256_add_epi32(d, pairs(at + 96));
        at += 128;
    }
    while even - at >= 32 {
        a = _mm256_add_epi32(a, pairs(at));
        at += 32;
    }
    if at < even {
        // The last vector of the range, without the words already added. Both positions are even, so words stay words.
        // SAFETY: `even - at` is below 32, so the load ends inside the 64 bytes of the table.
        let keep = unsafe { _mm256_loadu_si256(KEEP_LAST.as_ptr().add(even - at).cast()) };
        b = _mm256_add_epi32(b, _mm256_madd_epi16(_mm256_and_si256(words(even - 32), keep), ones));
    }

    let all = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
    let four = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    let one = _mm_add_epi32(two, _mm_shuffle_epi32::<1>(two));
    // 2^15 for each of `even / 2` words: at most 2^30, and with it the sum is at most 2^31.
    (_mm_cvtsi128_si32(one) as u32).wrapping_add((even as u32) << 14) + last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 as written: one word after the other, carries folded at the end.
    fn by_words(bytes: &[u8]) -> u16 {
        let mut acc = 0u64;
        for pair in bytes.chunks(2) {
            acc += u64::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while acc > 0xffff {
            acc = (acc & 0xffff) + (acc >> 16);
        }
        acc as u16
    }

    fn folded(sum: u32) -> u16 {
        crate::wire::checksum::fold(sum)
    }

    fn check(bytes: &[u8]) {
        let want = by_words(bytes);
        assert_eq!(folded(scalar(bytes)), want);
        assert_eq!(folded(sum(bytes)), want);
        if bytes.len() <= 16 {
            assert_eq!(folded(up_to_16(bytes)), want);
        }
        #[cfg(target_arch = "x86_64")]
        if bytes.len() >= 32 && std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: both conditions were just tested.
            assert_eq!(folded(unsafe { avx2(bytes) }), want);
        }
    }

    #[test]
    fn extremes_of_every_length() {
        let (ones, zeros) = (vec![0xff; 700], vec![0; 700]);
        for len in 0..=700 {
            check(&ones[..len]);
            check(&zeros[..len]);
        }
        for long in [(1 << 16) - 1, 1 << 16, (1 << 16) + 1, (1 << 16) + 31, (1 << 16) + 33, 1 << 20] {
            check(&vec![0xff; long]);
            check(&vec![0; long]);
        }
    }

    proptest! {
        #[test]
        fn all_ways_agree_at_any_length_and_alignment(
            bytes in prop::collection::vec(any::<u8>(), 0..2200), from in 0usize..64
        ) {
            check(&bytes[from.min(bytes.len())..]);
        }
    }
}
