//! Which core a TCP flow belongs to: the one function behind NIC key and redirection table, fan-out,
//! re-steering, file replay and `GetRSSCPUCore` (decision D21).
//!
//! Every key here repeats after 8 or 16 bits. A Toeplitz hash (Microsoft, "RSS hashing functions") under
//! such a key depends only on the XOR of the input's bytes or 16-bit words: both directions of a flow
//! get the same value, which is what a middlebox needs, and it takes a few instructions.

/// Bytes of the longest key a NIC takes (i40e; most take the first 40).
pub const KEY_LEN: usize = 52;

/// How a tuple becomes a table index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RssForm {
    /// The C library's formula where port 0 is driven by i40e, or without DPDK: 512 entries, with the
    /// order inside each group of four turned around.
    #[default]
    Wide,
    /// The C library's formula for other DPDK ports: 128 entries.
    Narrow,
    /// An even spread over any number of queues: a key of 16-bit period, 128 entries.
    Fair,
}

/// Maps tuples to queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rss {
    /// The formula in use.
    pub form: RssForm,
}

impl Rss {
    /// A mapping by `form`.
    pub const fn new(form: RssForm) -> Self {
        Self { form }
    }

    /// The queue of a flow, below `queues`; 0 when there are none.
    ///
    /// Addresses and ports lie in memory as on the wire (`s_addr`, `sin_port`). The direction does not
    /// matter. Under [`RssForm::Wide`] and [`RssForm::Narrow`] the byte order does not matter either.
    #[inline]
    pub fn queue(&self, saddr: u32, daddr: u32, sport: u16, dport: u16, queues: u32) -> u32 {
        self.queue_of_hash(self.hash(saddr, daddr, sport, dport), queues)
    }

    /// The queue for a 32-bit hash, as [`Self::hash`] or a NIC under [`Self::key`] computes it.
    #[inline]
    pub fn queue_of_hash(&self, hash: u32, queues: u32) -> u32 {
        let index = match self.form {
            RssForm::Wide => {
                let index = hash & 0x1ff;
                // 0 1 2 3 become 3 2 1 0 within each group of four.
                index.wrapping_add_signed([3, 1, -1, -3][(index & 3) as usize])
            }
            RssForm::Narrow | RssForm::Fair => hash & 0x7f,
        };
        index.checked_rem(queues).unwrap_or(0)
    }

    /// The Toeplitz hash of source address, destination address, source port, destination port under
    /// [`Self::key`]. Arguments as for [`Self::queue`].
    #[inline]
    pub fn hash(&self, saddr: u32, daddr: u32, sport: u16, dport: u16) -> u32 {
        let addrs = u32::from_be(saddr ^ daddr);
        let words = (addrs >> 16) as u16 ^ addrs as u16 ^ u16::from_be(sport ^ dport);
        // Input bit i, from the left, contributes the key from bit i on: its period turned left by i.
        match self.form {
            RssForm::Wide | RssForm::Narrow => {
                // 0x05 has bits 0 and 2, so the sum of its turns is the mirrored input as it is and
                // turned by two.
                let x = ((words >> 8) as u8 ^ words as u8).reverse_bits();
                u32::from(x ^ x.rotate_left(2)) * 0x0101_0101
            }
            RssForm::Fair => {
                let mut hash = 0;
                for (i, turned) in FAIR_TURNS.iter().enumerate() {
                    hash ^= turned & (((words >> (15 - i)) & 1).wrapping_neg());
                }
                u32::from(hash) * 0x0001_0001
            }
        }
    }

    /// The key to program into a NIC, so that its hash is [`Self::hash`].
    pub fn key(&self) -> [u8; KEY_LEN] {
        let period = match self.form {
            RssForm::Wide | RssForm::Narrow => [0x05, 0x05],
            RssForm::Fair => FAIR_KEY.to_be_bytes(),
        };
        std::array::from_fn(|i| period[i % 2])
    }
}

/// The period of the fair key. It has an odd number of ones, so no two XORs of a tuple share a hash.
const FAIR_KEY: u16 = 0x6d5a;

/// What each input bit, from the left, contributes under [`FAIR_KEY`].
const FAIR_TURNS: [u16; 16] = {
    let mut turns = [0; 16];
    let mut i = 0;
    while i < 16 {
        turns[i] = FAIR_KEY.rotate_left(i as u32);
        i += 1;
    }
    turns
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const FORMS: [RssForm; 3] = [RssForm::Wide, RssForm::Narrow, RssForm::Fair];

    /// Toeplitz as defined: for each set input bit, the 32 key bits that start there.
    fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
        let bit = |at: usize| u32::from(key[at / 8] >> (7 - at % 8) & 1);
        let mut hash = 0;
        for i in 0..input.len() * 8 {
            if input[i / 8] >> (7 - i % 8) & 1 == 1 {
                hash ^= (0..32).fold(0, |window, k| window << 1 | bit(i + k));
            }
        }
        hash
    }

    fn input(s: u32, d: u32, sp: u16, dp: u16) -> Vec<u8> {
        [&s.to_ne_bytes()[..], &d.to_ne_bytes(), &sp.to_ne_bytes(), &dp.to_ne_bytes()].concat()
    }

    /// Microsoft's published IPv4-with-ports example under its published key, against the reference
    /// implementation these tests lean on.
    #[test]
    fn toeplitz_itself() {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
            0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
            0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        // 66.9.149.187:2794 to 161.142.100.80:1766
        let tuple = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(toeplitz(&key, &tuple), 0x51cc_c178);
    }

    /// The reference's arithmetic, step by step, on every value its hash can have.
    #[test]
    fn index_of_the_reference() {
        for hash in 0..=0xffffu32 {
            let narrow = hash & 0x7f;
            let masked = hash & 0x1ff;
            let wide = match masked & 3 {
                0 => masked + 3,
                1 => masked + 1,
                2 => masked - 1,
                _ => masked - 3,
            };
            for queues in [1, 2, 3, 5, 16] {
                assert_eq!(Rss::new(RssForm::Narrow).queue_of_hash(hash, queues), narrow % queues);
                assert_eq!(Rss::new(RssForm::Wide).queue_of_hash(hash, queues), wide % queues);
            }
        }
    }

    #[test]
    fn number_of_values_and_spread() {
        let (mut wide, mut fair) = (HashSet::new(), HashSet::new());
        let mut share = [0u32; 12];
        for port in 0..=0xffff {
            wide.insert(Rss::new(RssForm::Wide).hash(1, 2, port, 80));
            fair.insert(Rss::new(RssForm::Fair).hash(1, 2, port, 80));
            share[Rss::new(RssForm::Fair).queue(1, 2, port, 80, 12) as usize] += 1;
        }
        // The contract counted 64 under the reference's key.
        assert_eq!((wide.len(), fair.len()), (64, 65536));
        let (low, high) = (share.iter().min().unwrap(), share.iter().max().unwrap());
        assert!(*low * 100 > *high * 90, "{share:?}");
    }

    /// The shares of the least and the most loaded queue, measured on the C library with random
    /// tuples (contract, endpoint-io.md 1.4), in hundredths of a fair share.
    #[test]
    fn shares_measured_on_the_reference() {
        for (form, queues, low, high) in [
            (RssForm::Narrow, 5, 16, 172),
            (RssForm::Narrow, 10, 16, 187),
            (RssForm::Narrow, 12, 75, 131),
            (RssForm::Narrow, 15, 0, 211),
            (RssForm::Wide, 5, 31, 188),
        ] {
            let mut share = vec![0u32; queues as usize];
            for port in 0..=0xff {
                share[Rss::new(form).queue(0, 0, port, 0, queues) as usize] += 1;
            }
            let hundredths = |n: &u32| (n * queues * 100 + 128) / 256;
            let (least, most) = (share.iter().min().unwrap(), share.iter().max().unwrap());
            assert!(hundredths(least).abs_diff(low) <= 1, "{form:?} {queues} {share:?}");
            assert!(hundredths(most).abs_diff(high) <= 1, "{form:?} {queues} {share:?}");
        }
        for queues in [10u32, 15] {
            let used: HashSet<_> = (0..=0xff).map(|p| Rss::default().queue(0, 0, p, 0, queues)).collect();
            assert_eq!(used.len() as u32, queues - 2);
        }
    }

    #[test]
    fn no_queues_is_queue_zero() {
        for form in FORMS {
            assert_eq!(Rss::new(form).queue(1, 2, 3, 4, 0), 0);
            assert_eq!(Rss::new(form).queue(1, 2, 3, 4, 1), 0);
        }
    }

    proptest! {
        #[test]
        fn equals_toeplitz(s in any::<u32>(), d in any::<u32>(), sp in any::<u16>(), dp in any::<u16>()) {
            for form in FORMS {
                let rss = Rss::new(form);
                let want = toeplitz(&rss.key(), &input(s, d, sp, dp));
                prop_assert_eq!(rss.hash(s, d, sp, dp), want);
                // The first 40 bytes of the key are enough.
                prop_assert_eq!(toeplitz(&rss.key()[..40], &input(s, d, sp, dp)), want);
            }
        }

        #[test]
        fn symmetric_and_in_range(
            s in any::<u32>(), d in any::<u32>(), sp in any::<u16>(), dp in any::<u16>(), queues in 1u32..200
        ) {
            for form in FORMS {
                let rss = Rss::new(form);
                let queue = rss.queue(s, d, sp, dp, queues);
                prop_assert!(queue < queues);
                prop_assert_eq!(rss.queue(d, s, dp, sp, queues), queue);
            }
        }

        #[test]
        fn byte_order_does_not_matter_to_the_reference(
            s in any::<u32>(), d in any::<u32>(), sp in any::<u16>(), dp in any::<u16>()
        ) {
            for form in [RssForm::Wide, RssForm::Narrow] {
                let rss = Rss::new(form);
                let (s2, d2, sp2, dp2) = (s.swap_bytes(), d.swap_bytes(), sp.swap_bytes(), dp.swap_bytes());
                prop_assert_eq!(rss.queue(s, d, sp, dp, 16), rss.queue(s2, d2, sp2, dp2, 16));
                prop_assert_eq!(rss.queue(s, d, sp, dp, 16), rss.queue(d, s, sp, dp, 16));
            }
        }
    }
}
