//! The live devices of one core as a packet source: a burst from each in turn, and what leaves by them.
//!
//! An iteration is one burst (up to 64 frames) of every device, as in the C library's loop; each burst is a batch of its own,
//! so that frames are used before the next device is asked.

use super::clock;
use super::device::{BURST, Device, DeviceCounters, Native, Queued, RxView};
use super::replay::{Fill, RxFrame};
use std::os::fd::RawFd;

/// A device and its place in the configuration.
pub struct LiveDevice {
    /// The port.
    pub port: u8,
    /// Whether this core receives from it.
    pub receives: bool,
    /// The device.
    pub device: Box<dyn Device>,
}

/// All live devices of a core.
pub struct Live {
    devices: Vec<LiveDevice>,
    /// The burst in process, of device `from`. Emptied before that device receives again.
    views: Vec<RxView>,
    /// The device whose turn it is in this iteration.
    turn: usize,
    /// The device that gave the burst in process.
    from: usize,
    now_ns: u64,
    /// A device of this iteration gave a full burst.
    full: bool,
    /// Frames and bytes that were queued and then dropped, since the last flush.
    lost: (u64, u64),
}

impl Live {
    /// Devices, to be asked in this order.
    pub fn new(devices: Vec<LiveDevice>) -> Self {
        let views = Vec::with_capacity(BURST);
        Live { devices, views, turn: 0, from: 0, now_ns: 0, full: false, lost: (0, 0) }
    }

    /// The devices, with nothing of theirs in process.
    pub fn into_devices(self) -> Vec<LiveDevice> {
        self.devices
    }

    /// Throws away what came while nobody received.
    pub fn forget(&mut self) {
        for it in self.devices.iter_mut().filter(|it| it.receives) {
            // What keeps coming as fast as this is current.
            for _ in 0..1024 {
                self.views.clear();
                it.device.receive(BURST, &mut self.views);
                if self.views.is_empty() {
                    break;
                }
            }
        }
        self.views.clear();
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

    /// The next burst. The clock is read for each.
    pub fn fill(&mut self, out: &mut Vec<RxFrame>) -> Fill {
        out.clear();
        self.now_ns = clock::now_ns();
        self.views.clear();
        if self.turn == 0 {
            self.full = false;
        }
        while let Some(it) = self.devices.get_mut(self.turn) {
            self.turn += 1;
            if !it.receives || self.views.try_reserve(BURST).is_err() || out.try_reserve(BURST).is_err() {
                continue;
            }
            it.device.receive(BURST, &mut self.views);
            if self.views.is_empty() {
                continue;
            }
            self.from = self.turn - 1;
            self.full |= self.views.len() >= BURST;
            for (off, view) in self.views.iter().enumerate() {
                let ts_ns = if view.ts_ns == 0 { self.now_ns } else { view.ts_ns };
                out.push(RxFrame {
                    ts_ns,
                    off,
                    cap_len: view.len(),
                    wire_len: view.wire_len,
                    dev: it.port,
                    vouch: view.vouch,
                });
            }
            break;
        }
        let ends_iteration = self.turn >= self.devices.len();
        if ends_iteration {
            self.turn = 0;
        }
        Fill::Batch { now_ns: self.now_ns, ends_iteration }
    }

    /// Whether a device had more than its share of the iteration that just ended.
    pub fn more_waits(&self) -> bool {
        self.full
    }

    /// The bytes of a frame of the burst in process.
    #[inline]
    pub fn frame(&self, rx: &RxFrame) -> &[u8] {
        // SAFETY: `views` is emptied before its device receives, `send_on` removes a frame that is taken, and devices
        // are dropped with `self`.
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

    /// Queues at most `len` bytes of a frame of the burst in process on device `to`, without a copy where the devices agree on
    /// that; the number of bytes.
    pub fn send_on(&mut self, to: u8, rx: &RxFrame, len: usize) -> Option<usize> {
        let view = self.views.get_mut(rx.off)?;
        let len = len.min(view.len() as usize);
        let it = self.devices.get_mut(to as usize)?;
        if !Self::has_room_on(it, &mut self.lost, len) {
            return None;
        }
        match self.devices.get_mut(self.from)?.device.take(rx.off) {
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
        let device = |(n, c): (usize, &Cable)| LiveDevice {
            port: n as u8,
            receives: true,
            device: Box::new(c.device(native)) as Box<dyn Device>,
        };
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
        assert!(live.more_waits());
        assert!(matches!(live.fill(&mut out), Fill::Batch { ends_iteration: false, .. }));
        assert_eq!(out.len(), 36);
        assert!(matches!(live.fill(&mut out), Fill::Batch { ends_iteration: true, .. }));
        assert!(out.is_empty() && !live.more_waits());
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
