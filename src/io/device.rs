//! The seam between the library and what moves packets: a live device as one core drives it, one receive and one transmit
//! queue; and before that a port, which is opened once and shared out over the cores.
//!
//! Life of a port: [`LivePort`] is made by `mtcp_init` (everything that can be wrong is said there). When the first context
//! is made and so the cores are known, [`LivePort::queues`] gives one [`Device`] for each. A core's round then is: for each
//! of its devices [`Device::receive`]; the frames are processed where they lie; those that go on are queued on other
//! devices, either as the device's own buffer ([`Device::take`], [`Device::send_native`]) or as a copy ([`Device::send`]);
//! at the end [`Device::flush`] on each.
//!
//! Who calls: one thread at a time, but not always the same one (decision A: whoever waits, polls). A device whose driver
//! wants to know the threads that use it (DPDK) finds out by itself, in `receive`, `flush` and when it is dropped.

use crate::wire::rss::{Rss, RssForm};
use std::net::Ipv4Addr;
use std::os::fd::RawFd;

/// Most frames of one burst.
pub const BURST: usize = 64;

/// What is known about a received frame's checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vouch {
    /// Nothing: they are verified here.
    #[default]
    Unknown,
    /// Nothing, and the frame may come straight from a stack on this machine that leaves the TCP checksum to its network
    /// card: a field that holds the pseudo header's sum alone is unfinished, not wrong.
    Local,
    /// The device found IP's and TCP's right.
    Good,
    /// The device found IP's wrong.
    BadIp,
    /// The device found IP's right and TCP's wrong.
    BadTcp,
}

/// A received frame: where it lies, and what the device says of it.
#[derive(Clone, Copy, Debug)]
pub struct RxView {
    data: *const u8,
    len: u32,
    /// Bytes it had on the wire; more than `len` when the device cut it.
    pub wire_len: u32,
    /// When it arrived, in ns since the epoch; 0 when the device does not know.
    pub ts_ns: u64,
    /// What is known about its checksums.
    pub vouch: Vouch,
}

// SAFETY: a view is read only through the device that made it, which moves between threads together with it.
unsafe impl Send for RxView {}

impl RxView {
    /// A frame that lies in `bytes`; the device promises that they stay (see [`Device`]).
    pub fn new(bytes: &[u8], wire_len: u32, ts_ns: u64, vouch: Vouch) -> Self {
        let len = bytes.len() as u32;
        RxView { data: bytes.as_ptr(), len, wire_len: wire_len.max(len), ts_ns, vouch }
    }

    /// A frame that is not there any more.
    pub const GONE: RxView =
        RxView { data: std::ptr::dangling(), len: 0, wire_len: 0, ts_ns: 0, vouch: Vouch::Unknown };

    /// Bytes received.
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The frame's bytes.
    ///
    /// # Safety
    /// The device that gave the view has not been asked to receive since, not been dropped, and not been asked to take this frame.
    #[inline]
    pub unsafe fn bytes<'a>(&self) -> &'a [u8] {
        // SAFETY: made from a slice, which the device keeps as it is for as long as the caller promises.
        unsafe { std::slice::from_raw_parts(self.data, self.len as usize) }
    }
}

/// How a device's own buffer is handled: one table for each driver, compared by address.
#[derive(Debug)]
pub struct Driver {
    /// Name, for messages.
    pub name: &'static str,
    /// The buffer's bytes, or as many as lie together at its beginning.
    pub bytes: unsafe fn(buffer: *mut ()) -> (*const u8, usize),
    /// Gives the buffer back, from whatever thread.
    pub free: unsafe fn(buffer: *mut ()),
}

/// A device's own buffer with a frame in it, taken out of a burst: it is sent without a copy by a device of the same driver,
/// goes to another core, or is freed.
#[derive(Debug)]
pub struct Native {
    buffer: *mut (),
    driver: &'static Driver,
}

// SAFETY: whoever makes one promises that its buffer may be used and freed by any thread.
unsafe impl Send for Native {}

impl Native {
    /// # Safety
    /// `buffer` belongs to the caller, who gives it away here, and `driver`'s functions are right for it on any thread.
    pub unsafe fn new(buffer: *mut (), driver: &'static Driver) -> Self {
        Native { buffer, driver }
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the buffer is ours, and the driver's function right for it.
        unsafe {
            let (data, len) = (self.driver.bytes)(self.buffer);
            std::slice::from_raw_parts(data, len)
        }
    }

    /// The buffer, for a device of `driver`; the native itself comes back when it is another's.
    pub fn into_buffer(self, driver: &'static Driver) -> Result<*mut (), Native> {
        if std::ptr::eq(self.driver, driver) {
            Ok(std::mem::ManuallyDrop::new(self).buffer)
        } else {
            Err(self)
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: the buffer is ours, and is not used again.
        unsafe { (self.driver.free)(self.buffer) }
    }
}

/// What became of a frame that was to be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It leaves with the next flush.
    Yes,
    /// The queue is full: a flush may make room.
    Full,
    /// The device never sends such a frame (too long), or is down.
    Never,
}

/// What a flush left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Frames that had been queued and were dropped.
    pub lost: u64,
    /// Their bytes.
    pub lost_bytes: u64,
    /// Frames that stay queued, because the device takes no more just now.
    pub waiting: bool,
}

/// Counters that only the device knows, since it was opened, of this core's queues or, where the hardware does not tell them
/// apart, of the whole port (then on one of its cores only).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Frames that came when the receive ring was full.
    pub missed: u64,
    /// Frames for which there was no buffer.
    pub no_buffer: u64,
    /// Frames received with an error.
    pub errors: u64,
    /// Frames for another core that its ring had no room for.
    pub resteer_lost: u64,
    /// Frames handed over to another core.
    pub resteered: u64,
}

/// What a port is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortInfo {
    /// Hardware address; zeros when there is none.
    pub mac: [u8; 6],
    /// Own address and prefix length of the kernel interface of that name, if there is one (D22).
    pub addr: Option<(Ipv4Addr, u8)>,
    /// Largest IP packet it sends, in bytes.
    pub mtu: u32,
}

/// A live device as one core drives it.
///
/// # Safety
/// The views that [`receive`](Self::receive) gives out are readable, and nobody writes to them, until the next call of
/// `receive` or until the device is dropped, whatever else is called meanwhile; only [`take`](Self::take) ends the view of
/// the frame that it takes.
pub unsafe trait Device: Send {
    /// Gives the frames of the burst before back, and appends those of the next, at most `most` (at most [`BURST`]), to `out`,
    /// where there is room for them. Never waits.
    fn receive(&mut self, most: usize, out: &mut Vec<RxView>);

    /// Takes frame `n` of the last burst, counted from its first, out of it. `None`: such frames are copied.
    fn take(&mut self, n: usize) -> Option<Native> {
        let _ = n;
        None
    }

    /// Queues a copy of a frame (from the Ethernet header on, without check sequence).
    fn send(&mut self, frame: &[u8]) -> Queued;

    /// Queues the first `len` bytes of a taken frame. It is dropped when the answer is not [`Queued::Yes`]; a device that can
    /// tell says so before ([`has_room`](Self::has_room)).
    fn send_native(&mut self, frame: Native, len: usize) -> Queued {
        let bytes = frame.bytes();
        self.send(&bytes[..len.min(bytes.len())])
    }

    /// Whether a frame of `len` bytes would be queued now.
    fn has_room(&self, len: usize) -> Queued;

    /// Sends what is queued, as much as the device takes at once: never waits for it.
    fn flush(&mut self) -> Flushed;

    /// Whether the link is up, as of now. May ask the kernel or the device: not for every packet.
    fn link_up(&self) -> bool;

    /// The counters as of now. May ask the kernel or the device: not for every packet.
    fn counters(&mut self) -> DeviceCounters;

    /// Appends the descriptors that become readable when there is something to receive. `false`: the device must be polled.
    fn wait_on(&self, fds: &mut Vec<RawFd>) -> bool;
}

/// The devices of one port, one for each core that was asked for, in that order.
pub struct Queues {
    /// One device for each core.
    pub devices: Vec<Box<dyn Device>>,
    /// Each device receives its own core's flows only, by the map of D21. Else frames are handed over between the cores
    /// ([`super::resteer`]), and only those that come in wrong cost anything.
    pub split: bool,
}

/// A port that was found and may be used, before it is known which cores share it.
pub trait LivePort: Send + Sync {
    /// What it is.
    fn info(&self) -> PortInfo;

    /// How tuples become queues where this is the first port and the configuration does not say (D21).
    fn rss_form(&self) -> RssForm {
        RssForm::Wide
    }

    /// Opens the queues, to receive what `rss` gives to each core. `receives[n]`: core number `n` has the port in its mask; the
    /// others only send. Devices that were given out before and still exist stay as they are.
    ///
    /// # Errors
    /// A line for the user: device, what went wrong, what to do.
    fn queues(&self, receives: &[bool], rss: Rss) -> Result<Queues, String>;
}
