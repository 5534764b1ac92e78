//! The Internet checksum (RFC 1071) of IPv4 and TCP, and its incremental update (RFC 1624).
//!
//! Sums are taken over 16-bit words in the machine's own byte order: the ones' complement sum does
//! not mind (RFC 1071 2.B), and a result stored with [`u16::to_ne_bytes`] is right on the wire.
//! Partial sums of ranges that start at even offsets of one message add up; [`fold`] ends them.

use super::{ipv4, simd, tcp};

/// Partial ones' complement sum of `bytes`, in native byte order, as if a zero followed an odd last
/// byte. At most `0x1_fffe`, so that 32 Ki such sums can be added without overflow.
#[inline]
pub fn sum(bytes: &[u8]) -> u32 {
    let sum = simd::sum(bytes);
    (sum & 0xffff) + (sum >> 16)
}

/// Folds a partial sum, or several added up, to 16 bits. 0xffff and 0 both mean zero.
#[inline]
pub fn fold(sum: impl Into<u64>) -> u16 {
    // A word plus itself with its halves exchanged has the halves' end-around sum in its upper half.
    let sum = simd::halve(sum.into());
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The checksum of `bytes` in native byte order: what belongs into a zeroed checksum field.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// Whether the checksum of an IPv4 header (options included, `hdr` ends with it) is right.
#[inline]
pub fn ipv4_header_ok(hdr: &[u8]) -> bool {
    let sum = match hdr.first_chunk::<20>() {
        Some(fixed) if hdr.len() == 20 => sum20(fixed),
        _ => u64::from(sum(hdr)),
    };
    fold(sum) == 0xffff
}

/// Partial sum of a header without options.
#[inline(always)]
fn sum20(h: &[u8; 20]) -> u64 {
    word(h, 0) + word(h, 4) + word(h, 8) + word(h, 12) + word(h, 16)
}

/// Whether the checksum of the IPv4 header at the start of `packet` is right, and whether the TCP checksum is; true
/// when `tcp` does not ask for it. `ihl` and `tot_len` are the header's length fields; sums over ranges that do not fit
/// `packet` are wrong.
#[inline(always)]
pub fn verify(packet: &[u8], ihl: u8, tot_len: u16, tcp: bool) -> (bool, bool) {
    if ihl != 5 {
        let header = packet.get(..usize::from(ihl) * 4);
        return (header.is_some_and(ipv4_header_ok), !tcp || tcp_ok(packet, ihl, tot_len));
    }
    let Some((fixed, rest)) = packet.split_first_chunk::<{ ipv4::MIN_HEADER_LEN }>() else {
        return (false, false);
    };
    if fold(sum20(fixed)) != 0xffff {
        return (false, false);
    }
    if !tcp {
        return (true, true);
    }
    let len = usize::from(tot_len).wrapping_sub(ipv4::MIN_HEADER_LEN);
    let Some(segment) = rest.get(..len) else { return (true, false) };
    let addrs = word(fixed, ipv4::OFF_SRC) + word(fixed, ipv4::OFF_DST);
    let sum = addrs + u64::from(pseudo(len)) + u64::from(simd::sum(segment));
    (true, fold(sum) == 0xffff)
}

/// Whether both checksums of a packet are right: TCP behind an IP header without options. `headers` are those two, as far as their
/// size is fixed, and `rest` is what follows of the packet.
#[inline(never)]
pub(crate) fn is_right(headers: &[u8; 40], rest: &[u8]) -> bool {
    // What calls comes first: nothing has to be kept out of its way.
    let sum = u64::from(simd::sum(rest)) + u64::from(pseudo(20 + rest.len()));
    let (Some(fixed), Some(tcp)) = (headers.first_chunk::<20>(), headers.last_chunk::<20>()) else {
        return false;
    };
    let addrs = word(fixed, ipv4::OFF_SRC) + word(fixed, ipv4::OFF_DST);
    let header = word(fixed, 0) + word(fixed, 4) + word(fixed, 8) + addrs;
    fold(header) == 0xffff && fold(sum + addrs + sum20(tcp)) == 0xffff
}

/// Four bytes of a header as they lie in memory.
#[inline(always)]
fn word(h: &[u8; 20], at: usize) -> u64 {
    u64::from(u32::from_ne_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]))
}

/// The pseudo header's share besides the addresses: protocol and length of the segment.
#[inline]
fn pseudo(tcp_len: usize) -> u32 {
    u32::from(u16::from(ipv4::PROTO_TCP).to_be()) + u32::from((tcp_len as u16).to_be())
}

/// Partial sum of a TCP segment with its pseudo header (RFC 9293 3.1). `addrs` are the eight bytes of
/// source and destination address as in the IP header; `segment` is header and payload, up to 65,535
/// bytes.
#[inline]
pub fn tcp_sum(addrs: &[u8; 8], segment: &[u8]) -> u32 {
    let word = |at: usize| u32::from(u16::from_ne_bytes([addrs[at], addrs[at + 1]]));
    word(0) + word(2) + word(4) + word(6) + pseudo(segment.len()) + sum(segment)
}

/// [`tcp_sum`] of the segment inside an IP packet; `None` when the lengths do not fit the packet.
#[inline]
fn packet_sum(ip_packet: &[u8], header_len: usize, tot_len: usize) -> Option<u32> {
    if header_len == ipv4::MIN_HEADER_LEN {
        // The addresses stand right before the segment: one pass over both.
        let summed = ip_packet.get(ipv4::OFF_SRC..tot_len)?;
        Some(sum(summed) + pseudo(tot_len.checked_sub(header_len)?))
    } else {
        let addrs = ip_packet.get(ipv4::OFF_SRC..)?.first_chunk::<8>()?;
        Some(tcp_sum(addrs, ip_packet.get(header_len..tot_len)?))
    }
}

/// Whether the TCP checksum of an IPv4 packet is right. `ihl` is the header's length field (32-bit
/// words), `tot_len` its total length in bytes; `false` when they do not fit `ip_packet`, so also for a
/// packet that the capture cut: ask [`super::Parsed::truncated`] first.
#[inline]
pub fn tcp_ok(ip_packet: &[u8], ihl: u8, tot_len: u16) -> bool {
    let sum = packet_sum(ip_packet, usize::from(ihl) * 4, usize::from(tot_len));
    sum.is_some_and(|sum| fold(sum) == 0xffff)
}

/// Whether the TCP checksum field holds the folded pseudo header sum alone: what a sender on this
/// machine leaves there for its network device to complete. `false` when the lengths do not fit.
#[cold]
#[inline(never)]
pub fn tcp_unfinished(ip_packet: &[u8], ihl: u8, tot_len: u16) -> bool {
    let header_len = usize::from(ihl) * 4;
    let Some(segment) = ip_packet.get(header_len..usize::from(tot_len)) else { return false };
    let Some(addrs) = ip_packet.get(ipv4::OFF_SRC..).and_then(|b| b.first_chunk::<8>()) else { return false };
    let Some(&[a, b]) = segment.get(tcp::OFF_CHECKSUM..).and_then(|f| f.first_chunk::<2>()) else {
        return false;
    };
    let alone = tcp_sum(addrs, &[]) - pseudo(0) + pseudo(segment.len());
    u16::from_ne_bytes([a, b]) == fold(alone)
}

/// The checksum after one 16-bit word of what it covers changed from `old` to `new` (RFC 1624, eqn. 3).
/// All three in one byte order, whichever.
#[inline]
pub fn update16(check: u16, old: u16, new: u16) -> u16 {
    !fold(u32::from(!check) + u32::from(!old) + u32::from(new))
}

/// [`update16`] for a 32-bit field at an even offset. All three in one byte order, whichever.
#[inline]
pub fn update32(check: u16, old: u32, new: u32) -> u16 {
    let halves = |v: u32| (v & 0xffff) + (v >> 16);
    !fold(u32::from(!check) + halves(!old) + halves(new))
}

/// Computes and stores the header checksum of the IPv4 packet in `packet`. `None`, and nothing
/// written, unless the whole header is there.
pub fn fill_ipv4(packet: &mut [u8]) -> Option<()> {
    let len = ipv4::Ipv4::new(&*packet)?.header_len();
    put(packet, ipv4::OFF_CHECKSUM, 0);
    let check = checksum(&packet[..len]);
    put(packet, ipv4::OFF_CHECKSUM, check);
    Some(())
}

/// Computes and stores the TCP checksum of the IPv4 packet in `ip_packet`; bytes behind its total
/// length are ignored. `None`, and nothing written, unless the packet is complete, no fragment and
/// holds at least a TCP header.
pub fn fill_tcp(ip_packet: &mut [u8]) -> Option<()> {
    let ip = ipv4::Ipv4::new(&*ip_packet)?;
    let (start, end) = (ip.header_len(), usize::from(ip.total_len()));
    if ip.proto() != ipv4::PROTO_TCP || ip.is_fragment() {
        return None;
    }
    if end > ip_packet.len() || end < start + tcp::MIN_HEADER_LEN {
        return None;
    }
    put(ip_packet, start + tcp::OFF_CHECKSUM, 0);
    let check = !fold(packet_sum(ip_packet, start, end)?);
    put(ip_packet, start + tcp::OFF_CHECKSUM, check);
    Some(())
}

/// Stores a native-order checksum.
fn put(bytes: &mut [u8], at: usize, check: u16) {
    bytes[at..at + 2].copy_from_slice(&check.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An IPv4 header with its checksum, worked out by hand: the words add up to 0x2_479c,
    /// 0x479e folded, 0xb861 inverted.
    const HEADER: [u8; 20] =
        [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];

    fn packet(options: usize, payload: &[u8]) -> Vec<u8> {
        let header = 20 + options * 4;
        let mut p = vec![0u8; header + 20];
        p[0] = 0x40 | (header / 4) as u8;
        let total = (header + 20 + payload.len()) as u16;
        p[2..4].copy_from_slice(&total.to_be_bytes());
        p[9] = 6;
        p[12..20].copy_from_slice(&[10, 1, 2, 3, 192, 168, 250, 7]);
        p[header..header + 12].copy_from_slice(b"\x1f\x90\x00\x50abcdefgh");
        p[header + 12] = 0x50;
        p.extend_from_slice(payload);
        p
    }

    #[test]
    fn known_header() {
        assert!(ipv4_header_ok(&HEADER));
        let mut broken = HEADER;
        broken[8] -= 1;
        assert!(!ipv4_header_ok(&broken));
        assert_eq!(fill_ipv4(&mut broken), Some(()));
        assert_eq!(broken[10..12], [0xb9, 0x61]);
        assert!(!ipv4_header_ok(&[]));
    }

    #[test]
    fn fold_takes_every_carry() {
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(u32::MAX), 0xffff);
        assert_eq!(fold(0x1_ffffu32), 1);
        assert_eq!(fold(0xffff_0001_ffff_fffeu64), fold(0xffffu32 + 1 + 0xffff + 0xfffe));
        assert_eq!(fold(0u32), 0);
    }

    #[test]
    fn lengths_that_do_not_fit_are_no_checksum() {
        let mut p = packet(0, b"hello");
        fill_tcp(&mut p).unwrap();
        assert!(tcp_ok(&p, 5, 45));
        assert!(!tcp_ok(&p, 5, 46));
        assert!(!tcp_ok(&p[..44], 5, 45));
        assert!(!tcp_ok(&p, 15, 45));
        assert!(!tcp_ok(&p, 0, 45));
        assert!(!tcp_ok(&p[..8], 5, 8));
        assert!(!tcp_ok(&[], 5, 0));
        assert!(!tcp_unfinished(&p, 15, 45) && !tcp_unfinished(&[], 0, 0));
        let whole = p.clone();
        assert_eq!(fill_tcp(&mut p[..44]), None);
        p[3] = 39;
        assert_eq!(fill_tcp(&mut p), None);
        p[3] = 45;
        p[6] = 0x20;
        assert_eq!(fill_tcp(&mut p), None);
        p[6] = 0;
        assert_eq!(p, whole);
    }

    proptest! {
        #[test]
        fn filled_checksums_hold_and_notice_a_flip(
            options in 0usize..=10, payload in prop::collection::vec(any::<u8>(), 0..1500), padding in 0usize..9,
            at in any::<prop::sample::Index>(), bit in 0u8..8
        ) {
            let mut p = packet(options, &payload);
            let (ihl, total) = (5 + options as u8, p.len() as u16);
            p.resize(p.len() + padding, 0xee);
            prop_assert!(fill_ipv4(&mut p).is_some() && fill_tcp(&mut p).is_some());
            prop_assert!(ipv4_header_ok(&p[..usize::from(ihl) * 4]));
            prop_assert!(tcp_ok(&p, ihl, total));

            // Bytes the checksum covers: the addresses and the segment.
            let covered = usize::from(total) - usize::from(ihl) * 4 + 8;
            let at = at.index(covered);
            let at = if at < 8 { 12 + at } else { at - 8 + usize::from(ihl) * 4 };
            p[at] ^= 1 << bit;
            prop_assert!(!tcp_ok(&p, ihl, total));
        }

        #[test]
        fn unfinished_is_the_pseudo_header_alone(options in 0usize..=10, payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut p = packet(options, &payload);
            let (ihl, total) = (5 + options as u8, p.len() as u16);
            let at = usize::from(ihl) * 4 + tcp::OFF_CHECKSUM;
            let mut pseudo = p[12..20].to_vec();
            pseudo.extend_from_slice(&[0, 6]);
            pseudo.extend_from_slice(&(total - u16::from(ihl) * 4).to_be_bytes());
            p[at..at + 2].copy_from_slice(&fold(sum(&pseudo)).to_ne_bytes());
            prop_assert!(tcp_unfinished(&p, ihl, total));
            p[at] ^= 1;
            prop_assert!(!tcp_unfinished(&p, ihl, total));
        }

        #[test]
        fn updates_equal_a_recomputation(
            mut bytes in prop::collection::vec(any::<u8>(), 8..64), at in any::<prop::sample::Index>(), new in any::<u32>()
        ) {
            // A covered message is never all zero, where the two zeros of ones' complement part.
            bytes[0] |= 1;
            bytes.truncate(bytes.len() & !1);
            let at = 2 + 2 * at.index((bytes.len() - 6) / 2 + 1);
            let at = at.min(bytes.len() - 4);
            let before = checksum(&bytes);
            let old4 = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            let old2 = u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
            let mut short = bytes.clone();
            short[at..at + 2].copy_from_slice(&(new as u16).to_ne_bytes());
            prop_assert_eq!(update16(before, old2, new as u16), checksum(&short));
            let swapped = update16(before.swap_bytes(), old2.swap_bytes(), (new as u16).swap_bytes());
            prop_assert_eq!(swapped.swap_bytes(), checksum(&short));
            bytes[at..at + 4].copy_from_slice(&new.to_ne_bytes());
            prop_assert_eq!(update32(before, old4, new), checksum(&bytes));
            prop_assert_eq!(update32(before.swap_bytes(), old4.swap_bytes(), new.swap_bytes()).swap_bytes(), checksum(&bytes));
        }

        #[test]
        fn sums_add_up_at_even_offsets(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(bytes.len() + 1) & !1;
            prop_assert_eq!(fold(sum(&bytes[..cut]) + sum(&bytes[cut..])), fold(sum(&bytes)));
        }
    }
}
