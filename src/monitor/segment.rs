//! From a parsed frame to what the TCP machines need of it.

use crate::tcp::machine::{SYN, Segment};
use crate::tcp::options;
use crate::wire::parse::Parsed;

/// What of a segment's options the TCP machines need, in eight bytes.
#[derive(Clone, Copy, Debug)]
pub struct SegmentOptions {
    tsval: u32,
    stamped: bool,
    /// Above what a window scale can be: none.
    wscale: u8,
}

impl SegmentOptions {
    /// Without options.
    pub const NONE: SegmentOptions = SegmentOptions { tsval: 0, stamped: false, wscale: u8::MAX };
}

/// The options at the start of `rest`, `len` bytes of them, where there are none or timestamps alone, as nearly every stack
/// lays them out. `None`: there is more to read.
#[inline(always)]
pub fn common_options(rest: &[u8], len: usize, flags: u8) -> Option<SegmentOptions> {
    if len == 0 {
        return Some(SegmentOptions::NONE);
    }
    if len != 12 || flags & SYN != 0 {
        return None;
    }
    let (value, _) = options::aligned_timestamps(rest)?;
    Some(SegmentOptions { tsval: value, stamped: true, ..SegmentOptions::NONE })
}

/// The options of a TCP frame.
#[inline(always)]
pub fn options_of(p: &Parsed, frame: &[u8]) -> SegmentOptions {
    let mut found = SegmentOptions::NONE;
    if p.doff > 5
        && let Some(opts) = frame.get(p.l4 as usize + 20..p.payload as usize)
    {
        let stamps = if p.flags & SYN != 0 {
            let syn = options::SynOptions::parse(opts);
            found.wscale = syn.wscale.unwrap_or(u8::MAX);
            syn.timestamps
        } else {
            options::timestamps(opts)
        };
        if let Some((value, _)) = stamps {
            found.tsval = value;
            found.stamped = true;
        }
    }
    found
}

/// The segment of a TCP frame.
#[inline(always)]
pub fn segment_of(p: &Parsed, options: SegmentOptions) -> Segment {
    Segment {
        seq: p.seq,
        ack: p.ack,
        flags: p.flags,
        window: p.window,
        len: p.wire_payload_len as u32,
        tsval: options.stamped.then_some(options.tsval),
        wscale: (options.wscale != u8::MAX).then_some(options.wscale),
    }
}
