//! Replay: capture files merged by time stamp and cut into loop iterations.
//!
//! Time is the captures' own. The merged input is cut into *ticks* of `tick_ms`, counted from the millisecond of
//! the first stamp, and a tick into *iterations* of at most `burst` packets. The cut looks at every packet,
//! whoever it is for, so it is the same on any number of cores that each read the whole input. A stamp that goes
//! backwards belongs to the current tick. An iteration's time is its first packet's stamp, or that of the
//! iteration before if it is later: virtual time never goes back.
//!
//! An iteration is handed out in *batches* of at most [`BATCH`] frames. A batch also ends where a reader's window
//! has to move, because its frames are places in that window: they are valid until the next call of
//! [`Replay::fill`], [`Replay::fill_steered`] or [`Replay::next_iteration_at`].

use super::capture::{CaptureError, CaptureReader, Peek, Preload};

/// Most frames of one batch.
pub const BATCH: usize = 64;

const NS_PER_MS: u64 = 1_000_000;

/// How a replay is cut and repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayOptions {
    /// Length of a tick in milliseconds, at least 1. `MOS_REPLAY_TICK`.
    pub tick_ms: u32,
    /// Most packets of an iteration, at least 1. `MOS_REPLAY_BURST`.
    pub burst: u32,
    /// How often the input is replayed, time advancing, at least 1. `MOS_REPLAY_LOOP`.
    pub loops: u32,
    /// How files are to be opened: `MOS_REPLAY_PRELOAD=1` reads them to memory first.
    pub preload: Preload,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { tick_ms: 1, burst: 64, loops: 1, preload: Preload::Streaming }
    }
}

impl ReplayOptions {
    /// The options in the environment, defaults for those that are not there.
    ///
    /// # Errors
    /// A value that cannot be understood; the message says which and what was expected.
    pub fn from_env() -> Result<Self, String> {
        Self::from_variables(|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str, default: u32| match get(name) {
            None => Ok(default),
            Some(text) => match text.trim().parse::<u32>() {
                Ok(n) if n >= 1 => Ok(n),
                _ => Err(format!("{name}='{text}': expected a whole number from 1 to {}", u32::MAX)),
            },
        };
        let default = Self::default();
        let preload = match get("MOS_REPLAY_PRELOAD") {
            None => default.preload,
            Some(text) => match text.trim() {
                "0" => Preload::Streaming,
                "1" => Preload::Whole,
                _ => return Err(format!("MOS_REPLAY_PRELOAD='{text}': expected 0 or 1")),
            },
        };
        Ok(Self {
            tick_ms: number("MOS_REPLAY_TICK", default.tick_ms)?,
            burst: number("MOS_REPLAY_BURST", default.burst)?,
            loops: number("MOS_REPLAY_LOOP", default.loops)?,
            preload,
        })
    }
}

/// A frame of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxFrame {
    /// The packet's own time stamp in ns (it may lie before the iteration's time).
    pub ts_ns: u64,
    /// Where the frame begins, in the window of its reader.
    pub off: usize,
    /// Bytes present.
    pub cap_len: u32,
    /// Bytes the frame had on the wire; never less than `cap_len`.
    pub wire_len: u32,
    /// The reader it came from: its place in the list given to [`Replay::new`].
    pub dev: u8,
}

/// The answer of [`Replay::fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Frames to process together; there may be none, when all were for others or the iteration turned out to be
    /// over.
    Batch {
        /// Virtual time of the iteration, in ns; the same for all its batches.
        now_ns: u64,
        /// No further packet belongs to the iteration.
        ends_iteration: bool,
    },
    /// All input was replayed as often as asked for.
    End,
}

/// Several capture files as one sequence of iterations.
pub struct Replay {
    readers: Vec<CaptureReader>,
    tick_ns: u64,
    burst: u32,
    loops_left: u32,
    loops_done: u64,
    loops: u64,
    /// Start of the first tick; `None` before the first packet.
    base: Option<u64>,
    tick_end: u64,
    now_ns: u64,
    /// An iteration was begun and not ended; `taken` packets of it were passed.
    open: bool,
    taken: u32,
    packets: u64,
    packets_at_rewind: u64,
    /// Nothing more is replayed, whatever the readers still hold.
    over: bool,
    warning: Option<String>,
}

/// The next packet of the merged input.
enum Front {
    /// In this reader, with this stamp. The reader may go on while its stamps are below `bound`.
    Packet {
        dev: usize,
        ts_ns: u64,
        bound: u64,
    },
    NeedRefill,
    End,
}

/// Why a reader was left.
enum Stop {
    Burst,
    /// The batch is full, and the next packet belongs to the same iteration.
    Full,
    /// The next packet is in another tick or another reader.
    Stamp,
    NeedRefill,
    End,
}

impl Replay {
    /// A replay of `readers`; a frame names its reader by the place in this list, and equal stamps keep its order.
    ///
    /// # Errors
    /// No reader, or more than 256.
    pub fn new(readers: Vec<CaptureReader>, options: ReplayOptions) -> Result<Self, CaptureError> {
        if readers.is_empty() || readers.len() > 256 {
            return Err(CaptureError::InputCount(readers.len()));
        }
        Ok(Self {
            readers,
            tick_ns: u64::from(options.tick_ms.max(1)) * NS_PER_MS,
            burst: options.burst.max(1),
            loops_left: options.loops.saturating_sub(1),
            loops_done: 0,
            loops: u64::from(options.loops.max(1)),
            base: None,
            tick_end: 0,
            now_ns: 0,
            open: false,
            taken: 0,
            packets: 0,
            packets_at_rewind: 0,
            over: false,
            warning: None,
        })
    }

    /// Replaces `out` by the next batch.
    pub fn fill(&mut self, out: &mut Vec<RxFrame>) -> Fill {
        self.fill_kept(out, |_| true)
    }

    /// As [`Replay::fill`], but only with frames for which `keep` returns true; the others count for the cut.
    pub fn fill_steered(&mut self, out: &mut Vec<RxFrame>, keep: impl FnMut(&[u8]) -> bool) -> Fill {
        self.fill_kept(out, keep)
    }

    /// Virtual time of the iteration that the next call of [`Replay::fill`] begins (or goes on with); `None` at the
    /// end. May move a window: no frame is valid afterwards.
    pub fn next_iteration_at(&mut self) -> Option<u64> {
        if self.open {
            return Some(self.now_ns);
        }
        self.settle().map(|(_, ts_ns, _)| self.now_ns.max(ts_ns))
    }

    /// The bytes of a frame of the last batch, from its Ethernet header on; empty when it is no longer valid.
    #[inline]
    pub fn frame_bytes(&self, frame: &RxFrame) -> &[u8] {
        let Some(reader) = self.readers.get(usize::from(frame.dev)) else { return &[] };
        let end = frame.off.saturating_add(frame.cap_len as usize);
        reader.bytes().get(frame.off..end).unwrap_or(&[])
    }

    /// The readers, in the order given to [`Replay::new`], for their counters and warnings.
    pub fn readers(&self) -> &[CaptureReader] {
        &self.readers
    }

    /// Packets passed so far, those for others included.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Why the input was not replayed as often as asked for, if so.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Bytes done and in total over all files and repetitions, for a progress line (total 0: not known).
    pub fn position(&self) -> (u64, u64) {
        let (mut done, mut total) = (0u64, 0u64);
        for (d, t) in self.readers.iter().map(CaptureReader::position) {
            if t == 0 {
                return (0, 0);
            }
            done = done.saturating_add(d.min(t));
            total = total.saturating_add(t);
        }
        let before = total.saturating_mul(self.loops_done);
        (before.saturating_add(done), total.saturating_mul(self.loops))
    }

    #[inline(always)]
    fn fill_kept(&mut self, out: &mut Vec<RxFrame>, mut keep: impl FnMut(&[u8]) -> bool) -> Fill {
        out.clear();
        let Some((mut dev, ts_ns, mut bound)) = self.settle() else {
            if self.open {
                return self.batch(true);
            }
            return Fill::End;
        };
        if self.open && ts_ns >= self.tick_end {
            return self.batch(true);
        }
        if out.try_reserve(BATCH).is_err() {
            self.over = true;
            self.warning = Some("no memory for a batch of frames: the replay ends".into());
            return Fill::End;
        }
        if !self.open {
            self.begin(ts_ns);
        }
        loop {
            match self.drain(dev, bound, out, &mut keep) {
                Stop::Burst => return self.batch(true),
                Stop::Full | Stop::NeedRefill => return self.batch(false),
                Stop::End | Stop::Stamp => {}
            }
            match self.front() {
                Front::Packet { ts_ns, .. } if ts_ns >= self.tick_end => return self.batch(true),
                Front::Packet { dev: d, bound: b, .. } => (dev, bound) = (d, b),
                Front::NeedRefill => return self.batch(false),
                Front::End => return self.batch(true),
            }
        }
    }

    /// Passes packets of one reader: the first in any case (it is the front), further ones while their stamps are
    /// below `bound` and in the tick.
    #[inline(always)]
    fn drain(
        &mut self,
        dev: usize,
        bound: u64,
        out: &mut Vec<RxFrame>,
        keep: &mut impl FnMut(&[u8]) -> bool,
    ) -> Stop {
        let bound = bound.min(self.tick_end);
        let Some(reader) = self.readers.get_mut(dev) else { return Stop::End };
        let dev = dev as u8;
        let mut left = self.burst - self.taken;
        let mut first = true;
        let stop = loop {
            if left == 0 {
                break Stop::Burst;
            }
            match reader.peek() {
                Peek::Frame(ts_ns) if ts_ns < bound || first => {}
                Peek::Frame(_) => break Stop::Stamp,
                Peek::NeedRefill => break Stop::NeedRefill,
                Peek::End => break Stop::End,
            }
            if out.len() == BATCH {
                break Stop::Full;
            }
            let Some(f) = reader.take() else { break Stop::End };
            left -= 1;
            first = false;
            if keep(reader.frame(&f)) {
                let (ts_ns, off, cap_len, wire_len) = (f.ts_ns, f.off, f.cap_len, f.wire_len);
                out.push(RxFrame { ts_ns, off, cap_len, wire_len, dev });
            }
        };
        let passed = self.burst - self.taken - left;
        self.taken += passed;
        self.packets += u64::from(passed);
        stop
    }

    /// The next packet of the merged input: the earliest stamp, the first reader among equals.
    fn front(&mut self) -> Front {
        if let [only] = &mut self.readers[..] {
            return match only.peek() {
                Peek::Frame(ts_ns) => Front::Packet { dev: 0, ts_ns, bound: u64::MAX },
                Peek::NeedRefill => Front::NeedRefill,
                Peek::End => Front::End,
            };
        }
        let mut front: Option<(usize, u64)> = None;
        let mut bound = u64::MAX;
        for (i, reader) in self.readers.iter_mut().enumerate() {
            match (reader.peek(), front) {
                (Peek::NeedRefill, _) => return Front::NeedRefill,
                (Peek::End, _) => {}
                (Peek::Frame(ts_ns), Some((_, best))) if ts_ns >= best => {
                    // Behind the front one in order: that one may go on up to and with this stamp.
                    bound = bound.min(ts_ns.saturating_add(1));
                }
                (Peek::Frame(ts_ns), before) => {
                    // Earlier than the front so far, which comes before it in order: up to that stamp, without.
                    bound = bound.min(before.map_or(u64::MAX, |(_, best)| best));
                    front = Some((i, ts_ns));
                }
            }
        }
        match front {
            Some((dev, ts_ns)) => Front::Packet { dev, ts_ns, bound },
            None => Front::End,
        }
    }

    /// The next packet, with windows moved and files started again as needed: device, stamp, bound.
    fn settle(&mut self) -> Option<(usize, u64, u64)> {
        while !self.over {
            match self.front() {
                Front::Packet { dev, ts_ns, bound } => return Some((dev, ts_ns, bound)),
                Front::NeedRefill => {
                    for reader in &mut self.readers {
                        if reader.peek() == Peek::NeedRefill {
                            reader.refill();
                        }
                    }
                }
                Front::End => self.again(),
            }
        }
        None
    }

    /// Starts the files once more, as many whole ticks later as the input so far took: each pass is cut alike.
    fn again(&mut self) {
        let empty = self.packets == self.packets_at_rewind;
        if self.loops_left == 0 || empty {
            self.over = true;
            return;
        }
        self.loops_left -= 1;
        self.loops_done += 1;
        self.packets_at_rewind = self.packets;
        let offset = self.tick_end.saturating_sub(self.base.unwrap_or(0));
        for reader in &mut self.readers {
            if let Err(error) = reader.rewind() {
                self.warning = Some(format!("the replay ends before its next repetition: {error}"));
                self.over = true;
                return;
            }
            reader.set_time_offset(offset);
        }
    }

    /// Begins an iteration with a packet of this stamp.
    fn begin(&mut self, ts_ns: u64) {
        let base = *self.base.get_or_insert(ts_ns - ts_ns % NS_PER_MS);
        self.now_ns = self.now_ns.max(ts_ns);
        if ts_ns >= self.tick_end {
            let ticks = ts_ns.saturating_sub(base) / self.tick_ns + 1;
            self.tick_end = base.saturating_add(ticks.saturating_mul(self.tick_ns));
        }
        self.taken = 0;
        self.open = true;
    }

    fn batch(&mut self, ends_iteration: bool) -> Fill {
        self.open = !ends_iteration;
        Fill::Batch { now_ns: self.now_ns, ends_iteration }
    }
}
