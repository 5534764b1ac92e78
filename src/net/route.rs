//! Which port a destination is reached by, and through which gateway: longest prefix first (RFC 1812 5.2.4.3).
//!
//! A table is built once, from the configuration's lines, the kernel's routes of configured devices (D15) and the
//! networks of the ports' own addresses (D22), and never changes.

use std::net::Ipv4Addr;

/// Where a route comes from. Of two for the same prefix the first of this order counts: what is written in the file
/// can be relied on, whatever the kernel's table holds just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A `route_table` line; of two the earlier.
    File,
    /// The kernel's table, with the route's metric.
    Kernel(u32),
    /// The network of a port's own address.
    Connected,
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Network; bits behind the prefix do not count.
    pub net: Ipv4Addr,
    /// Prefix length; more than 32 counts as 32.
    pub prefix: u8,
    /// Port.
    pub port: u8,
    /// Next hop; `None`: the destination itself is on the port's link.
    pub gateway: Option<Ipv4Addr>,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a look-up finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Port to leave by.
    pub port: u8,
    /// Whom to hand the packet to there: the gateway, or the destination.
    pub addr: Ipv4Addr,
}

/// Routes of one prefix length, sorted by network.
type Level = Vec<(u32, Route)>;

/// A routing table.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// By prefix length, the longest first; no level is empty.
    levels: Vec<(u32, Level)>,
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

impl Routes {
    /// A table of these routes.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut levels: Vec<(u32, Level)> = Vec::new();
        for route in routes {
            let mask = mask(route.prefix);
            let entry = (u32::from(route.net) & mask, route);
            match levels.iter_mut().find(|(m, _)| *m == mask) {
                Some((_, level)) => level.push(entry),
                None => levels.push((mask, vec![entry])),
            }
        }
        levels.sort_by_key(|(mask, _)| std::cmp::Reverse(*mask));
        for (_, level) in &mut levels {
            // Stable: of equals the earlier stays first.
            level.sort_by_key(|(net, route)| (*net, route.origin));
            level.dedup_by_key(|(net, _)| *net);
        }
        Routes { levels }
    }

    /// Where packets to `dst` leave. `None`: no route.
    pub fn find(&self, dst: Ipv4Addr) -> Option<Hop> {
        let addr = u32::from(dst);
        self.levels.iter().find_map(|(mask, level)| {
            let at = level.binary_search_by_key(&(addr & mask), |(net, _)| *net).ok()?;
            let route = &level[at].1;
            Some(Hop { port: route.port, addr: route.gateway.unwrap_or(dst) })
        })
    }

    /// Whether there is no route at all.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(text: &str, port: u8, gateway: Option<&str>, origin: Origin) -> Route {
        let (net, prefix) = text.split_once('/').unwrap();
        Route {
            net: net.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
            port,
            gateway: gateway.map(|g| g.parse().unwrap()),
            origin,
        }
    }

    fn find(routes: &Routes, dst: &str) -> Option<(u8, String)> {
        routes.find(dst.parse().unwrap()).map(|h| (h.port, h.addr.to_string()))
    }

    #[test]
    fn the_longest_prefix_wins_and_a_gateway_is_the_next_hop() {
        let routes = Routes::new([
            route("0.0.0.0/0", 0, Some("192.168.0.1"), Origin::File),
            route("10.0.0.0/8", 1, None, Origin::File),
            route("10.1.2.3/16", 2, Some("10.0.0.9"), Origin::File),
            route("10.1.2.3/32", 3, None, Origin::File),
        ]);
        assert_eq!(find(&routes, "8.8.8.8"), Some((0, "192.168.0.1".into())));
        assert_eq!(find(&routes, "10.200.0.1"), Some((1, "10.200.0.1".into())));
        assert_eq!(find(&routes, "10.1.255.1"), Some((2, "10.0.0.9".into())), "the host part is masked off");
        assert_eq!(find(&routes, "10.1.2.3"), Some((3, "10.1.2.3".into())));
        assert_eq!(find(&Routes::default(), "10.1.2.3"), None);
        assert!(Routes::default().is_empty());
    }

    #[test]
    fn of_equal_prefixes_the_file_comes_before_the_kernel_and_the_earlier_line_first() {
        let same = |port, origin| route("10.0.0.0/8", port, None, origin);
        let port =
            |routes: &[Route]| Routes::new(routes.iter().copied()).find([10, 0, 0, 1].into()).unwrap().port;
        assert_eq!(port(&[same(1, Origin::Connected), same(2, Origin::Kernel(5)), same(3, Origin::File)]), 3);
        assert_eq!(port(&[same(1, Origin::Kernel(9)), same(2, Origin::Kernel(5))]), 2);
        assert_eq!(port(&[same(1, Origin::File), same(2, Origin::File)]), 1);
    }

    proptest! {
        #[test]
        fn finds_what_a_search_through_all_finds(
            nets in prop::collection::vec((any::<u32>(), 0u8..=40, 0u8..4), 0..40),
            probes in prop::collection::vec(any::<u32>(), 1..40),
        ) {
            let routes: Vec<Route> = nets
                .iter()
                .map(|&(net, prefix, port)| Route {
                    net: net.into(), prefix, port, gateway: None, origin: Origin::File,
                })
                .collect();
            let table = Routes::new(routes.iter().copied());
            for dst in probes.into_iter().chain(nets.iter().map(|n| n.0)) {
                let best = routes
                    .iter()
                    .filter(|r| dst & mask(r.prefix) == u32::from(r.net) & mask(r.prefix))
                    .min_by_key(|r| 32 - r.prefix.min(32));
                prop_assert_eq!(table.find(dst.into()).map(|h| h.port), best.map(|r| r.port));
            }
        }
    }
}
