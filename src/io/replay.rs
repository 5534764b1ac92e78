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

use super::capture::{CaptureError, CaptureReader, FrameRef, Peek, Preload, Sink};
use super::device::Vouch;

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
    /// Packets of each core that are not in the figures at the end, rounded up to a batch. `MOS_REPLAY_WARMUP`.
    pub warmup: u32,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { tick_ms: 1, burst: 64, loops: 1, preload: Preload::Streaming, warmup: 0 }
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
            warmup: number("MOS_REPLAY_WARMUP", 0)?,
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
    /// What a live device knows of its checksums.
    pub vouch: Vouch,
}

/// What is known about the next iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// Its time, in ns.
    At(u64),
    /// Nothing is there, but more may come.
    Nothing,
    /// There will be none.
    End,
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
    /// Last nanosecond of the current tick; the next begins behind it.
    tick_last: u64,
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

/// The next packet of the merged input: in this reader, with this stamp. The reader may go on up to and with
/// stamps of `through`, which is not below `ts_ns`.
#[derive(Clone, Copy)]
struct Packet {
    dev: usize,
    ts_ns: u64,
    through: u64,
}

enum Front {
    Packet(Packet),
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

/// What [`Replay::drain`] does with the packets it passes.
struct Passing<'a, K, E> {
    out: &'a mut [RxFrame; BATCH],
    kept: usize,
    dev: u8,
    keep: &'a mut K,
    each: &'a mut E,
}

impl<K: FnMut(&[u8]) -> bool, E: FnMut(&[u8], &RxFrame)> Sink for Passing<'_, K, E> {
    #[inline(always)]
    fn take(&mut self, bytes: &[u8], frame: FrameRef) -> bool {
        if (self.keep)(bytes)
            && let Some(place) = self.out.get_mut(self.kept)
        {
            let FrameRef { ts_ns, off, cap_len, wire_len } = frame;
            *place = RxFrame { ts_ns, off, cap_len, wire_len, dev: self.dev, vouch: Vouch::Unknown };
            (self.each)(bytes, place);
            self.kept += 1;
        }
        self.kept < BATCH
    }
}

impl Replay {
    /// A replay of `readers`; a frame names its reader by the place in this list, and equal stamps keep its order.
    /// A repetition sets the readers' time offsets.
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
            tick_last: 0,
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
        self.fill_kept(out, |_| true, |_, _| ())
    }

    /// As [`Replay::fill`], but only with frames for which `keep` returns true; the others count for the cut. `each` is shown
    /// those kept as the walk over the file comes to them: their bytes are read in the file's order then, which memory
    /// delivers without waiting.
    #[inline]
    pub fn fill_steered(
        &mut self,
        out: &mut Vec<RxFrame>,
        keep: impl FnMut(&[u8]) -> bool,
        each: impl FnMut(&[u8], &RxFrame),
    ) -> Fill {
        self.fill_kept(out, keep, each)
    }

    /// Virtual time of the iteration that the next call of [`Replay::fill`] begins (or goes on with); `None` at the
    /// end. May move a window: no frame is valid afterwards.
    pub fn next_iteration_at(&mut self) -> Option<u64> {
        if self.open {
            return Some(self.now_ns);
        }
        self.settle().map(|front| self.now_ns.max(front.ts_ns))
    }

    /// Whether the iteration that just ended was cut by the burst limit: more packets of its tick wait. May move a window: no
    /// frame is valid afterwards.
    pub fn more_of_tick(&mut self) -> bool {
        let last = self.tick_last;
        !self.open && self.settle().is_some_and(|next| next.ts_ns <= last)
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
    fn fill_kept(
        &mut self,
        out: &mut Vec<RxFrame>,
        keep: impl FnMut(&[u8]) -> bool,
        each: impl FnMut(&[u8], &RxFrame),
    ) -> Fill {
        out.clear();
        if out.try_reserve(BATCH).is_err() {
            self.over = true;
            self.warning = Some("no memory for a batch of frames: the replay ends".into());
            return Fill::End;
        }
        out.resize(BATCH, RxFrame::default());
        let mut kept = 0;
        let fill = match out.first_chunk_mut::<BATCH>() {
            Some(places) => self.fill_places(places, &mut kept, keep, each),
            None => Fill::End,
        };
        out.truncate(kept);
        fill
    }

    #[inline(always)]
    fn fill_places(
        &mut self,
        out: &mut [RxFrame; BATCH],
        kept: &mut usize,
        mut keep: impl FnMut(&[u8]) -> bool,
        mut each: impl FnMut(&[u8], &RxFrame),
    ) -> Fill {
        let Some(mut front) = self.settle() else {
            return if self.open { self.batch(true) } else { Fill::End };
        };
        if self.open && front.ts_ns > self.tick_last {
            return self.batch(true);
        }
        if !self.open {
            self.begin(front.ts_ns);
        }
        loop {
            match self.drain(front, out, kept, &mut keep, &mut each) {
                Stop::Burst => return self.batch(true),
                Stop::Full | Stop::NeedRefill => return self.batch(false),
                Stop::End | Stop::Stamp => {}
            }
            front = match self.front() {
                Front::Packet(next) if next.ts_ns <= self.tick_last => next,
                Front::NeedRefill => return self.batch(false),
                Front::Packet(_) | Front::End => return self.batch(true),
            };
            if *kept == BATCH {
                return self.batch(false);
            }
        }
    }

    /// Passes packets of the front's reader, as long as they are next and in the tick.
    #[inline(always)]
    fn drain(
        &mut self,
        front: Packet,
        out: &mut [RxFrame; BATCH],
        kept: &mut usize,
        keep: &mut impl FnMut(&[u8]) -> bool,
        each: &mut impl FnMut(&[u8], &RxFrame),
    ) -> Stop {
        let through = front.through.min(self.tick_last);
        let Some(reader) = self.readers.get_mut(front.dev) else { return Stop::End };
        let dev = front.dev as u8;
        let left = self.burst - self.taken;
        let mut passing = Passing { out, kept: *kept, dev, keep, each };
        let passed = reader.take_while(through, left, &mut passing);
        *kept = passing.kept;
        self.taken += passed;
        self.packets += u64::from(passed);
        if passed == left {
            return Stop::Burst;
        }
        match reader.peek() {
            Peek::Frame(ts_ns) if ts_ns <= through => Stop::Full,
            Peek::Frame(_) => Stop::Stamp,
            Peek::NeedRefill => Stop::NeedRefill,
            Peek::End => Stop::End,
        }
    }

    /// The next packet of the merged input: the earliest stamp, the first reader among equals.
    fn front(&mut self) -> Front {
        if let [only] = &mut self.readers[..] {
            return match only.peek() {
                Peek::Frame(ts_ns) => Front::Packet(Packet { dev: 0, ts_ns, through: u64::MAX }),
                Peek::NeedRefill => Front::NeedRefill,
                Peek::End => Front::End,
            };
        }
        let mut front: Option<Packet> = None;
        for (dev, reader) in self.readers.iter_mut().enumerate() {
            let ts_ns = match reader.peek() {
                Peek::Frame(ts_ns) => ts_ns,
                Peek::NeedRefill => return Front::NeedRefill,
                Peek::End => continue,
            };
            front = Some(match front {
                // This one comes behind the front in order: the front may go on with stamps equal to its.
                Some(best) if ts_ns >= best.ts_ns => Packet { through: best.through.min(ts_ns), ..best },
                // The front so far comes before this one in order.
                Some(best) => Packet { dev, ts_ns, through: best.ts_ns - 1 },
                None => Packet { dev, ts_ns, through: u64::MAX },
            });
        }
        front.map_or(Front::End, Front::Packet)
    }

    /// The next packet, with windows moved and files started again as needed.
    fn settle(&mut self) -> Option<Packet> {
        while !self.over {
            match self.front() {
                Front::Packet(packet) => return Some(packet),
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

    /// How far in time the next repetition would begin behind the first packet's tick: whole ticks.
    pub fn span_ns(&self) -> u64 {
        self.tick_last.saturating_add(1).saturating_sub(self.base.unwrap_or(0))
    }

    /// Records that were no packets, and the messages about them.
    pub fn skipped(&self) -> (u64, Vec<String>) {
        let mut messages: Vec<String> =
            self.readers.iter().filter_map(CaptureReader::warning).map(str::to_owned).collect();
        messages.extend(self.warning.clone());
        (self.readers.iter().map(|r| r.skipped().total()).sum(), messages)
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
        let offset = self.span_ns();
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
        self.now_ns = self.now_ns.max(ts_ns);
        let first = self.base.is_none();
        let base = *self.base.get_or_insert(ts_ns - ts_ns % NS_PER_MS);
        if first || ts_ns > self.tick_last {
            let start = ts_ns - ts_ns.saturating_sub(base) % self.tick_ns;
            self.tick_last = start.saturating_add(self.tick_ns - 1);
        }
        self.taken = 0;
        self.open = true;
    }

    fn batch(&mut self, ends_iteration: bool) -> Fill {
        self.open = !ends_iteration;
        Fill::Batch { now_ns: self.now_ns, ends_iteration }
    }
}

#[cfg(test)]
mod tests {
    use super::super::capture::tests::{Bytes, Temp};
    use super::super::queue::Queue;
    use super::*;
    use proptest::prelude::*;

    /// Time and frames (device, stamp, first four bytes) of each iteration.
    type Iterations = Vec<(u64, Vec<(u8, u64, u32)>)>;

    type Keep<'a> = Option<&'a mut dyn FnMut(&[u8]) -> bool>;

    /// Checks each batch on the way.
    fn run(replay: &mut Replay, mut keep: Keep) -> Iterations {
        let mut out = Vec::new();
        let mut all = Vec::new();
        let mut current = Vec::new();
        let mut begun = None;
        loop {
            let announced = replay.next_iteration_at();
            let fill = match &mut keep {
                None => replay.fill(&mut out),
                Some(keep) => replay.fill_steered(&mut out, |f| keep(f), |_, _| ()),
            };
            let Fill::Batch { now_ns, ends_iteration } = fill else {
                assert_eq!((announced, begun), (None, None), "an iteration was left open");
                assert_eq!(replay.fill(&mut out), Fill::End);
                assert!(out.is_empty());
                return all;
            };
            assert_eq!(announced, Some(now_ns));
            assert!(begun.is_none_or(|t| t == now_ns), "time moved inside an iteration");
            assert!(out.len() <= BATCH);
            for f in &out {
                let bytes = replay.frame_bytes(f);
                assert_eq!(bytes.len(), f.cap_len as usize);
                let id = bytes[bytes.len() - 4..].try_into().unwrap();
                current.push((f.dev, f.ts_ns, u32::from_be_bytes(id)));
            }
            begun = Some(now_ns);
            if ends_iteration {
                all.push((now_ns, std::mem::take(&mut current)));
                begun = None;
            }
        }
    }

    /// The same in the plainest way.
    fn model(inputs: &[Vec<u64>], tick_ms: u32, burst: u32, loops: u32) -> Iterations {
        let tick = u64::from(tick_ms) * NS_PER_MS;
        let mut all: Iterations = Vec::new();
        let (mut now, mut base, mut tick_end) = (0, None, 0);
        for _ in 0..loops {
            let offset = tick_end - base.unwrap_or(0);
            let mut at = vec![0; inputs.len()];
            loop {
                let heads = (0..inputs.len()).filter_map(|d| Some((*inputs[d].get(at[d])? + offset, d)));
                let Some((ts, d)) = heads.min() else { break };
                let start = *base.get_or_insert(ts / NS_PER_MS * NS_PER_MS);
                let full = all.last().is_none_or(|(_, f)| f.len() == burst as usize);
                if ts >= tick_end || full {
                    while ts >= tick_end {
                        tick_end = start + ((ts - start) / tick + 1) * tick;
                    }
                    now = now.max(ts);
                    all.push((now, vec![]));
                }
                all.last_mut().unwrap().1.push((d as u8, ts, at[d] as u32));
                at[d] += 1;
            }
        }
        all
    }

    fn capture(stamps: &[u64], linktype: u32, size: usize) -> Temp {
        let mut file = Bytes::pcap(false, true, linktype);
        for (i, ts) in stamps.iter().enumerate() {
            let mut frame = vec![0x45; size];
            frame[size - 4..].copy_from_slice(&(i as u32).to_be_bytes());
            file = file.record((ts / 1_000_000_000) as u32, (ts % 1_000_000_000) as u32, &frame, size as u32);
        }
        Temp::new(&file.out)
    }

    fn replay(files: &[Temp], preload: Preload, tick_ms: u32, burst: u32, loops: u32) -> Replay {
        let readers = files.iter().map(|f| f.open(preload).unwrap()).collect();
        Replay::new(readers, ReplayOptions { tick_ms, burst, loops, preload, warmup: 0 }).unwrap()
    }

    /// As [`run`], of packets picked out in advance.
    fn run_queue(queue: &mut Queue) -> Iterations {
        let mut out = Vec::new();
        let (mut all, mut current) = (Iterations::new(), Vec::new());
        loop {
            let announced = queue.ahead();
            let mut shown = Vec::new();
            let fill = queue.fill(&mut out, |bytes, rx| shown.push((bytes.to_vec(), *rx)));
            let Fill::Batch { now_ns, ends_iteration } = fill else {
                assert_eq!((announced, out.len()), (Ahead::End, 0));
                assert_eq!(queue.position().0, queue.position().1);
                return all;
            };
            assert_eq!(announced, Ahead::At(now_ns));
            assert!(out.len() <= BATCH);
            let frames: Vec<_> = out.iter().map(|f| (queue.frame_bytes(f).to_vec(), *f)).collect();
            assert_eq!(shown, frames);
            for (bytes, f) in frames {
                assert_eq!(bytes.len(), f.cap_len as usize);
                current.push((
                    f.dev,
                    f.ts_ns,
                    u32::from_be_bytes(bytes[bytes.len() - 4..].try_into().unwrap()),
                ));
            }
            if ends_iteration {
                all.push((now_ns, std::mem::take(&mut current)));
            }
        }
    }

    fn times(iterations: &Iterations) -> Vec<(u64, usize)> {
        iterations.iter().map(|(t, f)| (*t, f.len())).collect()
    }

    #[test]
    fn a_full_burst_says_that_more_of_its_tick_waits() {
        let file = [capture(&[5_000_000, 5_100_000, 5_200_000, 9_000_000], 1, 60)];
        let mut replay = replay(&file, Preload::Whole, 1, 2, 1);
        let mut out = Vec::new();
        let mut waits = Vec::new();
        while let Fill::Batch { ends_iteration, .. } = replay.fill(&mut out) {
            if ends_iteration {
                waits.push((out.len(), replay.more_of_tick()));
            }
        }
        assert_eq!(waits, [(2, true), (1, false), (1, false)]);
        let mut queue = Queue::pick(self::replay(&file, Preload::Whole, 1, 2, 1), |_| true, 1).unwrap();
        waits.clear();
        while let Fill::Batch { .. } = queue.fill(&mut out, |_, _| ()) {
            waits.push((out.len(), queue.more_of_tick()));
        }
        assert_eq!(waits, [(2, true), (1, false), (1, false)]);
    }

    #[test]
    fn ticks_count_from_the_first_stamps_millisecond() {
        let stamps = [5_400_000, 5_999_999, 6_000_000, 6_999_999, 7_000_000, 50_300_000, 50_900_000];
        let file = [capture(&stamps, 1, 60)];
        let cut = |tick, burst| times(&run(&mut replay(&file, Preload::Whole, tick, burst, 1), None));
        assert_eq!(cut(1, 64), [(5_400_000, 2), (6_000_000, 2), (7_000_000, 1), (50_300_000, 2)]);
        assert_eq!(cut(2, 64), [(5_400_000, 4), (7_000_000, 1), (50_300_000, 2)]);
        assert_eq!(cut(1000, 64), [(5_400_000, 7)]);
        assert_eq!(cut(1000, 3), [(5_400_000, 3), (6_999_999, 3), (50_900_000, 1)]);
        assert_eq!(cut(1, 1).len(), 7);
    }

    #[test]
    fn time_never_goes_back() {
        let file = [capture(&[9_000_000, 3_000_000, 9_500_000, 2_000_000, 11_000_000, 1_000_000], 1, 60)];
        let got = run(&mut replay(&file, Preload::Whole, 1, 64, 1), None);
        assert_eq!(times(&got), [(9_000_000, 4), (11_000_000, 2)]);
        let got = run(&mut replay(&file, Preload::Whole, 1, 1, 1), None);
        let now: Vec<u64> = got.iter().map(|i| i.0 / 100_000).collect();
        assert_eq!(now, [90, 90, 95, 95, 110, 110]);
    }

    #[test]
    fn equal_stamps_keep_the_order_of_the_devices() {
        let files = [capture(&[5, 5, 7], 1, 60), capture(&[5, 6, 7], 1, 60), capture(&[1, 5], 1, 60)];
        let got = run(&mut replay(&files, Preload::Streaming, 1, 64, 1), None);
        let order: Vec<(u8, u64)> = got.iter().flat_map(|i| &i.1).map(|f| (f.0, f.1)).collect();
        assert_eq!(order, [(2, 1), (0, 5), (0, 5), (1, 5), (2, 5), (1, 6), (0, 7), (1, 7)]);
    }

    #[test]
    fn a_batch_has_at_most_64_frames_and_an_iteration_as_many_as_asked() {
        let file = [capture(&[1_000_000; 200], 1, 60)];
        let mut replay = replay(&file, Preload::Whole, 1, 150, 1);
        let mut out = Vec::new();
        let mut batches = Vec::new();
        while let Fill::Batch { ends_iteration, .. } = replay.fill(&mut out) {
            batches.push((out.len(), ends_iteration));
        }
        assert_eq!(batches, [(64, false), (64, false), (22, true), (50, true)]);
        assert_eq!(replay.packets(), 200);
    }

    #[test]
    fn repetitions_are_cut_alike_and_later() {
        let stamps = [5_400_000, 5_500_000, 6_000_000, 8_999_999];
        for preload in [Preload::Whole, Preload::Streaming] {
            let file = [capture(&stamps, 1, 60)];
            let mut replay = replay(&file, preload, 1, 64, 3);
            let got = run(&mut replay, None);
            let (once, rest) = got.split_at(3);
            for (n, again) in rest.chunks(3).enumerate() {
                let later: Vec<_> =
                    once.iter().map(|(t, f)| (t + (n as u64 + 1) * 4_000_000, f.len())).collect();
                assert_eq!(times(&again.to_vec()), later);
            }
            assert_eq!((got.len(), replay.packets()), (9, 12));
            let (done, total) = replay.position();
            assert_eq!(done, total);
        }
    }

    #[test]
    fn endless_repetition_of_nothing_ends() {
        let file = [capture(&[], 1, 60)];
        assert_eq!(run(&mut replay(&file, Preload::Whole, 1, 64, u32::MAX), None), vec![]);
    }

    #[test]
    fn a_vanished_file_ends_its_repetition_with_a_warning() {
        let file = vec![capture(&[1, 2], 1, 60)];
        let mut replay = replay(&file, Preload::Streaming, 1, 64, 2);
        drop(file);
        assert_eq!(times(&run(&mut replay, None)), [(1, 2)]);
        assert!(replay.warning().unwrap().contains("No such file"));
    }

    #[test]
    fn the_number_of_inputs_is_checked() {
        let error = Replay::new(vec![], ReplayOptions::default()).err().unwrap();
        assert_eq!(error.to_string(), "a replay takes 1 to 256 capture files, not 0");
    }

    #[test]
    fn extreme_stamps_do_not_overflow() {
        let file = capture(&[u64::from(u32::MAX) * 1_000_000_000, 0], 1, 60);
        let mut reader = file.open(Preload::Whole).unwrap();
        reader.set_time_offset(u64::MAX - 5);
        let options = ReplayOptions { tick_ms: u32::MAX, loops: 3, ..ReplayOptions::default() };
        let got = run(&mut Replay::new(vec![reader], options).unwrap(), None);
        assert!(got.iter().map(|i| i.1.len()).sum::<usize>() == 6);
        assert!(got.windows(2).all(|w| w[0].0 <= w[1].0));
    }

    #[test]
    fn options_from_variables() {
        let read = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> =
                set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            ReplayOptions::from_variables(|k| set.iter().find(|s| s.0 == k).map(|s| s.1.clone()))
        };
        assert_eq!(read(&[]), Ok(ReplayOptions::default()));
        let all = read(&[
            ("MOS_REPLAY_TICK", "1000"),
            ("MOS_REPLAY_BURST", " 1 "),
            ("MOS_REPLAY_LOOP", "7"),
            ("MOS_REPLAY_PRELOAD", "1"),
            ("MOS_REPLAY_WARMUP", "3000"),
        ]);
        let expected =
            ReplayOptions { tick_ms: 1000, burst: 1, loops: 7, preload: Preload::Whole, warmup: 3000 };
        assert_eq!(all, Ok(expected));
        for (name, value) in [
            ("MOS_REPLAY_TICK", "1ms"),
            ("MOS_REPLAY_TICK", "0"),
            ("MOS_REPLAY_BURST", "-1"),
            ("MOS_REPLAY_LOOP", ""),
            ("MOS_REPLAY_LOOP", "4294967296"),
            ("MOS_REPLAY_WARMUP", "many"),
            ("MOS_REPLAY_PRELOAD", "yes"),
        ] {
            let message = read(&[(name, value)]).unwrap_err();
            assert!(message.starts_with(&format!("{name}='{value}': expected ")), "{message}");
        }
    }

    fn stamps() -> impl Strategy<Value = Vec<u64>> {
        // Mostly small steps, some silences, some steps back.
        let step = prop_oneof![6 => 0i64..300_000, 2 => 0i64..20_000_000, 1 => -5_000_000i64..0];
        (10_000_000u64..20_000_000, proptest::collection::vec(step, 0..120)).prop_map(|(start, steps)| {
            let mut ts = start as i64;
            steps
                .iter()
                .map(|s| {
                    ts = (ts + s).max(0);
                    ts as u64
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn the_cut_is_the_models(
            inputs in proptest::collection::vec(stamps(), 1..4),
            tick_ms in 1u32..4,
            burst in prop_oneof![Just(1u32), Just(64), Just(1000), 2u32..100],
            loops in 1u32..3,
            copied in any::<bool>(),
            large in any::<bool>(),
            preload in prop_oneof![Just(Preload::Whole), Just(Preload::Streaming)],
        ) {
            // Large frames make windows move inside iterations.
            let size = if large { 50_000 } else { 60 };
            let files: Vec<Temp> = inputs
                .iter()
                .enumerate()
                .map(|(i, s)| capture(s, if copied && i != 1 { 101 } else { 1 }, size))
                .collect();
            let expected = model(&inputs, tick_ms, burst, loops);
            let got = run(&mut replay(&files, preload, tick_ms, burst, loops), None);
            prop_assert_eq!(&got, &expected);
            // Dealt to two cores: the same iterations, each frame on one of them.
            for core in [0u8, 1] {
                let mut keep = |f: &[u8]| f[f.len() - 1] & 1 == core;
                let got = run(&mut replay(&files, preload, tick_ms, burst, loops), Some(&mut keep));
                let part: Iterations = expected
                    .iter()
                    .map(|(t, f)| (*t, f.iter().copied().filter(|f| f.2 as u8 & 1 == core).collect()))
                    .collect();
                prop_assert_eq!(&got, &part);
                // The same in advance.
                let once = replay(&files, preload, tick_ms, burst, 1);
                let mut queue = Queue::pick(once, |f| f[f.len() - 1] & 1 == core, loops).unwrap();
                prop_assert_eq!(run_queue(&mut queue), part);
                prop_assert_eq!(queue.packets(), got.iter().map(|(_, f)| f.len() as u64).sum::<u64>());
            }
        }
    }
}
