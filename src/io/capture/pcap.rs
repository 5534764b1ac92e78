//! The classic layout: the file's header and a record.

use super::{FrameRef, MAX_FRAME};

pub(super) const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

const MAGIC_MICRO: u32 = 0xa1b2_c3d4;
const MAGIC_NANO: u32 = 0xa1b2_3c4d;
/// Files recognised only to name them in the message.
const OTHER_FORMATS: [(&[u8], &str); 8] = [
    (&[0xa1, 0xb2, 0xcd, 0x34], "a modified pcap file (Kuznetzov)"),
    (&[0x34, 0xcd, 0xb2, 0xa1], "a modified pcap file (Kuznetzov)"),
    (b"snoop\0\0\0", "a snoop file"),
    (b"RTSS", "a Microsoft Network Monitor 1 file"),
    (b"GMBU", "a Microsoft Network Monitor 2 file"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd compression"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz compression"),
    (b"BZh", "bzip2 compression"),
];

/// What the file's header says.
pub(super) struct FileHeader {
    /// Its numbers are big-endian.
    pub(super) swapped: bool,
    /// Unit of the fraction in a time stamp.
    pub(super) ns_per_unit: u64,
    pub(super) linktype: u32,
}

/// Why there is no header to use.
pub(super) enum BadHeader {
    Unknown,
    Cut,
    Unsupported(&'static str),
}

impl FileHeader {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BadHeader> {
        if let Some((_, what)) = OTHER_FORMATS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
            return Err(BadHeader::Unsupported(what));
        }
        let magic = *bytes.first_chunk::<4>().ok_or(BadHeader::Unknown)?;
        let (swapped, ns_per_unit) = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (MAGIC_MICRO, _) => (false, 1_000),
            (MAGIC_NANO, _) => (false, 1),
            (_, MAGIC_MICRO) => (true, 1_000),
            (_, MAGIC_NANO) => (true, 1),
            _ => return Err(BadHeader::Unknown),
        };
        let header = bytes.first_chunk::<FILE_HEADER>().ok_or(BadHeader::Cut)?;
        let major = u16::from_le_bytes([header[4], header[5]]);
        if (if swapped { major.swap_bytes() } else { major }) != 2 {
            return Err(BadHeader::Unsupported("a pcap version other than 2"));
        }
        // The upper six bits say whether frames end in a checksum, and how long it is.
        let linktype = word(header, 20, swapped) & 0x03ff_ffff;
        Ok(Self { swapped, ns_per_unit, linktype })
    }
}

/// A classic record that lies whole in the window.
pub(super) struct Record<'a> {
    pub(super) frame: FrameRef,
    pub(super) bytes: &'a [u8],
    /// Where the next record begins, and the frame ends.
    pub(super) next: usize,
}

impl<'a> Record<'a> {
    #[inline(always)]
    pub(super) fn parse(
        data: &'a [u8],
        pos: usize,
        swapped: bool,
        ns_per_unit: u64,
        time_offset: u64,
    ) -> Option<Self> {
        let (header, rest) = data.get(pos..)?.split_first_chunk::<RECORD_HEADER>()?;
        let cap_len = word(header, 8, swapped);
        let len = cap_len as usize;
        if len > MAX_FRAME {
            return None;
        }
        let bytes = rest.get(..len)?;
        // Cannot overflow: both factors of both terms have 32 bits, and the sum stays below 2^63.
        let ts_ns = u64::from(word(header, 0, swapped)) * 1_000_000_000
            + u64::from(word(header, 4, swapped)) * ns_per_unit;
        let wire_len = word(header, 12, swapped).max(cap_len);
        let off = pos + RECORD_HEADER;
        let frame = FrameRef { ts_ns: ts_ns.saturating_add(time_offset), off, cap_len, wire_len };
        Some(Self { frame, bytes, next: off + len })
    }

    /// The captured length stated by the record that starts `rest`; `None` when its header is cut.
    pub(super) fn claimed_len(rest: &[u8], swapped: bool) -> Option<usize> {
        rest.first_chunk::<RECORD_HEADER>().map(|h| word(h, 8, swapped) as usize)
    }
}

#[inline(always)]
fn word<const N: usize>(bytes: &[u8; N], at: usize, swapped: bool) -> u32 {
    let v = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if swapped { v.swap_bytes() } else { v }
}
