//! Between real hosts in network namespaces.
//!
//! ```text
//!   client                     box                      server
//!   c0 192.168.0.10 ─── b0 .1     b1 203.0.113.2 ─── s0 203.0.113.1
//! ```

use crate::captures::{firewall, fresh, midstat, nat};
use crate::netns::{Net, Process, eventually};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

/// An application in the namespace `box`.
struct App {
    process: Process,
    lines: BufReader<ChildStdout>,
}

impl App {
    /// Starts it; it forwards when `probe` succeeds.
    fn start(net: &Net, program: &Path, args: &[&str], said: &Path, probe: impl FnMut() -> bool) -> App {
        let mut command: Command = net.command("box", program);
        let words = fs::File::create(said).expect("a file for its words");
        command.args(args).stdout(Stdio::piped()).stderr(words);
        let mut child = command.spawn().expect("ip runs");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let app = App { process: Process::of(child), lines };
        eventually(Duration::from_secs(5), "the box forwards", probe);
        app
    }

    /// Ends it by SIGINT; what it printed.
    fn stop(self) -> Vec<String> {
        std::thread::sleep(Duration::from_millis(200));
        self.process.signal(libc::SIGINT);
        let lines = self.lines.lines().map_while(Result::ok).collect();
        let out = self.process.finish(Duration::from_secs(10));
        assert!(out.status.success(), "{}", out.status);
        lines
    }
}

/// Sends each client its own address as the server sees it.
const WHO: &str = "
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 7000)); s.listen(64)
while True:
    c, a = s.accept(); c.sendall(('%s %d\\n' % a).encode()); c.close()
";

/// As `WHO`'s client: prints what the server says.
const ASK: &str = "
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
print(s.makefile().read(), end='')
";

fn routed_net(test: &str) -> Option<Net> {
    let mut net = Net::new(test)?;
    for space in ["client", "box", "server"] {
        net.space(space);
    }
    net.veth(("client", "c0"), ("box", "b0"));
    net.veth(("box", "b1"), ("server", "s0"));
    net.address("client", "c0", "192.168.0.10/24");
    net.address("client", "c0", "192.168.0.11/24");
    net.address("server", "s0", "203.0.113.1/24");
    net.ip("client", &["route", "add", "default", "via", "192.168.0.1"]);
    for (space, device) in [("client", "c0"), ("box", "b0"), ("box", "b1"), ("server", "s0")] {
        net.offloads_off(space, device);
    }
    Some(net)
}

fn nat_conf(mask: u64) -> String {
    format!(
        "application {{\n\ttype = monitor\n\trun = nat\n}}\n\
         mos {{\n\tforward = 1\n\tmax_concurrency = 10000\n\ttcp_timeout = 60\n\ttcp_tw_interval = 1\n\
         \tnetdev {{\n\t\tb0 {mask:#x} 192.168.0.1/24\n\t\tb1 {mask:#x} 203.0.113.2/24\n\t}}\n\
         \troute_table {{\n\t\t0.0.0.0/0 b1 203.0.113.1\n\t}}\n}}\n"
    )
}

fn succeeds(mut command: Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("ip runs").success()
}

fn ping(net: &Net, space: &str, addr: &str) -> bool {
    let mut command = net.command(space, "ping");
    command.args(["-c", "1", "-W", "1", addr]);
    succeeds(command)
}

fn translated(mask: u64) {
    let Some(net) = routed_net("nat between real hosts") else { return };
    let dir = fresh(&format!("nat-live-{mask}"));
    let conf = dir.join("nat.conf");
    fs::write(&conf, nat_conf(mask)).expect("write nat.conf");
    let blob = dir.join("blob");
    let bytes: Vec<u8> =
        (0..1_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(&blob, &bytes).expect("write the file");
    let _nginx = net.nginx("server", &dir);
    let _who = net.start("server", "python3", &["-c", WHO]);
    net.wait_for_port("server", 7000);

    // The box's own addresses answer to ARP and echo requests, from both sides; that tells when it is there.
    let args = ["-q", "-f", conf.to_str().expect("UTF-8"), "-l", "192.168.0.0/24", "-a", "203.0.113.2"];
    let app = App::start(&net, nat(), &args, &dir.join("said"), || ping(&net, "client", "192.168.0.1"));
    assert!(ping(&net, "client", "203.0.113.2"), "the other port's address");
    assert!(ping(&net, "server", "203.0.113.2"));
    assert!(!ping(&net, "client", "203.0.113.1"), "nothing but TCP leaves");

    // Whom the server sees, from several ports and two private hosts.
    let mut ports = Vec::new();
    for n in 0..8 {
        let said = net.run("client", "python3", &["-c", ASK, "203.0.113.1", "7000"]);
        let (addr, port) = said.trim().split_once(' ').expect("an address and a port");
        assert_eq!(addr, "203.0.113.2", "connection {n}");
        let port: u16 = port.parse().expect("a port");
        assert!((20_000..60_000).contains(&port) && !ports.contains(&port), "{port} after {ports:?}");
        ports.push(port);
    }
    let got = dir.join("got");
    for from in ["192.168.0.10", "192.168.0.11"] {
        let url = "http://203.0.113.1/blob";
        let args = ["-sf", "-m", "60", "--interface", from, "-o", got.to_str().expect("UTF-8"), url];
        net.run("client", "curl", &args);
        assert!(fs::read(&got).expect("the file") == bytes, "what came is what was sent");
    }
    // Nobody reaches in.
    let _inside = net.start("client", "python3", &["-c", &WHO.replace("7000", "20000")]);
    net.wait_for_port("client", 20_000);
    for (addr, port) in [("203.0.113.2", "20000"), ("192.168.0.10", "20000")] {
        let mut command = net.command("server", "python3");
        command.args(["-c", &ASK.replace("3)", "1)"), addr, port]);
        assert!(!succeeds(command), "{addr}:{port}");
    }
    let lines = app.stop();
    let said = fs::read_to_string(dir.join("said")).unwrap_or_default();
    let last = lines.last().cloned().unwrap_or_default();
    assert!(last.starts_with("translations: "), "{lines:?}");
    assert!(last.contains(" 10 in all, 0 refused"), "{last}");
    assert!(!said.contains("rror"), "{said}");
}

#[test]
fn a_client_reaches_a_server_through_nat() {
    translated(1);
}

#[test]
fn a_client_reaches_a_server_through_nat_on_two_cores() {
    translated(3);
}

#[test]
fn a_rule_blocks_one_port_and_not_another() {
    let Some(net) = Net::inline("simple_firewall between real hosts", false) else { return };
    let dir = fresh("firewall-live");
    let (conf, rules) = (dir.join("firewall.conf"), dir.join("rules"));
    let text = "mos {\n\tforward = 1\n\tmax_concurrency = 10000\n\tnetdev {\n\t\tb0 1\n\t\tb1 1\n\t}\n\
        \tnic_forward_table {\n\t\tb0 b1\n\t}\n}\n";
    fs::write(&conf, text).expect("write firewall.conf");
    fs::write(&rules, "deny any -> 10.77.0.2:81\nallow any -> any:80\ndefault deny\n")
        .expect("write the rules");
    let _nginx = net.nginx("server", &dir);
    let args = ["-n", "-f", conf.to_str().expect("UTF-8"), "-r", rules.to_str().expect("UTF-8")];
    let app = App::start(&net, firewall(), &args, &dir.join("said"), || ping(&net, "client", "10.77.0.2"));
    let fetch = |port: u16| {
        let mut command = net.command("client", "curl");
        let url = format!("http://10.77.0.2:{port}/nginx.conf");
        command.args(["-sf", "-m", "2", "-o", "/dev/null", &url]).status().expect("ip runs").code()
    };
    assert_eq!((fetch(80), fetch(81), fetch(80), fetch(82)), (Some(0), Some(28), Some(0), Some(28)));
    let lines = app.stop();
    let uses: Vec<Vec<u64>> = lines[1..]
        .iter()
        .map(|l| l.split_whitespace().rev().take(2).map(|w| w.parse().expect("a number")).collect())
        .collect();
    assert_eq!(uses.iter().map(|u| u[1]).collect::<Vec<_>>(), [1, 2, 1], "{lines:#?}");
    assert!(uses[0][0] >= 2, "repeated SYNs are dropped too: {lines:#?}");
}

/// The counts under a title of midstat's summary.
fn counts(lines: &[String], title: &str) -> Vec<(String, u64)> {
    let of = |l: &String| {
        let (name, n) = l.trim().rsplit_once(' ').expect("a count");
        Some((name.trim().to_owned(), n.parse().ok()?))
    };
    let from = lines.iter().position(|l| l == title).unwrap_or_else(|| panic!("no '{title}' in {lines:#?}"));
    lines[from + 1..].iter().take_while(|l| !l.is_empty()).filter_map(of).collect()
}

/// Any application routes: here midstat, between two networks, with all that a real host sends.
#[test]
fn a_router_accounts_for_every_packet() {
    let Some(net) = routed_net("a router") else { return };
    let dir = fresh("router-live");
    net.ip("server", &["route", "add", "default", "via", "203.0.113.2"]);
    let conf = dir.join("router.conf");
    fs::write(&conf, nat_conf(3)).expect("write router.conf");
    let bytes: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(dir.join("blob"), &bytes).expect("write the blob");
    let _nginx = net.nginx("server", &dir);
    let args = ["-n", "-f", conf.to_str().expect("UTF-8")];
    let app = App::start(&net, midstat(), &args, &dir.join("said"), || ping(&net, "client", "192.168.0.1"));
    assert!(ping(&net, "client", "203.0.113.1") && ping(&net, "server", "192.168.0.11"));
    assert!(!ping(&net, "client", "203.0.113.77"), "nobody there answers ARP");
    net.run("client", "curl", &["-sf", "-m", "10", "-o", "/dev/null", "http://203.0.113.1/nginx.conf"]);
    let got = dir.join("got");
    let to = got.to_str().expect("UTF-8");
    net.run("client", "curl", &["-sf", "-m", "60", "-o", to, "http://203.0.113.1/blob"]);
    assert!(fs::read(&got).expect("the file") == bytes, "what came is what was sent");
    // Fragments pass too.
    net.run("client", "ping", &["-c", "1", "-W", "2", "-s", "4000", "203.0.113.1"]);
    std::thread::sleep(Duration::from_secs(3));
    let lines = app.stop();
    let sum = |title: &str| counts(&lines, title).iter().map(|(_, n)| n).sum::<u64>();
    let one = |title: &str, name: &str| {
        counts(&lines, title).iter().find(|(n, _)| n == name).map_or(0, |(_, count)| *count)
    };
    let received = one("Traffic", "packets received");
    assert_eq!(sum("Packets received, by kind"), received, "{lines:#?}");
    let forwarded = one("Traffic", "packets forwarded");
    assert!(forwarded > 5_000_000 / 1448, "{lines:#?}");
    assert_eq!(forwarded + sum("Packets not forwarded, by reason"), received, "{lines:#?}");
    let why = |name: &str| one("Packets not forwarded, by reason", name);
    assert_eq!(
        (why("next hop does not answer"), why("still waiting for the next hop")),
        (1, 0),
        "{lines:#?}"
    );
    assert!(why("consumed by this host") >= 4, "ARP and echo requests: {lines:#?}");
    assert!(one("Packets received, by kind", "IP fragments") >= 6, "{lines:#?}");
}
