//! What a port can do → how it is set up. Every feature is used only where the port's driver offers it.

use crate::wire::rss::Rss;
use dpdk_sys as sys;

/// Descriptors of a ring where the driver does not say what suits it.
const DESCRIPTORS: u16 = 1024;
/// Bytes of a packet buffer behind its headroom, where a longer frame may take several.
const ROOM: u32 = 2048;
/// Most queues of a port whose driver spreads packets by a rule of its own: all of them must be read.
const MOST_OWN_QUEUES: u16 = 64;
/// Most packets that a core's burst, transmit queue and pool caches hold.
const IN_FLIGHT: u32 = 64 + 512 + 768;
/// Packets on their way to another core, where a core's ring is long.
const HANDED: u32 = 2048;
/// Drivers that use a kernel interface without saying whether it has link.
const SOCKETS: [&str; 2] = ["net_af_packet", "net_af_xdp"];
/// Drivers whose frames may come from this machine's own TCP.
const LOCAL: [&str; 5] = ["net_af_packet", "net_af_xdp", "net_tap", "net_virtio", "net_virtio_user"];
/// What net_pcap sends whole (`RTE_ETHER_MAX_JUMBO_FRAME_LEN`): longer frames it cuts or drops silently.
const PCAP_LONGEST: u32 = 0x3f00;
/// Most buffers of a frame: 64 KiB fit.
const MOST_PIECES: u16 = 40;
/// Two VLAN tags, which count neither for the MTU nor as overhead.
const TAGS: u32 = 8;

/// What is known about a port: the part of `rte_eth_dev_info` that decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Abilities {
    pub driver: String,
    pub max_rx_queues: u16,
    pub max_tx_queues: u16,
    pub rx_offloads: u64,
    pub tx_offloads: u64,
    pub rss_types: u64,
    pub key_len: usize,
    pub reta_size: usize,
    pub min_mtu: u16,
    pub max_mtu: u16,
    /// As the port has it now.
    pub mtu: u16,
    pub rx_ring: u16,
    pub tx_ring: u16,
    /// The kernel interface behind it; 0: none.
    pub interface: u32,
}

impl Abilities {
    /// The number of the kernel interface whose link is the port's, which the driver does not say.
    pub fn link_of(&self) -> Option<u32> {
        (self.interface > 0 && SOCKETS.contains(&self.driver.as_str())).then_some(self.interface)
    }
}

/// Receive-side scaling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    /// Packet types that are hashed.
    pub types: u64,
    /// The key; empty: the driver's.
    pub key: Vec<u8>,
    /// The queue of each entry of the redirection table; empty: the driver's.
    pub reta: Vec<u16>,
    /// With key and table in place, each flow comes to the core that D21 gives it.
    pub exact: bool,
}

/// How a port is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub rx_queues: u16,
    pub tx_queues: u16,
    pub rx_ring: u16,
    pub tx_ring: u16,
    pub rx_offloads: u64,
    pub tx_offloads: u64,
    pub mtu: u16,
    /// Longest frame that is sent.
    pub longest: u32,
    /// Most buffers that a sent frame lies in.
    pub pieces: u16,
    /// Bytes of a packet buffer, headroom included.
    pub buffer: u16,
    /// Packets in the pool.
    pub packets: u32,
    pub spread: Option<Spread>,
    /// Nanoseconds in a unit of the receive stamp; 0: there is none.
    pub stamp_ns: u32,
    /// Frames may come from a stack on this machine that left their checksums to its network card.
    pub local: bool,
}

/// The plan for `receivers` cores that receive and `cores` that send.
///
/// # Errors
/// What the port cannot do that was asked for.
pub(super) fn plan(
    can: &Abilities,
    rss: &Rss,
    receivers: usize,
    cores: usize,
    mtu: Option<u16>,
    stamps: bool,
) -> Result<Plan, String> {
    let mtu = match mtu {
        Some(mtu) if mtu < can.min_mtu || (can.max_mtu > 0 && mtu > can.max_mtu) => {
            return Err(format!("an MTU from {} to {}, not {mtu}", can.min_mtu, can.max_mtu));
        }
        Some(mtu) => mtu,
        None if can.max_mtu > 0 => can.mtu.clamp(can.min_mtu, can.max_mtu),
        None => can.mtu,
    };
    let frame = u32::from(mtu) + sys::SHIM_FRAME_OVERHEAD + TAGS;
    let offered = |wanted: u64| can.rx_offloads & wanted;
    let mut rx_offloads = offered(sys::SHIM_RX_OFFLOAD_IPV4_CKSUM | sys::SHIM_RX_OFFLOAD_TCP_CKSUM);
    let mut room = ROOM;
    if frame > ROOM {
        // A buffer that takes the frame whole, or a chain of them.
        match offered(sys::SHIM_RX_OFFLOAD_SCATTER) {
            0 => room = (frame.next_multiple_of(64)).min(u32::from(u16::MAX) - u32::from(sys::SHIM_HEADROOM)),
            scatter => rx_offloads |= scatter,
        }
    }
    let stamp_ns = if stamps { stamp_unit(can, &mut rx_offloads)? } else { 0 };

    let own_rule = can.rss_types == 0 && can.max_rx_queues <= MOST_OWN_QUEUES;
    let wanted = if own_rule { can.max_rx_queues } else { receivers.min(can.max_rx_queues.into()) as u16 };
    let rx_queues = wanted.max(1);
    let tx_queues = cores.min(can.max_tx_queues.into()).max(1) as u16;
    let or = |said: u16| if said > 0 { said } else { DESCRIPTORS };
    let (rx_ring, tx_ring) = (or(can.rx_ring), or(can.tx_ring));
    // Twice the transmit rings: the packets of this port leave by another, of about the same size.
    let rings = u32::from(rx_queues) * u32::from(rx_ring) + 2 * u32::from(tx_queues) * u32::from(tx_ring);
    // A pool of 2^n - 1 wastes no memory (`rte_mempool_create`).
    let handed = if cores > 1 { HANDED } else { 0 };
    let packets = (rings + cores as u32 * (IN_FLIGHT + handed)).next_power_of_two() - 1;
    let tx_offloads = can.tx_offloads & sys::SHIM_TX_OFFLOAD_MULTI_SEGS;
    // net_pcap gives and takes long frames in pieces, whatever it says its MTU and offloads are.
    let capture = can.driver == "net_pcap";
    let longest = if capture { PCAP_LONGEST } else { frame - 4 };
    let pieces = if capture || tx_offloads != 0 { MOST_PIECES } else { 1 };
    Ok(Plan {
        rx_queues,
        tx_queues,
        rx_ring,
        tx_ring,
        rx_offloads,
        tx_offloads,
        mtu,
        longest,
        pieces,
        buffer: (room + u32::from(sys::SHIM_HEADROOM)) as u16,
        packets,
        spread: (rx_queues > 1 && !own_rule).then(|| spread(can, rss, rx_queues)),
        stamp_ns,
        local: LOCAL.contains(&can.driver.as_str()),
    })
}

/// Nanoseconds in a unit of the receive stamp.
fn stamp_unit(can: &Abilities, rx_offloads: &mut u64) -> Result<u32, String> {
    // Before DPDK 26.03 net_pcap stamps unasked, and in microseconds.
    match can.rx_offloads & sys::SHIM_RX_OFFLOAD_TIMESTAMP {
        0 if can.driver == "net_pcap" => Ok(1000),
        0 => Err(format!("receive stamps (`clock = packet`), which {} does not give", can.driver)),
        offload => {
            *rx_offloads |= offload;
            Ok(1)
        }
    }
}

fn spread(can: &Abilities, rss: &Rss, queues: u16) -> Spread {
    let types = can.rss_types & (sys::SHIM_RSS_IP | sys::SHIM_RSS_IPV4_TCP | sys::SHIM_RSS_IPV4_UDP);
    let pattern = rss.key();
    // The key has a period of two bytes, so it goes on in a longer one.
    let key: Vec<u8> = (0..can.key_len).map(|n| pattern[n % 2]).collect();
    let reta = table(rss, can.reta_size, queues);
    let exact = types & sys::SHIM_RSS_IPV4_TCP != 0
        && !key.is_empty()
        && is_exact(rss, &reta, queues)
        // It takes key and table and gives every packet to whoever asks.
        && can.driver != "net_null";
    Spread { types, key, reta, exact }
}

/// Every hash that a flow can have under the key: it depends on the XOR of the tuple's words only.
fn hashes(rss: &Rss) -> impl Iterator<Item = u32> {
    (0..=u16::MAX).map(|words| rss.hash(0, 0, words, 0))
}

/// A redirection table, which hardware indexes by a hash's low bits, for the map of D21. Empty if it has no size.
fn table(rss: &Rss, size: usize, queues: u16) -> Vec<u16> {
    if !size.is_power_of_two() {
        return Vec::new();
    }
    let queue = |hash| rss.queue_of_hash(hash, u32::from(queues)) as u16;
    let mut table: Vec<u16> = (0..size as u32).map(queue).collect();
    for hash in hashes(rss) {
        table[hash as usize & (size - 1)] = queue(hash);
    }
    table
}

/// Whether the table gives each hash the queue that it is to have: not if it is too small to tell two apart.
fn is_exact(rss: &Rss, table: &[u16], queues: u16) -> bool {
    !table.is_empty()
        && hashes(rss).all(|hash| {
            u32::from(table[hash as usize & (table.len() - 1)]) == rss.queue_of_hash(hash, u32::from(queues))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rss::RssForm;

    fn nic() -> Abilities {
        Abilities {
            driver: "net_ixgbe".into(),
            max_rx_queues: 64,
            max_tx_queues: 64,
            rx_offloads: !0,
            tx_offloads: !0,
            rss_types: !0,
            key_len: 40,
            reta_size: 128,
            min_mtu: 68,
            max_mtu: 9710,
            mtu: 1500,
            rx_ring: 0,
            tx_ring: 0,
            interface: 0,
        }
    }

    fn of(can: &Abilities, form: RssForm, receivers: usize) -> Plan {
        plan(can, &Rss::new(form), receivers, receivers, None, false).expect("can be done")
    }

    #[test]
    fn one_core_needs_no_scaling() {
        let p = of(&nic(), RssForm::Narrow, 1);
        assert_eq!((p.rx_queues, p.tx_queues, p.spread), (1, 1, None));
        assert_eq!(p.rx_offloads, sys::SHIM_RX_OFFLOAD_IPV4_CKSUM | sys::SHIM_RX_OFFLOAD_TCP_CKSUM);
        assert_eq!(p.tx_offloads, sys::SHIM_TX_OFFLOAD_MULTI_SEGS);
    }

    #[test]
    fn the_table_sends_each_flow_where_the_map_says_for_any_number_of_queues() {
        for form in [RssForm::Narrow, RssForm::Fair] {
            for queues in 2..=20 {
                for reta_size in [128, 256, 512, 2048] {
                    let p = of(&Abilities { reta_size, ..nic() }, form, queues);
                    let spread = p.spread.expect("several queues");
                    assert!(spread.exact, "{form:?}, {queues} queues, {reta_size} entries");
                    assert_eq!(spread.key.len(), 40);
                    let rss = Rss::new(form);
                    let (s, d) = (u32::from_be_bytes([10, 0, 0, 1]), u32::from_be_bytes([192, 168, 7, 9]));
                    for port in 1..200u16 {
                        let hash = rss.hash(s, d, port, 80);
                        let queue = spread.reta[hash as usize & (reta_size - 1)];
                        assert_eq!(u32::from(queue), rss.queue(d, s, 80, port, queues as u32));
                    }
                }
            }
        }
    }

    #[test]
    fn a_table_too_small_to_tell_hashes_apart_is_not_trusted() {
        // Under the original's key there are 64 hashes, which six bits tell apart; under the fair one 2^16.
        for (form, reta_size, exact) in [
            (RssForm::Wide, 512, true),
            (RssForm::Wide, 64, true),
            (RssForm::Wide, 32, false),
            (RssForm::Narrow, 64, true),
            (RssForm::Narrow, 32, false),
            (RssForm::Fair, 128, true),
            (RssForm::Fair, 64, false),
        ] {
            let spread = of(&Abilities { reta_size, ..nic() }, form, 3).spread.expect("several");
            assert_eq!(spread.exact, exact, "{form:?}, {reta_size} entries");
        }
    }

    #[test]
    fn what_cannot_hash_tcp_or_be_told_how_is_not_trusted() {
        let cannot = [
            Abilities { rss_types: sys::SHIM_RSS_IP, ..nic() },
            Abilities { key_len: 0, ..nic() },
            Abilities { reta_size: 0, ..nic() },
            Abilities { reta_size: 100, ..nic() },
            Abilities { driver: "net_null".into(), ..nic() },
        ];
        for can in cannot {
            assert!(!of(&can, RssForm::Narrow, 3).spread.expect("several").exact, "{can:?}");
        }
    }

    #[test]
    fn longer_keys_go_on_with_the_pattern() {
        let spread = of(&Abilities { key_len: 64, ..nic() }, RssForm::Fair, 2).spread.expect("several");
        assert_eq!(spread.key[62..], spread.key[..2]);
    }

    #[test]
    fn a_driver_with_a_rule_of_its_own_has_all_queues_read() {
        let packet = Abilities { rss_types: 0, max_rx_queues: 4, max_tx_queues: 4, ..nic() };
        let p = of(&packet, RssForm::Narrow, 1);
        assert_eq!((p.rx_queues, p.tx_queues), (4, 1));
        assert_eq!(p.spread, None);
    }

    #[test]
    fn fewer_queues_than_cores() {
        let p = of(&Abilities { max_rx_queues: 2, max_tx_queues: 2, ..nic() }, RssForm::Narrow, 8);
        assert_eq!((p.rx_queues, p.tx_queues), (2, 2));
    }

    #[test]
    fn long_frames_come_in_chains_or_in_long_buffers() {
        let rss = Rss::new(RssForm::Narrow);
        let p = plan(&nic(), &rss, 1, 1, Some(9000), false).expect("can be done");
        assert_ne!(p.rx_offloads & sys::SHIM_RX_OFFLOAD_SCATTER, 0);
        assert_eq!(u32::from(p.buffer), ROOM + u32::from(sys::SHIM_HEADROOM));
        let no_scatter = Abilities { rx_offloads: 0, ..nic() };
        let p = plan(&no_scatter, &rss, 1, 1, Some(9000), false).expect("can be done");
        assert!(u32::from(p.buffer) > 9018 + u32::from(sys::SHIM_HEADROOM));
        assert!(plan(&nic(), &rss, 1, 1, Some(9711), false).is_err());
    }

    #[test]
    fn stamps_come_from_a_driver_that_has_them() {
        let rss = Rss::new(RssForm::Narrow);
        let with = |driver: &str, rx_offloads| {
            plan(&Abilities { driver: driver.into(), rx_offloads, ..nic() }, &rss, 1, 1, None, true)
        };
        assert_eq!(with("net_pcap", 0).expect("stamps unasked").stamp_ns, 1000);
        let asked = with("net_pcap", sys::SHIM_RX_OFFLOAD_TIMESTAMP).expect("stamps");
        assert_eq!((asked.stamp_ns, asked.rx_offloads), (1, sys::SHIM_RX_OFFLOAD_TIMESTAMP));
        assert!(with("net_af_packet", 0).is_err());
    }
}
