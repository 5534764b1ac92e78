//! A box with the test program in it, and what it reports.

use crate::harness::{compile, root, scratch};
use crate::netns::{Net, Process};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// What kind of device brings the box its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// libpcap.
    Pcap,
    /// DPDK's net_af_packet.
    #[cfg(feature = "dpdk")]
    AfPacket,
    /// DPDK's net_af_packet, its memory in huge pages.
    #[cfg(feature = "dpdk")]
    HugePages,
    /// DPDK's net_af_xdp.
    #[cfg(feature = "dpdk")]
    AfXdp,
    /// DPDK's net_tap, which makes the interfaces.
    #[cfg(feature = "dpdk")]
    Tap,
}

/// The kinds that this build has, between two interfaces.
pub const KINDS: &[Kind] = &[
    Kind::Pcap,
    #[cfg(feature = "dpdk")]
    Kind::AfPacket,
];

/// The kinds that may listen beside a bridge. (net_af_packet would see what leaves as well as what comes.)
pub const TAPS: &[Kind] = &[Kind::Pcap];

impl Kind {
    /// A configuration: interfaces of the box, with or without forwarding between the two, the cores' mask, and more lines.
    pub fn conf(self, interfaces: &[&str], forward: bool, mask: u64, more: &str) -> String {
        let names: Vec<String> = match self {
            Kind::Pcap => interfaces.iter().map(|i| (*i).to_owned()).collect(),
            #[cfg(feature = "dpdk")]
            _ => (0..interfaces.len()).map(|n| format!("dpdk{n}")).collect(),
        };
        let eal = self.eal(interfaces);
        let lines: String = names.iter().map(|n| format!("\t\t{n} {mask:#x}\n")).collect();
        let pair = match &names[..] {
            [a, b] if forward => format!("\tnic_forward_table {{\n\t\t{a} {b}\n\t}}\n"),
            _ => String::new(),
        };
        format!(
            "application {{\n\ttype = monitor\n\trun = box\n}}\n\
             mos {{\n\tforward = {}\n\tmax_concurrency = 10000\n\trmem_size = 16777216\n{more}\tnetdev {{\n{lines}\t}}\n{pair}{eal}}}\n",
            u8::from(forward)
        )
    }

    /// The block that gives DPDK its ports over these interfaces.
    fn eal(self, interfaces: &[&str]) -> String {
        let Some((memory, driver, options)) = self.driver() else { return String::new() };
        let vdev = |(n, i): (usize, &&str)| format!(" --vdev={driver}{n},iface={i}{options}");
        let vdevs: String = interfaces.iter().enumerate().map(vdev).collect();
        format!("\tdpdk {{\n\t\teal = \"{memory} --no-pci --no-telemetry{vdevs}\"\n\t}}\n")
    }

    /// EAL's memory, the driver, and its options.
    fn driver(self) -> Option<(&'static str, &'static str, &'static str)> {
        #[cfg(feature = "dpdk")]
        const SMALL: &str = "--no-huge -m 128 --no-shconf";
        match self {
            Kind::Pcap => None,
            #[cfg(feature = "dpdk")]
            Kind::AfPacket => Some((SMALL, "net_af_packet", ",framecnt=8192")),
            #[cfg(feature = "dpdk")]
            Kind::HugePages => Some(("--in-memory", "net_af_packet", ",framecnt=8192")),
            #[cfg(feature = "dpdk")]
            Kind::AfXdp => Some((SMALL, "net_af_xdp", "")),
            #[cfg(feature = "dpdk")]
            Kind::Tap => Some((SMALL, "net_tap", "")),
        }
    }
}

fn program(source: &'static str, name: &'static str) -> PathBuf {
    let out = scratch("programs").join(name);
    compile(&root().join(source), &out, &["-D_GNU_SOURCE", "-Wno-unused-parameter"]);
    out
}

/// `tests/live/box.c`.
pub fn box_program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| program("tests/live/box.c", "box"))
}

/// `examples/midstat`.
pub fn midstat() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| program("examples/midstat/midstat.c", "midstat"))
}

/// A directory of the test's own, empty.
pub fn fresh(name: &str) -> PathBuf {
    let dir = scratch(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// The test program, running in the box.
pub struct Running {
    process: Process,
    lines: BufReader<std::process::ChildStdout>,
    stderr: PathBuf,
}

/// Starts the test program in the namespace `box`; it receives when this returns.
pub fn start(net: &Net, test: &str, conf: &str, args: &[&str]) -> Running {
    let mut running = launch(net, test, conf, args);
    let line = running.line();
    assert_eq!(line, "ready\n", "{}", running.said());
    running
}

/// As [`start`]; what the program said when it does not begin to receive.
#[cfg(feature = "dpdk")]
pub fn try_start(net: &Net, test: &str, conf: &str, args: &[&str]) -> Result<Running, String> {
    let mut running = launch(net, test, conf, args);
    let mut line = String::new();
    running.lines.read_line(&mut line).expect("the program's words");
    if line == "ready\n" { Ok(running) } else { Err(running.said()) }
}

/// As [`start`], without waiting for it to receive.
pub fn launch(net: &Net, test: &str, conf: &str, args: &[&str]) -> Running {
    let mut command = net.command("box", box_program());
    launch_as(&mut command, test, conf, args)
}

/// As [`launch`], with a command that runs the program.
pub fn launch_as(command: &mut Command, test: &str, conf: &str, args: &[&str]) -> Running {
    let dir = scratch(test);
    let (path, stderr) = (dir.join("mos.conf"), dir.join("stderr"));
    fs::write(&path, conf).expect("write the configuration");
    let words = fs::File::create(&stderr).expect("a file for its words");
    command.arg("-f").arg(&path).args(args).stdout(Stdio::piped()).stderr(words);
    let mut child = command.spawn().expect("ip runs");
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    Running { process: Process::of(child), lines, stderr }
}

impl Running {
    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its next line.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the program's words");
        line
    }

    /// What it wrote to standard error so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Ends it by SIGINT, when what was on its way has come, and reads its report.
    pub fn stop(self) -> Report {
        std::thread::sleep(Duration::from_millis(300));
        self.stop_now()
    }

    /// Ends it by SIGINT at once.
    pub fn stop_now(self) -> Report {
        self.process.signal(libc::SIGINT);
        self.report()
    }

    /// Waits for its end, and reads its report.
    pub fn report(mut self) -> Report {
        let lines: Vec<String> = self.lines.by_ref().lines().map_while(Result::ok).collect();
        let out = self.process.finish(Duration::from_secs(20));
        let said = fs::read_to_string(&self.stderr).unwrap_or_default();
        let mut report =
            Report { lines, said, code: out.status.code(), flows: Vec::new(), cores: Vec::new() };
        for line in &report.lines {
            let mut words = line.split(' ');
            match words.next() {
                Some("flow") => {
                    let mut next = || words.next().unwrap_or_default().to_owned();
                    let (core, client, _server) = (next(), next(), next());
                    let rest: Vec<String> = words.map(str::to_owned).collect();
                    report.flows.push(Flow {
                        core: core.parse().expect("a core"),
                        client,
                        said: rest.join(" "),
                    });
                }
                Some("core") => {
                    let counters = words.filter_map(|w| w.split_once('='));
                    report.cores.push(
                        counters.map(|(name, n)| (name.to_owned(), n.parse().expect("a number"))).collect(),
                    );
                }
                _ => {}
            }
        }
        report
    }
}

/// One flow as the program saw it.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The core that had it.
    pub core: usize,
    /// `address:port`.
    pub client: String,
    /// What happened to it.
    pub said: String,
}

impl Flow {
    /// Bytes the client sent, and the server.
    pub fn bytes(&self) -> (u64, u64) {
        let bytes = self.said.split(' ').find_map(|w| w.strip_prefix("bytes=")).expect("bytes");
        let (client, server) = bytes.split_once(',').expect("two numbers");
        (client.parse().expect("a number"), server.parse().expect("a number"))
    }
}

/// What the program said at its end.
#[derive(Debug)]
pub struct Report {
    /// All lines.
    pub lines: Vec<String>,
    /// Standard error.
    pub said: String,
    /// Exit code.
    pub code: Option<i32>,
    /// Its flows.
    pub flows: Vec<Flow>,
    /// Counters of each core.
    pub cores: Vec<BTreeMap<String, u64>>,
}

impl Report {
    /// A counter, over all cores.
    pub fn sum(&self, name: &str) -> u64 {
        self.cores
            .iter()
            .map(|c| *c.get(name).unwrap_or_else(|| panic!("no counter {name} in {self:?}")))
            .sum()
    }

    /// Both partitions add up to what was received, on each core (X4); it ended well.
    pub fn check(&self) {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert!(!self.cores.is_empty(), "{self:#?}");
        for core in &self.cores {
            let sum = |prefixes: &[&str]| -> u64 {
                core.iter().filter(|(n, _)| prefixes.iter().any(|p| n.starts_with(p))).map(|(_, v)| v).sum()
            };
            assert_eq!(sum(&["in_"]), core["rx_packets"], "inspection of {core:#?}");
            assert_eq!(
                sum(&["fwd_packets", "consumed", "drop_", "waiting"]),
                core["rx_packets"],
                "fate of {core:#?}"
            );
        }
    }
}
