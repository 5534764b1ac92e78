//! What the kernel says about network interfaces, its routes and its permanent neighbours.

use crate::wire::ethernet::Mac;
use std::ffi::CStr;
use std::net::Ipv4Addr;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// First IPv4 address and its prefix length.
    pub addr: Option<(Ipv4Addr, u8)>,
    /// Hardware address, if it has an Ethernet one.
    pub mac: Option<Mac>,
    /// Bytes of the largest IP packet.
    pub mtu: Option<u16>,
}

/// A route of the kernel's main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    /// Interface.
    pub device: String,
    /// Network.
    pub net: Ipv4Addr,
    /// Prefix length.
    pub prefix: u8,
    /// Gateway, if there is one.
    pub gateway: Option<Ipv4Addr>,
    /// Metric: of equals the smaller counts.
    pub metric: u32,
}

/// An entry of the kernel's neighbour table that an administrator made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelNeighbour {
    /// Interface.
    pub device: String,
    /// Address.
    pub addr: Ipv4Addr,
    /// Hardware address.
    pub mac: Mac,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// Routes.
    pub routes: Vec<KernelRoute>,
    /// Neighbours.
    pub neighbours: Vec<KernelNeighbour>,
}

impl Kernel {
    /// Reads it now, in the network namespace of the calling thread. What cannot be read is not there.
    pub fn read() -> Kernel {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Kernel {
            interfaces: interfaces(),
            routes: routes(&text("/proc/thread-self/net/route")),
            neighbours: neighbours(&text("/proc/thread-self/net/arp")),
        }
    }

    /// An interface by its name.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.name == name)
    }
}

/// The interfaces of the system.
#[allow(unsafe_code)]
fn interfaces() -> Vec<Interface> {
    let mut all: Vec<Interface> = Vec::new();
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` takes the result, which is freed below.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return all;
    }
    let mut next = list;
    while !next.is_null() {
        // SAFETY: an element of the list, which lives until it is freed.
        let element = unsafe { &*next };
        next = element.ifa_next;
        // SAFETY: a C string that lives as long.
        let name = unsafe { CStr::from_ptr(element.ifa_name) }.to_string_lossy().into_owned();
        let at = all.iter().position(|i| i.name == name).unwrap_or_else(|| {
            all.push(Interface { mtu: mtu(&name), name, ..Interface::default() });
            all.len() - 1
        });
        // SAFETY: NULL or an address of the family it says.
        match unsafe { element.ifa_addr.as_ref() }.map(|a| i32::from(a.sa_family)) {
            Some(libc::AF_INET) if all[at].addr.is_none() => {
                // SAFETY: address and mask of family AF_INET, the mask possibly NULL.
                let (addr, mask) = unsafe {
                    let addr = element.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                    let mask = element.ifa_netmask.cast::<libc::sockaddr_in>();
                    (addr, (!mask.is_null()).then(|| mask.read_unaligned()))
                };
                let addr = Ipv4Addr::from(u32::from_be(addr.sin_addr.s_addr));
                let prefix = mask.map_or(32, |m| u32::from_be(m.sin_addr.s_addr).leading_ones() as u8);
                all[at].addr = Some((addr, prefix));
            }
            Some(libc::AF_PACKET) => {
                // SAFETY: an address of family AF_PACKET.
                let link = unsafe { element.ifa_addr.cast::<libc::sockaddr_ll>().read_unaligned() };
                if link.sll_halen == 6 {
                    all[at].mac = link.sll_addr.first_chunk::<6>().copied().filter(|m| *m != [0; 6]);
                }
            }
            _ => {}
        }
    }
    // SAFETY: made by getifaddrs, and no longer used.
    unsafe { libc::freeifaddrs(list) };
    all
}

#[allow(unsafe_code)]
fn mtu(name: &str) -> Option<u16> {
    // SAFETY: plain data, valid when zeroed.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: a socket that only carries the request and is closed; the request names an interface and takes its MTU.
    let mtu = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return None;
        }
        let result = libc::ioctl(socket, libc::SIOCGIFMTU, &mut request);
        libc::close(socket);
        if result < 0 {
            return None;
        }
        request.ifr_ifru.ifru_mtu
    };
    // The loopback's is a byte more than a packet can have.
    u16::try_from(mtu.clamp(68, 65_535)).ok()
}

/// `/proc/net/route`: addresses as hexadecimal words of the machine's byte order.
fn routes(text: &str) -> Vec<KernelRoute> {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    const REJECT: u32 = 0x200;
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hex = |n: usize| u32::from_str_radix(words.get(n)?, 16).ok();
        let addr = |n| hex(n).map(|v| Ipv4Addr::from(v.to_ne_bytes()));
        let (net, gateway, flags, mask) = (addr(1)?, addr(2)?, hex(3)?, addr(7)?);
        (flags & UP != 0 && flags & REJECT == 0).then(|| {
            Some(KernelRoute {
                device: (*words.first()?).to_owned(),
                net,
                prefix: u32::from(mask).leading_ones() as u8,
                gateway: (flags & GATEWAY != 0).then_some(gateway),
                metric: words.get(6)?.parse().ok()?,
            })
        })?
    };
    text.lines().skip(1).filter_map(read).collect()
}

/// `/proc/net/arp`: the permanent entries, and those of the shadow interfaces of DPDK ports (endpoint-io.md §2.4).
fn neighbours(text: &str) -> Vec<KernelNeighbour> {
    const COMPLETE: u32 = 2;
    const PERMANENT: u32 = 4;
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(words.get(2)?.strip_prefix("0x")?, 16).ok()?;
        let device = *words.get(5)?;
        let mut mac = [0; 6];
        let mut parts = words.get(3)?.split(':');
        for byte in &mut mac {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        let kept = flags & PERMANENT != 0 || (flags & COMPLETE != 0 && device.starts_with("dpdk"));
        kept.then_some(KernelNeighbour { device: device.to_owned(), addr: words.first()?.parse().ok()?, mac })
    };
    text.lines().skip(1).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_routes_as_proc_prints_them() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            eth1\t0000000A\t00000000\t0000\t0\t0\t0\t000000FF\t0\t0\t0\n\
            *\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0\n\
            eth2\tnonsense\n";
        let route = |net: [u8; 4], prefix, gateway: Option<[u8; 4]>, metric| KernelRoute {
            device: "eth0".into(),
            net: net.into(),
            prefix,
            gateway: gateway.map(Ipv4Addr::from),
            metric,
        };
        let expected = [route([0; 4], 0, Some([192, 168, 1, 1]), 100), route([192, 168, 1, 0], 24, None, 0)];
        assert_eq!(routes(text), expected);
        assert!(routes("").is_empty());
    }

    #[test]
    fn permanent_neighbours_as_proc_prints_them() {
        let text = "IP address       HW type     Flags       HW address            Mask     Device\n\
            10.0.0.7         0x1         0x6         02:00:00:00:00:07     *        eth0\n\
            10.0.0.8         0x1         0x2         02:00:00:00:00:08     *        eth0\n\
            10.0.0.9         0x1         0x2         02:00:00:00:00:09     *        dpdk0\n\
            10.0.0.10        0x1         0x0         00:00:00:00:00:00     *        dpdk0\n";
        let found: Vec<(u8, u8)> = neighbours(text).iter().map(|n| (n.addr.octets()[3], n.mac[5])).collect();
        assert_eq!(found, [(7, 7), (9, 9)]);
    }

    #[test]
    fn the_loopback_is_an_interface() {
        let kernel = Kernel::read();
        let lo = kernel.interface("lo").expect("lo");
        assert_eq!((lo.addr, lo.mac), (Some((Ipv4Addr::LOCALHOST, 8)), None));
        assert_eq!(lo.mtu, Some(65_535));
    }
}
