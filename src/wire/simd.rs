//! The ones' complement sum over a byte range, with AVX2 where the machine has it.
//!
//! Both ways return a partial sum of native-order 16-bit words in 32 bits. They may differ by a
//! multiple of 0xffff and are the same checksum after a full fold.

/// Partial ones' complement sum of `bytes`; an odd last byte is padded with zero.
#[inline(always)]
pub(super) fn sum(bytes: &[u8]) -> u32 {
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
/// A 64-bit lane is `high · 2^32 + low`. Adding the lanes (modulo 2^64) and, beside it, their high
/// halves alone takes three instructions a vector; `Σlow = Σlane − (Σhigh << 32)` is then exact, as
/// long as both sums of halves fit 64 bits, which 2^32 vectors do.
///
/// # Safety
/// The processor has AVX2, and `bytes` is at least 32 bytes long.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(bytes: &[u8]) -> u32 {
    use std::arch::x86_64::*;

    debug_assert!(bytes.len() >= 32);
    let even = bytes.len() & !1;
    let last = if even == bytes.len() { 0 } else { u16::from_ne_bytes([bytes[even], 0]) };
    let start = bytes.as_ptr();
    let load = |at: usize| {
        debug_assert!(at + 32 <= bytes.len());
        // SAFETY: every call below is for 32 bytes inside the range; unaligned loads are allowed.
        unsafe { _mm256_loadu_si256(start.add(at).cast()) }
    };

    let zero = _mm256_setzero_si256();
    let (mut all_a, mut all_b, mut high_a, mut high_b) = (zero, zero, zero, zero);
    let mut at = 0;
    while even - at >= 128 {
        let (v0, v1, v2, v3) = (load(at), load(at + 32), load(at + 64), load(at + 96));
        all_a = _mm256_add_epi64(all_a, _mm256_add_epi64(v0, v1));
        all_b = _mm256_add_epi64(all_b, _mm256_add_epi64(v2, v3));
        let high_0 = _mm256_add_epi64(_mm256_srli_epi64::<32>(v0), _mm256_srli_epi64::<32>(v1));
        let high_1 = _mm256_add_epi64(_mm256_srli_epi64::<32>(v2), _mm256_srli_epi64::<32>(v3));
        high_a = _mm256_add_epi64(high_a, high_0);
        high_b = _mm256_add_epi64(high_b, high_1);
        at += 128;
    }
    while even - at >= 32 {
        let v = load(at);
        all_a = _mm256_add_epi64(all_a, v);
        high_a = _mm256_add_epi64(high_a, _mm256_srli_epi64::<32>(v));
        at += 32;
    }
    if at < even {
        // The last vector of the range, without the bytes already added. Both positions are even,
        // so words stay words.
        // SAFETY: `even - at` is below 32, so the load ends inside the 64 bytes of the table.
        let keep = unsafe { _mm256_loadu_si256(KEEP_LAST.as_ptr().add(even - at).cast()) };
        let v = _mm256_and_si256(load(even - 32), keep);
        all_b = _mm256_add_epi64(all_b, v);
        high_b = _mm256_add_epi64(high_b, _mm256_srli_epi64::<32>(v));
    }

    let (all, high) = (_mm256_add_epi64(all_a, all_b), _mm256_add_epi64(high_a, high_b));
    let low = _mm256_sub_epi64(all, _mm256_slli_epi64::<32>(high));
    let halves = _mm256_add_epi64(low, high);
    let lanes = _mm_add_epi64(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
    let total = _mm_add_epi64(lanes, _mm_unpackhi_epi64(lanes, lanes));
    halve(add(_mm_cvtsi128_si64(total) as u64, u64::from(last)))
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
        check(&vec![0xff; 1 << 20]);
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
