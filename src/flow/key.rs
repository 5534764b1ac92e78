//! What names a flow: the two ends of a packet in one canonical order, and the packet's direction between them.
//!
//! Both directions of a connection give the same key. The lower end (by address, then port) is written first; a packet
//! from the lower to the higher end travels [`Direction::Forward`]. Which of the two ends is the client is not the
//! key's matter: the flow remembers the direction of its first SYN.
//!
//! IPv4 has the short form, 16 bytes compared as two words; it is what a flow record stores. IPv6 has the long form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// IP version in the high byte, protocol number in the low one.
const KIND_TCP4: u64 = 0x0406;
const KIND_TCP6: u64 = 0x0606;

/// The way a packet travels between the two ends of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the lower end to the higher one. Also each packet whose ends are equal.
    Forward,
    /// From the higher end to the lower one.
    Reverse,
}

impl Direction {
    /// The direction of the answers.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Direction::Forward => Direction::Reverse,
            Direction::Reverse => Direction::Forward,
        }
    }
}

/// The key of a TCP flow over IPv4, in 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortKey {
    /// From the top: kind (16 bits), the lower end's address (32), its port (16).
    low: u64,
    /// From the top: VLAN (16 bits), the higher end's address (32), its port (16).
    high: u64,
}

impl ShortKey {
    /// The key and direction of a packet. Addresses and ports are numbers (host byte order); `vlan` is the VLAN
    /// identifier, 0 without a tag.
    #[inline]
    #[must_use]
    pub fn new(src: u32, dst: u32, sport: u16, dport: u16, vlan: u16) -> (Self, Direction) {
        let from = u64::from(src) << 16 | u64::from(sport);
        let to = u64::from(dst) << 16 | u64::from(dport);
        let (low, high) = (from.min(to), from.max(to));
        let key = ShortKey { low: KIND_TCP4 << 48 | low, high: u64::from(vlan) << 48 | high };
        (key, if from <= to { Direction::Forward } else { Direction::Reverse })
    }

    /// The two words of the key, for hashing.
    #[inline]
    #[must_use]
    pub fn words(&self) -> [u64; 2] {
        [self.low, self.high]
    }

    /// The addresses of the lower and the higher end (host byte order).
    #[inline]
    #[must_use]
    pub fn addresses(&self) -> (u32, u32) {
        ((self.low >> 16) as u32, (self.high >> 16) as u32)
    }

    /// The ports of the lower and the higher end.
    #[inline]
    #[must_use]
    pub fn ports(&self) -> (u16, u16) {
        (self.low as u16, self.high as u16)
    }

    /// The VLAN identifier, 0 without a tag.
    #[inline]
    #[must_use]
    pub fn vlan(&self) -> u16 {
        (self.high >> 48) as u16
    }

    /// The lower and the higher end.
    #[must_use]
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        let (low, high) = self.addresses();
        let (low_port, high_port) = self.ports();
        (
            SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(low)), low_port),
            SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(high)), high_port),
        )
    }
}

impl Default for ShortKey {
    /// The key of no packet: kind 0. It stands in records that are not in use.
    fn default() -> Self {
        ShortKey { low: 0, high: 0 }
    }
}

impl std::fmt::Debug for ShortKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.ends();
        write!(f, "{low}-{high} vlan {}", self.vlan())
    }
}

/// The key of a TCP flow over IPv6, in 40 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LongKey {
    /// Lower end's address, higher end's address (two words each, high word first); then, from the top, 16 bits
    /// each: lower end's port, higher end's port, VLAN, kind.
    words: [u64; 5],
}

impl LongKey {
    /// As [`ShortKey::new`], for 16-byte addresses.
    #[must_use]
    pub fn new(src: Ipv6Addr, dst: Ipv6Addr, sport: u16, dport: u16, vlan: u16) -> (Self, Direction) {
        let from = (src.to_bits(), sport);
        let to = (dst.to_bits(), dport);
        let (low, high, direction) =
            if from <= to { (from, to, Direction::Forward) } else { (to, from, Direction::Reverse) };
        let rest = u64::from(low.1) << 48 | u64::from(high.1) << 32 | u64::from(vlan) << 16 | KIND_TCP6;
        let words = [(low.0 >> 64) as u64, low.0 as u64, (high.0 >> 64) as u64, high.0 as u64, rest];
        (LongKey { words }, direction)
    }

    /// The five words of the key, for hashing.
    #[must_use]
    pub fn words(&self) -> [u64; 5] {
        self.words
    }

    /// The VLAN identifier, 0 without a tag.
    #[must_use]
    pub fn vlan(&self) -> u16 {
        (self.words[4] >> 16) as u16
    }

    /// The lower and the higher end.
    #[must_use]
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        let [low_hi, low_lo, high_hi, high_lo, rest] = self.words;
        let address = |hi, lo| IpAddr::V6(Ipv6Addr::from_bits(u128::from(hi) << 64 | u128::from(lo)));
        (
            SocketAddr::new(address(low_hi, low_lo), (rest >> 48) as u16),
            SocketAddr::new(address(high_hi, high_lo), (rest >> 32) as u16),
        )
    }
}

impl std::fmt::Debug for LongKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.ends();
        write!(f, "{low}-{high} vlan {}", self.vlan())
    }
}

/// The key of any TCP flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowKey {
    /// Over IPv4.
    V4(ShortKey),
    /// Over IPv6.
    V6(LongKey),
}

impl FlowKey {
    /// The key and direction of an IPv4 packet; arguments as for [`ShortKey::new`].
    #[inline]
    #[must_use]
    pub fn v4(src: u32, dst: u32, sport: u16, dport: u16, vlan: u16) -> (Self, Direction) {
        let (key, direction) = ShortKey::new(src, dst, sport, dport, vlan);
        (FlowKey::V4(key), direction)
    }

    /// The key and direction of an IPv6 packet; arguments as for [`LongKey::new`].
    #[must_use]
    pub fn v6(src: Ipv6Addr, dst: Ipv6Addr, sport: u16, dport: u16, vlan: u16) -> (Self, Direction) {
        let (key, direction) = LongKey::new(src, dst, sport, dport, vlan);
        (FlowKey::V6(key), direction)
    }

    /// The key and direction of a packet between two socket addresses; `None` when one is IPv4 and the other IPv6.
    #[must_use]
    pub fn between(src: SocketAddr, dst: SocketAddr, vlan: u16) -> Option<(Self, Direction)> {
        match (src.ip(), dst.ip()) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                Some(Self::v4(s.to_bits(), d.to_bits(), src.port(), dst.port(), vlan))
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => Some(Self::v6(s, d, src.port(), dst.port(), vlan)),
            _ => None,
        }
    }

    /// The lower and the higher end.
    #[must_use]
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        match self {
            FlowKey::V4(key) => key.ends(),
            FlowKey::V6(key) => key.ends(),
        }
    }

    /// Where a packet that travels in `direction` comes from.
    #[must_use]
    pub fn source(&self, direction: Direction) -> SocketAddr {
        let (low, high) = self.ends();
        if direction == Direction::Forward { low } else { high }
    }

    /// Where a packet that travels in `direction` goes to.
    #[must_use]
    pub fn destination(&self, direction: Direction) -> SocketAddr {
        self.source(direction.opposite())
    }

    /// The VLAN identifier, 0 without a tag.
    #[must_use]
    pub fn vlan(&self) -> u16 {
        match self {
            FlowKey::V4(key) => key.vlan(),
            FlowKey::V6(key) => key.vlan(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_what_the_record_counts_on() {
        assert_eq!(size_of::<ShortKey>(), 16);
        assert_eq!(size_of::<LongKey>(), 40);
        assert_eq!(size_of::<FlowKey>(), 48);
    }

    #[test]
    fn equal_ends_always_travel_forward() {
        let (key, direction) = FlowKey::v4(0x0a00_0001, 0x0a00_0001, 7, 7, 0);
        assert_eq!(direction, Direction::Forward);
        assert_eq!(key.source(Direction::Forward), key.source(Direction::Reverse));
    }

    #[test]
    fn vlan_and_family_tell_keys_apart() {
        assert_ne!(FlowKey::v4(1, 2, 3, 4, 0).0, FlowKey::v4(1, 2, 3, 4, 9).0);
        assert_ne!(ShortKey::new(0, 0, 0, 0, 0).0, ShortKey::default());
        assert!(FlowKey::between("1.2.3.4:5".parse().unwrap(), "[::1]:5".parse().unwrap(), 0).is_none());
    }

    /// Few values, so that equal addresses and equal ports come up.
    fn few<T: Copy + std::fmt::Debug + 'static>(
        a: T,
        b: T,
        any: impl Strategy<Value = T> + 'static,
    ) -> BoxedStrategy<T> {
        prop_oneof![Just(a), Just(b), any].boxed()
    }

    proptest! {
        #[test]
        fn both_directions_of_v4_share_a_key(
            src in few(1, u32::MAX, any::<u32>()), dst in few(1, u32::MAX, any::<u32>()),
            sport in few(0, u16::MAX, any::<u16>()), dport in few(0, u16::MAX, any::<u16>()), vlan in 0u16..4096,
        ) {
            let (key, there) = FlowKey::v4(src, dst, sport, dport, vlan);
            let (same, back) = FlowKey::v4(dst, src, dport, sport, vlan);
            prop_assert_eq!(key, same);
            prop_assert_eq!((src, sport) == (dst, dport), there == back);
            let from = SocketAddr::new(Ipv4Addr::from_bits(src).into(), sport);
            let to = SocketAddr::new(Ipv4Addr::from_bits(dst).into(), dport);
            prop_assert_eq!(key.source(there), from);
            prop_assert_eq!(key.destination(there), to);
            prop_assert_eq!(key.source(back), to);
            prop_assert_eq!(key.vlan(), vlan);
            prop_assert_eq!(FlowKey::between(from, to, vlan), Some((key, there)));
        }

        #[test]
        fn both_directions_of_v6_share_a_key(
            src in few(1, u128::MAX, any::<u128>()), dst in few(1, u128::MAX, any::<u128>()),
            sport in few(0, u16::MAX, any::<u16>()), dport in few(0, u16::MAX, any::<u16>()), vlan in 0u16..4096,
        ) {
            let (s, d) = (Ipv6Addr::from_bits(src), Ipv6Addr::from_bits(dst));
            let (key, there) = FlowKey::v6(s, d, sport, dport, vlan);
            let (same, back) = FlowKey::v6(d, s, dport, sport, vlan);
            prop_assert_eq!(key, same);
            prop_assert_eq!((src, sport) == (dst, dport), there == back);
            prop_assert_eq!(key.source(there), SocketAddr::new(s.into(), sport));
            prop_assert_eq!(key.destination(there), SocketAddr::new(d.into(), dport));
            prop_assert_eq!(key.vlan(), vlan);
        }
    }
}
