//! The packets of one core of several, picked out of a replay in advance as a card does it: `MOS_REPLAY_PRELOAD=1`.
//!
//! Without it each core walks over the whole input and passes over what is another's. Here that is done once, before the
//! first packet: the core's frames are copied behind each other, and all iterations are listed with their time, those without a
//! frame of this core too: what follows, timers and holes given up included, is the same to the nanosecond (design E).

use super::replay::{Ahead, BATCH, Fill, Replay, RxFrame};

/// An iteration of the whole input.
#[derive(Clone, Copy, Debug)]
struct Iteration {
    now_ns: u64,
    /// Behind its last frame of this core.
    end: usize,
    /// The burst limit cut it: more packets of its tick wait, whoever they are for.
    more: bool,
}

/// A core's packets, in memory.
pub struct Queue {
    bytes: Vec<u8>,
    frames: Vec<RxFrame>,
    iterations: Vec<Iteration>,
    /// The next frame, and the iteration it belongs to.
    at: usize,
    iteration: usize,
    /// Whether the iteration that ended last was cut by the burst limit.
    more: bool,
    /// Times the input is replayed, and has been; how far in time a repetition is behind the one before.
    loops: u64,
    loops_done: u64,
    span_ns: u64,
    skipped: (u64, Vec<String>),
}

/// There was no memory for the packets.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

impl std::fmt::Display for NoMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "no memory to pick this core's packets out of the capture: replay it without MOS_REPLAY_PRELOAD"
        )
    }
}

impl Queue {
    /// Takes the frames that `keep` picks out of a replay that was not begun and goes over its input once; they are replayed
    /// `loops` times.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn pick(
        mut replay: Replay,
        mut keep: impl FnMut(&[u8]) -> bool,
        loops: u32,
    ) -> Result<Self, NoMemory> {
        let mut queue = Queue {
            bytes: Vec::new(),
            frames: Vec::new(),
            iterations: Vec::new(),
            at: 0,
            iteration: 0,
            more: false,
            loops: u64::from(loops.max(1)),
            loops_done: 0,
            span_ns: 0,
            skipped: (0, Vec::new()),
        };
        let mut batch = Vec::new();
        while let Fill::Batch { now_ns, ends_iteration } =
            replay.fill_steered(&mut batch, &mut keep, |_, _| ())
        {
            for rx in &batch {
                queue.add(replay.frame_bytes(rx), rx)?;
            }
            if ends_iteration {
                queue.iterations.try_reserve(1).map_err(|_| NoMemory)?;
                queue.iterations.push(Iteration {
                    now_ns,
                    end: queue.frames.len(),
                    more: replay.more_of_tick(),
                });
            }
        }
        queue.span_ns = replay.span_ns();
        queue.skipped = replay.skipped();
        Ok(queue)
    }

    fn add(&mut self, frame: &[u8], rx: &RxFrame) -> Result<(), NoMemory> {
        self.bytes.try_reserve(frame.len()).map_err(|_| NoMemory)?;
        self.frames.try_reserve(1).map_err(|_| NoMemory)?;
        self.frames.push(RxFrame { off: self.bytes.len(), ..*rx });
        self.bytes.extend_from_slice(frame);
        Ok(())
    }

    /// When the next iteration comes.
    pub fn ahead(&self) -> Ahead {
        match (self.iterations.get(self.iteration), self.iterations.first()) {
            (Some(next), _) => Ahead::At(next.now_ns.saturating_add(self.offset(self.loops_done))),
            (None, Some(first)) if self.loops_done + 1 < self.loops => {
                Ahead::At(first.now_ns.saturating_add(self.offset(self.loops_done + 1)))
            }
            _ => Ahead::End,
        }
    }

    /// What a repetition's stamps are later by.
    fn offset(&self, loops_done: u64) -> u64 {
        loops_done.saturating_mul(self.span_ns)
    }

    /// Whether the iteration that just ended was cut by the burst limit.
    pub fn more_of_tick(&self) -> bool {
        self.more
    }

    /// Replaces `out` by the next batch. `each` is shown its frames, in order.
    #[inline]
    pub fn fill(&mut self, out: &mut Vec<RxFrame>, mut each: impl FnMut(&[u8], &RxFrame)) -> Fill {
        out.clear();
        if self.iteration == self.iterations.len() {
            if self.iterations.is_empty() || self.loops_done + 1 >= self.loops {
                return Fill::End;
            }
            (self.loops_done, self.iteration, self.at) = (self.loops_done + 1, 0, 0);
        }
        let Some(&Iteration { now_ns, end, more }) = self.iterations.get(self.iteration) else {
            return Fill::End;
        };
        let offset = self.offset(self.loops_done);
        let now_ns = now_ns.saturating_add(offset);
        if out.try_reserve(BATCH).is_err() {
            return Fill::Batch { now_ns, ends_iteration: false };
        }
        let last = end.min(self.at + BATCH);
        for rx in self.frames.get(self.at..last).unwrap_or(&[]) {
            let rx = RxFrame { ts_ns: rx.ts_ns.saturating_add(offset), ..*rx };
            each(self.frame_bytes(&rx), &rx);
            out.push(rx);
        }
        self.at = last;
        let ends_iteration = last == end;
        if ends_iteration {
            self.iteration += 1;
            self.more = more;
        }
        Fill::Batch { now_ns, ends_iteration }
    }

    /// The bytes of a frame, from its Ethernet header on.
    #[inline]
    pub fn frame_bytes(&self, rx: &RxFrame) -> &[u8] {
        self.bytes.get(rx.off..rx.off.saturating_add(rx.cap_len as usize)).unwrap_or(&[])
    }

    /// Packets passed so far.
    pub fn packets(&self) -> u64 {
        self.loops_done.saturating_mul(self.frames.len() as u64) + self.at as u64
    }

    /// Bytes done and in total, for a progress line.
    pub fn position(&self) -> (u64, u64) {
        let all = self.bytes.len() as u64;
        let off = self.frames.get(self.at).map_or(all, |rx| rx.off as u64);
        (self.loops_done.saturating_mul(all) + off, self.loops.saturating_mul(all))
    }

    /// Records that were no packets, and the messages about them.
    pub fn skipped(&self) -> (u64, Vec<String>) {
        self.skipped.clone()
    }
}
