//! Handing frames over between cores, for devices that cannot split flows as D21 asks (one queue, virtual functions, other
//! hash keys): each core's device looks at what it received, keeps its own flows' frames, and puts the others' into their cores'
//! rings.
//!
//! A frame goes over as the device's own buffer where it has one, else as a copy. Rings are bounded: what finds its ring full
//! is dropped and counted. Where the device did split rightly, a frame costs one look at its headers.

use super::device::{BURST, Device, DeviceCounters, Flushed, Native, Queued, RxView, Vouch};
use super::wake::Wake;
use crossbeam_queue::ArrayQueue;
use std::os::fd::RawFd;
use std::sync::Arc;

/// Frames a core's ring holds.
const RING: usize = 4096;

/// Says which core, by its place among those that share the port, a frame belongs to.
pub type CoreOf = Arc<dyn Fn(&[u8]) -> usize + Send + Sync>;

/// A frame on its way.
struct Handed {
    bytes: Held,
    wire_len: u32,
    ts_ns: u64,
    vouch: Vouch,
}

enum Held {
    Native(Native),
    Copy(Vec<u8>),
    /// It was forwarded as it is.
    Gone,
}

/// One core's end.
struct End {
    ring: ArrayQueue<Handed>,
    wake: Wake,
}

/// The rings of one port.
struct Mesh {
    ends: Vec<End>,
    core_of: CoreOf,
}

/// Makes `devices`, one for each core, hand over what is not theirs.
pub fn resteered(devices: Vec<Box<dyn Device>>, core_of: CoreOf) -> Vec<Box<dyn Device>> {
    let end = || End { ring: ArrayQueue::new(RING), wake: Wake::default() };
    let mesh = Arc::new(Mesh { ends: devices.iter().map(|_| end()).collect(), core_of });
    let one = |(rank, inner)| -> Box<dyn Device> {
        Box::new(Resteered {
            inner,
            rank,
            mesh: mesh.clone(),
            got: Vec::with_capacity(BURST),
            held: Vec::with_capacity(BURST),
            own: Vec::with_capacity(BURST),
            passed: 0,
            lost: 0,
        })
    };
    devices.into_iter().enumerate().map(one).collect()
}

struct Resteered {
    inner: Box<dyn Device>,
    rank: usize,
    mesh: Arc<Mesh>,
    /// What the device gave in this burst.
    got: Vec<RxView>,
    /// What came from other cores in this burst: its first frames.
    held: Vec<Handed>,
    /// Places, in the device's burst, of the frames behind them.
    own: Vec<u8>,
    passed: u64,
    lost: u64,
}

impl Resteered {
    /// Gives a frame of the device's burst to core `to`.
    fn hand_over(&mut self, n: usize, view: RxView, to: usize) {
        let bytes = match self.inner.take(n) {
            Some(native) => Held::Native(native),
            // SAFETY: the view is of the device's last burst, and was not taken.
            None => match copy(unsafe { view.bytes() }) {
                Some(copy) => Held::Copy(copy),
                None => {
                    self.lost += 1;
                    return;
                }
            },
        };
        let handed = Handed { bytes, wire_len: view.wire_len, ts_ns: view.ts_ns, vouch: view.vouch };
        let end = &self.mesh.ends[to];
        match end.ring.push(handed) {
            Ok(()) => self.passed += 1,
            Err(_) => self.lost += 1,
        }
    }
}

fn copy(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy)
}

// SAFETY: views are either the inner device's, passed on for the same time, or of `held`, whose buffers do not move and are
// freed at the next `receive`, on drop, or by `take`.
unsafe impl Device for Resteered {
    fn receive(&mut self, most: usize, out: &mut Vec<RxView>) {
        self.held.clear();
        self.own.clear();
        self.got.clear();
        let mesh = self.mesh.clone();
        let end = &mesh.ends[self.rank];
        end.wake.note();
        // Half for the others' finds, so that neither starves the other.
        while self.held.len() < most.div_ceil(2)
            && let Some(handed) = end.ring.pop()
        {
            let bytes = match &handed.bytes {
                Held::Native(native) => native.bytes(),
                Held::Copy(copy) => copy,
                Held::Gone => &[],
            };
            out.push(RxView::new(bytes, handed.wire_len, handed.ts_ns, handed.vouch));
            self.held.push(handed);
        }
        if !end.ring.is_empty() {
            // There is more: not to sleep now.
            end.wake.wake();
        }
        let mut got = std::mem::take(&mut self.got);
        self.inner.receive(most - self.held.len(), &mut got);
        let mut touched = 0u64;
        for (n, view) in got.iter().enumerate() {
            // SAFETY: the device's last burst; this frame was not taken.
            let to = (mesh.core_of)(unsafe { view.bytes() });
            if to == self.rank || to >= mesh.ends.len() {
                self.own.push(n as u8);
                out.push(*view);
            } else {
                self.hand_over(n, *view, to);
                touched |= 1 << (to & 63);
            }
        }
        self.got = got;
        for (n, end) in mesh.ends.iter().enumerate() {
            if touched >> (n & 63) & 1 == 1 {
                end.wake.wake();
            }
        }
    }

    fn take(&mut self, n: usize) -> Option<Native> {
        match self.held.get_mut(n) {
            Some(handed) => match std::mem::replace(&mut handed.bytes, Held::Gone) {
                Held::Native(native) => Some(native),
                kept => {
                    handed.bytes = kept;
                    None
                }
            },
            None => self.inner.take(usize::from(*self.own.get(n - self.held.len())?)),
        }
    }

    fn send(&mut self, frame: &[u8]) -> Queued {
        self.inner.send(frame)
    }

    fn send_native(&mut self, frame: Native, len: usize) -> Queued {
        self.inner.send_native(frame, len)
    }

    fn has_room(&self, len: usize) -> Queued {
        self.inner.has_room(len)
    }

    fn flush(&mut self) -> Flushed {
        self.inner.flush()
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }

    fn counters(&mut self) -> DeviceCounters {
        let mut counters = self.inner.counters();
        counters.resteered += self.passed;
        counters.resteer_lost += self.lost;
        counters
    }

    fn wait_on(&self, fds: &mut Vec<RawFd>) -> bool {
        let polled = self.inner.wait_on(fds);
        fds.extend(self.mesh.ends[self.rank].wake.fd());
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Cable, native_freed};
    use super::*;

    /// The first byte of a frame says whose it is.
    fn two(native: bool) -> (Vec<Cable>, Vec<Box<dyn Device>>) {
        let cables: Vec<Cable> = (0..2).map(|_| Cable::default()).collect();
        let devices = cables.iter().map(|c| Box::new(c.device(native)) as Box<dyn Device>).collect();
        (cables, resteered(devices, Arc::new(|f| usize::from(f[0]))))
    }

    fn receive(device: &mut Box<dyn Device>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        device.receive(BURST, &mut out);
        // SAFETY: the device still stands at this burst.
        out.iter().map(|v| unsafe { v.bytes() }.to_vec()).collect()
    }

    #[test]
    fn each_core_gets_its_own_in_order() {
        for native in [false, true] {
            let (cables, mut devices) = two(native);
            for n in 0..6u8 {
                cables[0].arrive(&[n & 1, n]);
            }
            cables[1].arrive(&[0, 9]);
            assert_eq!(receive(&mut devices[0]), [[0, 0], [0, 2], [0, 4]]);
            assert_eq!(receive(&mut devices[1]), [[1, 1], [1, 3], [1, 5]]);
            assert_eq!(receive(&mut devices[0]), [[0, 9]]);
            assert_eq!(devices[0].counters().resteered, 3);
        }
    }

    #[test]
    fn a_frame_from_another_core_goes_on_without_a_copy() {
        let (cables, mut devices) = two(true);
        cables[0].arrive(&[1, 7]);
        cables[1].arrive(&[1, 8]);
        let before = native_freed();
        assert!(receive(&mut devices[0]).is_empty());
        assert_eq!(receive(&mut devices[1]), [[1, 7], [1, 8]]);
        for n in 0..2 {
            let native = devices[1].take(n).expect("a buffer of the device's own");
            assert_eq!(devices[0].send_native(native, 2), Queued::Yes);
        }
        devices[0].flush();
        assert_eq!(cables[0].left(), [[1, 7], [1, 8]]);
        assert!(receive(&mut devices[1]).is_empty());
        assert_eq!(native_freed() - before, 2);
    }

    #[test]
    fn a_full_ring_drops_and_counts() {
        let (cables, mut devices) = two(false);
        for _ in 0..RING + 100 {
            cables[0].arrive(&[1]);
        }
        while !cables[0].is_quiet() {
            assert!(receive(&mut devices[0]).is_empty());
        }
        let counters = devices[0].counters();
        assert_eq!((counters.resteered, counters.resteer_lost), (RING as u64, 100));
        let mut got = 0;
        loop {
            let n = receive(&mut devices[1]).len();
            got += n;
            if n == 0 {
                break;
            }
        }
        assert_eq!(got, RING);
    }
}
