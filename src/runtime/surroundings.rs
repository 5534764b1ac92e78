//! From the configuration and the kernel to each port's own address, the routes and the neighbours (D15, D22).

use crate::config::{ArpEntry, Config, IoKind, NetDev, Route as RouteLine};
use crate::io::interface::Kernel;
use crate::io::source::Port;
use crate::net::host::Host;
use crate::net::local::{Local, LocalPort, OwnAddr, made_up_mac};
use crate::net::neighbours::Neighbours;
use crate::net::route::{Origin, Route, Routes};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// What all cores share.
#[derive(Debug)]
pub struct Surroundings {
    kinds: Vec<IoKind>,
    devices: Vec<NetDev>,
    lines: Vec<RouteLine>,
    kernel: Kernel,
    neighbours: Arc<Neighbours>,
}

impl Surroundings {
    /// Those of a configuration. `kernel`: nothing when no device is one of its interfaces, or their shadow (dpdk0 …).
    pub fn new(config: &Config, kernel: Kernel) -> Self {
        let mos = &config.mos;
        let fixed = mos.arp.iter().map(|&ArpEntry { addr, prefix, mac }| (addr, prefix, mac));
        let imported = kernel
            .neighbours
            .iter()
            .filter(|n| mos.netdevs.iter().any(|d| d.name == n.device))
            .map(|n| (n.addr, 32, n.mac));
        Surroundings {
            kinds: mos.netdevs.iter().map(|d| mos.io.unwrap_or_else(|| IoKind::of_name(&d.name))).collect(),
            devices: mos.netdevs.clone(),
            lines: mos.routes.clone(),
            neighbours: Arc::new(Neighbours::new(fixed.chain(imported))),
            kernel,
        }
    }

    /// Reads what the kernel knows, when that matters.
    pub fn read(config: &Config) -> Self {
        let live = |d: &NetDev| config.mos.io.unwrap_or_else(|| IoKind::of_name(&d.name)) != IoKind::File;
        let kernel = if config.mos.netdevs.iter().any(live) { Kernel::read() } else { Kernel::default() };
        let all = Surroundings::new(config, kernel);
        for line in &all.lines {
            // Another device list than the file's makes its routes pointless, which is no mistake.
            if !all.devices.iter().any(|d| d.name == line.device) && std::env::var_os("MOS_NETDEV").is_none()
            {
                log::warn!(
                    "route {}/{}: '{}' is no device of `netdev`: the route has no effect",
                    line.addr,
                    line.prefix,
                    line.device
                );
            }
        }
        all
    }

    /// The network as a core with these ports sees it.
    pub fn host(&self, ports: &[Port]) -> Host {
        let local = Local::new(ports.iter().enumerate().map(|(n, port)| self.local(n as u8, port)).collect());
        let routes = Routes::new(self.routes(ports, &local));
        let secret = RandomState::new().hash_one(0);
        Host::new(Arc::new(local), Arc::new(routes), self.neighbours.clone(), secret)
    }

    fn local(&self, n: u8, port: &Port) -> LocalPort {
        let at = self.devices.iter().position(|d| d.name == port.name);
        let device = at.map(|at| &self.devices[at]);
        let kind = at.map_or(IoKind::File, |at| self.kinds[at]);
        let interface = if kind == IoKind::File { None } else { self.kernel.interface(&port.name) };
        let kernels = interface.and_then(|i| i.addr);
        let own = device.and_then(|d| d.addr).or(kernels);
        let heard = kind == IoKind::Pcap;
        let unicast = |mac: &[u8; 6]| mac[0] & 1 == 0 && *mac != [0; 6];
        LocalPort {
            mac: [device.and_then(|d| d.mac), Some(port.info.mac), interface.and_then(|i| i.mac)]
                .into_iter()
                .flatten()
                .find(unicast)
                .unwrap_or_else(|| made_up_mac(n)),
            own: own.map(|(addr, prefix)| OwnAddr {
                addr,
                prefix,
                kernel: heard && kernels.is_some_and(|(k, _)| k == addr),
            }),
            mtu: u16::try_from(port.info.mtu.min(65_535))
                .ok()
                .filter(|&mtu| mtu != 0)
                .or(interface.and_then(|i| i.mtu)),
        }
    }

    fn routes(&self, ports: &[Port], local: &Local) -> Vec<Route> {
        let port_of = |name: &str| ports.iter().position(|p| p.name == name).map(|n| n as u8);
        let mut routes = Vec::new();
        for line in &self.lines {
            if let Some(port) = port_of(&line.device) {
                let RouteLine { addr: net, prefix, gateway, .. } = *line;
                routes.push(Route { net, prefix, port, gateway, origin: Origin::File });
            }
        }
        for r in &self.kernel.routes {
            let configured = self
                .devices
                .iter()
                .zip(&self.kinds)
                .any(|(d, kind)| d.name == r.device && *kind != IoKind::File);
            if let (true, Some(port)) = (configured, port_of(&r.device)) {
                let origin = Origin::Kernel(r.metric);
                routes.push(Route { net: r.net, prefix: r.prefix, port, gateway: r.gateway, origin });
            }
        }
        for (n, port) in local.ports().iter().enumerate() {
            if let Some(own) = port.own {
                let origin = Origin::Connected;
                routes.push(Route {
                    net: own.addr,
                    prefix: own.prefix,
                    port: n as u8,
                    gateway: None,
                    origin,
                });
            }
        }
        routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mos;
    use crate::io::interface::{Interface, KernelNeighbour, KernelRoute};
    use crate::net::host::Next;
    use std::net::Ipv4Addr;

    const KERNELS: [u8; 6] = [2, 0, 0, 0, 0, 0xee];

    fn device(name: &str, addr: Option<([u8; 4], u8)>, mac: Option<[u8; 6]>) -> NetDev {
        NetDev { name: name.into(), mask: 1, addr: addr.map(|(a, p)| (a.into(), p)), mac }
    }

    fn route_line(net: [u8; 4], prefix: u8, device: &str, gateway: Option<[u8; 4]>) -> RouteLine {
        RouteLine { addr: net.into(), prefix, gateway: gateway.map(Ipv4Addr::from), device: device.into() }
    }

    fn kernel() -> Kernel {
        let route = |device: &str, net: [u8; 4], prefix, gateway: Option<[u8; 4]>| KernelRoute {
            device: device.into(),
            net: net.into(),
            prefix,
            gateway: gateway.map(Ipv4Addr::from),
            metric: 0,
        };
        Kernel {
            interfaces: vec![Interface {
                name: "eth0".into(),
                addr: Some(([192, 168, 1, 5].into(), 24)),
                mac: Some(KERNELS),
                mtu: Some(1400),
            }],
            routes: vec![
                route("eth0", [0; 4], 0, Some([192, 168, 1, 1])),
                route("eth0", [192, 168, 1, 0], 24, None),
                route("docker0", [172, 17, 0, 0], 16, None),
            ],
            neighbours: vec![KernelNeighbour {
                device: "eth0".into(),
                addr: [192, 168, 1, 1].into(),
                mac: [2, 0, 0, 0, 0, 1],
            }],
        }
    }

    fn host(netdevs: Vec<NetDev>, routes: Vec<RouteLine>, kernel: Kernel) -> Host {
        let ports: Vec<Port> =
            netdevs.iter().map(|d| Port { name: d.name.clone(), ..Port::default() }).collect();
        let config = Config { apps: Vec::new(), mos: Mos { netdevs, routes, ..Mos::default() } };
        Surroundings::new(&config, kernel).host(&ports)
    }

    fn way(host: &Host, dst: [u8; 4]) -> Option<(u8, String)> {
        host.next_hop(dst.into()).map(|h| (h.port, h.addr.to_string()))
    }

    #[test]
    fn d15_kernel_routes_only_of_configured_devices_and_gateways_work() {
        let mut host = host(
            vec![device("eth0", None, None), device("eth1", None, None)],
            vec![
                route_line([10, 0, 0, 0], 8, "eth1", Some([10, 0, 0, 1])),
                route_line([9, 0, 0, 0], 8, "eth9", None),
            ],
            kernel(),
        );
        assert_eq!(way(&host, [8, 8, 8, 8]), Some((0, "192.168.1.1".into())));
        assert_eq!(way(&host, [192, 168, 1, 77]), Some((0, "192.168.1.77".into())));
        assert_eq!(way(&host, [10, 9, 9, 9]), Some((1, "10.0.0.1".into())));
        assert_eq!(way(&host, [172, 17, 0, 2]), Some((0, "192.168.1.1".into())), "docker0 is none of ours");
        assert_eq!(way(&host, [9, 1, 1, 1]), Some((0, "192.168.1.1".into())), "eth9 neither");
        let hop = host.next_hop([8, 8, 8, 8].into()).unwrap();
        assert_eq!(host.resolve(hop, 0), Next::Mac([2, 0, 0, 0, 0, 1]), "the permanent neighbour");
    }

    #[test]
    fn d22_the_lines_address_or_else_the_kernel_interfaces() {
        let mac = [2, 0, 0, 0, 0, 7];
        let given = host(
            vec![
                device("eth0", Some(([10, 0, 0, 1], 24)), Some(mac)),
                device("dpdk0", Some(([10, 1, 0, 1], 16)), None),
            ],
            Vec::new(),
            kernel(),
        );
        let local = &given.local;
        let own = |n| local.own(n).map(|o| (o.addr.octets(), o.prefix, o.kernel));
        assert_eq!((own(0), own(1)), (Some(([10, 0, 0, 1], 24, false)), Some(([10, 1, 0, 1], 16, false))));
        assert_eq!((local.ports()[0].mac, local.ports()[0].mtu), (mac, Some(1400)));
        assert_eq!((local.ports()[1].mac, local.ports()[1].mtu), (made_up_mac(1), None));
        assert_eq!(way(&given, [10, 1, 2, 3]), Some((1, "10.1.2.3".into())), "the link itself");

        let fallen_back = host(vec![device("eth0", None, Some([3; 6]))], Vec::new(), kernel());
        let port = fallen_back.local.ports()[0];
        assert_eq!(port.own, Some(OwnAddr { addr: [192, 168, 1, 5].into(), prefix: 24, kernel: true }));
        assert_eq!(port.mac, KERNELS, "a group's address is none for a port");

        let file = host(vec![device("x.pcap", None, None)], Vec::new(), kernel());
        assert_eq!(file.local.ports()[0], LocalPort { mac: made_up_mac(0), own: None, mtu: None });
        assert!(file.routes.is_empty());
    }
}
