//! View of a TCP header (RFC 9293 3.1).

use super::{be16, be32, put16, put32};

/// Bytes of the header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Offset of the source port.
pub const OFF_SPORT: usize = 0;
/// Offset of the destination port.
pub const OFF_DPORT: usize = 2;
/// Offset of the sequence number.
pub const OFF_SEQ: usize = 4;
/// Offset of the acknowledgment number.
pub const OFF_ACK: usize = 8;
/// Offset of the data offset (upper four bits).
pub const OFF_DOFF: usize = 12;
/// Offset of the control bits.
pub const OFF_FLAGS: usize = 13;
/// Offset of the window.
pub const OFF_WINDOW: usize = 14;
/// Offset of the checksum.
pub const OFF_CHECKSUM: usize = 16;
/// Offset of the urgent pointer.
pub const OFF_URGENT: usize = 18;

/// Control bits, as they sit in the header's byte.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number is meant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is meant.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// A TCP segment whose whole header, options included, is there.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<B>(B);

impl<B: AsRef<[u8]>> Tcp<B> {
    /// Views `segment`; `None` when the data offset is below 5 or the header is not all there.
    #[inline]
    pub fn new(segment: B) -> Option<Self> {
        let bytes = segment.as_ref();
        let header = usize::from(*bytes.get(OFF_DOFF)? >> 4) * 4;
        (header >= MIN_HEADER_LEN && bytes.len() >= header).then_some(Self(segment))
    }

    /// Source port, host order.
    #[inline]
    pub fn sport(&self) -> u16 {
        be16(self.0.as_ref(), OFF_SPORT)
    }

    /// Destination port, host order.
    #[inline]
    pub fn dport(&self) -> u16 {
        be16(self.0.as_ref(), OFF_DPORT)
    }

    /// Sequence number.
    #[inline]
    pub fn seq(&self) -> u32 {
        be32(self.0.as_ref(), OFF_SEQ)
    }

    /// Acknowledgment number.
    #[inline]
    pub fn ack(&self) -> u32 {
        be32(self.0.as_ref(), OFF_ACK)
    }

    /// Bytes of the header, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.0.as_ref()[OFF_DOFF] >> 4) * 4
    }

    /// Control bits, see [`flags`].
    #[inline]
    pub fn flags(&self) -> u8 {
        self.0.as_ref()[OFF_FLAGS]
    }

    /// Window as sent, unscaled.
    #[inline]
    pub fn window(&self) -> u16 {
        be16(self.0.as_ref(), OFF_WINDOW)
    }

    /// Checksum, host order.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.0.as_ref(), OFF_CHECKSUM)
    }

    /// Urgent pointer.
    #[inline]
    pub fn urgent(&self) -> u16 {
        be16(self.0.as_ref(), OFF_URGENT)
    }

    /// The option bytes.
    #[inline]
    pub fn options(&self) -> &[u8] {
        // The data offset may have been lowered through `set_doff`.
        self.0.as_ref().get(MIN_HEADER_LEN..self.header_len()).unwrap_or(&[])
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.0.as_ref().get(self.header_len()..).unwrap_or(&[])
    }
}

impl<B: AsMut<[u8]>> Tcp<B> {
    /// Sets the source port (host order).
    #[inline]
    pub fn set_sport(&mut self, port: u16) {
        put16(self.0.as_mut(), OFF_SPORT, port);
    }

    /// Sets the destination port (host order).
    #[inline]
    pub fn set_dport(&mut self, port: u16) {
        put16(self.0.as_mut(), OFF_DPORT, port);
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: u32) {
        put32(self.0.as_mut(), OFF_SEQ, seq);
    }

    /// Sets the acknowledgment number.
    #[inline]
    pub fn set_ack(&mut self, ack: u32) {
        put32(self.0.as_mut(), OFF_ACK, ack);
    }

    /// Sets the data offset in 32-bit words; its upper bits are lost, the reserved bits are kept.
    #[inline]
    pub fn set_doff(&mut self, words: u8) {
        let byte = &mut self.0.as_mut()[OFF_DOFF];
        *byte = (words << 4) | (*byte & 0xf);
    }

    /// Sets the control bits.
    #[inline]
    pub fn set_flags(&mut self, flags: u8) {
        self.0.as_mut()[OFF_FLAGS] = flags;
    }

    /// Sets the window.
    #[inline]
    pub fn set_window(&mut self, window: u16) {
        put16(self.0.as_mut(), OFF_WINDOW, window);
    }

    /// Sets the checksum (host order); [`super::checksum::fill_tcp`] computes it.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put16(self.0.as_mut(), OFF_CHECKSUM, checksum);
    }

    /// Sets the urgent pointer.
    #[inline]
    pub fn set_urgent(&mut self, urgent: u16) {
        put16(self.0.as_mut(), OFF_URGENT, urgent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_headers_are_refused() {
        let mut bytes = [0u8; 32];
        for (doff, len, ok) in [
            (5, 20, true),
            (5, 19, false),
            (4, 32, false),
            (0, 32, false),
            (8, 31, false),
            (8, 32, true),
            (15, 32, false),
        ] {
            bytes[OFF_DOFF] = doff << 4;
            assert_eq!(Tcp::new(&bytes[..len]).is_some(), ok, "{doff} {len}");
        }
        assert!(Tcp::new(&bytes[..12]).is_none());
    }

    #[test]
    fn what_is_set_is_read_back() {
        let mut bytes = [0u8; 40];
        bytes[OFF_DOFF] = 0x81;
        let mut tcp = Tcp::new(&mut bytes[..]).unwrap();
        tcp.set_sport(0x0102);
        tcp.set_dport(0x0304);
        tcp.set_seq(0x05060708);
        tcp.set_ack(0x090a0b0c);
        tcp.set_doff(6);
        tcp.set_flags(flags::SYN | flags::ACK);
        tcp.set_window(0x0f10);
        tcp.set_checksum(0x1112);
        tcp.set_urgent(0x1314);
        assert_eq!(
            (tcp.sport(), tcp.dport(), tcp.seq(), tcp.ack()),
            (0x0102, 0x0304, 0x05060708, 0x090a0b0c)
        );
        assert_eq!((tcp.header_len(), tcp.options().len(), tcp.payload().len()), (24, 4, 16));
        assert_eq!((tcp.window(), tcp.checksum(), tcp.urgent()), (0x0f10, 0x1112, 0x1314));
        let fixed = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x61, 0x12, 15, 16, 17, 18, 19, 20];
        assert_eq!(bytes[..20], fixed);
        let mut tcp = Tcp::new(&mut bytes[..]).unwrap();
        tcp.set_doff(15);
        assert_eq!((tcp.options(), tcp.payload()), (&[][..], &[][..]));
    }
}
