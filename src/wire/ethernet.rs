//! View of an Ethernet II header.

use super::{be16, put16};

/// Bytes of the header.
pub const HEADER_LEN: usize = 14;
/// Offset of the destination address.
pub const OFF_DST: usize = 0;
/// Offset of the source address.
pub const OFF_SRC: usize = 6;
/// Offset of the EtherType.
pub const OFF_TYPE: usize = 12;

/// EtherType of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const TYPE_ARP: u16 = 0x0806;
/// EtherType of an IEEE 802.1Q tag.
pub const TYPE_VLAN: u16 = 0x8100;
/// EtherType of IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;

/// A hardware address.
pub type Mac = [u8; 6];

/// An Ethernet frame of at least [`HEADER_LEN`] bytes.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<B>(B);

impl<B: AsRef<[u8]>> Ethernet<B> {
    /// Views `frame`; `None` when it is shorter than the header.
    #[inline]
    pub fn new(frame: B) -> Option<Self> {
        (frame.as_ref().len() >= HEADER_LEN).then_some(Self(frame))
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Mac {
        self.mac(OFF_DST)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Mac {
        self.mac(OFF_SRC)
    }

    /// EtherType, host order.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        be16(self.0.as_ref(), OFF_TYPE)
    }

    /// What follows the header, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.0.as_ref()[HEADER_LEN..]
    }

    #[inline]
    fn mac(&self, at: usize) -> Mac {
        let mut mac = [0; 6];
        mac.copy_from_slice(&self.0.as_ref()[at..at + 6]);
        mac
    }
}

impl<B: AsMut<[u8]>> Ethernet<B> {
    /// Sets the destination address.
    #[inline]
    pub fn set_dst(&mut self, mac: Mac) {
        self.0.as_mut()[OFF_DST..OFF_DST + 6].copy_from_slice(&mac);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_src(&mut self, mac: Mac) {
        self.0.as_mut()[OFF_SRC..OFF_SRC + 6].copy_from_slice(&mac);
    }

    /// Sets the EtherType (host order).
    #[inline]
    pub fn set_ethertype(&mut self, ethertype: u16) {
        put16(self.0.as_mut(), OFF_TYPE, ethertype);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_frames_are_refused() {
        assert!(Ethernet::new(&[0u8; 13][..]).is_none());
        assert!(Ethernet::new(&[0u8; 14][..]).is_some_and(|e| e.payload().is_empty()));
    }

    #[test]
    fn what_is_set_is_read_back_at_its_offset() {
        let mut frame = [0u8; 20];
        let mut eth = Ethernet::new(&mut frame[..]).unwrap();
        eth.set_dst([1, 2, 3, 4, 5, 6]);
        eth.set_src([7, 8, 9, 10, 11, 12]);
        eth.set_ethertype(TYPE_IPV6);
        assert_eq!((eth.dst(), eth.src()), ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]));
        assert_eq!((eth.ethertype(), eth.payload().len()), (TYPE_IPV6, 6));
        assert_eq!(frame, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd, 0, 0, 0, 0, 0, 0]);
    }
}
