//! What the ports are to their links: hardware address, own IPv4 address (D22), largest packet.

use crate::wire::ethernet::Mac;
use std::net::Ipv4Addr;

/// The largest packet of a port that does not say: Ethernet's.
pub const ETHERNET_MTU: u16 = 1500;

/// A port's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnAddr {
    /// The address.
    pub addr: Ipv4Addr,
    /// Prefix length of its network.
    pub prefix: u8,
    /// The kernel has it too, hears the same packets, and answers ARP and echo requests itself.
    pub kernel: bool,
}

/// One port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPort {
    /// Hardware address. Never a group's.
    pub mac: Mac,
    /// Own address, if it has one.
    pub own: Option<OwnAddr>,
    /// Bytes of the largest IP packet the port sends; `None`: whatever there is (a file).
    pub mtu: Option<u16>,
}

/// All ports.
#[derive(Clone, Debug, Default)]
pub struct Local {
    ports: Vec<LocalPort>,
    /// Own addresses as they lie in a header: (address, the kernel has it too).
    own: Vec<(u32, bool)>,
}

/// The hardware address of a port that has none: locally administered, one for each port.
pub fn made_up_mac(port: u8) -> Mac {
    [0x02, 0x6d, 0x6f, 0x73, 0x00, port]
}

impl Local {
    /// The ports in the order of their numbers.
    pub fn new(ports: Vec<LocalPort>) -> Self {
        let own = ports
            .iter()
            .filter_map(|p| p.own)
            .map(|o| (u32::from_ne_bytes(o.addr.octets()), o.kernel))
            .collect();
        Local { ports, own }
    }

    /// A port.
    pub fn port(&self, port: u8) -> Option<&LocalPort> {
        self.ports.get(usize::from(port))
    }

    /// The ports in the order of their numbers.
    pub fn ports(&self) -> &[LocalPort] {
        &self.ports
    }

    /// Whether any port has an own address.
    #[inline]
    pub fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// Whether an address (as it lies in a header) is one of ours, on whatever port (RFC 1122 3.3.4.2, the weak model).
    #[inline]
    pub fn is_own(&self, addr: u32) -> bool {
        self.own.iter().any(|(own, _)| *own == addr)
    }

    /// Whether packets to an address are ours to answer: one of ours that the kernel does not have.
    pub fn answers(&self, addr: u32) -> bool {
        self.own.contains(&(addr, false))
    }

    /// The own address of a port.
    pub fn own(&self, port: u8) -> Option<OwnAddr> {
        self.port(port)?.own
    }

    /// Whether an address is not one host's: a multicast or broadcast address, also of a port's own network, or none at all.
    pub fn is_group(&self, addr: Ipv4Addr) -> bool {
        addr.is_multicast()
            || addr.is_broadcast()
            || addr.is_unspecified()
            || self.ports.iter().filter_map(|p| p.own).any(|own| {
                own.prefix < 31 && u32::from(addr) == u32::from(own.addr) | (u32::MAX >> own.prefix)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_and_those_of_groups() {
        let own = |addr: [u8; 4], prefix, kernel| Some(OwnAddr { addr: addr.into(), prefix, kernel });
        let port = |n, own| LocalPort { mac: made_up_mac(n), own, mtu: None };
        let local = Local::new(vec![
            port(0, own([10, 0, 0, 1], 24, false)),
            port(1, None),
            port(2, own([10, 0, 9, 2], 31, true)),
        ]);
        let is_own =
            |addr: [u8; 4]| (local.is_own(u32::from_ne_bytes(addr)), local.answers(u32::from_ne_bytes(addr)));
        assert_eq!(is_own([10, 0, 0, 1]), (true, true));
        assert_eq!(is_own([10, 0, 9, 2]), (true, false));
        assert_eq!(is_own([10, 0, 0, 2]), (false, false));
        assert!(local.has_own() && !Local::default().has_own());
        for (addr, group) in [
            ([10, 0, 0, 255], true),
            ([10, 0, 9, 3], false),
            ([224, 0, 0, 1], true),
            ([255; 4], true),
            ([0; 4], true),
            ([10, 0, 0, 254], false),
        ] {
            assert_eq!(local.is_group(addr.into()), group, "{addr:?}");
        }
    }
}
