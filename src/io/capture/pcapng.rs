//! What a pcapng block means: sections, interfaces and the three kinds of packet block.
//!
//! Source: `draft-ietf-opsawg-pcapng`; the obsolete Packet Block as in its appendix. Blocks that carry no
//! packet and describe no interface are passed over.

use super::link::{self, Link};
use super::{MAX_FRAME, Skipped};

/// Block types.
pub(super) const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const OPT_END: u16 = 0;
const OPT_TSRESOL: u16 = 9;
const OPT_TSOFFSET: u16 = 14;
/// Descriptions kept per section; a file with more is taken for corruption.
const MAX_INTERFACES: usize = 65_536;

/// Type, both lengths: what every block has.
pub(super) const BLOCK_OVERHEAD: usize = 12;

const NS_PER_S: u64 = 1_000_000_000;

/// State of the current section.
#[derive(Default)]
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
    last_ts: u64,
}

struct Interface {
    linktype: u32,
    link: Option<Link>,
    snaplen: u32,
    resolution: Resolution,
    offset_s: i64,
}

#[derive(Clone, Copy)]
enum Resolution {
    /// Nanoseconds per unit.
    Times(u64),
    /// Units per nanosecond.
    Per(u128),
    /// 2^-n seconds.
    Binary(u32),
}

/// A frame inside a block.
pub(super) struct Packet {
    pub(super) ts_ns: u64,
    /// From the block's first byte.
    pub(super) off: usize,
    pub(super) cap_len: u32,
    pub(super) wire_len: u32,
    pub(super) link: Link,
}

/// What one block gave.
pub(super) enum Block {
    Packet(Packet),
    /// Nothing to process, nothing wrong.
    Other,
    /// An interface with a made-up Ethernet header was described.
    NeedsCopy,
    /// Counted; a message for the first of its kind.
    Skip(String),
    /// Nothing behind this block can be understood.
    Fatal(String),
}

impl Section {
    /// Type and total length of the block that starts `bytes` (at least [`BLOCK_OVERHEAD`] of them); a section
    /// header sets the byte order for what follows. `None`: a section header without its magic number.
    pub(super) fn header(&mut self, bytes: &[u8]) -> Option<(u32, u32)> {
        let kind = self.u32(bytes, 0)?;
        if kind == SECTION {
            let magic = *bytes.get(8..)?.first_chunk::<4>()?;
            self.big_endian = if u32::from_be_bytes(magic) == BYTE_ORDER_MAGIC {
                true
            } else if u32::from_le_bytes(magic) == BYTE_ORDER_MAGIC {
                false
            } else {
                return None;
            };
        }
        Some((kind, self.u32(bytes, 4)?))
    }

    /// Whether a block of this type holds a packet.
    pub(super) fn is_packet(kind: u32) -> bool {
        matches!(kind, OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET)
    }

    /// Reads one whole block, whose lengths the caller has checked against `block.len()`.
    pub(super) fn block(&mut self, kind: u32, block: &[u8], skipped: &mut Skipped) -> Block {
        let end = block.len().saturating_sub(4);
        if self.u32(block, end) != Some(block.len() as u32) {
            skipped.corrupt_block += 1;
            return Block::Skip("a pcapng block with two different lengths is skipped".into());
        }
        // The body without the trailing length, so that nothing is read from that.
        let block = &block[..end];
        let parsed = match kind {
            SECTION => self.section(block),
            INTERFACE => self.interface(block),
            ENHANCED_PACKET | OBSOLETE_PACKET => self.packet(kind, block, skipped),
            SIMPLE_PACKET => self.simple_packet(block, skipped),
            _ => Some(Block::Other),
        };
        parsed.unwrap_or_else(|| {
            skipped.corrupt_block += 1;
            Block::Skip(format!("a pcapng block (type {kind}) shorter than its fields is skipped"))
        })
    }

    fn section(&mut self, block: &[u8]) -> Option<Block> {
        self.interfaces.clear();
        let (major, minor) = (self.u16(block, 12)?, self.u16(block, 14)?);
        // Version 1.2 is read as 1.0, as its specification asks.
        if major != 1 {
            return Some(Block::Fatal(format!("pcapng version {major}.{minor} is not supported")));
        }
        Some(Block::Other)
    }

    fn interface(&mut self, block: &[u8]) -> Option<Block> {
        let linktype = u32::from(self.u16(block, 8)?);
        let mut new = Interface {
            linktype,
            link: Link::from_number(linktype),
            snaplen: self.u32(block, 12)?,
            resolution: Resolution::Times(1_000),
            offset_s: 0,
        };
        let mut at = 16;
        while let (Some(code), Some(len)) = (self.u16(block, at), self.u16(block, at + 2)) {
            let len = usize::from(len);
            let Some(value) = block.get(at + 4..at + 4 + len) else { break };
            match (code, value) {
                (OPT_END, _) => break,
                (OPT_TSRESOL, &[r]) => new.resolution = Resolution::from_option(r),
                (OPT_TSOFFSET, v) if len == 8 => {
                    let bytes = *v.first_chunk::<8>()?;
                    new.offset_s =
                        if self.big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
                }
                _ => {}
            }
            at += 4 + len.next_multiple_of(4);
        }
        let needs_copy = new.link.is_some_and(|l| l != Link::Ethernet);
        if self.interfaces.len() >= MAX_INTERFACES || self.interfaces.try_reserve(1).is_err() {
            return Some(Block::Fatal("too many interfaces in one section".into()));
        }
        self.interfaces.push(new);
        Some(if needs_copy { Block::NeedsCopy } else { Block::Other })
    }

    fn packet(&mut self, kind: u32, block: &[u8], skipped: &mut Skipped) -> Option<Block> {
        // The obsolete block has a drop count in the upper half of the interface's field.
        let id = if kind == ENHANCED_PACKET { self.u32(block, 8)? } else { u32::from(self.u16(block, 8)?) };
        let units = u64::from(self.u32(block, 12)?) << 32 | u64::from(self.u32(block, 16)?);
        let (cap_len, wire_len) = (self.u32(block, 20)?, self.u32(block, 24)?);
        let Some(interface) = self.interfaces.get(id as usize) else {
            skipped.unknown_interface += 1;
            return Some(Block::Skip(format!(
                "a frame of interface {id}, which is not described, is skipped"
            )));
        };
        self.last_ts = interface.time(units);
        Some(self.frame(id as usize, block, 28, cap_len, wire_len, skipped))
    }

    /// Has neither time nor interface: the time is that of the packet before it, the interface is the first.
    fn simple_packet(&mut self, block: &[u8], skipped: &mut Skipped) -> Option<Block> {
        let wire_len = self.u32(block, 8)?;
        let Some(interface) = self.interfaces.first() else {
            skipped.unknown_interface += 1;
            return Some(Block::Skip("a frame before the first interface's description is skipped".into()));
        };
        let limit = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        // The padding hides the true length of a cut frame whose limit is not stated: what is there counts.
        let present = (block.len() - 12).min(u32::MAX as usize) as u32;
        Some(self.frame(0, block, 12, wire_len.min(limit).min(present), wire_len, skipped))
    }

    fn frame(
        &self,
        interface: usize,
        block: &[u8],
        off: usize,
        cap_len: u32,
        wire_len: u32,
        skipped: &mut Skipped,
    ) -> Block {
        let interface = &self.interfaces[interface];
        let Some(link) = interface.link else {
            skipped.unsupported_link += 1;
            return Block::Skip(format!(
                "frames of link type {} ({}) are skipped",
                interface.linktype,
                link::name(interface.linktype)
            ));
        };
        let len = cap_len as usize;
        if len > MAX_FRAME {
            skipped.oversized += 1;
            return Block::Skip(format!("a frame of {len} bytes (limit {MAX_FRAME}) is skipped"));
        }
        if len > block.len() - off {
            skipped.corrupt_block += 1;
            return Block::Skip("a frame longer than its pcapng block is skipped".into());
        }
        if len < link.header_len() {
            skipped.short_link_header += 1;
            return Block::Skip("a frame shorter than its link header is skipped".into());
        }
        Block::Packet(Packet { ts_ns: self.last_ts, off, cap_len, wire_len: wire_len.max(cap_len), link })
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let b = *bytes.get(at..)?.first_chunk::<2>()?;
        Some(if self.big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) })
    }

    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let b = *bytes.get(at..)?.first_chunk::<4>()?;
        Some(if self.big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) })
    }
}

impl Resolution {
    fn from_option(value: u8) -> Self {
        let n = u32::from(value & 0x7f);
        if value & 0x80 != 0 {
            Self::Binary(n)
        } else if n <= 9 {
            Self::Times(10u64.pow(9 - n))
        } else {
            // Finer than 10^-47 s every 64-bit stamp is less than a nanosecond: 0.
            Self::Per(10u128.checked_pow(n - 9).unwrap_or(u128::MAX))
        }
    }
}

impl Interface {
    /// Nanoseconds since 1970, at the ends of the range for a time outside it.
    fn time(&self, units: u64) -> u64 {
        let ns = match self.resolution {
            Resolution::Times(k) => u128::from(units) * u128::from(k),
            Resolution::Per(k) => u128::from(units) / k,
            Resolution::Binary(n) => (u128::from(units) * u128::from(NS_PER_S)) >> n,
        };
        if self.offset_s == 0 {
            return u64::try_from(ns).unwrap_or(u64::MAX);
        }
        let shift = i128::from(self.offset_s) * i128::from(NS_PER_S);
        let shifted = i128::try_from(ns).unwrap_or(i128::MAX).saturating_add(shift);
        u64::try_from(shifted.max(0)).unwrap_or(u64::MAX)
    }
}
