//! ARP packets for IPv4 over Ethernet (RFC 826).

use crate::wire::ethernet::{self, Mac};
use crate::wire::{be16, put16};
use std::net::Ipv4Addr;

/// The broadcast hardware address.
pub const BROADCAST: Mac = [0xff; 6];
/// A frame without what the network device adds: the shortest there is.
pub const FRAME_LEN: usize = 60;

const BODY_LEN: usize = 28;
/// Ethernet, IPv4, and the lengths of their addresses.
const FIXED: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// What an ARP packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Asks who has `target`.
    Request,
    /// Says that `sender` has `sender_mac`.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub op: Op,
    /// Hardware address of the sender.
    pub sender_mac: Mac,
    /// Address of the sender; unspecified in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// Hardware address of the target; nothing in a request.
    pub target_mac: Mac,
    /// Address of the target.
    pub target: Ipv4Addr,
}

/// Reads an Ethernet frame. `None` unless it is ARP for IPv4 over Ethernet with every length right, a request or a
/// reply, from a sender that can be one: no group, and the hardware address of the frame itself.
pub fn parse(frame: &[u8]) -> Option<Arp> {
    let eth = ethernet::Ethernet::new(frame)?;
    if eth.ethertype() != ethernet::TYPE_ARP {
        return None;
    }
    let body = eth.payload().first_chunk::<BODY_LEN>()?;
    if body[..6] != FIXED {
        return None;
    }
    let op = match be16(body, 6) {
        1 => Op::Request,
        2 => Op::Reply,
        _ => return None,
    };
    let mac = |at: usize| -> Mac {
        [body[at], body[at + 1], body[at + 2], body[at + 3], body[at + 4], body[at + 5]]
    };
    let addr = |at: usize| Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]);
    let arp = Arp { op, sender_mac: mac(8), sender: addr(14), target_mac: mac(18), target: addr(24) };
    let station = arp.sender_mac[0] & 1 == 0 && arp.sender_mac != [0; 6];
    let host = !arp.sender.is_multicast() && !arp.sender.is_broadcast() && !arp.sender.is_loopback();
    (station && host && eth.src() == arp.sender_mac).then_some(arp)
}

/// The frame that carries `arp` to hardware address `to`.
pub fn frame(arp: &Arp, to: Mac) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&arp.sender_mac);
    put16(&mut frame, ethernet::OFF_TYPE, ethernet::TYPE_ARP);
    let body = &mut frame[ethernet::HEADER_LEN..];
    body[..6].copy_from_slice(&FIXED);
    put16(body, 6, if arp.op == Op::Request { 1 } else { 2 });
    body[8..14].copy_from_slice(&arp.sender_mac);
    body[14..18].copy_from_slice(&arp.sender.octets());
    body[18..24].copy_from_slice(&arp.target_mac);
    body[24..28].copy_from_slice(&arp.target.octets());
    frame
}

/// Asks who has `target`, in the name of `sender`.
pub fn request(sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> [u8; FRAME_LEN] {
    frame(&Arp { op: Op::Request, sender_mac, sender, target_mac: [0; 6], target }, BROADCAST)
}

impl Arp {
    /// The answer to this request, by the owner of its target.
    pub fn reply(&self, mac: Mac) -> [u8; FRAME_LEN] {
        let reply = Arp {
            op: Op::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        };
        frame(&reply, self.sender_mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 0xa];
    const B: Mac = [2, 0, 0, 0, 0, 0xb];

    #[test]
    fn a_request_and_its_reply_as_in_rfc_826() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let asked = request(A, a, b);
        assert_eq!(asked[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0xa, 8, 6]);
        assert_eq!(asked[14..22], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(asked[22..32], [2, 0, 0, 0, 0, 0xa, 10, 0, 0, 1]);
        assert_eq!(asked[32..42], [0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        assert_eq!(asked[42..], [0; 18]);
        let read = parse(&asked).unwrap();
        assert_eq!((read.op, read.sender, read.target), (Op::Request, a, b));
        let answer = read.reply(B);
        assert_eq!(answer[..12], [2, 0, 0, 0, 0, 0xa, 2, 0, 0, 0, 0, 0xb]);
        let read = parse(&answer).unwrap();
        assert_eq!(read, Arp { op: Op::Reply, sender_mac: B, sender: b, target_mac: A, target: a });
    }

    #[test]
    fn r7_what_is_not_right_in_every_length_is_not_read() {
        let good = request(A, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        for len in 0..42 {
            assert_eq!(parse(&good[..len]), None, "{len} bytes");
        }
        assert!(parse(&good[..42]).is_some());
        // EtherType, hardware, protocol, both lengths, operation, and a sender that is not the frame's or a group.
        for (at, byte) in [
            (13, 0),
            (15, 6),
            (16, 0x86),
            (17, 0xdd),
            (18, 0),
            (18, 255),
            (19, 16),
            (19, 0),
            (21, 0),
            (21, 3),
            (20, 1),
            (27, 9),
            (11, 9),
            (28, 224),
            (28, 127),
        ] {
            let mut bad = good;
            bad[at] = byte;
            assert_eq!(parse(&bad), None, "byte {at} = {byte}");
        }
        let mut group = good;
        (group[6], group[22]) = (3, 3);
        assert_eq!(parse(&group), None);
    }
}
