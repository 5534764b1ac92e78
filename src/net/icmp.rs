//! ICMP (RFC 792): answers to echo requests, and what errors about our own packets say.

use crate::wire::checksum;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::{be16, be32, put16};
use std::net::Ipv4Addr;

const HEADER_LEN: usize = 8;
const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
const FRAGMENTATION_NEEDED: u8 = 4;

/// What a message for one of our addresses asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An echo request: to be answered.
    Echo,
    /// An error about a packet we sent.
    Error(IcmpError),
    /// Anything else, right or not: nothing to be done.
    Other,
}

/// What went wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its destination cannot be reached; the code of RFC 792 and RFC 1122 3.2.2.1 (0 network, 1 host, 2 protocol, 3 port, …).
    Unreachable(u8),
    /// It was too long for a link behind, and not to be fragmented (RFC 1191).
    TooLong {
        /// The largest packet that link takes; `None` from a router that does not say.
        mtu: Option<u16>,
    },
    /// Its time to live ran out (code 0), or that of its reassembly (1).
    TimeExceeded(u8),
    /// Its header was not understood.
    ParameterProblem,
}

/// An error about a packet of ours: the packet's own tuple, as we sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// What went wrong.
    pub kind: Kind,
    /// Who says so.
    pub from: Ipv4Addr,
    /// Its protocol.
    pub proto: u8,
    /// Its source.
    pub src: Ipv4Addr,
    /// Its destination.
    pub dst: Ipv4Addr,
    /// Its source port (TCP, UDP).
    pub sport: u16,
    /// Its destination port.
    pub dport: u16,
    /// Its sequence number (TCP): to be compared with what is in flight (RFC 5927 4.1).
    pub seq: u32,
    /// Its total length.
    pub total_len: u16,
}

/// Reads an IPv4 packet that is complete, not a fragment, and says it is ICMP (RFC 1122 3.2.2: what is not right is
/// silently discarded).
pub fn read(packet: &[u8]) -> Message {
    let Some(ip) = Ipv4::new(packet) else { return Message::Other };
    let body = ip.payload();
    let whole = usize::from(ip.total_len()) <= packet.len();
    let Some(header) = body.first_chunk::<HEADER_LEN>() else { return Message::Other };
    if !whole || ip.proto() != ipv4::PROTO_ICMP || ip.is_fragment() || checksum::checksum(body) != 0 {
        return Message::Other;
    }
    match (header[0], header[1]) {
        (ECHO, 0) => Message::Echo,
        (UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM, _) => {
            embedded(header, &body[HEADER_LEN..], ip.src()).map_or(Message::Other, Message::Error)
        }
        _ => Message::Other,
    }
}

/// The packet an error is about: its header and at least the eight bytes behind it (RFC 792).
fn embedded(header: &[u8; HEADER_LEN], packet: &[u8], from: Ipv4Addr) -> Option<IcmpError> {
    let ip = Ipv4::new(packet)?;
    let first = packet.get(ip.header_len()..)?.first_chunk::<8>()?;
    // Only a first fragment has the ports.
    if ip.frag() & 0x1fff != 0 || usize::from(ip.total_len()) < ip.header_len() + first.len() {
        return None;
    }
    let kind = match (header[0], header[1]) {
        (UNREACHABLE, FRAGMENTATION_NEEDED) => {
            Kind::TooLong { mtu: Some(be16(header, 6)).filter(|&mtu| mtu != 0) }
        }
        (UNREACHABLE, code) => Kind::Unreachable(code),
        (TIME_EXCEEDED, code) => Kind::TimeExceeded(code),
        _ => Kind::ParameterProblem,
    };
    Some(IcmpError {
        kind,
        from,
        proto: ip.proto(),
        src: ip.src(),
        dst: ip.dst(),
        sport: be16(first, 0),
        dport: be16(first, 2),
        seq: be32(first, 4),
        total_len: ip.total_len(),
    })
}

/// The answer to an echo request that [`read`] found, behind `room` bytes for a link header: addresses exchanged, the
/// data as it came (RFC 1122 3.2.2.6). `None`: no memory.
pub fn echo_reply(packet: &[u8], room: usize) -> Option<Vec<u8>> {
    let ip = Ipv4::new(packet)?;
    let body = ip.payload();
    let total = u16::try_from(ipv4::MIN_HEADER_LEN + body.len()).ok()?;
    let mut reply = Vec::new();
    reply.try_reserve_exact(room + usize::from(total)).ok()?;
    reply.resize(room + ipv4::MIN_HEADER_LEN, 0);
    ipv4::emit(&mut reply[room..], ip.dst(), ip.src(), ipv4::PROTO_ICMP, 64, total)?;
    checksum::fill_ipv4(&mut reply[room..])?;
    let icmp = reply.len();
    reply.extend_from_slice(body);
    let sum = checksum::update16(be16(body, 2), u16::from(ECHO) << 8, u16::from(ECHO_REPLY) << 8);
    reply[icmp] = ECHO_REPLY;
    put16(&mut reply[icmp..], 2, sum);
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn packet(body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        ipv4::emit(&mut packet, A, B, ipv4::PROTO_ICMP, 9, 20 + body.len() as u16).unwrap();
        packet.extend_from_slice(body);
        let sum = checksum::checksum(&packet[20..]);
        if packet.len() >= 24 {
            packet[22..24].copy_from_slice(&sum.to_ne_bytes());
        }
        checksum::fill_ipv4(&mut packet).unwrap();
        packet
    }

    /// An error of that type and code about a segment from 10.0.0.2:80 to 10.9.9.9:4000, sequence number 77.
    fn error(kind: u8, code: u8, rest: [u8; 4]) -> Vec<u8> {
        let mut body = vec![kind, code, 0, 0];
        body.extend_from_slice(&rest);
        let at = body.len();
        body.resize(at + 20, 0);
        ipv4::emit(&mut body[at..], B, Ipv4Addr::new(10, 9, 9, 9), ipv4::PROTO_TCP, 1, 1500).unwrap();
        body.extend_from_slice(&[0, 80, 0x0f, 0xa0, 0, 0, 0, 77]);
        body
    }

    #[test]
    fn an_echo_request_is_answered_with_its_own_data() {
        for len in [0, 1, 56, 1400] {
            let mut body = vec![8, 0, 0, 0, 0x12, 0x34, 0, 7];
            body.extend((0..len).map(|n| n as u8));
            let asked = packet(&body);
            assert_eq!(read(&asked), Message::Echo);
            let reply = echo_reply(&asked, 14).unwrap();
            assert_eq!(reply[..14], [0; 14]);
            let ip = Ipv4::new(&reply[14..]).unwrap();
            assert_eq!((ip.src(), ip.dst(), ip.ttl(), ip.id()), (B, A, 64, 0));
            assert!(checksum::ipv4_header_ok(&reply[14..34]));
            assert_eq!(checksum::checksum(ip.payload()), 0, "{len} bytes: the checksum holds");
            assert_eq!((ip.payload()[0], &ip.payload()[4..]), (0, &body[4..]));
        }
    }

    #[test]
    fn r4_an_echo_shorter_than_its_header_is_nothing() {
        for len in 0..8 {
            assert_eq!(read(&packet(&vec![8; len])), Message::Other, "{len} bytes");
        }
        let mut asked = packet(&[8, 0, 0, 0, 0, 1, 0, 1]);
        asked[3] = 200;
        assert_eq!(read(&asked), Message::Other, "a total length beyond the packet");
        let mut asked = packet(&[8, 0, 0, 0, 0, 1, 0, 1]);
        asked[27] ^= 1;
        assert_eq!(read(&asked), Message::Other, "a wrong checksum");
        assert_eq!(read(&packet(&[0, 0, 0, 0, 0, 1, 0, 1])), Message::Other, "a reply");
    }

    #[test]
    fn errors_name_the_packet_they_are_about() {
        let kind = |kind, code, rest| match read(&packet(&error(kind, code, rest))) {
            Message::Error(e) => {
                assert_eq!((e.from, e.src, e.dst), (A, B, Ipv4Addr::new(10, 9, 9, 9)));
                assert_eq!((e.proto, e.sport, e.dport, e.seq, e.total_len), (6, 80, 4000, 77, 1500));
                e.kind
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(3, 1, [0; 4]), Kind::Unreachable(1));
        assert_eq!(kind(3, 4, [0, 0, 5, 120]), Kind::TooLong { mtu: Some(1400) });
        assert_eq!(kind(3, 4, [0; 4]), Kind::TooLong { mtu: None });
        assert_eq!(kind(11, 0, [0; 4]), Kind::TimeExceeded(0));
        assert_eq!(kind(12, 0, [20, 0, 0, 0]), Kind::ParameterProblem);
    }

    #[test]
    fn an_error_without_its_packet_is_nothing() {
        let whole = error(3, 1, [0; 4]);
        for len in 8..whole.len() {
            assert_eq!(read(&packet(&whole[..len])), Message::Other, "{len} bytes");
        }
        let mut later_fragment = whole.clone();
        later_fragment[8 + 7] = 9;
        assert_eq!(read(&packet(&later_fragment)), Message::Other);
    }

    proptest! {
        #[test]
        fn reads_nothing_outside(bytes in prop::collection::vec(any::<u8>(), 0..200), valid in any::<bool>()) {
            let bytes = if valid { packet(&bytes) } else { bytes };
            if read(&bytes) == Message::Echo {
                prop_assert!(echo_reply(&bytes, 14).is_some());
            }
        }
    }
}
