//! Link types of capture files, and the Ethernet header made up for those that have none.
//!
//! Everything behind the reader sees Ethernet frames. A frame of another supported link type loses its own
//! link header and gets 14 bytes: destination [`SYNTH_DST_MAC`], source [`SYNTH_SRC_MAC`] (or the cooked
//! header's own address, when that has six bytes), and a type. The numbers are those of the LINKTYPE_ registry.

/// Destination of a made-up Ethernet header: locally administered, 02:00:00:00:00:02.
pub const SYNTH_DST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// Source of a made-up Ethernet header: locally administered, 02:00:00:00:00:01.
pub const SYNTH_SRC_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// Length of an Ethernet header.
pub(super) const ETH_LEN: usize = 14;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
/// Reserved by RFC 1701, assigned to nothing: says "not IP" to whoever parses the frame.
const TYPE_NONE: u16 = 0xffff;

/// ARPHRD_ values for which the protocol field of a cooked header is not an Ethernet type: IrDA, the 802.11
/// family, netlink.
const NOT_ETHERTYPE: [u16; 5] = [783, 801, 802, 803, 824];

/// A supported link type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    RawIp,
    /// A 4-byte address family in some host's byte order (NULL) or the network's (LOOP).
    Family,
    Cooked1,
    Cooked2,
}

impl Link {
    pub(super) fn from_number(linktype: u32) -> Option<Self> {
        Some(match linktype {
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            0 | 108 => Self::Family,
            113 => Self::Cooked1,
            276 => Self::Cooked2,
            _ => return None,
        })
    }

    /// Bytes in front of the payload that the made-up header replaces.
    pub(super) fn header_len(self) -> usize {
        match self {
            Self::Ethernet | Self::RawIp => 0,
            Self::Family => 4,
            Self::Cooked1 => 16,
            Self::Cooked2 => 20,
        }
    }

    /// The Ethernet header for `frame`, which holds at least [`Self::header_len`] bytes (else `None`).
    pub(super) fn ethernet_header(self, frame: &[u8]) -> Option<[u8; ETH_LEN]> {
        let mut source = SYNTH_SRC_MAC;
        let ethertype = match self {
            Self::Ethernet => return None,
            Self::RawIp => by_version(frame),
            Self::Family => by_family(*frame.first_chunk::<4>()?),
            Self::Cooked1 => {
                let h = frame.first_chunk::<16>()?;
                if u16::from_be_bytes([h[4], h[5]]) == 6 {
                    source.copy_from_slice(&h[6..12]);
                }
                cooked_type([h[14], h[15]], [h[2], h[3]])
            }
            Self::Cooked2 => {
                let h = frame.first_chunk::<20>()?;
                if h[11] == 6 {
                    source.copy_from_slice(&h[12..18]);
                }
                cooked_type([h[0], h[1]], [h[8], h[9]])
            }
        };
        let mut header = [0; ETH_LEN];
        header[..6].copy_from_slice(&SYNTH_DST_MAC);
        header[6..12].copy_from_slice(&source);
        header[12..].copy_from_slice(&ethertype.to_be_bytes());
        Some(header)
    }
}

fn by_version(packet: &[u8]) -> u16 {
    match packet.first().map(|b| b >> 4) {
        Some(4) => TYPE_IPV4,
        Some(6) => TYPE_IPV6,
        _ => TYPE_NONE,
    }
}

/// The family's byte order is the capturing host's and need not be the file's; families are small numbers, so
/// the smaller reading is the right one. IPv6 has a different number on each system.
fn by_family(field: [u8; 4]) -> u16 {
    match u32::from_be_bytes(field).min(u32::from_le_bytes(field)) {
        2 => TYPE_IPV4,
        10 | 24 | 28 | 30 => TYPE_IPV6,
        _ => TYPE_NONE,
    }
}

fn cooked_type(protocol: [u8; 2], arphrd: [u8; 2]) -> u16 {
    if NOT_ETHERTYPE.contains(&u16::from_be_bytes(arphrd)) { TYPE_NONE } else { u16::from_be_bytes(protocol) }
}

/// The registry's name of a link type that is not supported.
pub(super) fn name(linktype: u32) -> &'static str {
    match linktype {
        3 => "AX25",
        6 => "IEEE802_5",
        7 => "ARCNET_BSD",
        8 => "SLIP",
        9 => "PPP",
        10 => "FDDI",
        50 => "PPP_HDLC",
        51 => "PPP_ETHER",
        104 => "C_HDLC",
        105 => "IEEE802_11",
        107 => "FRELAY",
        117 => "PFLOG",
        119 => "IEEE802_11_PRISM",
        122 => "IP_OVER_FC",
        127 => "IEEE802_11_RADIOTAP",
        147..=162 => "private use",
        163 => "IEEE802_11_AVS",
        187 => "BLUETOOTH_HCI_H4",
        189 => "USB_LINUX",
        192 => "PPI",
        195 => "IEEE802_15_4_WITHFCS",
        201 => "BLUETOOTH_HCI_H4_WITH_PHDR",
        220 => "USB_LINUX_MMAPPED",
        227 => "CAN_SOCKETCAN",
        230 => "IEEE802_15_4_NOFCS",
        239 => "NFLOG",
        249 => "USBPCAP",
        251 => "BLUETOOTH_LE_LL",
        252 => "WIRESHARK_UPPER_PDU",
        253 => "NETLINK",
        271 => "VSOCK",
        _ => "unknown",
    }
}
