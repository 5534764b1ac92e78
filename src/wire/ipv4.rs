//! View of an IPv4 header (RFC 791 3.1).

use std::net::Ipv4Addr;

use super::{be16, be32, put16, put32};

/// Bytes of the header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Offset of version and header length.
pub const OFF_VER_IHL: usize = 0;
/// Offset of the type of service (DSCP and ECN).
pub const OFF_TOS: usize = 1;
/// Offset of the total length.
pub const OFF_TOTAL_LEN: usize = 2;
/// Offset of the identification.
pub const OFF_ID: usize = 4;
/// Offset of flags and fragment offset.
pub const OFF_FRAG: usize = 6;
/// Offset of the time to live.
pub const OFF_TTL: usize = 8;
/// Offset of the protocol number.
pub const OFF_PROTO: usize = 9;
/// Offset of the header checksum.
pub const OFF_CHECKSUM: usize = 10;
/// Offset of the source address.
pub const OFF_SRC: usize = 12;
/// Offset of the destination address.
pub const OFF_DST: usize = 16;

/// Protocol number of ICMP.
pub const PROTO_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTO_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTO_UDP: u8 = 17;

/// "Don't fragment" in the flags and fragment offset word.
pub const FRAG_DF: u16 = 0x4000;
/// The bits of that word that are set in a fragment: "more fragments" or an offset.
pub const FRAG_MASK: u16 = 0x3fff;

/// An IPv4 packet whose whole header, options included, is there.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<B>(B);

impl<B: AsRef<[u8]>> Ipv4<B> {
    /// Views `packet` (from the first header byte on). `None` when the version is not 4, the header
    /// length is below 20 or the header is not all there. The total length is not judged.
    #[inline]
    pub fn new(packet: B) -> Option<Self> {
        let bytes = packet.as_ref();
        let first = *bytes.first()?;
        let header = usize::from(first & 0xf) * 4;
        (first >> 4 == 4 && header >= MIN_HEADER_LEN && bytes.len() >= header).then_some(Self(packet))
    }

    /// Bytes of the header, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.0.as_ref()[OFF_VER_IHL] & 0xf) * 4
    }

    /// Type of service.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.0.as_ref()[OFF_TOS]
    }

    /// Bytes of header and payload by the header, which may differ from what was captured.
    #[inline]
    pub fn total_len(&self) -> u16 {
        be16(self.0.as_ref(), OFF_TOTAL_LEN)
    }

    /// Identification.
    #[inline]
    pub fn id(&self) -> u16 {
        be16(self.0.as_ref(), OFF_ID)
    }

    /// Flags and fragment offset, see [`FRAG_DF`] and [`FRAG_MASK`].
    #[inline]
    pub fn frag(&self) -> u16 {
        be16(self.0.as_ref(), OFF_FRAG)
    }

    /// Whether this is a fragment of a larger packet, the first one included.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.frag() & FRAG_MASK != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.0.as_ref()[OFF_TTL]
    }

    /// Protocol number.
    #[inline]
    pub fn proto(&self) -> u8 {
        self.0.as_ref()[OFF_PROTO]
    }

    /// Header checksum, host order.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.0.as_ref(), OFF_CHECKSUM)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        be32(self.0.as_ref(), OFF_SRC).into()
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        be32(self.0.as_ref(), OFF_DST).into()
    }

    /// What follows the header, up to the total length or the end of what is there.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let (bytes, start) = (self.0.as_ref(), self.header_len());
        let end = usize::from(self.total_len()).clamp(start, bytes.len());
        &bytes[start..end]
    }
}

impl<B: AsMut<[u8]>> Ipv4<B> {
    /// Sets the type of service.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        self.0.as_mut()[OFF_TOS] = tos;
    }

    /// Sets the total length in bytes.
    #[inline]
    pub fn set_total_len(&mut self, len: u16) {
        put16(self.0.as_mut(), OFF_TOTAL_LEN, len);
    }

    /// Sets the identification.
    #[inline]
    pub fn set_id(&mut self, id: u16) {
        put16(self.0.as_mut(), OFF_ID, id);
    }

    /// Sets flags and fragment offset.
    #[inline]
    pub fn set_frag(&mut self, frag: u16) {
        put16(self.0.as_mut(), OFF_FRAG, frag);
    }

    /// Sets the time to live.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.0.as_mut()[OFF_TTL] = ttl;
    }

    /// Sets the protocol number.
    #[inline]
    pub fn set_proto(&mut self, proto: u8) {
        self.0.as_mut()[OFF_PROTO] = proto;
    }

    /// Sets the header checksum (host order); [`super::checksum::fill_ipv4`] computes it.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put16(self.0.as_mut(), OFF_CHECKSUM, checksum);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, addr: Ipv4Addr) {
        put32(self.0.as_mut(), OFF_SRC, addr.into());
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, addr: Ipv4Addr) {
        put32(self.0.as_mut(), OFF_DST, addr.into());
    }
}

/// Writes a header without options in front of `total_len - 20` bytes of payload, DF set, checksum
/// zero. `None`, and nothing written, when `packet` is shorter than the header.
pub fn emit(
    packet: &mut [u8],
    src: Ipv4Addr,
    dst: Ipv4Addr,
    proto: u8,
    ttl: u8,
    total_len: u16,
) -> Option<()> {
    let header = packet.first_chunk_mut::<MIN_HEADER_LEN>()?;
    *header = [0; MIN_HEADER_LEN];
    header[OFF_VER_IHL] = 0x45;
    let mut ip = Ipv4(&mut header[..]);
    ip.set_total_len(total_len);
    ip.set_frag(FRAG_DF);
    ip.set_ttl(ttl);
    ip.set_proto(proto);
    ip.set_src(src);
    ip.set_dst(dst);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_or_foreign_headers_are_refused() {
        let mut bytes = [0u8; 24];
        for (first, len, ok) in [
            (0x45, 20, true),
            (0x45, 19, false),
            (0x46, 23, false),
            (0x46, 24, true),
            (0x44, 24, false),
            (0x65, 24, false),
        ] {
            bytes[0] = first;
            assert_eq!(Ipv4::new(&bytes[..len]).is_some(), ok, "{first:#x} {len}");
        }
        assert!(Ipv4::new(&[][..]).is_none());
    }

    #[test]
    fn emitted_header_reads_back() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 168, 7, 9));
        let mut bytes = [0xffu8; 30];
        assert!(emit(&mut bytes[..19], a, b, PROTO_TCP, 64, 26).is_none());
        emit(&mut bytes, a, b, PROTO_TCP, 64, 26).unwrap();
        let mut ip = Ipv4::new(&mut bytes[..]).unwrap();
        assert_eq!((ip.src(), ip.dst(), ip.proto(), ip.ttl(), ip.total_len()), (a, b, PROTO_TCP, 64, 26));
        assert_eq!((ip.header_len(), ip.payload().len(), ip.is_fragment(), ip.id()), (20, 6, false, 0));
        ip.set_frag(0x2000);
        ip.set_tos(3);
        ip.set_id(0x1234);
        ip.set_checksum(0xabcd);
        assert!(ip.is_fragment());
        assert_eq!((ip.tos(), ip.id(), ip.checksum()), (3, 0x1234, 0xabcd));
    }

    #[test]
    fn payload_is_bounded_by_both_lengths() {
        let mut bytes = [0u8; 40];
        bytes[0] = 0x45;
        for (total, want) in [(0, 0), (20, 0), (25, 5), (40, 20), (65535, 20)] {
            let mut ip = Ipv4::new(&mut bytes[..]).unwrap();
            ip.set_total_len(total);
            assert_eq!(ip.payload().len(), want);
        }
    }
}
