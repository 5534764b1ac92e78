//! A set of IPv4 addresses as ranges: `mtcp_init_rss` takes up to 65,536 in a row, and every packet for none of our ports asks.

use crate::flow::{OutOfMemory, reserve};
use std::net::Ipv4Addr;

/// Addresses, as ranges that neither overlap nor touch, in order; both ends belong to them.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    ranges: Vec<(u32, u32)>,
}

/// How many of `ranges` lie below `addr` with both ends; `look` is called for each that was looked at.
#[inline]
fn below(ranges: &[(u32, u32)], addr: u32, mut look: impl FnMut()) -> usize {
    ranges.partition_point(|&(_, last)| {
        look();
        last < addr
    })
}

impl Addresses {
    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether an address is one of them.
    #[inline]
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        let addr = addr.to_bits();
        !self.is_empty() && self.ranges.get(below(&self.ranges, addr, || {})).is_some_and(|r| r.0 <= addr)
    }

    /// Adds `count` addresses from `base` on; after the last address comes the first.
    ///
    /// # Errors
    /// [`OutOfMemory`]: some may be missing.
    pub fn add(&mut self, base: Ipv4Addr, count: u32) -> Result<(), OutOfMemory> {
        let Some(more) = count.checked_sub(1) else { return Ok(()) };
        let base = base.to_bits();
        match base.checked_add(more) {
            Some(last) => self.add_range(base, last, || {}),
            None => {
                self.add_range(base, u32::MAX, || {})?;
                self.add_range(0, base.wrapping_add(more), || {})
            }
        }
    }

    fn add_range(&mut self, first: u32, last: u32, mut look: impl FnMut()) -> Result<(), OutOfMemory> {
        // Those that overlap it or touch it become one with it.
        let from = below(&self.ranges, first.saturating_sub(1), &mut look);
        let mut to = from;
        let (mut low, mut high) = (first, last);
        while let Some(&(start, end)) = self.ranges.get(to)
            && start <= last.saturating_add(1)
        {
            look();
            (low, high) = (low.min(start), high.max(end));
            to += 1;
        }
        if from == to {
            reserve(&mut self.ranges, 1)?;
            self.ranges.insert(from, (low, high));
        } else {
            self.ranges[from] = (low, high);
            self.ranges.drain(from + 1..to);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn sixty_five_thousand_in_a_row_are_one_range() {
        let mut set = Addresses::default();
        for _ in 0..2 {
            set.add(Ipv4Addr::new(10, 1, 0, 0), 65_536).unwrap();
        }
        assert_eq!(set.ranges, [(0x0a01_0000, 0x0a01_ffff)]);
        set.add(Ipv4Addr::BROADCAST, 2).unwrap();
        assert_eq!(set.ranges.len(), 3);
        assert!(set.contains(Ipv4Addr::BROADCAST) && set.contains(Ipv4Addr::UNSPECIFIED));
        set.add(Ipv4Addr::LOCALHOST, 0).unwrap();
        assert!(!set.contains(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn one_by_one_each_costs_a_search() {
        let (mut set, mut looks) = (Addresses::default(), 0usize);
        // Scattered: no two touch.
        for n in 0..65_536u32 {
            let addr = n.wrapping_mul(0x9e37_79b1) & !1;
            set.add_range(addr, addr, || looks += 1).unwrap();
        }
        assert!(looks <= 65_536 * 18, "{looks} looks");
        // In a row: there is nothing to search.
        let (mut set, mut looks) = (Addresses::default(), 0usize);
        for n in 0..65_536u32 {
            set.add_range(n, n, || looks += 1).unwrap();
        }
        assert_eq!(set.ranges.len(), 1);
        assert!(looks <= 65_536 * 2, "{looks} looks");
    }

    proptest! {
        #[test]
        fn is_a_set(adds in prop::collection::vec((0u32..200, 0u32..20), 0..60)) {
            let (mut set, mut model) = (Addresses::default(), BTreeSet::new());
            for (base, count) in adds {
                // Around the end of the address space.
                let base = base.wrapping_sub(100);
                set.add(base.into(), count).unwrap();
                model.extend((0..count).map(|n| base.wrapping_add(n)));
                for near in 0..240u32 {
                    let addr = near.wrapping_sub(110);
                    prop_assert_eq!(set.contains(addr.into()), model.contains(&addr));
                }
                prop_assert!(set.ranges.windows(2).all(|w| u64::from(w[0].1) + 1 < u64::from(w[1].0)));
            }
        }
    }
}
