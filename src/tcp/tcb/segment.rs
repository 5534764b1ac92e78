//! Segments as they come in and go out, without addresses and checksums, and the options of those that go out.

use crate::tcp::options::{KIND_MSS, KIND_NOP, KIND_SACK, KIND_SACK_PERMITTED, KIND_TIMESTAMPS, KIND_WSCALE};
use crate::tcp::store::ByteStore;
use crate::wire::tcp::Tcp;
pub use crate::wire::tcp::flags;
use flags::{ACK, FIN, RST, SYN};

/// Most option bytes of a header.
const MAX_OPTIONS: usize = 40;

/// A segment that arrived. Its checksum was right.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number, meant when ACK is set.
    pub ack: u32,
    /// Control bits, see [`flags`].
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Option bytes.
    pub options: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The segment whose header and payload are `bytes`; `None` when the header is not all there.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let tcp = Tcp::new(bytes)?;
        let header = tcp.header_len();
        Some(Segment {
            seq: tcp.seq(),
            ack: tcp.ack(),
            flags: tcp.flags(),
            window: tcp.window(),
            options: &bytes[crate::wire::tcp::MIN_HEADER_LEN..header],
            payload: &bytes[header..],
        })
    }

    /// Whether any of `flags` is set.
    #[inline]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Sequence numbers the segment takes: SYN and FIN count (RFC 9293 3.4).
    #[inline]
    pub fn len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// Whether it takes none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The reset that answers a segment for which there is no connection (RFC 9293 3.10.7.1), as sequence number and
/// acknowledgment number; `None` for a RST. Whether to send it (own address, rate) is the caller's to judge.
pub fn reset_for(seg: &Segment<'_>) -> Option<(u32, Option<u32>)> {
    if seg.has(RST) {
        None
    } else if seg.has(ACK) {
        Some((seg.ack, None))
    } else {
        Some((0, Some(seg.seq.wrapping_add(seg.len()))))
    }
}

/// The bytes a segment carries: a part of the send buffer.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    pub(super) store: Option<&'a ByteStore>,
    pub(super) at: usize,
    pub(super) len: usize,
}

impl<'a> Payload<'a> {
    /// No bytes.
    pub const EMPTY: Payload<'static> = Payload { store: None, at: 0, len: 0 };

    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, in pieces.
    pub fn slices(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (at, len) = (self.at, self.len);
        self.store.into_iter().flat_map(move |store| store.slices(at, len))
    }

    /// Copies the bytes to the start of `out`, as far as they fit; how many.
    #[inline]
    pub fn copy_to(&self, out: &mut [u8]) -> usize {
        let len = self.len.min(out.len());
        self.store.map_or(0, |store| store.read(self.at, &mut out[..len]))
    }
}

/// A segment to send. Addresses, ports, checksum and urgent pointer (0) are added by who sends it.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number; 0 unless ACK is set.
    pub ack: u32,
    /// Control bits, see [`flags`].
    pub flags: u8,
    /// Window, as it goes into the header.
    pub window: u16,
    /// Option bytes, a multiple of four.
    pub options: &'a [u8],
    /// Payload.
    pub payload: Payload<'a>,
    /// Carries data or a FIN that was sent before.
    pub retransmission: bool,
}

/// Option bytes in the making.
#[derive(Clone, Copy, Debug)]
pub struct OptionBytes {
    bytes: [u8; MAX_OPTIONS],
    len: usize,
}

impl Default for OptionBytes {
    fn default() -> Self {
        OptionBytes { bytes: [0; MAX_OPTIONS], len: 0 }
    }
}

/// What our SYN or SYN/ACK says (RFC 9293 3.2, RFC 7323, RFC 2018).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Maximum segment size.
    pub mss: u16,
    /// Window shift, if offered.
    pub wscale: Option<u8>,
    /// Selective acknowledgments permitted.
    pub sack: bool,
    /// Timestamp value and echo, if offered.
    pub timestamps: Option<(u32, u32)>,
}

impl OptionBytes {
    /// The options of a SYN, each aligned as most stacks do.
    pub fn syn(offer: &Offer) -> Self {
        let mut options = OptionBytes::default();
        options.put(&[KIND_MSS, 4]);
        options.put(&offer.mss.to_be_bytes());
        match (offer.sack, offer.timestamps) {
            (true, Some(_)) => options.put(&[KIND_SACK_PERMITTED, 2]),
            (true, None) => options.put(&[KIND_NOP, KIND_NOP, KIND_SACK_PERMITTED, 2]),
            (false, Some(_)) => options.put(&[KIND_NOP, KIND_NOP]),
            (false, None) => {}
        }
        if let Some(stamps) = offer.timestamps {
            options.put_stamps(stamps);
        }
        if let Some(shift) = offer.wscale {
            options.put(&[KIND_NOP, KIND_WSCALE, 3, shift]);
        }
        options
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn put_stamps(&mut self, (value, echo): (u32, u32)) {
        self.put(&[KIND_TIMESTAMPS, 10]);
        self.put(&value.to_be_bytes());
        self.put(&echo.to_be_bytes());
    }

    /// Adds timestamps (RFC 7323 3.2, appendix A), if there is nothing yet.
    #[inline]
    pub fn add_timestamps(&mut self, value: u32, echo: u32) {
        self.put(&[KIND_NOP, KIND_NOP]);
        self.put_stamps((value, echo));
    }

    /// SACK blocks that still fit.
    pub fn sack_room(&self) -> usize {
        (MAX_OPTIONS - self.len).saturating_sub(4) / 8
    }

    /// Adds SACK blocks (RFC 2018 3), no more than [`OptionBytes::sack_room`].
    pub fn add_sack(&mut self, blocks: &[(u32, u32)]) {
        let blocks = &blocks[..blocks.len().min(self.sack_room())];
        if blocks.is_empty() {
            return;
        }
        self.put(&[KIND_NOP, KIND_NOP, KIND_SACK, 2 + 8 * blocks.len() as u8]);
        for (start, end) in blocks {
            self.put(&start.to_be_bytes());
            self.put(&end.to_be_bytes());
        }
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::options::{SackBlocks, SynOptions, timestamps};

    #[test]
    fn syn_options_read_back_and_are_aligned() {
        for sack in [false, true] {
            for wscale in [None, Some(7)] {
                for stamps in [None, Some((1, 0x0203_0405))] {
                    let offer = Offer { mss: 1460, wscale, sack, timestamps: stamps };
                    let options = OptionBytes::syn(&offer);
                    assert_eq!(options.len() % 4, 0);
                    let read = SynOptions::parse(options.as_slice());
                    assert_eq!((read.mss, read.wscale), (Some(1460), wscale));
                    assert_eq!((read.sack_permitted, read.timestamps), (sack, stamps));
                }
            }
        }
    }

    #[test]
    fn sack_blocks_share_the_header_with_timestamps() {
        let blocks = [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)];
        let mut options = OptionBytes::default();
        options.add_sack(&blocks);
        assert_eq!((options.len(), SackBlocks::parse(options.as_slice()).as_slice()), (36, &blocks[..4]));
        let mut options = OptionBytes::default();
        options.add_timestamps(5, 6);
        options.add_sack(&blocks);
        assert_eq!((options.len(), timestamps(options.as_slice())), (40, Some((5, 6))));
        assert_eq!(SackBlocks::parse(options.as_slice()).as_slice(), &blocks[..3]);
    }

    #[test]
    fn a_reset_for_no_connection() {
        let seg = |flags, payload| Segment { seq: 100, ack: 200, flags, window: 0, options: &[], payload };
        assert_eq!(reset_for(&seg(RST | ACK, b"")), None);
        assert_eq!(reset_for(&seg(ACK, b"abc")), Some((200, None)));
        assert_eq!(reset_for(&seg(SYN, b"")), Some((0, Some(101))));
        assert_eq!(reset_for(&seg(FIN, b"ab")), Some((0, Some(103))));
    }
}
