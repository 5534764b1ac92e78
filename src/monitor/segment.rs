//! From a parsed frame to what the TCP machines need of it.

use crate::tcp::machine::{SYN, Segment};
use crate::tcp::options;
use crate::wire::parse::Parsed;

/// The segment of a TCP frame.
#[inline]
pub fn segment_of(p: &Parsed, frame: &[u8]) -> Segment {
    let mut s = Segment {
        seq: p.seq,
        ack: p.ack,
        flags: p.flags,
        window: p.window,
        len: p.wire_payload_len as u32,
        tsval: None,
        wscale: None,
    };
    if p.doff > 5
        && let Some(opts) = frame.get(p.l4 as usize + 20..p.payload as usize)
    {
        if p.flags & SYN != 0 {
            let syn = options::SynOptions::parse(opts);
            s.wscale = syn.wscale;
            s.tsval = syn.timestamps.map(|(val, _)| val);
        } else {
            s.tsval = options::timestamps(opts).map(|(val, _)| val);
        }
    }
    s
}
