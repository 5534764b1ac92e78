//! Arithmetic on TCP sequence numbers (RFC 9293 3.4): 32 bits that wrap, compared by distance.
//!
//! Two numbers exactly 2^31 apart have no order; [`diff`] then gives `i32::MIN`, so each is "before"
//! the other.

/// `a - b` as a signed distance.
#[inline]
pub const fn diff(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// `a` is before `b`.
#[inline]
pub const fn lt(a: u32, b: u32) -> bool {
    diff(a, b) < 0
}

/// `a` is before or at `b`.
#[inline]
pub const fn le(a: u32, b: u32) -> bool {
    diff(a, b) <= 0
}

/// `a` is after `b`.
#[inline]
pub const fn gt(a: u32, b: u32) -> bool {
    diff(a, b) > 0
}

/// `a` is at or after `b`.
#[inline]
pub const fn ge(a: u32, b: u32) -> bool {
    diff(a, b) >= 0
}

/// The later of the two; `a` when they are the same or have no order.
#[inline(always)]
pub const fn max(a: u32, b: u32) -> u32 {
    if gt(b, a) { b } else { a }
}

/// The earlier of the two; `a` when they are the same.
#[inline]
pub const fn min(a: u32, b: u32) -> u32 {
    if gt(a, b) { b } else { a }
}

/// The 64-bit stream offset of `seq` that lies nearest to offset `near`, where the byte with sequence
/// number `isn_plus_1` has offset 0. Negative before it (the SYN itself is at -1).
///
/// `near` is an offset in a byte stream, below 2^62.
#[inline]
pub const fn unwrap(seq: u32, isn_plus_1: u32, near: u64) -> i64 {
    let distance = seq.wrapping_sub(isn_plus_1).wrapping_sub(near as u32) as i32;
    (near as i64).wrapping_add(distance as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn across_the_wrap() {
        assert!(lt(0xffff_fff0, 5) && gt(5, 0xffff_fff0));
        assert!(le(7, 7) && ge(7, 7) && !lt(7, 7) && !gt(7, 7));
        assert_eq!((max(0xffff_fff0, 5), min(0xffff_fff0, 5)), (5, 0xffff_fff0));
        assert_eq!((diff(5, 0xffff_fffb), diff(0xffff_fffb, 5)), (10, -10));
        assert_eq!(unwrap(0xffff_ffff, 0, 0), -1);
        assert_eq!(unwrap(10, 0xffff_fff0, 0), 26);
        assert_eq!(unwrap(0, 0, 5 << 32), 5 << 32);
        assert_eq!(unwrap(0xffff_ffff, 0, 5 << 32), (5 << 32) - 1);
    }

    proptest! {
        #[test]
        fn order_follows_the_distance(a in any::<u32>(), d in -0x7fff_ffffi32..=0x7fff_ffff) {
            let b = a.wrapping_add_signed(d);
            prop_assert_eq!(diff(b, a), d);
            prop_assert_eq!((lt(b, a), le(b, a), gt(b, a), ge(b, a)), (d < 0, d <= 0, d > 0, d >= 0));
            prop_assert_eq!(max(a, b), if d > 0 { b } else { a });
            prop_assert_eq!(min(a, b), if d < 0 { b } else { a });
        }

        #[test]
        fn unwrapping_finds_the_offset(
            isn in any::<u32>(), offset in 0u64..1 << 60, d in -0x8000_0000i64..0x8000_0000
        ) {
            let at = offset as i64 + d;
            let seq = isn.wrapping_add(at as u32);
            prop_assert_eq!(unwrap(seq, isn, offset), at);
        }
    }
}
