//! What the peer says it holds of the data in flight (RFC 2018, RFC 6675), and what follows for the rest.

use crate::tcp::ranges::{Range, Ranges};
use crate::tcp::store::OutOfMemory;

/// Duplicate acknowledgments, or SACKed segments above it, that show a loss (DupThresh).
pub(super) const DUP_THRESH: u32 = 3;

/// Offsets above SND.UNA that were selectively acknowledged.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    sacked: Ranges,
}

impl Scoreboard {
    /// Whether nothing is SACKed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.sacked.is_empty()
    }

    /// Notes `start..end`; how many of the bytes are news. A block more than is kept track of counts for nothing: what it
    /// holds may be sent once more.
    pub fn mark(&mut self, start: u64, end: u64) -> Result<u64, OutOfMemory> {
        let news = self.sacked.gaps(start, end).map(Range::len).sum();
        Ok(if self.sacked.insert(start, end)? { news } else { 0 })
    }

    /// Everything below `una` is acknowledged; how many of those bytes were SACKed before.
    pub fn advance(&mut self, una: u64) -> u64 {
        let known = self.sacked.covered_len(0, una);
        self.sacked.remove_below(una);
        known
    }

    /// Bytes SACKed.
    pub fn sacked_bytes(&self) -> u64 {
        self.sacked.as_slice().iter().map(|r| r.len()).sum()
    }

    /// Bytes of `start..end` that are not SACKed.
    pub fn unsacked(&self, start: u64, end: u64) -> u64 {
        end.saturating_sub(start) - self.sacked.covered_len(start, end)
    }

    /// Whether the byte at `una` is said to be held, though the cumulative acknowledgment says otherwise: the receiver has
    /// thrown away what it had SACKed (RFC 2018 8).
    pub fn reneged(&self, una: u64) -> bool {
        self.sacked.first().is_some_and(|r| r.start <= una)
    }

    /// Every unSACKed byte below is lost by IsLost of RFC 6675 4: three discontiguous ranges, or more than two segments'
    /// bytes, are SACKed above it. 0: none is.
    pub fn lost_edge(&self, mss: u32) -> u64 {
        let (mut count, mut bytes) = (0, 0);
        for range in self.sacked.as_slice().iter().rev() {
            count += 1;
            bytes += range.len();
            if count >= DUP_THRESH || bytes > u64::from((DUP_THRESH - 1) * mss) {
                return range.start;
            }
        }
        0
    }

    /// The end of what is SACKed.
    pub fn highest(&self) -> u64 {
        self.sacked.last().map_or(0, |r| r.end)
    }

    /// The first unSACKed run in `start..end`.
    pub fn next_hole(&self, start: u64, end: u64) -> Option<Range> {
        self.sacked.gaps(start, end).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_is_counted_once() {
        let mut board = Scoreboard::default();
        assert_eq!(board.mark(10, 20), Ok(10));
        assert_eq!(board.mark(15, 25), Ok(5));
        assert_eq!(board.mark(15, 25), Ok(0));
        assert_eq!((board.sacked_bytes(), board.highest(), board.unsacked(5, 30)), (15, 25, 10));
        assert_eq!(board.advance(12), 2);
        assert!(board.reneged(12));
        assert_eq!(board.advance(25), 13);
        assert!(board.is_empty());
    }

    #[test]
    fn lost_by_segments_or_by_bytes() {
        let mut board = Scoreboard::default();
        board.mark(200, 300).unwrap();
        assert_eq!(board.lost_edge(100), 0);
        board.mark(300, 400).unwrap();
        assert_eq!(board.lost_edge(100), 0);
        board.mark(400, 401).unwrap();
        assert_eq!(board.lost_edge(100), 200);
        let mut board = Scoreboard::default();
        for start in [200, 400, 600] {
            board.mark(start, start + 10).unwrap();
        }
        assert_eq!(board.lost_edge(100), 200);
        board.mark(800, 810).unwrap();
        assert_eq!(board.lost_edge(100), 400);
        assert_eq!(board.next_hole(200, 900), Some(Range { start: 210, end: 400 }));
    }
}
