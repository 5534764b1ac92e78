//! The live devices of a configuration, and which core has which of their queues.
//!
//! Ports are found by `mtcp_init`. Their queues are opened, for all cores together, when the first context is made: then it is
//! settled which cores share the packets. A context takes its core's queues and gives them back at its end, so that the map of
//! tuples to cores stays as it is while others run; when nobody has any, they are closed.

use crate::io::device::{Device, LivePort, PortInfo};
use crate::io::live::{Live, LiveDevice};
use crate::io::resteer::{self, CoreOf};
use crate::runtime::sync::Mutex;
use crate::wire::rss::Rss;
use std::sync::Arc;

/// One live device of the configuration.
pub struct Found {
    /// Its place in the configuration.
    pub port: u8,
    /// Cores that receive from it.
    pub mask: u64,
    /// The device.
    pub device: Box<dyn LivePort>,
}

/// All live devices of the configuration.
pub struct LivePorts {
    found: Vec<Found>,
    rss: Rss,
    open: Mutex<Option<Open>>,
}

/// Queues, once they are open.
struct Open {
    /// Cores that share the packets, by rank.
    cores: Vec<usize>,
    /// What no context has at present, by rank.
    free: Vec<Option<Vec<LiveDevice>>>,
    /// Ranks whose queues a context had: what came since then is nobody's.
    used: Vec<bool>,
}

impl LivePorts {
    /// Devices in the configuration's order.
    pub fn new(found: Vec<Found>, rss: Rss) -> Self {
        LivePorts { found, rss, open: Mutex::new(None) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Each one's place and what it is.
    pub fn infos(&self) -> impl Iterator<Item = (u8, PortInfo)> + '_ {
        self.found.iter().map(|f| (f.port, f.device.info()))
    }

    /// A core's queues; the first call opens those of all `cores`. `None`: the core is not among those that share the packets.
    ///
    /// # Errors
    /// A line for the user.
    pub fn take(&self, core: usize, cores: &[usize]) -> Result<Option<Live>, String> {
        let mut open = self.open.lock();
        let open = match &mut *open {
            Some(open) => open,
            none => none.insert(self.open(cores)?),
        };
        let Some(rank) = open.cores.iter().position(|&c| c == core) else { return Ok(None) };
        let devices = open.free[rank].take().ok_or("the core's queues are still in use")?;
        let mut live = Live::new(devices);
        if std::mem::replace(&mut open.used[rank], true) {
            live.forget();
        }
        Ok(Some(live))
    }

    /// A core's queues come back. Those of the last close.
    pub fn give_back(&self, core: usize, live: Live) {
        let mut open = self.open.lock();
        let all_free = open.as_mut().is_none_or(|open| {
            if let Some(rank) = open.cores.iter().position(|&c| c == core) {
                open.free[rank] = Some(live.into_devices());
            }
            open.free.iter().all(Option::is_some)
        });
        if all_free {
            *open = None;
        }
    }

    fn open(&self, cores: &[usize]) -> Result<Open, String> {
        let mut free: Vec<Option<Vec<LiveDevice>>> = cores.iter().map(|_| Some(Vec::new())).collect();
        for found in &self.found {
            let mut receives: Vec<bool> = cores.iter().map(|&c| found.mask >> c & 1 == 1).collect();
            let queues = found.device.queues(&receives, self.rss)?;
            let devices: Vec<Box<dyn Device>> = if queues.split {
                queues.devices
            } else {
                receives.fill(true);
                resteer::resteered(queues.devices, self.core_of(cores.len()))
            };
            for ((free, device), receives) in free.iter_mut().zip(devices).zip(receives) {
                free.get_or_insert_default().push(LiveDevice::new(found.port, receives, device));
            }
        }
        Ok(Open { cores: cores.to_vec(), free, used: vec![false; cores.len()] })
    }

    fn core_of(&self, cores: usize) -> CoreOf {
        let rss = self.rss;
        Arc::new(move |frame| super::devices::core_of(&rss, frame, cores))
    }
}
