//! The live devices of one core as a packet source: a burst from each, in the order of their time stamps, and what leaves by them.
//!
//! An iteration is one burst (up to 64 frames) of every device. Both directions of a flow may come in by different devices, as
//! on a tap: what devices stamp is merged by stamp, so that an answer is not seen before what it answers. A frame that came
//! after the first device was asked waits for the next iteration, with which it can be ordered. Frames without stamp come in
//! the devices' order.

use super::clock;
use super::device::{BURST, Device, DeviceCounters, Native, Queued, RxView};
use super::replay::{Fill, RxFrame};
use std::os::fd::RawFd;
use std::time::{SystemTime, UNIX_EPOCH};

/// A device and its place in the configuration.
pub struct LiveDevice {
    /// The port.
    pub port: u8,
    /// Whether this core receives from it.
    pub receives: bool,
    /// The device.
    pub device: Box<dyn Device>,
    /// Its last burst.
    burst: Vec<RxView>,
    /// Frames of it that were handed out, and those that may be in this iteration.
    done: usize,
    ready: usize,
}

impl LiveDevice {
    /// A device that has given nothing yet.
    pub fn new(port: u8, receives: bool, device: Box<dyn Device>) -> Self {
        LiveDevice { port, receives, device, burst: Vec::new(), done: 0, ready: 0 }
    }

    /// Asks for a burst, unless one is not used up. The stamp of its last frame, when more may wait in the device behind it.
    fn receive(&mut self, now_ns: u64) -> Option<u64> {
        let rest = self.done < self.burst.len();
        if !rest {
            self.burst.clear();
            (self.done, self.ready) = (0, 0);
            if !self.receives || self.burst.try_reserve(BURST).is_err() {
                return None;
            }
            self.device.receive(BURST, &mut self.burst);
            for view in self.burst.iter_mut().filter(|view| view.ts_ns == 0) {
                view.ts_ns = now_ns;
            }
        }
        let last = self.burst.last().map(|view| view.ts_ns)?;
        (rest || self.burst.len() >= BURST).then_some(last)
    }

    /// What is stamped later than `horizon` waits.
    fn settle(&mut self, horizon: u64) {
        let later = self.burst[self.done..].iter().position(|view| view.ts_ns > horizon);
        self.ready = later.map_or(self.burst.len(), |n| self.done + n);
    }
}

/// All live devices of a core.
pub struct Live {
    devices: Vec<LiveDevice>,
    /// The batch in process. Emptied before a device receives.
    views: Vec<RxView>,
    /// Of each frame in it: device, and place in that one's burst.
    origin: Vec<(u8, u8)>,
    /// An iteration has begun and more of it is ready.
    open: bool,
    now_ns: u64,
    /// Frames and bytes that were queued and then dropped, since the last flush.
    lost: (u64, u64),
}

impl Live {
    /// Devices, to be asked in this order.
    pub fn new(devices: Vec<LiveDevice>) -> Self {
        let (views, origin) = (Vec::with_capacity(BURST), Vec::with_capacity(BURST));
        Live { devices, views, origin, open: false, now_ns: 0, lost: (0, 0) }
    }

    /// The devices, with nothing of theirs in process.
    pub fn into_devices(self) -> Vec<LiveDevice> {
        self.devices
    }

    /// Throws away what came while nobody received.
    pub fn forget(&mut self) {
        self.views.clear();
        for it in self.devices.iter_mut().filter(|it| it.receives) {
            // What keeps coming as fast as this is current.
            for _ in 0..1024 {
                it.burst.clear();
                (it.done, it.ready) = (0, 0);
                it.device.receive(BURST, &mut it.burst);
                if it.burst.is_empty() {
                    break;
                }
            }
            it.burst.clear();
        }
    }

    /// The number of devices.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// The port of device `n`.
    pub fn port(&self, n: usize) -> u8 {
        self.devices.get(n).map_or(0, |it| it.port)
    }

    /// A burst of device `n`, for a caller that keeps the bursts itself.
    pub fn receive_from(&mut self, n: usize, views: &mut Vec<RxView>) {
        if let Some(it) = self.devices.get_mut(n)
            && it.receives
            && views.try_reserve(BURST).is_ok()
        {
            it.device.receive(BURST, views);
        }
    }

    /// Takes a frame out of the last burst of device `n`.
    pub fn take_from(&mut self, n: usize, frame: usize) -> Option<Native> {
        self.devices.get_mut(n)?.device.take(frame)
    }

    /// The next batch: at most 64 frames. The clock is read for each iteration.
    pub fn fill(&mut self, out: &mut Vec<RxFrame>) -> Fill {
        out.clear();
        self.views.clear();
        self.origin.clear();
        if !self.open {
            self.now_ns = clock::now_ns();
            let alone = self.devices.iter().filter(|it| it.receives).count() < 2;
            let horizon = if alone {
                u64::MAX
            } else {
                // Stamps are the machine's time of day, which may be set while ours goes on.
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |d| d.as_nanos() as u64)
            };
            let held = self.holds();
            // Behind the end of a burst that is not the last, its device may have frames older than others'.
            let ends = self.devices.iter_mut().filter_map(|it| it.receive(self.now_ns));
            let horizon = ends.fold(horizon, u64::min);
            for it in &mut self.devices {
                it.settle(horizon);
            }
            if held && self.devices.iter().all(|it| it.done == it.ready) {
                // The time of day was set back: what waited for it waits no longer.
                self.devices.iter_mut().for_each(|it| it.settle(u64::MAX));
            }
        }
        if out.try_reserve(BURST).is_ok() {
            self.merge(out);
        }
        self.open = self.devices.iter().any(|it| it.done < it.ready);
        Fill::Batch { now_ns: self.now_ns, ends_iteration: !self.open }
    }

    /// Hands out what is ready, by stamp; of equal ones, the first device's first.
    fn merge(&mut self, out: &mut Vec<RxFrame>) {
        while self.views.len() < BURST {
            let front = |it: &LiveDevice| (it.done < it.ready).then(|| it.burst[it.done].ts_ns);
            let next = self.devices.iter().enumerate().filter_map(|(n, it)| Some((front(it)?, n))).min();
            let Some((ts_ns, n)) = next else { break };
            let it = &mut self.devices[n];
            let view = it.burst[it.done];
            out.push(RxFrame {
                ts_ns,
                off: self.views.len(),
                cap_len: view.len(),
                wire_len: view.wire_len,
                dev: it.port,
                vouch: view.vouch,
            });
            self.views.push(view);
            self.origin.push((n as u8, it.done as u8));
            it.done += 1;
        }
    }

    /// Whether there is more than the iteration that just ended took: a full burst, or frames that wait.
    pub fn more_waits(&self) -> bool {
        self.holds() || self.devices.iter().any(|it| it.burst.len() >= BURST)
    }

    /// Whether frames that were received wait for the next iteration.
    pub fn holds(&self) -> bool {
        self.devices.iter().any(|it| it.done < it.burst.len())
    }

    /// The bytes of a frame of the batch in process.
    #[inline]
    pub fn frame(&self, rx: &RxFrame) -> &[u8] {
        // SAFETY: `views` is emptied before any device receives, `send_on` ends the view of a frame that is taken, and
        // devices are dropped with `self`.
        self.views.get(rx.off).map_or(&[], |view| unsafe { view.bytes() })
    }

    /// Whether device `to` takes no more frames just now, also after a flush. One that never takes any is not full.
    pub fn is_full(&mut self, to: u8, len: usize) -> bool {
        let Some(it) = self.devices.get_mut(to as usize) else { return false };
        if it.device.has_room(len) != Queued::Full {
            return false;
        }
        Self::flush_one(it, &mut self.lost);
        it.device.has_room(len) == Queued::Full
    }

    /// Queues a copy of a frame on device `to` (a number in the list given to [`new`](Self::new)).
    pub fn send(&mut self, to: u8, frame: &[u8]) -> bool {
        let Some(it) = self.devices.get_mut(to as usize) else { return false };
        match it.device.send(frame) {
            Queued::Yes => true,
            Queued::Full => {
                Self::flush_one(it, &mut self.lost);
                it.device.send(frame) == Queued::Yes
            }
            Queued::Never => false,
        }
    }

    /// Queues at most `len` bytes of a frame of the batch in process on device `to`, without a copy where the devices agree on
    /// that; the number of bytes.
    pub fn send_on(&mut self, to: u8, rx: &RxFrame, len: usize) -> Option<usize> {
        let view = self.views.get_mut(rx.off)?;
        let len = len.min(view.len() as usize);
        let it = self.devices.get_mut(to as usize)?;
        if !Self::has_room_on(it, &mut self.lost, len) {
            return None;
        }
        let (from, n) = *self.origin.get(rx.off)?;
        match self.devices.get_mut(from as usize)?.device.take(n as usize) {
            Some(native) => {
                *view = RxView::GONE;
                let sent = self.devices.get_mut(to as usize)?.device.send_native(native, len);
                (sent == Queued::Yes).then_some(len)
            }
            None => {
                // SAFETY: as in `frame`; sending ends no view.
                let bytes = unsafe { view.bytes() };
                let sent = self.devices.get_mut(to as usize)?.device.send(&bytes[..len]);
                (sent == Queued::Yes).then_some(len)
            }
        }
    }

    /// Whether device `to` would queue a frame of `len` bytes.
    pub fn has_room(&mut self, to: u8, len: usize) -> bool {
        self.devices.get_mut(to as usize).is_some_and(|it| Self::has_room_on(it, &mut self.lost, len))
    }

    /// Queues at most `len` bytes of a device's own buffer on device `to`.
    pub fn send_native(&mut self, to: u8, frame: Native, len: usize) -> bool {
        let to = self.devices.get_mut(to as usize);
        to.is_some_and(|it| it.device.send_native(frame, len) == Queued::Yes)
    }

    fn has_room_on(it: &mut LiveDevice, lost: &mut (u64, u64), len: usize) -> bool {
        let mut room = it.device.has_room(len);
        if room == Queued::Full {
            Self::flush_one(it, lost);
            room = it.device.has_room(len);
        }
        room == Queued::Yes
    }

    fn flush_one(it: &mut LiveDevice, lost: &mut (u64, u64)) -> bool {
        let flushed = it.device.flush();
        lost.0 += flushed.lost;
        lost.1 += flushed.lost_bytes;
        flushed.waiting
    }

    /// Sends what is queued. The frames and bytes that were dropped after they had been queued, since the last flush, and whether
    /// some are still queued.
    pub fn flush(&mut self) -> (u64, u64, bool) {
        let mut waiting = false;
        for it in &mut self.devices {
            waiting |= Self::flush_one(it, &mut self.lost);
        }
        let (lost, bytes) = std::mem::take(&mut self.lost);
        (lost, bytes, waiting)
    }

    /// Appends the descriptors to sleep on. `false`: some device has none and must be polled.
    pub fn wait_on(&self, fds: &mut Vec<RawFd>) -> bool {
        let mut all = true;
        for it in self.devices.iter().filter(|it| it.receives) {
            all &= it.device.wait_on(fds);
        }
        all
    }

    /// Each device's port and own counters.
    pub fn counters(&mut self) -> Vec<(u8, DeviceCounters)> {
        self.devices.iter_mut().map(|it| (it.port, it.device.counters())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Cable, native_freed};
    use super::*;

    fn live(cables: &[Cable], native: bool) -> Live {
        let device = |(n, c): (usize, &Cable)| LiveDevice::new(n as u8, true, Box::new(c.device(native)));
        Live::new(cables.iter().enumerate().map(device).collect())
    }

    #[test]
    fn an_iteration_is_a_burst_of_every_device() {
        let cables = [Cable::default(), Cable::default(), Cable::default()];
        let mut live = live(&cables, false);
        for n in 0..100u8 {
            cables[0].arrive(&[n]);
        }
        cables[2].arrive(&[200]);
        let mut out = Vec::new();
        assert!(matches!(live.fill(&mut out), Fill::Batch { ends_iteration: false, .. }));
        assert_eq!((out.len(), live.frame(&out[63])), (BURST, &[63][..]));
        assert!(matches!(live.fill(&mut out), Fill::Batch { ends_iteration: true, .. }));
        assert_eq!((out.len(), out[0].dev, live.frame(&out[0])), (1, 2, &[200][..]));
        assert!(live.more_waits() && !live.holds());
        assert!(matches!(live.fill(&mut out), Fill::Batch { ends_iteration: true, .. }));
        assert_eq!(out.len(), 36);
        assert!(matches!(live.fill(&mut out), Fill::Batch { ends_iteration: true, .. }));
        assert!(out.is_empty() && !live.more_waits());
    }

    #[test]
    fn stamps_order_what_devices_bring() {
        let cables = [Cable::default(), Cable::default()];
        let mut live = live(&cables, false);
        let later = u64::MAX - 1;
        for (cable, ts, byte) in
            [(0, 30, 3), (0, 50, 5), (0, later, 8), (1, 10, 1), (1, 30, 4), (1, 60, 6), (1, 70, 7)]
        {
            cables[cable].arrive_at(ts, &[byte]);
        }
        let mut out = Vec::new();
        let mut fill = |live: &mut Live| -> Vec<u8> {
            live.fill(&mut out);
            out.iter().map(|rx| live.frame(rx)[0]).collect()
        };
        assert_eq!(fill(&mut live), [1, 3, 4, 5, 6, 7]);
        // What was stamped after the devices were asked comes in a later iteration, but does not wait for ever.
        assert!(live.holds() && live.more_waits());
        cables[1].arrive_at(80, &[9]);
        assert_eq!(fill(&mut live), [9]);
        assert_eq!(fill(&mut live), [8]);
        assert!(!live.holds());
    }

    /// However much waits in whichever device, frames that were there before the first was asked come in order.
    #[test]
    fn order_holds_across_bursts() {
        let cables = [Cable::default(), Cable::default()];
        let mut live = live(&cables, false);
        for n in 0..1000u64 {
            let cable = usize::from(n % 7 == 0 || n / 200 % 2 == 1);
            cables[cable].arrive_at(n + 1, &n.to_le_bytes());
        }
        let (mut out, mut got) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            live.fill(&mut out);
            got.extend(out.iter().map(|rx| u64::from_le_bytes(live.frame(rx).try_into().expect("8 bytes"))));
        }
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn forwarding_takes_the_buffer_or_copies() {
        for native in [false, true] {
            let cables = [Cable::default(), Cable::default()];
            let mut live = live(&cables, native);
            cables[0].arrive(&[1, 2, 3, 0, 0]);
            let mut out = Vec::new();
            live.fill(&mut out);
            let before = native_freed();
            assert_eq!(live.send_on(1, &out[0], 3), Some(3));
            // A buffer that is on its way is not looked at any more.
            assert_eq!(live.frame(&out[0]).is_empty(), native);
            assert_eq!(live.flush(), (0, 0, false));
            assert_eq!(cables[1].left(), [[1, 2, 3]]);
            assert_eq!(native_freed() - before, u64::from(native));
        }
    }

    #[test]
    fn a_full_queue_is_flushed_once_and_then_drops() {
        let cables = [Cable::default(), Cable::default()];
        let mut live = live(&cables, false);
        cables[1].takes(3);
        let sent = (0..200).filter(|_| live.send(1, &[0; 60])).count();
        // Three went out at the first flush; its queue holds a burst.
        assert_eq!(sent, BURST + 3);
        assert_eq!(live.flush(), (0, 0, true));
        cables[1].goes_down();
        assert!(!live.send(1, &[0; 60]));
        assert_eq!(live.flush(), (BURST as u64, BURST as u64 * 60, false));
    }
}
