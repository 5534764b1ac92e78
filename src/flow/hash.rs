//! The keyed hash of a flow key.
//!
//! Whoever sends packets picks the tuples; without the secret he cannot pick the bucket they fall into. A 64 by 64 bit
//! multiplication keeps all 128 bits of its product for a second one, whose halves are folded into 64: both the low
//! bits (bucket) and the high ones (tag) then depend on every bit of the key. This is no cryptographic function: it is
//! meant against an attacker who sees neither hashes nor the order of anything, only, at best, time.

use super::key::{FlowKey, LongKey, ShortKey};
use std::hash::BuildHasher;

/// A hash function: one member of the family, chosen by its secret.
#[derive(Clone)]
pub struct FlowHash {
    secret: [u64; 4],
}

impl FlowHash {
    /// A hash function with a secret from the operating system's randomness.
    #[must_use]
    pub fn random() -> Self {
        let source = std::hash::RandomState::new();
        Self::from_words([0u64, 1, 2, 3].map(|word| source.hash_one(word)))
    }

    /// The hash function of a given seed, the same on each run: for measurements and tests only.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        // Four outputs of a Weyl sequence, each passed through a bijective mixer, so that close seeds differ everywhere.
        Self::from_words([1u64, 2, 3, 4].map(|step| {
            let mut word = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            word = (word ^ word >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
            word = (word ^ word >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
            word ^ word >> 32
        }))
    }

    fn from_words(secret: [u64; 4]) -> Self {
        FlowHash { secret }
    }

    /// The hash of an IPv4 flow's key.
    #[inline]
    #[must_use]
    pub fn short(&self, key: &ShortKey) -> u64 {
        let [a, b] = key.words();
        self.finish(a, b)
    }

    /// The hash of an IPv6 flow's key.
    #[must_use]
    pub fn long(&self, key: &LongKey) -> u64 {
        let [a, b, c, d, rest] = key.words();
        let low = fold(product(a ^ self.secret[0], b ^ self.secret[1]));
        let high = fold(product(c ^ self.secret[2], d ^ self.secret[3]));
        // The addresses enter by two words that differ in their secrets: exchanging them changes the sum.
        self.finish(low ^ rest, high.wrapping_add(low.rotate_left(32)))
    }

    /// The hash of any key; for IPv4 the same as [`FlowHash::short`].
    #[inline]
    #[must_use]
    pub fn key(&self, key: &FlowKey) -> u64 {
        match key {
            FlowKey::V4(key) => self.short(key),
            FlowKey::V6(key) => self.long(key),
        }
    }

    #[inline(always)]
    fn finish(&self, a: u64, b: u64) -> u64 {
        let [s0, s1, s2, s3] = self.secret;
        let (high, low) = product(a ^ s0, b ^ s1);
        fold(product(low ^ s2, high ^ s3))
    }
}

impl std::fmt::Debug for FlowHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlowHash(secret)")
    }
}

/// High and low half of a 64 by 64 bit product.
#[inline(always)]
fn product(a: u64, b: u64) -> (u64, u64) {
    let wide = u128::from(a) * u128::from(b);
    ((wide >> 64) as u64, wide as u64)
}

#[inline(always)]
fn fold((high, low): (u64, u64)) -> u64 {
    high ^ low
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    /// Pearson's statistic of `buckets` equally likely buckets; about `buckets`, with a deviation of sqrt(2 * buckets).
    fn chi_squared(hashes: &[u64], buckets: usize, pick: impl Fn(u64) -> usize) -> f64 {
        let mut counts = vec![0u32; buckets];
        for &hash in hashes {
            counts[pick(hash)] += 1;
        }
        let expected = hashes.len() as f64 / buckets as f64;
        counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum()
    }

    fn assert_even(hashes: &[u64]) {
        for shift in [0, 12, 28, 48] {
            let statistic = chi_squared(hashes, 4096, |hash| (hash >> shift & 4095) as usize);
            assert!(
                (statistic - 4096.0).abs() < 6.0 * 2.0f64.sqrt() * 64.0,
                "bits from {shift}: {statistic}"
            );
        }
    }

    #[test]
    fn neighbouring_tuples_spread_evenly() {
        let hash = FlowHash::with_seed(7);
        let by_port: Vec<u64> = (0..60_000)
            .map(|port| hash.short(&ShortKey::new(0x0a00_0001, 0x0a00_0002, port, 80, 0).0))
            .collect();
        let by_address: Vec<u64> = (0..60_000u32)
            .map(|host| hash.short(&ShortKey::new(0x0a00_0000 + host, 0xc0a8_0001, 1024, 80, 0).0))
            .collect();
        let by_v6: Vec<u64> = (0..60_000u128)
            .map(|host| {
                let (src, dst) =
                    (Ipv6Addr::from_bits(0x2001 << 112 | host), Ipv6Addr::from_bits(0x2002 << 112));
                hash.long(&LongKey::new(src, dst, 1024, 80, 0).0)
            })
            .collect();
        assert_even(&by_port);
        assert_even(&by_address);
        assert_even(&by_v6);
    }

    #[test]
    fn each_key_bit_flips_half_of_the_hash() {
        let hash = FlowHash::with_seed(3);
        let mut flipped = [0u32; 96];
        for round in 0..1000u32 {
            let src = round.wrapping_mul(0x9e37_79b9);
            // The destination is above all sources, so that the order of the ends never changes.
            let (src, dst, sport, dport) = (src >> 1, src | 0x8000_0000, src as u16, (src >> 3) as u16);
            let base = hash.short(&ShortKey::new(src, dst, sport, dport, 0).0);
            for (bit, count) in flipped.iter_mut().enumerate() {
                let (mut s, mut d, mut sp, mut dp) = (src, dst, sport, dport);
                match bit {
                    0..31 => s ^= 1 << bit,
                    31..62 => d ^= 1 << (bit - 31),
                    62..78 => sp ^= 1 << (bit - 62),
                    78..94 => dp ^= 1 << (bit - 78),
                    _ => continue,
                }
                *count += (hash.short(&ShortKey::new(s, d, sp, dp, 0).0) ^ base).count_ones();
            }
        }
        for (bit, count) in flipped.iter().enumerate().take(94) {
            let mean = f64::from(*count) / 1000.0;
            assert!((mean - 32.0).abs() < 1.5, "key bit {bit} flips {mean} hash bits");
        }
    }

    #[test]
    fn the_secret_decides() {
        let key = FlowKey::v4(1, 2, 3, 4, 5).0;
        assert_ne!(FlowHash::with_seed(1).key(&key), FlowHash::with_seed(2).key(&key));
        assert_eq!(FlowHash::with_seed(1).key(&key), FlowHash::with_seed(1).key(&key));
        assert_ne!(FlowHash::random().key(&key), FlowHash::random().key(&key));
        let FlowKey::V4(short) = key else { unreachable!() };
        assert_eq!(FlowHash::with_seed(1).key(&key), FlowHash::with_seed(1).short(&short));
    }

    #[test]
    fn exchanged_v6_addresses_hash_apart() {
        // Equal parts in other places: each of these keys must have its own hash.
        let hash = FlowHash::with_seed(11);
        let mut seen = std::collections::HashSet::new();
        for src in 0..32u128 {
            for dst in 0..32u128 {
                let (a, b) =
                    (Ipv6Addr::from_bits(src << 64 | dst), Ipv6Addr::from_bits(dst << 64 | src | 1 << 120));
                assert!(seen.insert(hash.long(&LongKey::new(a, b, 1, 2, 0).0)));
            }
        }
    }
}
