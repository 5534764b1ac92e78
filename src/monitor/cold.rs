//! A side's cold part: what it has only once it holds bytes, holes or stamps, and the memory behind its stream.

use super::state::State;
use crate::flow::arena::Id;
use crate::tcp::reassembly::Reassembly;
use crate::tcp::side::{NO_COLD, Side};

/// What a side has only once it holds bytes, holes or stamps: two cache lines. The first bytes lie in it.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Cold {
    /// The received stream.
    pub stream: Reassembly,
    /// When TIME_WAIT began or was restarted: virtual milliseconds, truncated.
    pub time_wait_since: u32,
}

// A side that holds bytes may take 128 bytes besides a quarter more than them.
const _: () = assert!(size_of::<Option<Cold>>() == 128);

impl State {
    /// The cold part of a side, made when missing. `None`: out of memory.
    pub(super) fn cold_of(&mut self, id: Id, side: usize) -> Option<&mut Cold> {
        let flow = self.flows.get_mut(id)?;
        let s = &mut flow.sides[side];
        if s.cold == NO_COLD {
            let buffered = !s.has(Side::NO_BUFFER);
            let cold = Cold {
                stream: Reassembly::new(s.data_tail(), if buffered { self.rmem } else { 0 }),
                time_wait_since: self.now_ms as u32,
            };
            match self.cold.insert(cold) {
                Ok(number) => s.cold = number,
                Err(_) => {
                    self.stats.no_memory += 1;
                    return None;
                }
            }
        }
        let number = s.cold;
        self.cold.get_mut(number)
    }

    /// Frees a cold part.
    pub(super) fn drop_cold(&mut self, number: u32) {
        if let Some(mut cold) = self.cold.remove(number) {
            self.account(cold.stream.allocated_bytes(), 0);
            cold.stream.retire(&mut self.chunks);
            if !self.syn_data.is_empty() {
                self.syn_data.remove(&number);
            }
        }
    }

    /// The memory behind a stream was `before` bytes and is `after` bytes now.
    #[inline]
    pub(super) fn account(&mut self, before: usize, after: usize) {
        if before != after {
            self.stream_memory = (self.stream_memory + after as u64).saturating_sub(before as u64);
        }
    }

    /// Bytes of stream memory that may still be taken (X5, `memory_limit`).
    #[inline]
    pub(super) fn memory_left(&self) -> u64 {
        self.memory_limit.saturating_sub(self.stream_memory + self.endpoint_memory)
    }
}
