//! Live Linux interfaces: received through libpcap, sent through a packet socket.
//!
//! Immediate mode, so that a packet does not wait for a buffer to fill; non-blocking, so that a quiet interface stops nothing;
//! inbound only, so that neither this machine's own frames nor those forwarded come back.

mod fanout;
mod inject;
pub(super) mod interface;

use super::device::{
    BURST, Device, DeviceCounters, Flushed, LivePort, PortInfo, Queued, Queues, RxView, Vouch,
};
use crate::wire::rss::Rss;
use inject::Injector;
use interface::Interface;
use pcap::{Active, Capture, Direction, Precision};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

/// Longest frame received whole.
const SNAPLEN: i32 = 65535;
/// Bytes of the kernel's ring, for each core.
const RING: i32 = 32 << 20;

/// An interface that may be used.
pub struct PcapPort {
    interface: Arc<Interface>,
}

impl PcapPort {
    /// Looks the interface up and tries whether it may be opened.
    ///
    /// # Errors
    /// A line for the user.
    pub fn open(name: &str) -> Result<Self, String> {
        let interface = Interface::find(name)?;
        if let Err(kind) = interface.ethernet() {
            return Err(format!(
                "device '{name}': expected an Ethernet interface, found hardware type {kind} (if_arp.h)"
            ));
        }
        Injector::open(&interface).map_err(|e| explain(name, &e.to_string(), e.raw_os_error()))?;
        if !interface.is_up() {
            return Err(format!("device '{name}': the interface is down; as root: ip link set {name} up"));
        }
        interface.settle_offloads();
        Ok(PcapPort { interface: Arc::new(interface) })
    }

    fn capture(&self) -> Result<Capture<Active>, String> {
        let name = &self.interface.name;
        let open = || -> Result<Capture<Active>, pcap::Error> {
            let capture = Capture::from_device(name.as_str())?
                .snaplen(SNAPLEN)
                .promisc(true)
                .immediate_mode(true)
                .buffer_size(RING)
                .precision(Precision::Nano)
                .open()?
                .setnonblock()?;
            fanout::ignore_outgoing(capture.as_raw_fd());
            fanout::stamp_at_arrival(capture.as_raw_fd());
            capture.direction(Direction::In)?;
            Ok(capture)
        };
        open().map_err(|e| explain(name, &e.to_string(), None))
    }
}

fn explain(name: &str, error: &str, errno: Option<i32>) -> String {
    let denied = matches!(errno, Some(libc::EPERM | libc::EACCES)) || error.contains("permitted");
    if denied {
        format!(
            "device '{name}': no permission to open a packet socket; run as root, or once: setcap cap_net_raw,cap_net_admin+ep PROGRAM"
        )
    } else {
        format!("device '{name}': cannot be opened: {error}")
    }
}

impl LivePort for PcapPort {
    fn info(&self) -> PortInfo {
        self.interface.info()
    }

    fn queues(&self, receives: &[bool], rss: Rss) -> Result<Queues, String> {
        let name = &self.interface.name;
        let mut captures = Vec::new();
        for &receives in receives {
            captures.push(if receives { Some(self.capture()?) } else { None });
        }
        let sockets: Vec<RawFd> = captures.iter().flatten().map(AsRawFd::as_raw_fd).collect();
        if sockets.len() > 1
            && let Err(e) = fanout::join(&sockets, rss, receives.len() as u32)
        {
            log::warn!(
                "device '{name}': the kernel does not share its packets out over {} cores ({e}): one core receives them all",
                sockets.len()
            );
            captures.iter_mut().filter(|c| c.is_some()).skip(1).for_each(|c| *c = None);
        }
        let mut devices: Vec<Box<dyn Device>> = Vec::new();
        for capture in captures {
            let injector = Injector::open(&self.interface)
                .map_err(|e| explain(name, &e.to_string(), e.raw_os_error()))?;
            let mut device = PcapDevice {
                interface: self.interface.clone(),
                capture,
                injector,
                bytes: Vec::new(),
                frames: Vec::with_capacity(BURST),
                no_buffer: 0,
                failed: false,
            };
            if sockets.len() > 1 {
                // What came before the sockets were a group, all of them have.
                device.forget();
            }
            devices.push(Box::new(device));
        }
        // The program deals rightly where all cores listen, but only hand-over makes sure: a packet whose headers the kernel has in
        // pieces goes to the first.
        Ok(Queues { devices, split: receives.len() == 1 })
    }
}

/// A received frame's place in `PcapDevice::bytes`.
struct Place {
    end: usize,
    wire_len: u32,
    ts_ns: u64,
}

/// One core's end of an interface.
struct PcapDevice {
    interface: Arc<Interface>,
    capture: Option<Capture<Active>>,
    injector: Injector,
    /// The frames of the burst, one behind the other.
    bytes: Vec<u8>,
    frames: Vec<Place>,
    no_buffer: u64,
    /// The last read failed.
    failed: bool,
}

impl PcapDevice {
    fn read(&mut self, most: usize) {
        self.bytes.clear();
        self.frames.clear();
        let PcapDevice { interface, capture, bytes, frames, no_buffer, failed, .. } = self;
        let Some(capture) = capture else { return };
        let result = capture.dispatch(Some(most), |packet| {
            if bytes.try_reserve(packet.data.len()).is_err() || frames.try_reserve(1).is_err() {
                *no_buffer += 1;
                return;
            }
            bytes.extend_from_slice(packet.data);
            let ts = packet.header.ts;
            let ts_ns = (ts.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(ts.tv_usec as u64);
            frames.push(Place { end: bytes.len(), wire_len: packet.header.len, ts_ns });
        });
        match result {
            Ok(_) | Err(pcap::Error::TimeoutExpired) => *failed = false,
            Err(e) if !*failed => {
                *failed = true;
                log::error!("device '{}': {e}", interface.name);
            }
            Err(_) => {}
        }
    }

    /// Throws away what has come.
    fn forget(&mut self) {
        for _ in 0..1000 {
            self.read(BURST);
            if self.frames.is_empty() {
                break;
            }
        }
    }
}

// SAFETY: frames lie in `bytes`, which only `receive` changes.
unsafe impl Device for PcapDevice {
    fn receive(&mut self, most: usize, out: &mut Vec<RxView>) {
        if most == 0 {
            return;
        }
        self.read(most);
        let mut start = 0;
        for place in &self.frames {
            out.push(RxView::new(&self.bytes[start..place.end], place.wire_len, place.ts_ns, Vouch::Local));
            start = place.end;
        }
    }

    fn send(&mut self, frame: &[u8]) -> Queued {
        self.injector.send(frame)
    }

    fn has_room(&self, len: usize) -> Queued {
        self.injector.has_room(len)
    }

    fn flush(&mut self) -> Flushed {
        self.injector.flush()
    }

    fn link_up(&self) -> bool {
        self.interface.has_link()
    }

    fn counters(&mut self) -> DeviceCounters {
        let stats = self.capture.as_mut().and_then(|c| c.stats().ok());
        DeviceCounters {
            missed: stats.map_or(0, |s| u64::from(s.dropped)),
            no_buffer: self.no_buffer,
            ..DeviceCounters::default()
        }
    }

    fn wait_on(&self, fds: &mut Vec<RawFd>) -> bool {
        fds.extend(self.capture.as_ref().map(AsRawFd::as_raw_fd));
        true
    }
}
