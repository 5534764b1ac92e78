//! Live devices on the clock of their packets (`dpdk { clock = packet }`, design E): what arrives is cut into iterations by its
//! receive stamps, as [`replay`](super::replay) cuts a file, and merged over the devices by stamp.
//!
//! A device that gives nothing when asked is taken to have nothing earlier than what the others gave: DPDK's net_pcap gives
//! nothing only at its file's end. When no device has given anything for a second, the input has ended.

use super::device::{BURST, DeviceCounters, Native, RxView, Vouch};
use super::live::Live;
use super::replay::{Ahead, BATCH, Fill, ReplayOptions, RxFrame};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const NS_PER_MS: u64 = 1_000_000;

/// So long without a packet ends the input.
const SILENCE: Duration = Duration::from_secs(1);

/// A received frame that waits for its iteration, or is in process.
struct Waiting {
    bytes: Bytes,
    ts_ns: u64,
    wire_len: u32,
    vouch: Vouch,
}

enum Bytes {
    Native(Native),
    Copy(Vec<u8>),
    Gone,
}

impl Waiting {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Native(native) => native.bytes(),
            Bytes::Copy(copy) => copy,
            Bytes::Gone => &[],
        }
    }
}

/// The devices of a core.
pub struct Stamped {
    live: Live,
    /// What each device gave and no batch has taken.
    waiting: Vec<VecDeque<Waiting>>,
    /// The batch in process.
    batch: Vec<Waiting>,
    views: Vec<RxView>,
    tick_ns: u64,
    burst: u32,
    /// Start of the first tick; `None` before the first packet.
    base: Option<u64>,
    /// Last nanosecond of the current tick.
    tick_last: u64,
    now_ns: u64,
    /// An iteration was begun and not ended; `taken` packets of it were passed.
    open: bool,
    taken: u32,
    /// When a device last gave something, and how many frames had been handed over to other cores by then.
    heard: Instant,
    handed: u64,
    over: bool,
    /// Frames there was no memory to keep.
    lost: u64,
}

impl Stamped {
    /// Devices, cut by `options` (tick and burst).
    pub fn new(live: Live, options: ReplayOptions) -> Self {
        let waiting = (0..live.len()).map(|_| VecDeque::new()).collect();
        Stamped {
            live,
            waiting,
            batch: Vec::with_capacity(BATCH),
            views: Vec::with_capacity(BURST),
            tick_ns: u64::from(options.tick_ms.max(1)) * NS_PER_MS,
            burst: options.burst.max(1),
            base: None,
            tick_last: 0,
            now_ns: 0,
            open: false,
            taken: 0,
            heard: Instant::now(),
            handed: 0,
            over: false,
            lost: 0,
        }
    }

    /// What is next. May receive.
    pub fn ahead(&mut self) -> Ahead {
        if self.open {
            return Ahead::At(self.now_ns);
        }
        match self.front() {
            Some((_, ts_ns)) => Ahead::At(self.now_ns.max(ts_ns)),
            None if self.silent() => Ahead::End,
            None => Ahead::Nothing,
        }
    }

    /// Whether the iteration that just ended was cut by the burst limit: more packets of its tick wait.
    pub fn more_of_tick(&mut self) -> bool {
        let last = self.tick_last;
        self.taken == self.burst && self.front().is_some_and(|(_, ts_ns)| ts_ns <= last)
    }

    /// Replaces `out` by the next batch: frames of one iteration. The frames before are given back.
    pub fn fill(&mut self, out: &mut Vec<RxFrame>) -> Fill {
        out.clear();
        self.batch.clear();
        if out.try_reserve(BATCH).is_err() {
            return Fill::Batch { now_ns: self.now_ns, ends_iteration: !self.open };
        }
        while self.batch.len() < BATCH {
            let Some((dev, ts_ns)) = self.front() else { return self.hand_out(out, true) };
            if self.open && (ts_ns > self.tick_last || self.taken == self.burst) {
                return self.hand_out(out, true);
            }
            if !self.open {
                self.begin(ts_ns);
            }
            self.taken += 1;
            self.batch.extend(self.waiting[dev].pop_front());
            if let Some(frame) = self.batch.last() {
                let cap_len = frame.bytes().len() as u32;
                let &Waiting { wire_len, vouch, .. } = frame;
                let dev = self.live.port(dev);
                out.push(RxFrame { ts_ns, off: self.batch.len() - 1, cap_len, wire_len, dev, vouch });
            }
        }
        let ends = self.taken == self.burst || self.front().is_none_or(|(_, ts_ns)| ts_ns > self.tick_last);
        self.hand_out(out, ends)
    }

    fn hand_out(&mut self, out: &[RxFrame], ends_iteration: bool) -> Fill {
        if out.is_empty() && !self.open {
            return Fill::End;
        }
        self.open = !ends_iteration;
        Fill::Batch { now_ns: self.now_ns, ends_iteration }
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

    /// The device and the stamp of the earliest packet that is there, the first device's among equals.
    fn front(&mut self) -> Option<(usize, u64)> {
        for dev in 0..self.waiting.len() {
            if self.waiting[dev].is_empty() {
                self.receive(dev);
            }
        }
        let stamps = self.waiting.iter().enumerate();
        stamps.filter_map(|(dev, w)| Some((dev, w.front()?.ts_ns))).min_by_key(|&(_, ts_ns)| ts_ns)
    }

    /// Takes a burst out of a device, which keeps nothing of it.
    fn receive(&mut self, dev: usize) {
        self.views.clear();
        self.live.receive_from(dev, &mut self.views);
        if self.views.is_empty() {
            return;
        }
        self.heard = Instant::now();
        for (n, view) in self.views.iter().enumerate() {
            let bytes = match self.live.take_from(dev, n) {
                Some(native) => Bytes::Native(native),
                // SAFETY: the view is of this device's last burst, and the frame was not taken.
                None => match copy(unsafe { view.bytes() }) {
                    Some(copy) => Bytes::Copy(copy),
                    None => {
                        self.lost += 1;
                        continue;
                    }
                },
            };
            // Without a stamp it is as late as what came before.
            let ts_ns = if view.ts_ns == 0 { self.now_ns } else { view.ts_ns };
            let frame = Waiting { bytes, ts_ns, wire_len: view.wire_len, vouch: view.vouch };
            if self.waiting[dev].try_reserve(1).is_ok() {
                self.waiting[dev].push_back(frame);
            } else {
                self.lost += 1;
            }
        }
    }

    /// Whether nothing has come for long enough. What was received for other cores counts: they depend on this one.
    fn silent(&mut self) -> bool {
        if self.over || self.heard.elapsed() < SILENCE {
            return self.over;
        }
        let handed = self.live.counters().iter().map(|(_, c)| c.resteered + c.resteer_lost).sum();
        if self.handed != handed {
            self.handed = handed;
            self.heard = Instant::now();
            return false;
        }
        self.over = true;
        true
    }

    /// The bytes of a frame of the last batch.
    #[inline]
    pub fn frame(&self, rx: &RxFrame) -> &[u8] {
        self.batch.get(rx.off).map_or(&[], Waiting::bytes)
    }

    /// Queues at most `len` bytes of a frame of the last batch on device `to`; the number of bytes.
    pub fn send_on(&mut self, to: u8, rx: &RxFrame, len: usize) -> Option<usize> {
        let frame = self.batch.get_mut(rx.off)?;
        let len = len.min(frame.bytes().len());
        if !self.live.has_room(to, len) {
            return None;
        }
        let sent = match std::mem::replace(&mut frame.bytes, Bytes::Gone) {
            Bytes::Native(native) => self.live.send_native(to, native, len),
            Bytes::Copy(copy) => {
                let sent = self.live.send(to, &copy[..len]);
                frame.bytes = Bytes::Copy(copy);
                sent
            }
            Bytes::Gone => false,
        };
        sent.then_some(len)
    }

    /// The devices, for what does not depend on the clock.
    pub fn live(&mut self) -> &mut Live {
        &mut self.live
    }

    /// The devices; frames that wait are given back.
    pub fn into_live(self) -> Live {
        self.live
    }

    /// Each device's port and own counters; frames there was no memory for count for the first.
    pub fn counters(&mut self) -> Vec<(u8, DeviceCounters)> {
        let mut all = self.live.counters();
        if let Some((_, counters)) = all.first_mut() {
            counters.no_buffer += self.lost;
        }
        all
    }
}

fn copy(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::super::live::LiveDevice;
    use super::super::memory::{Cable, native_freed};
    use super::*;

    const MS: u64 = 1_000_000;

    fn stamped(cables: &[Cable], native: bool, burst: u32) -> Stamped {
        let device =
            |(n, c): (usize, &Cable)| LiveDevice::new(n as u8 + 10, true, Box::new(c.device(native)));
        let live = Live::new(cables.iter().enumerate().map(device).collect());
        Stamped::new(live, ReplayOptions { burst, ..ReplayOptions::default() })
    }

    /// An iteration's time, and port, stamp and first byte of each frame.
    type Iteration = (u64, Vec<(u8, u64, u8)>);

    /// Iterations until nothing is there.
    fn iterations(s: &mut Stamped) -> Vec<Iteration> {
        let mut all: Vec<Iteration> = Vec::new();
        let mut out = Vec::new();
        let mut open = false;
        while let Ahead::At(at) = s.ahead() {
            let Fill::Batch { now_ns, ends_iteration } = s.fill(&mut out) else { panic!("announced") };
            assert_eq!(at, now_ns);
            assert!(out.len() <= BATCH);
            let frames = out.iter().map(|f| (f.dev, f.ts_ns, s.frame(f)[0]));
            match all.last_mut() {
                Some((_, last)) if open => last.extend(frames),
                _ => all.push((now_ns, frames.collect())),
            }
            open = !ends_iteration;
        }
        assert!(!open, "an iteration was left open");
        all
    }

    #[test]
    fn a_tick_is_an_iteration_and_devices_are_merged_by_stamp() {
        for native in [false, true] {
            let cables = [Cable::default(), Cable::default()];
            for (cable, at, id) in [(0, 1500, 1), (0, 1900, 2), (0, 3000, 5), (1, 1700, 3), (1, 2000, 4)] {
                cables[cable].arrive_at(at * MS / 1000, &[id]);
            }
            let mut s = stamped(&cables, native, 64);
            let us = |n: u64| n * 1000;
            assert_eq!(
                iterations(&mut s),
                [
                    (us(1500), vec![(10, us(1500), 1), (11, us(1700), 3), (10, us(1900), 2)]),
                    (us(2000), vec![(11, us(2000), 4)]),
                    (us(3000), vec![(10, us(3000), 5)]),
                ]
            );
        }
    }

    #[test]
    fn a_burst_cuts_a_tick_and_says_that_more_waits() {
        let cable = Cable::default();
        for id in 0..5 {
            cable.arrive_at(MS + u64::from(id), &[id]);
        }
        let mut s = stamped(&[cable], true, 2);
        let mut out = Vec::new();
        for (frames, more) in [(2, true), (2, true), (1, false)] {
            assert!(matches!(s.fill(&mut out), Fill::Batch { ends_iteration: true, .. }));
            assert_eq!((out.len(), s.more_of_tick()), (frames, more));
        }
    }

    #[test]
    fn a_long_iteration_comes_in_batches() {
        let cable = Cable::default();
        for id in 0..200 {
            cable.arrive_at(MS, &[id]);
        }
        let mut s = stamped(&[cable], false, 1000);
        let all = iterations(&mut s);
        assert_eq!(all.len(), 1);
        assert!(all[0].1.iter().map(|f| f.2).eq(0..200));
    }

    #[test]
    fn stamps_that_go_back_or_are_missing_do_not_turn_time_back() {
        let cable = Cable::default();
        for (at, id) in [(5 * MS, 1), (4 * MS, 2), (0, 3), (6 * MS, 4)] {
            cable.arrive_at(at, &[id]);
        }
        let all = iterations(&mut stamped(&[cable], true, 64));
        let times: Vec<u64> = all.iter().map(|i| i.0).collect();
        assert_eq!(times, [5 * MS, 6 * MS]);
        assert_eq!(all[0].1.len(), 3);
    }

    #[test]
    fn forwarding_takes_the_buffer_or_copies() {
        for native in [false, true] {
            let cables = [Cable::default(), Cable::default()];
            cables[0].arrive_at(MS, &[1, 2, 3, 0]);
            let mut s = stamped(&cables, native, 64);
            let mut out = Vec::new();
            s.fill(&mut out);
            let before = native_freed();
            assert_eq!(s.send_on(1, &out[0], 3), Some(3));
            assert_eq!(s.frame(&out[0]).is_empty(), native);
            s.live().flush();
            assert_eq!(cables[1].left(), [[1, 2, 3]]);
            assert_eq!(native_freed() - before, u64::from(native));
        }
    }

    #[test]
    fn a_second_without_packets_is_the_end() {
        let cable = Cable::default();
        let mut s = stamped(std::slice::from_ref(&cable), true, 64);
        let start = Instant::now();
        assert_eq!(s.ahead(), Ahead::Nothing);
        std::thread::sleep(Duration::from_millis(500));
        cable.arrive_at(MS, &[1]);
        assert_eq!(iterations(&mut s).len(), 1);
        let end = loop {
            match s.ahead() {
                Ahead::Nothing => std::thread::sleep(Duration::from_millis(10)),
                other => break other,
            }
        };
        assert_eq!(end, Ahead::End);
        assert!(start.elapsed() >= Duration::from_millis(1500));
    }
}
