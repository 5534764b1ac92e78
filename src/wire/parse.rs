//! One pass over a frame: Ethernet, IPv4, TCP, every length checked against what was captured.
//!
//! The result holds offsets and numbers and borrows nothing, so it survives a callback; after an
//! edit the same function is called on the edited bytes. Checksums are not looked at here.
//!
//! Three lengths meet: what the headers say, what was on the wire and what was captured. Headers that
//! claim more than was on the wire are malformed. Headers that are captured whole, but whose packet the
//! capture's snap length cut, are good; [`Parsed::truncated`] says so.

use std::net::Ipv4Addr;

use super::{be16, be32, ethernet, ipv4, tcp};

/// Where the IP header starts.
const L3: usize = ethernet::HEADER_LEN;
/// Where TCP's begins behind an IP header without options.
const L4: usize = L3 + ipv4::MIN_HEADER_LEN;
/// Ethernet, IPv4 and TCP headers without options.
const PLAIN: usize = L3 + ipv4::MIN_HEADER_LEN + tcp::MIN_HEADER_LEN;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A TCP segment with a complete header: every field of [`Parsed`] holds.
    Tcp,
    /// Another protocol in IPv4; no TCP fields.
    OtherIpv4,
    /// A fragment of an IPv4 packet, the first one included, of whatever protocol. Never read as TCP.
    Fragment,
    /// Another EtherType: ARP, IPv6, a VLAN tag, … Nothing but the class holds.
    NonIpv4,
    /// Lengths or version contradict each other or the capture.
    Malformed(Reason),
}

/// Why a frame is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Shorter than an Ethernet header. Nothing but the class holds.
    EthLen,
    /// IP header incomplete, its length below 20 or beyond the total length, or the total length below
    /// 20 or more than was on the wire. Nothing but the class and `l3` holds.
    IpLen,
    /// The IP version is not 4. Nothing but the class and `l3` holds.
    IpVersion,
    /// TCP header incomplete in the packet or the capture, or its length below 20. The IP fields hold.
    TcpLen,
}

/// A frame's headers as offsets and numbers. Offsets count from the frame's first byte and lie inside
/// what was captured; what does not hold for the class is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// The order in which they are on the wire, then what is the same for all common packets: few instructions write them.
#[repr(C)]
pub struct Parsed {
    /// Source address, the four bytes as on the wire (an `in_addr`'s `s_addr`).
    pub src: u32,
    /// Destination address, likewise.
    pub dst: u32,
    /// Source port, the two bytes as on the wire (a `sockaddr_in`'s `sin_port`). TCP only.
    pub sport: u16,
    /// Destination port, likewise. TCP only.
    pub dport: u16,
    /// Sequence number, host order. TCP only.
    pub seq: u32,
    /// Acknowledgment number, host order. TCP only.
    pub ack: u32,
    /// Window as sent (unscaled), host order. TCP only.
    pub window: u16,
    /// Control bits, [`tcp::flags`]. TCP only.
    pub flags: u8,
    /// Length of the TCP header in 32-bit words, as in the header. TCP only.
    pub doff: u8,
    /// The IP header's total length: bytes of header and payload.
    pub ip_len: u16,
    /// Offset of the TCP payload; that of what follows the IP header for other classes.
    pub payload: u16,
    /// Payload bytes captured. Padding behind the IP packet is not counted.
    pub payload_len: u16,
    /// Payload bytes by the headers; larger than `payload_len` only if `truncated`.
    pub wire_payload_len: u16,
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of what follows the IP header.
    pub l4: u16,
    /// IP protocol number.
    pub proto: u8,
    /// Length of the IP header in 32-bit words, as in the header.
    pub ihl: u8,
    /// The headers are complete, but the IP packet's end was not captured.
    pub truncated: bool,
    /// What the frame is.
    pub class: Class,
}

impl Parsed {
    /// A result without any field.
    const fn empty(class: Class, l3: u16) -> Self {
        Self {
            src: 0,
            dst: 0,
            sport: 0,
            dport: 0,
            seq: 0,
            ack: 0,
            window: 0,
            flags: 0,
            proto: 0,
            l3,
            ip_len: 0,
            l4: 0,
            payload: 0,
            payload_len: 0,
            wire_payload_len: 0,
            ihl: 0,
            doff: 0,
            truncated: false,
            class,
        }
    }

    /// Source address.
    pub fn src_addr(&self) -> Ipv4Addr {
        self.src.to_ne_bytes().into()
    }

    /// Destination address.
    pub fn dst_addr(&self) -> Ipv4Addr {
        self.dst.to_ne_bytes().into()
    }

    /// Source port, host order.
    #[inline]
    pub fn src_port(&self) -> u16 {
        u16::from_be(self.sport)
    }

    /// Destination port, host order.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        u16::from_be(self.dport)
    }

    /// Whether this is a TCP segment.
    #[inline]
    pub fn is_tcp(&self) -> bool {
        self.class == Class::Tcp
    }

    /// Whether the IP fields hold: addresses, protocol, lengths.
    #[inline]
    pub fn is_ipv4(&self) -> bool {
        self.ihl != 0
    }

    /// End of the IP packet in the frame, limited by what was captured: what forwarding sends and a
    /// filter sees, without the padding behind it. 0 unless [`Self::is_ipv4`].
    #[inline]
    pub fn end(&self) -> usize {
        usize::from(self.payload) + usize::from(self.payload_len)
    }
}

/// Parses `frame`, the captured bytes of a frame that was `wire_len` bytes long on the wire (less than
/// what was captured counts as the same).
#[inline]
pub fn parse(frame: &[u8], wire_len: u32) -> Parsed {
    Plain::new(frame).map_or_else(|| general(frame, wire_len), |plain| plain.parsed())
}

/// The common frame's headers, a block of known size: IPv4 without options, no fragment, TCP, captured whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'a> {
    headers: &'a [u8; PLAIN],
    /// What follows of the packet: TCP options and payload.
    rest: &'a [u8],
}

impl<'a> Plain<'a> {
    /// Few branches ask for everything. `None`: the frame is another.
    #[inline(always)]
    pub(crate) fn new(frame: &'a [u8]) -> Option<Self> {
        let plain = Self::known(frame)?;
        let h = plain.headers;
        let ipv4 = ne16(h, ethernet::OFF_TYPE) == ethernet::TYPE_IPV4.to_be() && h[L3] == 0x45;
        let whole = ne16(h, L3 + ipv4::OFF_FRAG) & ipv4::FRAG_MASK.to_be() == 0;
        if !ipv4 || !whole || h[L3 + ipv4::OFF_PROTO] != ipv4::PROTO_TCP {
            return None;
        }
        let words = h[L4 + tcp::OFF_DOFF];
        (words >= 0x50 && plain.options_len() <= plain.rest.len()).then_some(plain)
    }

    /// As [`new`](Self::new), of a frame that was found to be one.
    #[inline(always)]
    pub(crate) fn known(frame: &'a [u8]) -> Option<Self> {
        let headers = frame.first_chunk::<PLAIN>()?;
        let end = L3 + usize::from(be16(headers, L3 + ipv4::OFF_TOTAL_LEN));
        Some(Plain { headers, rest: frame.get(PLAIN..end)? })
    }

    /// Both headers behind Ethernet's, and what follows them of the packet: for the checksums.
    #[inline(always)]
    pub(crate) fn packet(&self) -> (&'a [u8; PLAIN - L3], &'a [u8]) {
        let Some(headers) = self.headers.last_chunk() else { unreachable!() };
        (headers, self.rest)
    }

    /// TCP options and payload.
    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Control bits.
    #[inline(always)]
    pub(crate) fn flags(&self) -> u8 {
        self.headers[L4 + tcp::OFF_FLAGS]
    }

    /// Bytes of the TCP header behind its fixed part.
    #[inline(always)]
    pub(crate) fn options_len(&self) -> usize {
        (usize::from(self.headers[L4 + tcp::OFF_DOFF] >> 4) * 4).wrapping_sub(tcp::MIN_HEADER_LEN)
    }

    /// As [`parse`].
    #[inline(always)]
    pub(crate) fn parsed(&self) -> Parsed {
        let h = self.headers;
        let doff = h[L4 + tcp::OFF_DOFF] >> 4;
        let payload_len = (self.rest.len() as u16).wrapping_sub(self.options_len() as u16);
        Parsed {
            src: ne32(h, L3 + ipv4::OFF_SRC),
            dst: ne32(h, L3 + ipv4::OFF_DST),
            sport: ne16(h, L4 + tcp::OFF_SPORT),
            dport: ne16(h, L4 + tcp::OFF_DPORT),
            seq: be32(h, L4 + tcp::OFF_SEQ),
            ack: be32(h, L4 + tcp::OFF_ACK),
            window: be16(h, L4 + tcp::OFF_WINDOW),
            flags: h[L4 + tcp::OFF_FLAGS],
            proto: ipv4::PROTO_TCP,
            l3: L3 as u16,
            ip_len: be16(h, L3 + ipv4::OFF_TOTAL_LEN),
            l4: L4 as u16,
            payload: L4 as u16 + u16::from(doff) * 4,
            payload_len,
            wire_payload_len: payload_len,
            ihl: 5,
            doff,
            truncated: false,
            class: Class::Tcp,
        }
    }
}

/// Every frame, step by step.
#[inline(never)]
fn general(frame: &[u8], wire_len: u32) -> Parsed {
    let malformed = |reason| Parsed::empty(Class::Malformed(reason), L3 as u16);
    if frame.len() < ethernet::HEADER_LEN {
        return Parsed::empty(Class::Malformed(Reason::EthLen), 0);
    }
    if be16(frame, ethernet::OFF_TYPE) != ethernet::TYPE_IPV4 {
        return Parsed::empty(Class::NonIpv4, 0);
    }

    let ip = &frame[L3..];
    let Some(fixed) = ip.first_chunk::<{ ipv4::MIN_HEADER_LEN }>() else { return malformed(Reason::IpLen) };
    if fixed[0] >> 4 != 4 {
        return malformed(Reason::IpVersion);
    }
    let ihl = fixed[0] & 0xf;
    let header_len = usize::from(ihl) * 4;
    let ip_len = be16(fixed, ipv4::OFF_TOTAL_LEN);
    let total = usize::from(ip_len);
    let on_wire = ip.len().max((wire_len as usize).saturating_sub(L3));
    if header_len < ipv4::MIN_HEADER_LEN || total < header_len || ip.len() < header_len || total > on_wire {
        return malformed(Reason::IpLen);
    }

    // From here on the captured IP header is complete, and the packet fits what was on the wire.
    let packet = &ip[..total.min(ip.len())];
    let l4 = (L3 + header_len) as u16;
    let mut parsed = Parsed {
        src: ne32(fixed, ipv4::OFF_SRC),
        dst: ne32(fixed, ipv4::OFF_DST),
        proto: fixed[ipv4::OFF_PROTO],
        ip_len,
        l4,
        payload: l4,
        payload_len: (packet.len() - header_len) as u16,
        wire_payload_len: (total - header_len) as u16,
        ihl,
        truncated: packet.len() < total,
        ..Parsed::empty(Class::OtherIpv4, L3 as u16)
    };
    if be16(fixed, ipv4::OFF_FRAG) & ipv4::FRAG_MASK != 0 {
        parsed.class = Class::Fragment;
        return parsed;
    }
    if parsed.proto != ipv4::PROTO_TCP {
        return parsed;
    }

    let segment = &packet[header_len..];
    parsed.class = Class::Malformed(Reason::TcpLen);
    let Some(t) = segment.first_chunk::<{ tcp::MIN_HEADER_LEN }>() else { return parsed };
    let doff = t[tcp::OFF_DOFF] >> 4;
    let tcp_header_len = usize::from(doff) * 4;
    if tcp_header_len < tcp::MIN_HEADER_LEN || segment.len() < tcp_header_len {
        return parsed;
    }
    Parsed {
        sport: ne16(t, tcp::OFF_SPORT),
        dport: ne16(t, tcp::OFF_DPORT),
        seq: be32(t, tcp::OFF_SEQ),
        ack: be32(t, tcp::OFF_ACK),
        window: be16(t, tcp::OFF_WINDOW),
        flags: t[tcp::OFF_FLAGS],
        payload: l4 + tcp_header_len as u16,
        payload_len: (segment.len() - tcp_header_len) as u16,
        wire_payload_len: (total - header_len - tcp_header_len) as u16,
        doff,
        class: Class::Tcp,
        ..parsed
    }
}

/// Four bytes as they lie in memory.
#[inline(always)]
fn ne32(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// Two bytes as they lie in memory.
#[inline(always)]
fn ne16(b: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([b[at], b[at + 1]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::checksum;

    /// A frame whose headers claim `payload` bytes and which carries them.
    fn frame(ihl: u8, doff: u8, payload: usize) -> Vec<u8> {
        let (ip, tcp) = (usize::from(ihl) * 4, usize::from(doff) * 4);
        let mut f = vec![0u8; 14 + ip + tcp + payload];
        f[12..14].copy_from_slice(&[8, 0]);
        f[14] = 0x40 | ihl;
        f[16..18].copy_from_slice(&((ip + tcp + payload) as u16).to_be_bytes());
        f[20..22].copy_from_slice(&0x4000u16.to_be_bytes());
        f[23] = 6;
        f[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let t = &mut f[14 + ip..];
        t[..14].copy_from_slice(&[0x12, 0x34, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, doff << 4, tcp::flags::ACK]);
        t[14..16].copy_from_slice(&[0xab, 0xcd]);
        f
    }

    fn class(f: &[u8]) -> Class {
        parse(f, f.len() as u32).class
    }

    #[test]
    fn a_plain_segment() {
        let f = frame(5, 8, 100);
        let p = parse(&f, f.len() as u32);
        assert_eq!(p, general(&f, f.len() as u32));
        assert_eq!((p.class, p.l3, p.ihl, p.ip_len, p.l4, p.doff), (Class::Tcp, 14, 5, 152, 34, 8));
        assert_eq!((p.payload, p.payload_len, p.wire_payload_len, p.truncated), (66, 100, 100, false));
        assert_eq!((p.seq, p.ack, p.flags, p.window), (0x01020304, 0x05060708, tcp::flags::ACK, 0xabcd));
        assert_eq!((p.src_addr(), p.dst_addr()), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
        assert_eq!((p.src_port(), p.dst_port(), p.proto, p.end()), (0x1234, 80, 6, 166));
        assert_eq!(p.src.to_ne_bytes(), [10, 0, 0, 1]);
        assert!(p.is_tcp() && p.is_ipv4());
        assert!(size_of::<Parsed>() <= 48);
    }

    #[test]
    fn options_in_both_headers_and_padding() {
        for (ihl, doff) in [(5, 5), (5, 15), (6, 5), (15, 15)] {
            let mut f = frame(ihl, doff, 3);
            let headers = 14 + u16::from(ihl + doff) * 4;
            f.resize(f.len() + 20, 0xee);
            let p = parse(&f, f.len() as u32);
            assert_eq!((p.class, p.payload, p.payload_len, p.truncated), (Class::Tcp, headers, 3, false));
            assert_eq!((p.doff, p.ihl, p.end()), (doff, ihl, usize::from(headers) + 3));
        }
    }

    #[test]
    fn cut_by_the_snap_length() {
        for ihl in [5, 6] {
            let f = frame(ihl, 5, 100);
            let (wire, headers) = (f.len() as u32, f.len() - 100);
            let p = parse(&f[..headers + 40], wire);
            assert_eq!(
                (p.class, p.truncated, p.payload_len, p.wire_payload_len),
                (Class::Tcp, true, 40, 100)
            );
            let p = parse(&f[..headers], wire);
            assert_eq!((p.class, p.truncated, p.payload_len, p.wire_payload_len), (Class::Tcp, true, 0, 100));
            assert_eq!(parse(&f[..headers - 1], wire).class, Class::Malformed(Reason::TcpLen));
            // The same bytes as a whole frame: the headers lie.
            let cut = &f[..headers + 40];
            assert_eq!(class(cut), Class::Malformed(Reason::IpLen));
            assert_eq!(parse(cut, wire - 1).class, Class::Malformed(Reason::IpLen));
            assert_eq!(parse(cut, 0).class, Class::Malformed(Reason::IpLen));
        }
    }

    #[test]
    fn ethernet_and_ip_lengths() {
        let f = frame(5, 5, 6);
        assert_eq!(class(&f[..0]), Class::Malformed(Reason::EthLen));
        assert_eq!(class(&f[..13]), Class::Malformed(Reason::EthLen));
        assert_eq!(parse(&f[..13], 1500).class, Class::Malformed(Reason::EthLen));
        assert_eq!(class(&f[..14]), Class::Malformed(Reason::IpLen));
        assert_eq!(class(&f[..33]), Class::Malformed(Reason::IpLen));
        let with = |at: usize, v: u8| {
            let mut f = f.clone();
            f[at] = v;
            class(&f)
        };
        assert_eq!(with(14, 0x65), Class::Malformed(Reason::IpVersion));
        assert_eq!(with(14, 0x05), Class::Malformed(Reason::IpVersion));
        assert_eq!(with(14, 0x44), Class::Malformed(Reason::IpLen));
        assert_eq!(with(14, 0x4f), Class::Malformed(Reason::IpLen));
        assert_eq!(with(17, 19), Class::Malformed(Reason::IpLen));
        assert_eq!(with(17, 0), Class::Malformed(Reason::IpLen));
        assert_eq!(with(17, 47), Class::Malformed(Reason::IpLen));
        assert_eq!(with(16, 0xff), Class::Malformed(Reason::IpLen));
        assert_eq!(with(17, 46), Class::Tcp);
        // The TCP header beyond the total length.
        assert_eq!(with(17, 20), Class::Malformed(Reason::TcpLen));
        assert_eq!(with(17, 39), Class::Malformed(Reason::TcpLen));
        assert_eq!(with(17, 40), Class::Tcp);
        assert_eq!(with(46, 0x40), Class::Malformed(Reason::TcpLen));
        assert_eq!(with(46, 0x00), Class::Malformed(Reason::TcpLen));
        assert_eq!(with(46, 0x70), Class::Malformed(Reason::TcpLen));
        assert_eq!(with(46, 0x60), Class::Tcp);
    }

    #[test]
    fn what_is_not_tcp() {
        let mut f = frame(5, 5, 30);
        for (kind, want) in [
            ([0x08, 0x06], Class::NonIpv4),
            ([0x81, 0x00], Class::NonIpv4),
            ([0x86, 0xdd], Class::NonIpv4),
            ([0x08, 0x00], Class::Tcp),
        ] {
            f[12..14].copy_from_slice(&kind);
            assert_eq!(class(&f), want);
        }
        f[23] = 17;
        let p = parse(&f, 84);
        assert_eq!((p.class, p.payload, p.payload_len, p.sport, p.proto), (Class::OtherIpv4, 34, 50, 0, 17));
        let p = parse(&f[..40], 84);
        assert_eq!(
            (p.class, p.payload_len, p.wire_payload_len, p.truncated),
            (Class::OtherIpv4, 6, 50, true)
        );
        f[17] = 20;
        assert_eq!((class(&f), parse(&f, 84).payload_len), (Class::OtherIpv4, 0));
    }

    #[test]
    fn fragments_are_never_read_as_tcp() {
        let mut f = frame(5, 5, 30);
        for (word, want) in [
            (0x2000u16, Class::Fragment),
            (0x0001, Class::Fragment),
            (0x1fff, Class::Fragment),
            (0x6000, Class::Fragment),
            (0x4000, Class::Tcp),
            (0x8000, Class::Tcp),
        ] {
            f[20..22].copy_from_slice(&word.to_be_bytes());
            let p = parse(&f, f.len() as u32);
            assert_eq!(p.class, want, "{word:#x}");
            if want == Class::Fragment {
                assert_eq!((p.sport, p.dport, p.seq, p.doff, p.l4, p.payload_len), (0, 0, 0, 0, 34, 50));
            }
        }
        f[20..24].copy_from_slice(&[0x20, 0, 64, 17]);
        assert_eq!(class(&f), Class::Fragment);
    }

    /// Every frame of a recorded case, as (class, checksums right).
    fn case(name: &str) -> Vec<(Class, bool)> {
        let path = format!("{}/tests/cases/{name}.pcap", env!("CARGO_MANIFEST_DIR"));
        let mut capture = pcap::Capture::from_file(path).unwrap();
        let mut seen = Vec::new();
        while let Ok(packet) = capture.next_packet() {
            let p = parse(packet.data, packet.header.len);
            check(packet.data, packet.header.len);
            let ip = packet.data.get(usize::from(p.l3)..).unwrap_or(&[]);
            let good = p.is_tcp()
                && checksum::ipv4_header_ok(&ip[..usize::from(p.ihl) * 4])
                && checksum::tcp_ok(ip, p.ihl, p.ip_len);
            seen.push((p.class, good));
        }
        assert!(!seen.is_empty());
        seen
    }

    #[test]
    fn recorded_cases() {
        use Class::*;
        let malformed = Malformed(Reason::TcpLen);
        let cases = [
            ("normal", 11, vec![]),
            ("ip_options", 9, vec![]),
            ("bad_opts", 9, vec![]),
            ("frag", 10, vec![(Fragment, false); 2]),
            ("truncated_tcp", 10, vec![(Tcp, false)]),
            ("bad_doff", 9, vec![(malformed, false); 3]),
            ("bad_ip_csum", 9, vec![(Tcp, false)]),
            ("bad_tcp_csum", 9, vec![(Tcp, false)]),
            ("vlan", 0, vec![(NonIpv4, false); 11]),
        ];
        for (name, good, want) in cases {
            let seen = case(name);
            let odd: Vec<_> = seen.iter().copied().filter(|s| *s != (Tcp, true)).collect();
            assert_eq!((seen.len() - odd.len(), odd), (good, want), "{name}");
        }
        let of = |class| case("udp_icmp").iter().filter(|s| s.0 == class).count();
        assert_eq!((of(Tcp), of(OtherIpv4), of(NonIpv4)), (7, 4, 2));
    }

    /// What must hold of any result.
    fn check(f: &[u8], wire: u32) {
        let p = parse(f, wire);
        assert_eq!(p, general(f, wire));
        assert!(p.end() <= f.len());
        assert!(usize::from(p.l4) <= f.len() && usize::from(p.l3) <= f.len());
        assert!(p.payload_len <= p.wire_payload_len);
        assert_eq!(p.truncated, p.payload_len < p.wire_payload_len);
        if p.is_ipv4() {
            let headers = p.payload - p.l3;
            assert_eq!(headers + p.wire_payload_len, p.ip_len);
            assert!(usize::from(p.ip_len) + 14 <= f.len().max(wire as usize));
            assert_eq!(p.l4, p.l3 + u16::from(p.ihl) * 4);
        }
        if p.is_tcp() {
            assert!(p.doff >= 5 && p.payload == p.l4 + u16::from(p.doff) * 4);
        } else {
            assert_eq!((p.sport, p.dport, p.seq, p.ack, p.window, p.flags, p.doff), (0, 0, 0, 0, 0, 0, 0));
        }
    }

    proptest! {
        #[test]
        fn random_bytes(f in prop::collection::vec(any::<u8>(), 0..200), wire in any::<u32>()) {
            check(&f, wire);
            check(&f, f.len() as u32);
        }

        #[test]
        fn broken_segments(
            ihl in 5u8..16, doff in 5u8..16, payload in 0usize..80, cut in 0usize..40,
            extra in 0u32..200, breaks in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)
        ) {
            let mut f = frame(ihl, doff, payload);
            // Breaks go where they matter: EtherType to the TCP flags.
            for (at, v) in breaks {
                let at = 12 + at.index(40);
                if at < f.len() {
                    f[at] = v;
                }
            }
            let keep = f.len() - cut.min(f.len());
            check(&f[..keep], keep as u32 + extra);
        }
    }
}
