//! What a configuration says, after parsing: plain data with the defaults of the contract.
//!
//! Times are in the unit the file uses (seconds); sizes in bytes; masks are bit sets of core ids.

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A whole configuration (contract: endpoint-io §2).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `application` blocks in file order.
    pub apps: Vec<Application>,
    /// The one `mos` block.
    pub mos: Mos,
}

/// Applications `mtcp_getconf` has room for, and most words in one `run` line. (Of a file's blocks the
/// first ten have an effect, as in the reference.)
pub const MAX_APPS: usize = 20;

/// Most devices, and most forwarding pairs.
pub const MAX_DEVICES: usize = 256;

/// One `application { }` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    /// `type`: `end`, `monitor` or anything else.
    pub kind: String,
    /// `run`, split into words.
    pub run: Vec<String>,
    /// `cpu_mask`, all ones by default; only reported by `mtcp_getconf`.
    pub cpu_mask: u64,
    /// `ip_forward`.
    pub ip_forward: bool,
}

/// The `mos { }` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Mos {
    /// `nb_mem_channels`.
    pub nb_mem_channels: i32,
    /// `forward`, already ANDed with every application's `ip_forward`.
    pub forward: bool,
    /// `max_concurrency`: socket ids per core.
    pub max_concurrency: i32,
    /// `rmem_size`: bytes of reassembly per side, rounded up to a multiple of 1024.
    pub rmem_size: i32,
    /// `wmem_size`: bytes of send buffer, rounded up to a multiple of 4, at least 16.
    pub wmem_size: i32,
    /// `tcp_tw_interval` in seconds.
    pub tcp_tw_interval: i32,
    /// `tcp_timeout` in seconds; zero or less: no idle expiry.
    pub tcp_timeout: i32,
    /// `no_ring_buffers`.
    pub no_ring_buffers: bool,
    /// `mos_log`: log directory, empty when not given.
    pub mos_log: String,
    /// `stat_print` words: a device is printed when its name starts with one of them.
    pub stat_print: Vec<String>,
    /// `netdev` lines of the last `netdev` block (or of `MOS_NETDEV`), in order.
    pub netdevs: Vec<NetDev>,
    /// OR of the masks of all `netdev` lines.
    pub cpu_mask: u64,
    /// `arp_table` lines.
    pub arp: Vec<ArpEntry>,
    /// `route_table` lines.
    pub routes: Vec<Route>,
    /// `nic_forward_table` pairs, by device name; both directions of a pair are meant.
    pub forward_pairs: Vec<(String, String)>,
    /// `io`: forces one kind of device for all names (X1); by default the name decides.
    pub io: Option<IoKind>,
    /// `midstream` (X3): pick up flows seen in the middle.
    pub midstream: bool,
    /// `verify_checksums` (X5), default true.
    pub verify_checksums: bool,
    /// `memory_limit` (X5) in bytes of per-flow memory a core may hold; `None`: no limit.
    pub memory_limit: Option<u64>,
    /// `rss` (D21): `true` selects the evenly spreading key.
    pub rss_fair: bool,
    /// `dpdk { eal = "…" }`.
    pub dpdk_eal: String,
    /// `dpdk { mtu = … }`: largest IP packet of the ports, in bytes; `None`: as they have it.
    pub dpdk_mtu: Option<u16>,
    /// `dpdk { clock = packet }`: time is the packet's receive timestamp.
    pub dpdk_clock_packet: bool,
}

/// One line of `netdev`.
#[derive(Clone, Debug, PartialEq)]
pub struct NetDev {
    /// Device name or capture path.
    pub name: String,
    /// Cores that serve it.
    pub mask: u64,
    /// Own address and prefix length (D22).
    pub addr: Option<(Ipv4Addr, u8)>,
    /// Own hardware address (D22).
    pub mac: Option<[u8; 6]>,
}

/// One line of `arp_table`.
#[derive(Clone, Debug, PartialEq)]
pub struct ArpEntry {
    /// Address, host part masked off.
    pub addr: Ipv4Addr,
    /// Prefix length.
    pub prefix: u8,
    /// Hardware address.
    pub mac: [u8; 6],
}

/// One line of `route_table`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Network, host part masked off.
    pub addr: Ipv4Addr,
    /// Prefix length.
    pub prefix: u8,
    /// Next hop, when the line names one (D15).
    pub gateway: Option<Ipv4Addr>,
    /// Device name.
    pub device: String,
}

/// Where packets come from (design: §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// A capture file, replayed on its own clock.
    File,
    /// A live interface through libpcap.
    Pcap,
    /// A DPDK port.
    Dpdk,
}

impl Default for Mos {
    fn default() -> Self {
        Self {
            nb_mem_channels: 0,
            forward: true,
            max_concurrency: 100_000,
            rmem_size: 8192,
            wmem_size: 8192,
            tcp_tw_interval: 0,
            tcp_timeout: 30,
            no_ring_buffers: false,
            mos_log: String::new(),
            stat_print: Vec::new(),
            netdevs: Vec::new(),
            cpu_mask: 0,
            arp: Vec::new(),
            routes: Vec::new(),
            forward_pairs: Vec::new(),
            io: None,
            midstream: false,
            verify_checksums: true,
            memory_limit: None,
            rss_fair: false,
            dpdk_eal: String::new(),
            dpdk_mtu: None,
            dpdk_clock_packet: false,
        }
    }
}

impl Config {
    /// Number of contexts the masks ask for: highest core id + 1 (D14), at least 1.
    pub fn num_cores(&self) -> i32 {
        (64 - self.mos.cpu_mask.leading_zeros()).max(1) as i32
    }

    /// Whether some application is of type `end`.
    pub fn has_endpoint(&self) -> bool {
        self.apps.iter().any(|a| a.kind == "end")
    }
}

impl IoKind {
    /// The kind a device name stands for (design: §4).
    pub fn of_name(name: &str) -> Self {
        let path = PathBuf::from(name);
        let text = path.to_string_lossy();
        if [".pcap", ".pcapng", ".pcap.gz", ".pcapng.gz", ".cap"].iter().any(|s| text.ends_with(s)) {
            Self::File
        } else if name
            .strip_prefix("dpdk")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        {
            Self::Dpdk
        } else {
            Self::Pcap
        }
    }
}
