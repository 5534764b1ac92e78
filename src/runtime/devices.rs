//! The configuration's devices: capture files to replay, live interfaces and ports, egress files to write, and which port takes
//! what from which.

use super::live_ports::{Found, LivePorts};
use super::surroundings::Surroundings;
use crate::config::{Config, ConfigError, IoKind, Mos, NetDev};
use crate::io::capture::{CaptureReader, CaptureWriter, Preload};
use crate::io::device::{LivePort, PortInfo};
#[cfg(feature = "dpdk")]
use crate::io::dpdk;
use crate::io::live::Live;
use crate::io::output::{Output, SharedFile};
use crate::io::pcap::PcapPort;
use crate::io::queue::Queue;
use crate::io::replay::{Replay, ReplayOptions};
use crate::io::source::{Port, Source, Steer};
use crate::io::stamped::Stamped;
use crate::net::host::Host;
use crate::net::rss::{Rss, RssForm};
use crate::wire::parse;
use parking_lot::Mutex;
use std::path::Path;

/// What the devices of a configuration are.
pub struct Devices {
    names: Vec<String>,
    /// Port index and reader of each input.
    inputs: Vec<(usize, Mutex<CaptureReader>)>,
    /// Ports that are written.
    egress: Vec<bool>,
    mates: Vec<Option<u8>>,
    options: ReplayOptions,
    rss: Rss,
    surroundings: Surroundings,
    live: LivePorts,
    /// Live devices are read on their packets' clock.
    stamped: bool,
    /// What each port is.
    infos: Vec<PortInfo>,
    /// The egress files of this run: kept to its end, since a core may be through before another one starts.
    writers: Mutex<Vec<Option<SharedFile>>>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Devices({:?})", self.names)
    }
}

impl Devices {
    /// Looks the devices up and opens the captures.
    ///
    /// # Errors
    /// A line that names the device and says what was expected.
    pub fn open(config: &Config) -> std::result::Result<Self, String> {
        let options = ReplayOptions::from_env()?;
        let mos = &config.mos;
        let mut names: Vec<String> = mos.netdevs.iter().map(|d| d.name.clone()).collect();
        for (a, b) in &mos.forward_pairs {
            for name in [a, b] {
                if !names.contains(name) && kind(config, name) == IoKind::File {
                    names.push(name.clone());
                }
            }
        }
        if names.len() > 256 {
            return Err(format!("{} devices: expected at most 256", names.len()));
        }
        let mut mates = vec![None; names.len()];
        for (a, b) in &mos.forward_pairs {
            let at = |n: &String| names.iter().position(|x| x == n);
            if let (Some(a), Some(b)) = (at(a), at(b)) {
                mates[a] = Some(b as u8);
                mates[b] = Some(a as u8);
            }
        }
        let mut inputs = Vec::new();
        let mut found = Vec::new();
        let mut egress = vec![false; names.len()];
        for (n, name) in names.iter().enumerate() {
            let live: Box<dyn LivePort> = match kind(config, name) {
                IoKind::File if !Path::new(name).exists() && mates[n].is_some() => {
                    egress[n] = true;
                    continue;
                }
                IoKind::File => {
                    let reader = CaptureReader::open(name, options.preload).map_err(|e| e.to_string())?;
                    inputs.push((n, Mutex::new(reader)));
                    continue;
                }
                IoKind::Pcap => Box::new(PcapPort::open(name)?),
                IoKind::Dpdk => dpdk_port(mos, name)?,
            };
            let mask = mos.netdevs.iter().find(|d| d.name == *name).map_or(0, |d| d.mask);
            found.push(Found { port: n as u8, mask, device: live });
        }
        if let (Some((n, _)), Some(live)) = (inputs.first(), found.first()) {
            return Err(format!(
                "devices '{}' and '{}': a capture file is replayed on its own clock; expected capture files or live devices, not both",
                names[*n], names[live.port as usize]
            ));
        }
        let stamped = mos.dpdk_clock_packet && !found.is_empty();
        if let Some(other) = names.iter().find(|name| stamped && kind(config, name) == IoKind::Pcap) {
            return Err(format!(
                "device '{other}': with `dpdk {{ clock = packet }}`, expected DPDK ports only"
            ));
        }
        let form = match found.first() {
            _ if mos.rss_fair => RssForm::Fair,
            Some(first) => first.device.rss_form(),
            None => RssForm::Wide,
        };
        let rss = Rss::new(form);
        let live = LivePorts::new(found, rss);
        let mut infos: Vec<PortInfo> = vec![PortInfo::default(); names.len()];
        for (port, info) in live.infos() {
            infos[port as usize] = info;
        }
        for line in &mos.netdevs {
            let NetDev { name, addr, mac, .. } = line;
            if let Some(n) = names.iter().position(|x| x == name) {
                infos[n].addr = addr.or(infos[n].addr);
                infos[n].mac = mac.unwrap_or(infos[n].mac);
            }
        }
        let writers = Mutex::new(vec![None; names.len()]);
        let surroundings = Surroundings::read(config);
        Ok(Devices {
            names,
            inputs,
            egress,
            mates,
            options,
            rss,
            live,
            stamped,
            infos,
            surroundings,
            writers,
        })
    }

    /// The network around a core's ports.
    pub fn host(&self, ports: &[Port]) -> Host {
        self.surroundings.host(ports)
    }

    /// Whether packets come from live devices, on the machine's clock.
    pub fn is_live(&self) -> bool {
        self.has_ports() && !self.stamped
    }

    /// Whether packets come from live devices, on whatever clock.
    pub fn has_ports(&self) -> bool {
        !self.live.is_empty()
    }

    /// Whether packets come from capture files.
    pub fn has_input(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// The map of tuples to cores.
    pub fn rss(&self) -> Rss {
        self.rss
    }

    /// The source of a core with a clock of its own; `sharing` are the cores that share the packets.
    ///
    /// # Errors
    /// What went wrong with which file or device.
    pub fn source(&self, core: usize, sharing: &[usize]) -> std::result::Result<Source, String> {
        let cores = sharing.len();
        if self.stamped && cores > 0 {
            return self.live_source(core, sharing);
        }
        let ports = self.ports()?;
        let Some(rank) = sharing.iter().position(|&c| c == core) else { return Ok(Source::none(ports)) };
        if self.inputs.is_empty() {
            return Ok(Source::none(ports));
        }
        let mut readers = Vec::new();
        for (_, reader) in &self.inputs {
            readers.push(reader.lock().duplicate().map_err(|e| e.to_string())?);
        }
        let devices: Vec<u8> = self.inputs.iter().map(|(n, _)| *n as u8).collect();
        let rss = self.rss;
        let mine = move |frame: &[u8]| core_of(&rss, frame, cores) == rank;
        if cores > 1 && self.options.preload == Preload::Whole {
            let once = ReplayOptions { loops: 1, ..self.options };
            let replay = Replay::new(readers, once).map_err(|e| e.to_string())?;
            let queue = Queue::pick(replay, mine, self.options.loops).map_err(|e| e.to_string())?;
            return Ok(Source::queue(queue, devices, ports));
        }
        let replay = Replay::new(readers, self.options).map_err(|e| e.to_string())?;
        let steer: Option<Steer> = if cores > 1 { Some(Box::new(mine)) } else { None };
        Ok(Source::replay(replay, steer, devices, ports))
    }

    /// A run begins: it writes its egress files anew.
    pub fn begin(&self) {
        self.writers.lock().fill(None);
    }

    /// The source of a core that receives live; `cores` are those that share the packets, if that is not settled yet.
    ///
    /// # Errors
    /// What went wrong with which device.
    pub fn live_source(&self, core: usize, cores: &[usize]) -> std::result::Result<Source, String> {
        let mut ports = self.ports()?;
        let Some(live) = self.live.take(core, cores)? else { return Ok(Source::none(ports)) };
        for (n, (port, _)) in self.live.infos().enumerate() {
            ports[port as usize].output = Some(Output::Device(n as u8));
        }
        if self.stamped {
            return Ok(Source::stamped(Stamped::new(live, self.options), ports));
        }
        Ok(Source::live(live, ports))
    }

    /// A core's live devices come back.
    pub fn give_back(&self, core: usize, live: Live) {
        self.live.give_back(core, live);
    }

    fn ports(&self) -> std::result::Result<Vec<Port>, String> {
        let port = |(n, name): (usize, &String)| {
            let output = if self.egress[n] { Some(self.writer(n)?) } else { None };
            let info = self.infos[n];
            Ok(Port { name: name.clone(), mate: self.mates[n], output, info, ..Port::default() })
        };
        self.names.iter().enumerate().map(port).collect()
    }

    fn writer(&self, n: usize) -> std::result::Result<Output, String> {
        let mut writers = self.writers.lock();
        if let Some(shared) = &writers[n] {
            return Ok(Output::File(shared.clone()));
        }
        let name = &self.names[n];
        let writer =
            CaptureWriter::create(name).map_err(|e| format!("cannot write the capture '{name}': {e}"))?;
        Ok(Output::File(writers[n].insert(SharedFile::new(writer)).clone()))
    }
}

/// A DPDK port, if this build has them.
#[cfg(feature = "dpdk")]
fn dpdk_port(mos: &Mos, name: &str) -> std::result::Result<Box<dyn LivePort>, String> {
    let arguments = dpdk::Arguments { text: mos.dpdk_eal.clone(), channels: mos.nb_mem_channels };
    let options = dpdk::Options { mtu: mos.dpdk_mtu, stamps: mos.dpdk_clock_packet };
    dpdk::open(name, &arguments, options)
}

#[cfg(not(feature = "dpdk"))]
fn dpdk_port(_: &Mos, name: &str) -> std::result::Result<Box<dyn LivePort>, String> {
    Err(format!(
        "device '{name}': this library was built without DPDK; expected a capture file or an interface, or a build with libdpdk-dev \
         installed (cargo feature `dpdk`)"
    ))
}

/// Ends what devices keep for the whole process. None may be in use.
pub fn shut_down() {
    #[cfg(feature = "dpdk")]
    dpdk::shut_down();
}

fn kind(config: &Config, name: &str) -> IoKind {
    config.mos.io.unwrap_or_else(|| IoKind::of_name(name))
}

/// The core that gets a frame: both directions of a flow the same one (D21); what has no tuple goes to the first.
pub(super) fn core_of(rss: &Rss, frame: &[u8], cores: usize) -> usize {
    let p = parse::parse(frame, frame.len() as u32);
    if !p.is_ipv4() {
        return 0;
    }
    rss.queue(p.src, p.dst, p.sport, p.dport, cores as u32) as usize
}

/// Reads the configuration file, applies `MOS_NETDEV`, opens the devices. Warnings are logged.
///
/// # Errors
/// Lines to print: file, line, what was expected.
pub fn configure(path: &Path) -> std::result::Result<(Config, Devices), String> {
    let loaded = Config::load(path).map_err(|e| explain(&e))?;
    let mut loaded = loaded;
    if let Ok(text) = std::env::var("MOS_NETDEV") {
        loaded.config.apply_netdev_env(&text).map_err(|e| explain(&e))?;
    }
    loaded.validate().map_err(|e| explain(&e))?;
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    let devices = Devices::open(&loaded.config)?;
    Ok((loaded.config, devices))
}

fn explain(e: &ConfigError) -> String {
    for warning in e.warnings() {
        log::warn!("{warning}");
    }
    e.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Frames in a capture file.
    fn frames_in(path: &Path) -> usize {
        use crate::io::capture::{Next, Preload};
        let mut reader = CaptureReader::open(path, Preload::Whole).unwrap();
        std::iter::from_fn(|| matches!(reader.next(), Next::Frame(_)).then_some(())).count()
    }

    #[test]
    fn a_core_that_starts_late_adds_to_the_egress_file() {
        let dir = std::env::temp_dir().join(format!("mos-egress-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let out = dir.join("out.pcap");
        let conf = dir.join("mos.conf");
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
        let text = format!(
            "mos {{\n netdev {{\n {demo} 0x3\n }}\n nic_forward_table {{\n {demo} {}\n }}\n}}\n",
            out.display()
        );
        fs::write(&conf, text).unwrap();
        let (_, devices) = configure(&conf).unwrap();
        let send = |rank| match devices.writer(1).unwrap() {
            output @ Output::File(_) => assert!(output.send(rank, &[0; 60])),
            other => panic!("{other:?}"),
        };
        for replay in 0..2 {
            devices.begin();
            // The first core ends, and its file is whole, before the second has opened it.
            send(0);
            assert_eq!(frames_in(&out), 1, "replay {replay}");
            send(1);
            assert_eq!(frames_in(&out), 2, "replay {replay}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
