//! What a monitor reads, where its packets go, and its options.

use super::{Error, Monitor};
use crate::config::{Config, Mos, round_rmem_size};
use crate::io::capture::{CaptureReader, CaptureWriter};
use crate::io::output::{Frames, Output, SharedFile};
use crate::io::replay::{Replay, ReplayOptions};
use crate::io::source::{Port, Source};
use crate::monitor::Settings;
use crate::monitor::forest::Forest;
use crate::monitor::state::ForeignCalls;
use crate::runtime::context::{Context, settings_of};
use crate::runtime::devices;
use parking_lot::RwLock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Most captures of one monitor: each is a device.
const MOST_CAPTURES: usize = 255;
/// Most bytes of a packet.
const MOST_FRAME: usize = 65535;
/// Longest time an option takes: what fits the flows' clock with room to spare.
const LONGEST: Duration = Duration::from_secs(1_000_000);

/// No C function is ever registered with a monitor of this API.
const NO_FOREIGN: ForeignCalls =
    ForeignCalls { callback: |_, _, _, _, _, _| {}, filter: |_, _, _, _, _, _| false };

/// Counts monitors.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Builds a [`Monitor`].
///
/// ```
/// # use mos::Monitor;
/// # use std::time::Duration;
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
/// let mut monitor = Monitor::builder()
///     .capture(path)
///     .reassembly(256 * 1024)
///     .idle_timeout(Duration::from_secs(60))
///     .verify_checksums(false)
///     .build()?;
/// monitor.run()?;
/// # Ok::<(), mos::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    captures: Vec<PathBuf>,
    packets: Vec<(Duration, Vec<u8>)>,
    config: Option<PathBuf>,
    output: Option<PathBuf>,
    to_memory: bool,
    reassembly: Option<usize>,
    idle_timeout: Option<Option<Duration>>,
    time_wait: Option<Duration>,
    max_concurrency: Option<u32>,
    verify_checksums: Option<bool>,
    midstream: Option<bool>,
    memory_limit: Option<u64>,
}

impl Builder {
    /// Reads a capture file: pcap or pcapng, plain or gzip. Several are merged by their time stamps.
    pub fn capture(mut self, path: impl AsRef<Path>) -> Self {
        self.captures.push(path.as_ref().to_owned());
        self
    }

    /// Reads packets from memory: Ethernet frames with their times since 1970, in order. Each is a loop iteration of its
    /// own. Not together with captures.
    pub fn packets(mut self, packets: impl IntoIterator<Item = (Duration, Vec<u8>)>) -> Self {
        self.packets.extend(packets);
        self
    }

    /// Takes options from a configuration file (`mos.conf`), and captures and outputs too when none are given here;
    /// `MOS_NETDEV` in the environment overrides its devices. Options set here win, whatever the order.
    pub fn config_file(mut self, path: impl AsRef<Path>) -> Self {
        self.config = Some(path.as_ref().to_owned());
        self
    }

    /// Writes the packets that are forwarded to a capture file, as callbacks left them. An existing file is overwritten.
    pub fn forward_to(mut self, path: impl AsRef<Path>) -> Self {
        self.output = Some(path.as_ref().to_owned());
        self
    }

    /// Keeps the packets that are forwarded in memory, for [`Monitor::take_forwarded`].
    ///
    /// ```
    /// # use mos::{Monitor};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut first = Monitor::builder().capture(path).forward_to_memory().build()?;
    /// first.run()?;
    /// // What one lets pass, another one sees.
    /// let mut monitor = Monitor::builder().packets(first.take_forwarded()).build()?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    pub fn forward_to_memory(mut self) -> Self {
        self.to_memory = true;
        self
    }

    /// Bytes kept of each direction's stream, from 1 to 2^30, rounded up to a multiple of 1024; 8192 by default. A callback
    /// that reads on every `NewData` misses nothing that arrives in order, however few they are.
    pub fn reassembly(mut self, bytes: usize) -> Self {
        self.reassembly = Some(bytes);
        self
    }

    /// A flow without packets for so long ends; `None`: only with its connection, or with the run. 30 s by default.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = Some(timeout.into());
        self
    }

    /// How long a closed flow stays for late packets; 0 by default.
    pub fn time_wait(mut self, time: Duration) -> Self {
        self.time_wait = Some(time);
        self
    }

    /// Sockets at most: one for each listener, and one for each listener of each flow. 100,000 by default. When all are
    /// in use, a new flow takes the place of the oldest half-open one, else of the one idle longest.
    pub fn max_concurrency(mut self, sockets: u32) -> Self {
        self.max_concurrency = Some(sockets);
        self
    }

    /// Whether packets with a wrong IPv4 or TCP checksum are kept from the flows; by default they are. Switch it off for
    /// captures taken on the sending host, before its network card fills checksums in.
    pub fn verify_checksums(mut self, yes: bool) -> Self {
        self.verify_checksums = Some(yes);
        self
    }

    /// Whether flows are picked up in the middle; by default a flow begins with its SYN, and other packets are orphans.
    pub fn midstream(mut self, yes: bool) -> Self {
        self.midstream = Some(yes);
        self
    }

    /// Bytes of all streams together at most; no limit by default. What is beyond is refused and counted.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Opens everything.
    ///
    /// # Errors
    /// [`Error::NoSource`]; [`Error::Open`]: a capture cannot be read; [`Error::Output`]: the output cannot be written;
    /// [`Error::Config`]: the configuration file, or a `MOS_…` variable of the environment, was not understood;
    /// [`Error::Option`]: an option's value is out of range.
    pub fn build(mut self) -> Result<Monitor, Error> {
        let configured = match &self.config {
            Some(path) => Some(devices::configure(path).map_err(|reason| Error::Config { reason })?),
            None => None,
        };
        let (config, devices) = match configured {
            Some((config, devices)) => (config, Some(devices)),
            None => (Config { apps: Vec::new(), mos: Mos::default() }, None),
        };
        let settings = self.settings(settings_of(&config))?;
        let own =
            !self.captures.is_empty() || !self.packets.is_empty() || self.output.is_some() || self.to_memory;
        let (source, forwarded) = match devices {
            Some(devices) if !own => {
                let source =
                    if devices.is_live() { devices.live_source(0, &[0]) } else { devices.source(0, &[0]) };
                (source.map_err(|reason| Error::Config { reason })?, None)
            }
            _ => self.source()?,
        };
        let mut context = Context::with_settings(0, Arc::new(config), settings, NO_FOREIGN, source);
        context.monitor.own_forest = Some(Box::new(RwLock::new(Forest::default())));
        Ok(Monitor {
            context,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            stop: Arc::new(AtomicBool::new(false)),
            forwarded,
        })
    }

    fn settings(&self, mut settings: Settings) -> Result<Settings, Error> {
        if let Some(bytes) = self.reassembly {
            if !(1..=1 << 30).contains(&bytes) {
                return Err(Error::Option { name: "reassembly", expected: "1 to 1073741824 bytes" });
            }
            settings.rmem = round_rmem_size(bytes as i32) as usize;
        }
        if let Some(timeout) = self.idle_timeout {
            settings.timeout_ms = timeout.map(|t| millis("idle_timeout", t, 1)).transpose()?;
        }
        if let Some(time) = self.time_wait {
            settings.time_wait_ms = millis("time_wait", time, 0)?;
        }
        if let Some(sockets) = self.max_concurrency {
            if !(1..=i32::MAX as u32).contains(&sockets) {
                return Err(Error::Option { name: "max_concurrency", expected: "1 to 2147483647 sockets" });
            }
            settings.max_ids = sockets;
        }
        settings.verify = self.verify_checksums.unwrap_or(settings.verify);
        settings.midstream = self.midstream.unwrap_or(settings.midstream);
        settings.memory_limit = self.memory_limit.or(settings.memory_limit);
        Ok(settings)
    }

    /// Devices: the captures (or the packets), then the output, which takes what comes in by any of them.
    fn source(&mut self) -> Result<(Source, Option<Frames>), Error> {
        if self.captures.is_empty() && self.packets.is_empty() {
            return Err(Error::NoSource);
        }
        if !self.captures.is_empty() && !self.packets.is_empty() {
            return Err(Error::Option { name: "packets", expected: "captures or packets, not both" });
        }
        if self.captures.len() > MOST_CAPTURES {
            return Err(Error::Option { name: "capture", expected: "at most 255 captures" });
        }
        if self.output.is_some() && self.to_memory {
            return Err(Error::Option {
                name: "forward_to_memory",
                expected: "one output: a file or memory",
            });
        }
        // Inputs first: a mistake in their names must not cost an existing output.
        let options = ReplayOptions::from_env().map_err(|reason| Error::Config { reason })?;
        let mut readers = Vec::new();
        for path in &self.captures {
            readers.push(CaptureReader::open(path, options.preload).map_err(open_error)?);
        }
        let (output, forwarded) = self.output()?;
        let inputs = self.captures.len().max(1);
        let mate = output.is_some().then_some(inputs as u8);
        let mut ports: Vec<Port> = (0..inputs)
            .map(|n| Port {
                name: self.captures.get(n).map_or("packets".into(), |p| p.display().to_string()),
                mate,
                ..Port::default()
            })
            .collect();
        if output.is_some() {
            ports.push(Port { name: "output".into(), output, ..Port::default() });
        }
        if !readers.is_empty() {
            let replay = Replay::new(readers, options).map_err(open_error)?;
            return Ok((Source::replay(replay, None, (0..inputs as u8).collect(), ports), forwarded));
        }
        if self.packets.iter().any(|(_, frame)| frame.len() > MOST_FRAME) {
            return Err(Error::Option { name: "packets", expected: "frames of at most 65535 bytes" });
        }
        let mut source = Source::script(ports);
        if let Some(script) = source.script_mut() {
            for (at, frame) in std::mem::take(&mut self.packets) {
                let ns = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
                script.waiting.push_back((ns, vec![(0, frame)]));
            }
        }
        Ok((source, forwarded))
    }

    fn output(&self) -> Result<(Option<Output>, Option<Frames>), Error> {
        if self.to_memory {
            let frames = Frames::default();
            return Ok((Some(Output::Memory(frames.clone())), Some(frames)));
        }
        let Some(path) = &self.output else { return Ok((None, None)) };
        let failed = |reason: String| Error::Output { path: path.clone(), reason };
        if let Ok(target) = path.canonicalize()
            && self.captures.iter().any(|c| c.canonicalize().is_ok_and(|c| c == target))
        {
            return Err(failed("expected another file than the captures that are read".into()));
        }
        let writer = CaptureWriter::create(path).map_err(|e| failed(e.to_string()))?;
        Ok((Some(Output::File(SharedFile::new(writer))), None))
    }
}

fn millis(name: &'static str, time: Duration, least: u32) -> Result<u32, Error> {
    let expected = if least > 0 { "1 ms to 1000000 s, or None" } else { "0 to 1000000 s" };
    let ms = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    if ms < least || time > LONGEST { Err(Error::Option { name, expected }) } else { Ok(ms) }
}

fn open_error(e: impl std::fmt::Display) -> Error {
    Error::Open { reason: e.to_string() }
}
