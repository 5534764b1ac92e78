//! What the kernel says of a network interface, and the offloads that would change what is received.

use super::super::device::PortInfo;
use std::ffi::CString;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Interface types with Ethernet frames (`if_arp.h`).
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;

/// `ethtool.h`.
const ETHTOOL_GLINK: u32 = 0x0a;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GGSO: u32 = 0x23;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETH_FLAG_LRO: u32 = 1 << 15;
const SIOCETHTOOL: libc::c_ulong = 0x8946;

#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// One interface.
#[derive(Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: i32,
    /// For ioctls.
    socket: OwnedFd,
}

impl Interface {
    /// Looks an interface up. The error is a line for the user.
    pub fn find(name: &str) -> Result<Self, String> {
        let index = match CString::new(name) {
            // SAFETY: a C string.
            Ok(c) if name.len() < libc::IFNAMSIZ => unsafe { libc::if_nametoindex(c.as_ptr()) },
            _ => 0,
        };
        if index == 0 {
            return Err(format!(
                "device '{name}': no such interface; expected one of {} (or a capture file: a path that ends in .pcap, .pcapng or .pcap.gz)",
                names().join(", ")
            ));
        }
        // SAFETY: no preconditions.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(format!("device '{name}': {}", io::Error::last_os_error()));
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Interface { name: name.to_owned(), index: index as i32, socket })
    }

    /// Looks an interface up by its number.
    #[cfg(feature = "dpdk")]
    pub fn of_index(index: u32) -> Option<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        // SAFETY: room for the longest name.
        if unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null() {
            return None;
        }
        // SAFETY: the kernel filled in a C string.
        Self::find(&unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) }.to_string_lossy()).ok()
    }

    /// An ioctl about the interface; the request as the kernel left it.
    fn ask(&self, request: libc::c_ulong, set: impl FnOnce(&mut libc::ifreq)) -> io::Result<libc::ifreq> {
        // SAFETY: plain data, valid when zeroed.
        let mut req: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in req.ifr_name.iter_mut().zip(self.name.bytes()) {
            *to = from as libc::c_char;
        }
        set(&mut req);
        // SAFETY: the requests used here read and write an `ifreq`, and what it points to is valid for the call.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), request as _, &raw mut req) } {
            0 => Ok(req),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn address(&self, request: libc::c_ulong) -> Option<Ipv4Addr> {
        let req = self.ask(request, |_| {}).ok()?;
        // SAFETY: the kernel filled in a socket address; an IPv4 one has the address in bytes 2 to 5 of `sa_data`.
        let a = unsafe { req.ifr_ifru.ifru_addr };
        let byte = |n: usize| a.sa_data[n] as u8;
        (i32::from(a.sa_family) == libc::AF_INET).then(|| Ipv4Addr::new(byte(2), byte(3), byte(4), byte(5)))
    }

    /// Its addresses and MTU.
    pub fn info(&self) -> PortInfo {
        let mut info = PortInfo { mtu: self.mtu(), ..PortInfo::default() };
        if let Ok(req) = self.ask(libc::SIOCGIFHWADDR as _, |_| {}) {
            // SAFETY: the kernel filled in the hardware address.
            let a = unsafe { req.ifr_ifru.ifru_hwaddr };
            info.mac = std::array::from_fn(|n| a.sa_data[n] as u8);
        }
        if let (Some(addr), Some(mask)) =
            (self.address(libc::SIOCGIFADDR as _), self.address(libc::SIOCGIFNETMASK as _))
        {
            info.addr = Some((addr, u32::from(mask).leading_ones() as u8));
        }
        info
    }

    /// The MTU now.
    pub fn mtu(&self) -> u32 {
        // SAFETY: the kernel filled in the MTU.
        self.ask(libc::SIOCGIFMTU as _, |_| {}).map_or(1500, |req| unsafe { req.ifr_ifru.ifru_mtu } as u32)
    }

    /// Whether it carries Ethernet frames; else its type.
    pub fn ethernet(&self) -> Result<(), u16> {
        match self.ask(libc::SIOCGIFHWADDR as _, |_| {}) {
            // SAFETY: the kernel filled in the hardware address.
            Ok(req) => match unsafe { req.ifr_ifru.ifru_hwaddr }.sa_family {
                ARPHRD_ETHER | ARPHRD_LOOPBACK => Ok(()),
                other => Err(other),
            },
            Err(_) => Ok(()),
        }
    }

    fn flags(&self) -> i32 {
        // SAFETY: the kernel filled in the flags.
        self.ask(libc::SIOCGIFFLAGS as _, |_| {})
            .map_or(0, |req| i32::from(unsafe { req.ifr_ifru.ifru_flags }))
    }

    /// Whether it was set up by the administrator.
    pub fn is_up(&self) -> bool {
        self.flags() & libc::IFF_UP != 0
    }

    /// Whether there is somebody at the other end. The kernel sets IFF_RUNNING up to a second after the carrier is there, so
    /// the driver is asked first.
    pub fn has_link(&self) -> bool {
        let flags = self.flags();
        let carrier = || self.ethtool(ETHTOOL_GLINK, 0).map_or(flags & libc::IFF_RUNNING != 0, |v| v != 0);
        flags & libc::IFF_UP != 0 && carrier()
    }

    fn ethtool(&self, cmd: u32, data: u32) -> io::Result<u32> {
        let mut value = EthtoolValue { cmd, data };
        let pointer = &raw mut value;
        self.ask(SIOCETHTOOL, |req| req.ifr_ifru.ifru_data = pointer.cast())?;
        Ok(value.data)
    }

    fn is_on(&self, cmd: u32) -> bool {
        self.ethtool(cmd, 0).is_ok_and(|v| v != 0)
    }

    /// Switches off what joins received packets into larger ones, and warns where that fails and about what a sender's stack
    /// leaves to its interface.
    pub fn settle_offloads(&self) {
        let lro = |i: &Self| i.ethtool(ETHTOOL_GFLAGS, 0).is_ok_and(|f| f & ETH_FLAG_LRO != 0);
        if self.is_on(ETHTOOL_GGRO) {
            let _ = self.ethtool(ETHTOOL_SGRO, 0);
        }
        if lro(self)
            && let Ok(flags) = self.ethtool(ETHTOOL_GFLAGS, 0)
        {
            let _ = self.ethtool(ETHTOOL_SFLAGS, flags & !ETH_FLAG_LRO);
        }
        let joins: Vec<&str> = [("gro", self.is_on(ETHTOOL_GGRO)), ("lro", lro(self))]
            .into_iter()
            .filter_map(|(name, on)| on.then_some(name))
            .collect();
        let name = &self.name;
        if !joins.is_empty() {
            log::warn!(
                "device '{name}': {} could not be switched off: packets may arrive joined into larger ones. As root: ethtool -K {name} {}",
                joins.join(" and "),
                off(&joins)
            );
        }
        let leaves: Vec<&str> = [("tso", ETHTOOL_GTSO), ("gso", ETHTOOL_GGSO), ("tx", ETHTOOL_GTXCSUM)]
            .into_iter()
            .filter_map(|(name, cmd)| self.is_on(cmd).then_some(name))
            .collect();
        if !leaves.is_empty() {
            log::warn!(
                "device '{name}': {} on: what a stack of this machine sends over it (on a veth pair: over either end) arrives in frames \
                 larger than the MTU, which cannot be forwarded, or with unfinished checksums. On both ends: ethtool -K {name} {}",
                if leaves.len() == 1 {
                    format!("{} is", leaves[0])
                } else {
                    format!("{} are", leaves.join(", "))
                },
                off(&leaves)
            );
        }
    }
}

fn off(names: &[&str]) -> String {
    names.iter().map(|n| format!("{n} off")).collect::<Vec<_>>().join(" ")
}

/// The machine's interfaces.
fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir("/sys/class/net").map_or_else(
        |_| Vec::new(),
        |dir| dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect(),
    );
    if names.is_empty() {
        names.push("lo".into());
    }
    names.sort();
    names
}
