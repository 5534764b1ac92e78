//! TCP options: what a SYN offers (RFC 9293 3.2, RFC 7323, RFC 2018), timestamps and SACK blocks.
//!
//! Reading always advances and never leaves the option bytes. An option of a known kind whose length is
//! not its own is passed over; a length below 2 or beyond the end ends the list.

/// End of the option list.
pub const KIND_END: u8 = 0;
/// Padding.
pub const KIND_NOP: u8 = 1;
/// Maximum segment size, 4 bytes.
pub const KIND_MSS: u8 = 2;
/// Window scale, 3 bytes.
pub const KIND_WSCALE: u8 = 3;
/// SACK permitted, 2 bytes.
pub const KIND_SACK_PERMITTED: u8 = 4;
/// SACK blocks, 2 + 8n bytes.
pub const KIND_SACK: u8 = 5;
/// Timestamps, 10 bytes.
pub const KIND_TIMESTAMPS: u8 = 8;

/// The largest shift of a window (RFC 7323 2.3).
pub const MAX_WSCALE: u8 = 14;
/// The most SACK blocks that fit a header.
pub const MAX_SACK_BLOCKS: usize = 4;

/// Walks over the options: kind and body of each, padding left out.
#[derive(Clone, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// Over the bytes between the fixed TCP header and the payload.
    #[inline]
    pub fn new(opts: &'a [u8]) -> Self {
        Self(opts)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.0 {
                [KIND_NOP, ref rest @ ..] => self.0 = rest,
                [kind, len, ..] if kind != KIND_END && len >= 2 && usize::from(len) <= self.0.len() => {
                    let (option, rest) = self.0.split_at(usize::from(len));
                    self.0 = rest;
                    return Some((kind, &option[2..]));
                }
                _ => {
                    self.0 = &[];
                    return None;
                }
            }
        }
    }
}

/// What a SYN or SYN/ACK offers. Of an option given twice the last one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size in bytes; never `Some(0)`, which counts as not given.
    pub mss: Option<u16>,
    /// Shift of the window, at most [`MAX_WSCALE`].
    pub wscale: Option<u8>,
    /// Selective acknowledgments may be sent.
    pub sack_permitted: bool,
    /// Timestamp value and echo reply.
    pub timestamps: Option<(u32, u32)>,
}

impl SynOptions {
    /// Reads the option bytes of a SYN.
    #[inline(never)]
    pub fn parse(opts: &[u8]) -> Self {
        let mut syn = Self::default();
        for (kind, body) in Options::new(opts) {
            match (kind, body) {
                (KIND_MSS, &[a, b]) => syn.mss = Some(u16::from_be_bytes([a, b])).filter(|mss| *mss != 0),
                (KIND_WSCALE, &[shift]) => syn.wscale = Some(shift.min(MAX_WSCALE)),
                (KIND_SACK_PERMITTED, []) => syn.sack_permitted = true,
                (KIND_TIMESTAMPS, body) => syn.timestamps = timestamp_body(body).or(syn.timestamps),
                _ => {}
            }
        }
        syn
    }
}

/// Timestamp value and echo reply (RFC 7323 3.2), if the option is there.
#[inline(always)]
pub fn timestamps(opts: &[u8]) -> Option<(u32, u32)> {
    if let Some(usual) = aligned_timestamps(opts) {
        return Some(usual);
    }
    if opts.len() < 10 { None } else { search_timestamps(opts) }
}

/// Timestamps how nearly every stack lays them out: at the start, two NOPs in front for alignment.
#[inline(always)]
pub fn aligned_timestamps(opts: &[u8]) -> Option<(u32, u32)> {
    let [a, b, c, d, body @ ..] = opts.first_chunk::<12>()?;
    // Asked as one word.
    let usual = u32::from_ne_bytes([KIND_NOP, KIND_NOP, KIND_TIMESTAMPS, 10]);
    if u32::from_ne_bytes([*a, *b, *c, *d]) == usual { timestamp_body(body) } else { None }
}

#[inline(never)]
fn search_timestamps(opts: &[u8]) -> Option<(u32, u32)> {
    Options::new(opts).filter(|(kind, _)| *kind == KIND_TIMESTAMPS).find_map(|(_, body)| timestamp_body(body))
}

/// The two numbers of a timestamps option, if `body` has just its size.
#[inline]
fn timestamp_body(body: &[u8]) -> Option<(u32, u32)> {
    let &[a, b, c, d, e, f, g, h] = body else { return None };
    Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
}

/// The SACK blocks of a segment (RFC 2018 3), as (first sequence number, the one after the last).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(u32, u32); MAX_SACK_BLOCKS],
    len: u8,
}

impl SackBlocks {
    /// Reads the first well-formed SACK option; empty if there is none. Whether the blocks make sense
    /// against a stream is the caller's to judge.
    pub fn parse(opts: &[u8]) -> Self {
        let mut sack = Self::default();
        let well_formed =
            |(kind, body): &(u8, &[u8])| *kind == KIND_SACK && body.len() >= 8 && body.len() % 8 == 0;
        if let Some((_, body)) = Options::new(opts).find(well_formed) {
            for (slot, block) in sack.blocks.iter_mut().zip(body.chunks_exact(8)) {
                if let Some(edges) = timestamp_body(block) {
                    *slot = edges;
                    sack.len += 1;
                }
            }
        }
        sack
    }

    /// The blocks, in the order given.
    pub fn as_slice(&self) -> &[(u32, u32)] {
        &self.blocks[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TS: [u8; 10] = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    const STAMPS: Option<(u32, u32)> = Some((0x01020304, 0x05060708));

    #[test]
    fn a_usual_syn() {
        let mut opts = vec![2, 4, 5, 0xb4, 4, 2];
        opts.extend(TS);
        opts.extend([1, 3, 3, 7]);
        let want = SynOptions { mss: Some(1460), wscale: Some(7), sack_permitted: true, timestamps: STAMPS };
        assert_eq!(SynOptions::parse(&opts), want);
        assert_eq!(timestamps(&opts), STAMPS);
        assert_eq!(SynOptions::parse(&[]), SynOptions::default());
    }

    #[test]
    fn wrong_lengths_are_passed_over() {
        // MSS of 2, 3 and 5 bytes, each followed by a good window scale.
        for bad in [
            &[2, 2][..],
            &[2, 3, 9],
            &[2, 5, 9, 9, 9],
            &[8, 2],
            &[8, 9, 1, 2, 3, 4, 5, 6, 7],
            &[4, 3, 0],
            &[3, 2],
            &[3, 4, 9, 9],
        ] {
            let opts = [bad, &[3, 3, 200]].concat();
            let want = SynOptions { wscale: Some(14), ..SynOptions::default() };
            assert_eq!(SynOptions::parse(&opts), want, "{bad:?}");
        }
    }

    #[test]
    fn lists_that_end_early() {
        for bad in [&[99, 0][..], &[99, 1], &[99], &[0], &[2, 40, 5], &[8]] {
            let opts = [bad, &[3, 3, 5][..]].concat();
            assert_eq!(SynOptions::parse(&opts), SynOptions::default(), "{bad:?}");
        }
        assert_eq!(SynOptions::parse(&[1, 1, 2, 4, 5]), SynOptions::default());
        assert_eq!(SynOptions::parse(&[2, 4, 0, 0]), SynOptions::default());
    }

    #[test]
    fn timestamps_wherever_they_stand() {
        let at = |before: &[u8], after: &[u8]| timestamps(&[before, &TS, after].concat());
        assert_eq!(at(&[1, 1], &[]), STAMPS);
        assert_eq!(at(&[], &[1, 1]), STAMPS);
        assert_eq!(at(&[1], &[0]), STAMPS);
        assert_eq!(at(&[99, 4, 0, 0, 1, 1, 1], &[5, 10]), STAMPS);
        assert_eq!(at(&[99, 0], &[]), None);
        assert_eq!(timestamps(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7]), None);
        assert_eq!(timestamps(&[1, 1, 8, 10]), None);
        assert_eq!(timestamps(&[]), None);
    }

    #[test]
    fn sack_blocks() {
        let mut opts = vec![1, 1, 5, 18];
        opts.extend([0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9]);
        assert_eq!(SackBlocks::parse(&opts).as_slice(), [(1, 2), (0xffff_ffff, 9)]);
        opts[3] = 17;
        assert_eq!(SackBlocks::parse(&opts).as_slice(), []);
        assert_eq!(SackBlocks::parse(&[5, 2]).as_slice(), []);
        let five = [&[5, 42][..], &[7; 40]].concat();
        assert_eq!(SackBlocks::parse(&five).as_slice().len(), MAX_SACK_BLOCKS);
    }

    proptest! {
        #[test]
        fn any_bytes(opts in prop::collection::vec(prop_oneof![0u8..12, any::<u8>()], 0..45)) {
            let walked: usize = Options::new(&opts).map(|(_, body)| body.len() + 2).sum();
            prop_assert!(walked <= opts.len());
            let syn = SynOptions::parse(&opts);
            prop_assert!(syn.wscale.is_none_or(|s| s <= MAX_WSCALE) && syn.mss != Some(0));
            prop_assert_eq!(timestamps(&opts), search_timestamps(&opts));
            prop_assert_eq!(timestamps(&opts).is_some(), syn.timestamps.is_some());
            let _ = SackBlocks::parse(&opts);
        }
    }
}
