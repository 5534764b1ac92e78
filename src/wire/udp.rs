//! UDP (RFC 768): checksums that a stack on this machine left to its network card.

use super::checksum::{fold, sum};
use super::ipv4::{self, Ipv4};
use super::{be16, put16};

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
const OFF_LEN: usize = 4;
const OFF_CHECKSUM: usize = 6;

/// Where the datagram of an IPv4 packet lies, and its pseudo header's sum. `None` unless it is UDP, whole and no fragment.
fn datagram(packet: &[u8]) -> Option<(std::ops::Range<usize>, u32)> {
    let ip = Ipv4::new(packet)?;
    let place = ip.header_len()..usize::from(ip.total_len());
    let bytes = packet.get(place.clone())?;
    let len = u16::try_from(bytes.len()).ok()?;
    if ip.proto() != ipv4::PROTO_UDP
        || ip.is_fragment()
        || bytes.len() < HEADER_LEN
        || be16(bytes, OFF_LEN) != len
    {
        return None;
    }
    let addresses = sum(&packet[ipv4::OFF_SRC..ipv4::OFF_SRC + 8]);
    let pseudo = addresses + u32::from(u16::from(ipv4::PROTO_UDP).to_be()) + u32::from(len.to_be());
    Some((place, pseudo))
}

/// Whether the checksum field of the UDP datagram in an IPv4 packet holds the folded pseudo header sum alone, and is
/// not right with it.
#[cold]
#[inline(never)]
pub fn is_unfinished(packet: &[u8]) -> bool {
    datagram(packet).is_some_and(|(place, pseudo)| {
        let bytes = &packet[place];
        let field = u16::from_ne_bytes([bytes[OFF_CHECKSUM], bytes[OFF_CHECKSUM + 1]]);
        field == fold(pseudo) && fold(pseudo + sum(bytes)) != 0xffff
    })
}

/// Computes and stores the checksum of the UDP datagram in an IPv4 packet. `None`, and nothing written, unless the packet
/// is complete and no fragment.
pub fn fill_checksum(packet: &mut [u8]) -> Option<()> {
    let (place, pseudo) = datagram(packet)?;
    let bytes = &mut packet[place];
    put16(bytes, OFF_CHECKSUM, 0);
    // Zero would say that there is none.
    let check = match !fold(pseudo + sum(bytes)) {
        0 => u16::MAX,
        check => check,
    };
    put16(bytes, OFF_CHECKSUM, u16::from_be(check));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.0.0.1:1000 to 10.0.0.2:53.
    fn packet(payload: &[u8]) -> Vec<u8> {
        let (total, len) = (28 + payload.len() as u8, 8 + payload.len() as u8);
        let head = [
            0x45, 0, 0, total, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 3, 0xe8, 0, 53, 0, len, 0,
            0,
        ];
        [&head[..], payload].concat()
    }

    #[test]
    fn unfinished_ones_are_completed() {
        // The pseudo header: 0a00 + 0001 + 0a00 + 0002 + 0011 + 000b = 141f. The rest: 03e8 + 0035 + 000b + 6162 + 6300 = c88a.
        let mut p = packet(b"abc");
        assert!(!is_unfinished(&p), "there is none");
        p[26..28].copy_from_slice(&[0x14, 0x1f]);
        assert!(is_unfinished(&p));
        // Padding behind the packet does not count.
        p.extend([0xff; 5]);
        assert_eq!(fill_checksum(&mut p), Some(()));
        assert_eq!(p[26..28], (!(0x141fu16 + 0xc88a)).to_be_bytes());
        assert!(!is_unfinished(&p));
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        // As above without the payload: 03e8 + 0035 + 000a, and a payload that makes it ffff.
        let rest = 0x141fu16 - 1 + 0x03e8 + 0x0035 + 0x000a;
        let mut p = packet(&(!rest).to_be_bytes());
        assert_eq!(fill_checksum(&mut p), Some(()));
        assert_eq!(p[26..28], [0xff, 0xff]);
    }

    #[test]
    fn what_is_no_whole_datagram_stays() {
        let mut whole = packet(b"abc");
        whole[26..28].copy_from_slice(&[0x14, 0x1f]);
        let bent = |at: usize, to: u8| {
            let mut p = whole.clone();
            p[at] = to;
            p
        };
        let cut = (0..whole.len()).map(|len| whole[..len].to_vec());
        for mut p in
            cut.chain([bent(9, 6), bent(6, 0x20), bent(7, 1), bent(25, 12), bent(3, 27), bent(0, 0x4f)])
        {
            let before = p.clone();
            assert!(!is_unfinished(&p) && fill_checksum(&mut p).is_none(), "{p:?}");
            assert_eq!(p, before);
        }
    }
}
