//! On capture files: what leaves is compared with what came.

use crate::harness::{compile, root, run, scratch};
use crate::packets::*;
use mos::io::capture::{CaptureReader, CaptureWriter, Next, Preload};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const PUBLIC: [u8; 4] = [203, 0, 113, 2];
const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// `examples/NAME/NAME.c`.
fn program(name: &'static str) -> PathBuf {
    let out = scratch("programs").join(name);
    let source = root().join(format!("examples/{name}/{name}.c"));
    compile(&source, &out, &["-Wextra", "-Werror"]);
    out
}

/// The program.
pub fn nat() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| program("nat"))
}

/// The program.
pub fn firewall() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| program("simple_firewall"))
}

/// The program.
pub fn midstat() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| program("midstat"))
}

/// An empty directory of the test's own.
pub fn fresh(name: &str) -> PathBuf {
    let dir = scratch(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

fn write(path: &Path, frames: impl IntoIterator<Item = (u64, Vec<u8>)>) {
    let mut frames: Vec<(u64, Vec<u8>)> = frames.into_iter().collect();
    frames.sort_by_key(|f| f.0);
    let mut writer = CaptureWriter::create(path).expect("a capture");
    for (ns, frame) in frames {
        writer.write(SECOND * 1000 + ns, &frame).expect("a frame is written");
    }
}

/// The frames of a capture by their time: several cores write one file as each comes along.
fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = CaptureReader::open(path, Preload::Whole).expect("a capture");
    let mut frames = Vec::new();
    while let Next::Frame(frame) = reader.next() {
        frames.push((frame.ts_ns, reader.frame(&frame).to_vec()));
    }
    frames.sort_by_key(|f| f.0);
    frames.into_iter().map(|f| f.1).collect()
}

/// What tcpdump says of a capture: every IP and TCP checksum is right.
fn checked(path: &Path, packets: usize) {
    let out = Command::new("tcpdump").args(["-nnvvr"]).arg(path).output().expect("tcpdump runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(!text.contains("incorrect") && !text.contains("bad cksum"), "{text}");
    assert_eq!(text.matches("(correct)").count(), packets, "{text}");
}

/// Runs an application; the last line it prints.
fn last_line(program: &Path, args: &[&str], netdev: &str, dir: &Path) -> String {
    let conf = dir.join("mos.conf");
    fs::write(&conf, "mos {\n\tmax_concurrency = 10000\n\tnetdev {\n\t\tnone 1\n\t}\n}\n")
        .expect("write mos.conf");
    let mut all = vec!["-f", conf.to_str().expect("UTF-8")];
    all.extend(args);
    let env = [("MOS_NETDEV", netdev), ("MOS_REPLAY_START", "join"), ("MOS_LOG", "warn")];
    let outcome = run(program, &all, &env, Duration::from_secs(20));
    assert_eq!(outcome.failure(), None);
    assert_eq!(String::from_utf8_lossy(&outcome.stderr), "");
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    text.lines().last().unwrap_or_default().to_owned()
}

const FLOWS: u16 = 40;

/// What the private hosts send: each flow begins, sends a request and closes.
fn lan() -> Vec<(u64, Vec<u8>)> {
    (0..FLOWS)
        .flat_map(|n| {
            let (at, port) = (u64::from(n) * 100 * MS, 5000 + n);
            let packets = [(0, syn()), (20, ack()), (30, data(0, "request")), (60, c(F | A, 7).acks(9))];
            packets.map(|(ms, p)| (at + ms * MS, p.client([10, 0, 0, 1 + (n % 3) as u8], port).bytes()))
        })
        .chain([(5 * MS, udp().bytes), (6 * MS, data(0, "of no flow").port(77).bytes())])
        .collect()
}

/// Public port and private client of each flow, as the requests in a capture show them.
fn mappings(lan: &[(u64, Vec<u8>)], out: &[Vec<u8>]) -> BTreeMap<u16, ([u8; 4], u16)> {
    let mut lan: Vec<_> = lan.iter().filter(|(_, f)| f[23] == 6).collect();
    lan.sort_by_key(|f| f.0);
    let syns = |f: &[u8]| seen(f).flags == S;
    let begun = lan.iter().filter(|(_, f)| syns(f)).map(|(_, f)| seen(f).src);
    let left = out.iter().filter(|f| syns(f)).map(|f| seen(f).src);
    left.zip(begun).map(|((addr, port), client)| (assert_eq!(addr, PUBLIC), (port, client)).1).collect()
}

fn nat_translates(mask: &str) {
    let dir = fresh(&format!("nat-{mask}"));
    let file = |name: &str| dir.join(name);
    let path = |name: &str| file(name).display().to_string();
    write(&file("lan.pcap"), lan());
    let args = ["-q", "-l", "10.0.0.0/24", "-a", "203.0.113.2"];

    // Only the clients: what leaves names the ports.
    let netdev = format!("{} {mask} > {}", path("lan.pcap"), path("first.pcap"));
    let line = last_line(nat(), &args, &netdev, &dir);
    assert_eq!(line, "translations: 0 open, 40 in all, 0 refused; 2 stray packets dropped");
    let out = read(&file("first.pcap"));
    assert_eq!(out.len(), 4 * usize::from(FLOWS));
    checked(&file("first.pcap"), out.len());
    let clients = mappings(&lan(), &out);
    assert_eq!(clients.len(), usize::from(FLOWS), "a port for each");
    assert!(clients.keys().all(|port| (20_000..60_000).contains(port)), "{clients:?}");
    for frame in &out {
        let p = seen(frame);
        assert_eq!((p.src.0, p.dst), (PUBLIC, SERVER));
    }

    // With the servers' answers to those ports, they reach the clients, on whatever core.
    let answers = clients.keys().flat_map(|&port| {
        let (_, private) = clients[&port];
        let at = u64::from(private - 5000) * 100 * MS;
        let packets = [(10, syn_ack()), (40, reply(0, "an answer").acks(7)), (50, s(F | A, 9).acks(7))];
        packets.map(|(ms, p)| (at + ms * MS, p.client(PUBLIC, port).bytes()))
    });
    let stranger = (7 * MS, syn_ack().client(PUBLIC, 19_999).bytes());
    write(&file("wan.pcap"), answers.chain([stranger]));
    let netdev = format!(
        "{} {mask} > {}; {} {mask} > {}",
        path("lan.pcap"),
        path("to-wan.pcap"),
        path("wan.pcap"),
        path("to-lan.pcap")
    );
    let line = last_line(nat(), &args, &netdev, &dir);
    assert_eq!(line, "translations: 0 open, 40 in all, 0 refused; 3 stray packets dropped");
    let (to_wan, to_lan) = (read(&file("to-wan.pcap")), read(&file("to-lan.pcap")));
    assert_eq!(to_wan.len(), 4 * usize::from(FLOWS));
    checked(&file("to-lan.pcap"), 3 * usize::from(FLOWS));
    let mut reached: BTreeMap<([u8; 4], u16), usize> = BTreeMap::new();
    for frame in &to_lan {
        let p = seen(frame);
        assert_eq!(p.src, SERVER);
        *reached.entry(p.dst).or_default() += 1;
    }
    assert!(reached.values().all(|&n| n == 3) && reached.len() == usize::from(FLOWS), "{reached:?}");
    let mut expected: Vec<_> = clients.values().copied().collect();
    expected.sort_unstable();
    assert_eq!(reached.into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn nat_on_one_core() {
    nat_translates("0x1");
}

#[test]
fn nat_on_several_cores() {
    nat_translates("0x3");
    nat_translates("0x7");
}

#[test]
fn nat_refuses_when_its_ports_are_used_up() {
    let dir = fresh("nat-full");
    let (lan_file, out) = (dir.join("lan.pcap"), dir.join("out.pcap"));
    let begun = (0..10u16).map(|n| (u64::from(n) * MS, syn().client([10, 0, 0, 1], 100 + n).bytes()));
    write(&lan_file, begun);
    let args = ["-q", "-l", "10.0.0.0/24", "-a", "203.0.113.2", "-p", "4000-4003"];
    let netdev = format!("{} > {}", lan_file.display(), out.display());
    let line = last_line(nat(), &args, &netdev, &dir);
    assert_eq!(line, "translations: 0 open, 4 in all, 6 refused; 0 stray packets dropped");
    let ports: Vec<u16> = read(&out).iter().map(|f| seen(f).src.1).collect();
    assert_eq!(ports, [4000, 4001, 4002, 4003]);
}

/// The table's lines: rule, connections, packets.
fn table(rules: &str, netdev: &str, dir: &Path) -> Vec<(String, u64, u64)> {
    let file = dir.join("rules");
    fs::write(&file, rules).expect("write the rules");
    let conf = dir.join("mos.conf");
    fs::write(&conf, "mos {\n\tmax_concurrency = 10000\n\tnetdev {\n\t\tnone 1\n\t}\n}\n")
        .expect("write mos.conf");
    let args = ["-f", conf.to_str().expect("UTF-8"), "-n", "-r", file.to_str().expect("UTF-8")];
    let env = [("MOS_NETDEV", netdev), ("MOS_REPLAY_START", "join"), ("MOS_LOG", "warn")];
    let outcome = run(firewall(), &args, &env, Duration::from_secs(20));
    assert_eq!(outcome.failure(), None);
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let line = |l: &str| {
        let words: Vec<&str> = l.split_whitespace().collect();
        let (rule, numbers) = words.split_at(words.len() - 2);
        (rule.join(" "), numbers[0].parse().expect("a number"), numbers[1].parse().expect("a number"))
    };
    text.lines().skip(1).map(line).collect()
}

/// A whole connection from `client` to server port `port`, both directions in one capture.
fn connection(at: u64, client: ([u8; 4], u16), port: u16) -> Vec<(u64, Vec<u8>)> {
    let packets = [
        syn(),
        syn_ack(),
        ack(),
        data(0, "hello"),
        reply(0, "world").acks(5),
        c(F | A, 5).acks(5),
        s(F | A, 5).acks(6),
        c(A, 6).acks(6),
    ];
    let frame = |(n, p): (usize, Packet)| {
        (at + n as u64 * MS, p.client(client.0, client.1).server_port(port).bytes())
    };
    packets.into_iter().enumerate().map(frame).collect()
}

#[test]
fn firewall_rules_by_address_and_port() {
    for mask in ["0x1", "0x3"] {
        let dir = fresh(&format!("firewall-{mask}"));
        let (in_file, out) = (dir.join("in.pcap"), dir.join("out.pcap"));
        let inside = |host: u8, port: u16| ([10, 0, 0, host], port);
        let all = [
            connection(0, inside(1, 100), 80),
            connection(MS, inside(1, 101), 81),
            connection(2 * MS, inside(9, 102), 80),
            connection(3 * MS, inside(1, 103), 8005),
            connection(4 * MS, ([10, 7, 0, 1], 104), 443),
            // Begun before: allowed in one direction only, and in both.
            vec![(5 * MS, data(0, "x").client([10, 0, 0, 1], 105).server_port(81).bytes())],
            vec![(6 * MS, reply(0, "x").client([10, 0, 0, 1], 106).server_port(7777).bytes())],
            vec![(7 * MS, udp().bytes)],
        ];
        write(&in_file, all.concat());
        let rules = "# a comment\n\
            deny  any -> any:81   # not this port\n\
            deny  10.0.0.9 -> any\n\n\
            allow 10.0.0.0/24:100-110 -> 10.0.1.1:80\n\
            allow any:7777 -> any\nallow any -> any:7777\n\
            deny  10.0.0.0/24 -> any:8000-8999\n\
            default allow\n";
        let netdev = format!("{} {mask} > {}", in_file.display(), out.display());
        let rule = |text: &str, connections, packets| (text.to_owned(), connections, packets);
        assert_eq!(
            table(rules, &netdev, &dir),
            [
                rule("1 deny any -> any:81", 1, 9),
                rule("2 deny 10.0.0.9 -> any", 1, 8),
                rule("3 allow 10.0.0.0/24:100-110 -> 10.0.1.1:80", 1, 8),
                rule("4 allow any:7777 -> any", 0, 1),
                rule("5 allow any -> any:7777", 0, 0),
                rule("6 deny 10.0.0.0/24 -> any:8000-8999", 1, 8),
                rule("- allow otherwise", 1, 8),
            ]
        );
        let out = read(&out);
        let ports: Vec<u16> = out
            .iter()
            .filter(|f| f[23] == 6)
            .map(|f| seen(f))
            .map(|p| if p.dst.0 == SERVER.0 { p.dst.1 } else { p.src.1 })
            .collect();
        let count = |port| ports.iter().filter(|&&p| p == port).count();
        assert_eq!((out.len(), count(80), count(443), count(7777)), (18, 8, 8, 1), "{ports:?}");
    }
}

#[test]
fn firewall_denies_by_default_and_names_a_wrong_line() {
    let dir = fresh("firewall-default");
    let (in_file, out) = (dir.join("in.pcap"), dir.join("out.pcap"));
    write(
        &in_file,
        [connection(0, ([10, 0, 0, 1], 100), 80), connection(MS, ([10, 0, 0, 1], 101), 443)].concat(),
    );
    let netdev = format!("{} > {}", in_file.display(), out.display());
    let lines = table("allow any -> any:443\n", &netdev, &dir);
    assert_eq!(lines, [("1 allow any -> any:443".to_owned(), 1, 8), ("- deny otherwise".to_owned(), 1, 8)]);
    assert_eq!(read(&out).len(), 8);
    for wrong in [
        "allow any any",
        "deny 10.0.0.0/33 -> any",
        "allow any:80-70 -> any",
        "allow any:65536 -> any",
        "pass any -> any",
        "default maybe",
        "deny 10.0.0 -> any",
        "allow any -> any:80 quickly",
    ] {
        let file = dir.join("wrong");
        fs::write(&file, format!("# first\n{wrong}\n")).expect("write the rules");
        let outcome = run(firewall(), &["-r", file.to_str().expect("UTF-8")], &[], Duration::from_secs(5));
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(outcome.failure().is_some() && said.contains(":2: expected `allow|deny"), "{wrong}: {said}");
    }
}

/// The limits of a configuration cost nothing before there is traffic.
#[test]
fn start_up_takes_little_memory_whatever_the_limits() {
    let dir = fresh("start-up");
    let conf = dir.join("mos.conf");
    let demo = root().join("tests/data/demo.pcap");
    let text = format!(
        "mos {{\n\tforward = 0\n\tmax_concurrency = 100000000\n\trmem_size = 16777216\n\tnetdev {{\n\t\t{} 1\n\t}}\n}}\n",
        demo.display()
    );
    fs::write(&conf, text).expect("write mos.conf");
    let args = ["-n", "-f", conf.to_str().expect("UTF-8")];
    let outcome = run(midstat(), &args, &[("MOS_REPLAY_STATS", "1")], Duration::from_secs(20));
    assert_eq!(outcome.failure(), None);
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    let peak = said.split("peak_rss_bytes=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let peak: u64 = peak.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no figure in {said}"));
    assert!(peak > 1_000_000 && peak < 50_000_000, "{peak} bytes");
}
