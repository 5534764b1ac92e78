//! Reading streams: `mtcp_peek`, `mtcp_ppeek`, and what `mtcp_getsockopt` tells of them (monitor.md §1.6, §6.7).

use super::state::{Monitor, State};
use super::{Errno, Result};
use crate::flow::record::Flow;
use crate::flow::token::Token;
use crate::tcp::reassembly::Read;
use crate::tcp::side::Side;

/// What MOS_INFO_CLIBUF and MOS_INFO_SVRBUF report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferInfo {
    /// Sequence number of the first byte.
    pub init_seq: u32,
    /// Offset below which bytes may be evicted.
    pub last_byte_read: u32,
    /// Offset of the in-order tail.
    pub next_byte_expected: u32,
    /// End of the last fragment.
    pub last_byte_received: u32,
}

impl State {
    /// The flow of a flow socket.
    pub(crate) fn flow_of(&self, sock: u32) -> Option<&Flow> {
        self.flows.get(self.sockets.get(sock)?.flow)
    }

    /// Reads at a stream offset of a side.
    fn read(&self, s: &Side, off: u64, out: &mut [u8]) -> Option<Read> {
        Some(self.cold.get(s.cold)?.stream.read(s.data_tail(), off, out))
    }
}

impl Monitor {
    /// `mtcp_peek`: bytes copied; `Err(missing)` inside: so many bytes are gone, the offset is behind them now.
    #[inline]
    pub fn peek(
        &self,
        t: &mut Token,
        sock: u32,
        side: usize,
        out: &mut [u8],
    ) -> Result<std::result::Result<usize, u64>> {
        let State { sockets, flows, cold, .. } = self.state(t);
        let socket = sockets.get_mut(sock).ok_or(Errno(libc::EBADF))?;
        let s = &flows.get(socket.flow).ok_or(Errno(libc::EBADF))?.sides[side];
        if !s.has(Side::ATTACHED) || s.has(Side::NO_BUFFER) {
            return Err(Errno(libc::EINVAL));
        }
        if out.is_empty() {
            return Ok(Ok(0));
        }
        let Some(cold) = cold.get(s.cold) else { return Ok(Ok(0)) };
        let (off, tail) = (socket.peeked[side], s.data_tail());
        if off >= tail && off >= cold.stream.head(tail) {
            // Out-of-order bytes at the offset are not in order yet.
            return Ok(Ok(0));
        }
        Ok(match cold.stream.read(tail, off, out) {
            Read::Bytes(n) => {
                socket.peeked[side] = off + n as u64;
                Ok(n)
            }
            Read::Nothing => Ok(0),
            Read::Missing { next } => {
                socket.peeked[side] = next;
                Err(next - off)
            }
        })
    }

    /// `mtcp_ppeek`: reads at an offset, also in out-of-order data, and moves nothing.
    pub fn ppeek(&self, t: &Token, sock: u32, side: usize, off: u64, out: &mut [u8]) -> Result<usize> {
        let st = self.view(t);
        let flow = st.flow_of(sock).ok_or(Errno(libc::ESOCKTNOSUPPORT))?;
        let s = &flow.sides[side];
        if !s.has(Side::ATTACHED) || s.has(Side::NO_BUFFER) {
            return Err(Errno(libc::EACCES));
        }
        match st.read(s, off, out) {
            None => Err(Errno(libc::EPERM)),
            Some(Read::Bytes(n)) => Ok(n),
            Some(_) => Err(Errno::UNTOUCHED),
        }
    }

    /// MOS_INFO_*BUF; `None`: the side has no buffer.
    #[inline]
    pub fn buffer_info(&self, t: &Token, sock: u32, side: usize) -> Option<BufferInfo> {
        let st = self.view(t);
        let s = &st.flow_of(sock)?.sides[side];
        let cold = st.cold.get(s.cold)?;
        if !cold.stream.was_used() {
            return None;
        }
        let init_seq = s.irs.wrapping_add(1);
        if s.has(Side::NO_BUFFER) {
            return Some(BufferInfo { init_seq, ..BufferInfo::default() });
        }
        let tail = s.data_tail();
        Some(BufferInfo {
            init_seq,
            last_byte_read: cold.stream.pile(),
            next_byte_expected: tail as u32,
            last_byte_received: cold.stream.end(tail) as u32,
        })
    }

    /// MOS_FRAGINFO_*BUF: the stored fragments, ascending, at most `out.len()`; `None`: the side has no buffer.
    pub fn fragments(
        &self,
        t: &Token,
        sock: u32,
        side: usize,
        mut each: impl FnMut(u64, u64) -> bool,
    ) -> Option<()> {
        let st = self.view(t);
        let s = &st.flow_of(sock)?.sides[side];
        let cold = st.cold.get(s.cold)?;
        if !cold.stream.was_used() {
            return None;
        }
        if !s.has(Side::NO_BUFFER) {
            for f in cold.stream.fragments(s.data_tail()) {
                if !each(f.start, f.end) {
                    break;
                }
            }
        }
        Some(())
    }
}
