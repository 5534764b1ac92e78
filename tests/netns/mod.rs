//! Network namespaces for tests that need a real kernel at the other end: made by the test, named after it and its process, and
//! deleted when it ends, also by a panic. What a killed run left behind goes when the next one begins.
//!
//! ```text
//!   client            box                server
//!   c0 10.77.0.1 ─── b0   b1 ─── s0 10.77.0.2
//! ```
//!
//! In the box there is no address and no forwarding: what gets through, the library (or a bridge) brought through.
#![allow(dead_code)] // each test binary uses its own part

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Prints a line that `cargo test` shows even when the test passes.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn is_root() -> bool {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

/// Runs `ip` and the like; panics with its words when it fails.
fn must(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
}

/// Namespaces of one test.
pub struct Net {
    prefix: String,
    spaces: Vec<String>,
}

impl Net {
    /// Ready to make namespaces; `None`, with a message, where that is not possible.
    pub fn new(test: &str) -> Option<Net> {
        for program in ["ip", "ethtool"] {
            if !has(program) {
                note(&format!("skipped: {test} needs {program} (make deps)"));
                return None;
            }
        }
        if !is_root() {
            note(&format!("skipped: {test} makes network namespaces: it must run as root"));
            return None;
        }
        sweep();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut net = Net { prefix: format!("mos-{}-{n}", std::process::id()), spaces: Vec::new() };
        let probe = net.name("probe");
        let made = Command::new("ip").args(["netns", "add", &probe]).output().expect("ip runs");
        if !made.status.success() {
            note(&format!("skipped: {test}: {}", String::from_utf8_lossy(&made.stderr).trim()));
            return None;
        }
        net.spaces.push(probe);
        Some(net)
    }

    /// Client, box and server, connected (see above). `offloads`: left on, as the kernel has them.
    pub fn inline(test: &str, offloads: bool) -> Option<Net> {
        let mut net = Net::new(test)?;
        for space in ["client", "box", "server"] {
            net.space(space);
        }
        net.veth(("client", "c0"), ("box", "b0"));
        net.veth(("box", "b1"), ("server", "s0"));
        net.address("client", "c0", "10.77.0.1/24");
        net.address("server", "s0", "10.77.0.2/24");
        if !offloads {
            for (space, device) in [("client", "c0"), ("box", "b0"), ("box", "b1"), ("server", "s0")] {
                net.offloads_off(space, device);
            }
        }
        Some(net)
    }

    /// The name of a namespace as `ip netns` knows it.
    pub fn name(&self, space: &str) -> String {
        format!("{}-{space}", self.prefix)
    }

    /// Deletes a namespace at the end that somebody else makes.
    pub fn adopt(&mut self, space: &str) {
        self.spaces.push(self.name(space));
    }

    /// Makes a namespace.
    pub fn space(&mut self, space: &str) {
        let name = self.name(space);
        must("ip", &["netns", "add", &name]);
        self.spaces.push(name.clone());
        must("ip", &["-n", &name, "link", "set", "lo", "up"]);
        // Nothing else is on the wire but what the test sends.
        for which in ["all", "default"] {
            let _ = self
                .command(space, "sysctl")
                .args(["-qw", &format!("net.ipv6.conf.{which}.disable_ipv6=1")])
                .output();
        }
    }

    /// Makes a pair of connected interfaces: namespace and name of each end.
    pub fn veth(&self, a: (&str, &str), b: (&str, &str)) {
        let (near, far) = (self.name(a.0), self.name(b.0));
        must("ip", &["-n", &near, "link", "add", a.1, "type", "veth", "peer", "name", b.1, "netns", &far]);
        must("ip", &["-n", &near, "link", "set", a.1, "up"]);
        must("ip", &["-n", &far, "link", "set", b.1, "up"]);
    }

    /// Gives an interface an address.
    pub fn address(&self, space: &str, device: &str, cidr: &str) {
        must("ip", &["-n", &self.name(space), "addr", "add", cidr, "dev", device]);
    }

    /// Runs `ip` in a namespace.
    pub fn ip(&self, space: &str, args: &[&str]) {
        let name = self.name(space);
        let all: Vec<&str> = ["-n", &name].into_iter().chain(args.iter().copied()).collect();
        must("ip", &all);
    }

    /// Makes an interface send and receive what is on the wire: no larger packets, no unfinished checksums.
    pub fn offloads_off(&self, space: &str, device: &str) {
        self.run(space, "ethtool", &["-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off"]);
    }

    /// A kernel bridge over interfaces of a namespace.
    pub fn bridge(&self, space: &str, devices: &[&str]) {
        self.ip(space, &["link", "add", "br0", "type", "bridge"]);
        self.ip(space, &["link", "set", "br0", "up"]);
        for device in devices {
            self.ip(space, &["link", "set", device, "master", "br0"]);
        }
    }

    /// A program to be run in a namespace, with the library's environment variables cleared.
    pub fn command(&self, space: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(space)]).arg(program).stdin(Stdio::null());
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("MOS_") {
                command.env_remove(&key);
            }
        }
        command
    }

    /// Runs a program in a namespace; panics with its words when it fails. Its output.
    pub fn run(&self, space: &str, program: &str, args: &[&str]) -> String {
        let out = self.command(space, program).args(args).output().expect("ip runs");
        assert!(
            out.status.success(),
            "{program} {} in {space}: {}\n{}{}",
            args.join(" "),
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Starts a program in a namespace; it ends with the returned value.
    pub fn start(&self, space: &str, program: impl AsRef<OsStr>, args: &[&str]) -> Process {
        let mut command = self.command(space, program);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        Process::start(command)
    }

    /// Waits until something listens on a TCP port of a namespace.
    pub fn wait_for_port(&self, space: &str, port: u16) {
        let hex = format!(":{port:04X}");
        eventually(Duration::from_secs(10), &format!("port {port} of {space}"), || {
            let table = self.run(space, "cat", &["/proc/net/tcp"]);
            table.lines().any(|l| {
                let mut words = l.split_whitespace();
                words.nth(1).is_some_and(|a| a.ends_with(&hex)) && words.nth(1) == Some("0A")
            })
        });
    }

    /// An nginx in a namespace that serves the files of `dir` on port 80, without sendfile's larger packets.
    pub fn nginx(&self, space: &str, dir: &Path) -> Process {
        let conf = dir.join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/nginx.err;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; default_type application/octet-stream;\n\
             client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3; uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
             server {{ listen 80; listen 81; root {0}; }} }}\n",
            dir.display()
        );
        std::fs::write(&conf, text).expect("write nginx.conf");
        let process = self.start(space, "nginx", &["-c", conf.to_str().expect("UTF-8"), "-e", "/dev/null"]);
        self.wait_for_port(space, 80);
        process
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for space in &self.spaces {
            let _ = Command::new("ip").args(["netns", "del", space]).output();
        }
    }
}

/// Deletes namespaces of test processes that are gone.
fn sweep() {
    let Ok(dir) = std::fs::read_dir("/run/netns") else { return };
    for name in dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()) {
        let pid = name
            .strip_prefix("mos-")
            .and_then(|rest| rest.split('-').next())
            .and_then(|p| p.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// A running program; killed when dropped.
pub struct Process(Child);

impl Process {
    /// Starts it.
    pub fn start(mut command: Command) -> Process {
        Process(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// One that was started already.
    pub fn of(child: Child) -> Process {
        Process(child)
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the child has not been waited for.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits for its end and takes what it wrote; panics when it takes longer than `limit`.
    pub fn finish(mut self, limit: Duration) -> Output {
        let start = Instant::now();
        let (out, err) = (self.0.stdout.take(), self.0.stderr.take());
        let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                if let Some(mut pipe) = pipe {
                    let _ = pipe.read_to_end(&mut all);
                }
                all
            })
        };
        let out = read(out.map(|p| Box::new(p) as _));
        let err = read(err.map(|p| Box::new(p) as _));
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("wait for the program") {
                break status;
            }
            if start.elapsed() > limit {
                let _ = self.0.kill();
                let _ = self.0.wait();
                let words = [out.join().unwrap_or_default(), err.join().unwrap_or_default()].concat();
                panic!("still running after {limit:?}:\n{}", String::from_utf8_lossy(&words));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Output { status, stdout: out.join().unwrap_or_default(), stderr: err.join().unwrap_or_default() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until it is so; panics when it is not within `limit`.
pub fn eventually(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
