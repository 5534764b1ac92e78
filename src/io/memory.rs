//! A device made of two lists in memory, for tests: what arrives is put in by the test, what left is read from it.

use super::device::{BURST, Device, DeviceCounters, Driver, Flushed, Native, Queued, RxView, Vouch};
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

#[derive(Debug)]
struct Ends {
    /// With their time in ns.
    arriving: VecDeque<(u64, Vec<u8>)>,
    left: Vec<Vec<u8>>,
    takes: usize,
    longest: usize,
    down: bool,
}

/// The test's end of the device.
#[derive(Clone, Debug)]
pub struct Cable(Arc<Mutex<Ends>>);

impl Default for Cable {
    fn default() -> Self {
        let ends = Ends {
            arriving: VecDeque::new(),
            left: Vec::new(),
            takes: usize::MAX,
            longest: usize::MAX,
            down: false,
        };
        Cable(Arc::new(Mutex::new(ends)))
    }
}

impl Cable {
    /// The library's end. `native`: its frames lie in buffers of its own.
    pub fn device(&self, native: bool) -> MemoryDevice {
        MemoryDevice { cable: self.clone(), native, burst: Vec::new(), queue: Vec::new() }
    }

    /// A frame comes in.
    pub fn arrive(&self, frame: &[u8]) {
        self.arrive_at(0, frame);
    }

    /// A frame comes in with a time stamp.
    pub fn arrive_at(&self, ts_ns: u64, frame: &[u8]) {
        self.0.lock().arriving.push_back((ts_ns, frame.to_vec()));
    }

    /// Whether everything that came in was received.
    pub fn is_quiet(&self) -> bool {
        self.0.lock().arriving.is_empty()
    }

    /// What was sent since the last call.
    pub fn left(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().left)
    }

    /// So many frames more are taken by flushes.
    pub fn takes(&self, n: usize) {
        self.0.lock().takes = n;
    }

    /// Longer frames are never taken.
    pub fn takes_bytes(&self, longest: usize) {
        self.0.lock().longest = longest;
    }

    /// The link is lost.
    pub fn goes_down(&self) {
        self.0.lock().down = true;
    }
}

/// See [`Cable::device`].
pub struct MemoryDevice {
    cable: Cable,
    native: bool,
    burst: Vec<Option<Native>>,
    queue: Vec<Vec<u8>>,
}

thread_local! {
    static FREED: Cell<u64> = const { Cell::new(0) };
}

/// Buffers given back on this thread.
pub fn native_freed() -> u64 {
    FREED.get()
}

static DRIVER: Driver = Driver { name: "memory", bytes, free };

/// # Safety
/// `buffer` is a `Vec<u8>` that [`native`] leaked.
unsafe fn bytes(buffer: *mut ()) -> (*const u8, usize) {
    // SAFETY: the caller's.
    let frame = unsafe { &*buffer.cast::<Vec<u8>>() };
    (frame.as_ptr(), frame.len())
}

/// # Safety
/// As for [`bytes`]; it is not used again.
unsafe fn free(buffer: *mut ()) {
    FREED.set(FREED.get() + 1);
    // SAFETY: the caller's.
    drop(unsafe { Box::from_raw(buffer.cast::<Vec<u8>>()) });
}

fn native(frame: Vec<u8>) -> Native {
    // SAFETY: a leaked box, handled by the functions above; vectors may be freed anywhere.
    unsafe { Native::new(Box::into_raw(Box::new(frame)).cast(), &DRIVER) }
}

// SAFETY: frames lie in boxed vectors that `burst` keeps until the next `receive`, or `take`.
unsafe impl Device for MemoryDevice {
    fn receive(&mut self, most: usize, out: &mut Vec<RxView>) {
        self.burst.clear();
        let mut ends = self.cable.0.lock();
        while self.burst.len() < most
            && let Some((ts_ns, frame)) = ends.arriving.pop_front()
        {
            let held = native(frame);
            out.push(RxView::new(held.bytes(), 0, ts_ns, Vouch::Unknown));
            self.burst.push(Some(held));
        }
    }

    fn take(&mut self, n: usize) -> Option<Native> {
        if self.native { self.burst.get_mut(n)?.take() } else { None }
    }

    fn send(&mut self, frame: &[u8]) -> Queued {
        let room = self.has_room(frame.len());
        if room == Queued::Yes {
            self.queue.push(frame.to_vec());
        }
        room
    }

    fn send_native(&mut self, frame: Native, len: usize) -> Queued {
        match frame.into_buffer(&DRIVER) {
            Ok(buffer) => {
                // SAFETY: a buffer of this driver, now ours.
                let back = unsafe { Native::new(buffer, &DRIVER) };
                self.send(&back.bytes()[..len])
            }
            Err(other) => self.send(&other.bytes()[..len]),
        }
    }

    fn has_room(&self, len: usize) -> Queued {
        let ends = self.cable.0.lock();
        match (ends.down || len > ends.longest, self.queue.len() < BURST) {
            (true, _) => Queued::Never,
            (false, true) => Queued::Yes,
            (false, false) => Queued::Full,
        }
    }

    fn flush(&mut self) -> Flushed {
        let mut ends = self.cable.0.lock();
        if ends.down {
            let lost_bytes = self.queue.iter().map(|f| f.len() as u64).sum();
            return Flushed { lost: self.queue.drain(..).count() as u64, lost_bytes, waiting: false };
        }
        let n = ends.takes.min(self.queue.len());
        ends.takes -= n;
        ends.left.extend(self.queue.drain(..n));
        Flushed { waiting: !self.queue.is_empty(), ..Flushed::default() }
    }

    fn link_up(&self) -> bool {
        !self.cable.0.lock().down
    }

    fn counters(&mut self) -> DeviceCounters {
        DeviceCounters::default()
    }

    fn wait_on(&self, _: &mut Vec<RawFd>) -> bool {
        false
    }
}
