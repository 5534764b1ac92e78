//! Whole files through the box, or past it.

use crate::harness::note;
use crate::lab::{KINDS, Kind, TAPS, fresh, midstat, start};
use crate::netns::{Net, eventually};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Incompressible bytes that differ everywhere.
pub fn blob(path: &Path, len: usize) {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let words = (0..len.div_ceil(8)).flat_map(|_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    });
    fs::write(path, words.take(len).collect::<Vec<u8>>()).expect("write the file");
}

pub fn sha256(path: &Path) -> String {
    let out = std::process::Command::new("sha256sum").arg(path).output().expect("sha256sum runs");
    assert!(out.status.success());
    String::from_utf8_lossy(&out.stdout).split(' ').next().unwrap_or_default().to_owned()
}

/// Bytes and packets an interface sent and received.
fn interface(net: &Net, space: &str, device: &str) -> (u64, u64) {
    let read = |name: &str| -> u64 {
        net.run(space, "cat", &[&format!("/sys/class/net/{device}/statistics/{name}")])
            .trim()
            .parse()
            .expect("a number")
    };
    (read("rx_bytes") + read("tx_bytes"), read("rx_packets") + read("tx_packets"))
}

/// The number behind a label in midstat's summary.
fn figure(text: &str, label: &str) -> u64 {
    let line = text
        .lines()
        .find(|l| l.trim_start().starts_with(label))
        .unwrap_or_else(|| panic!("no {label} in:\n{text}"));
    line.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

fn hundred_megabytes_through_midstat(kind: Kind) {
    let Some(net) = Net::inline("100 MB through midstat", false) else { return };
    let dir = fresh("midstat");
    blob(&dir.join("blob"), 100_000_000);
    let conf = dir.join("mos.conf");
    fs::write(&conf, kind.conf(&["b0", "b1"], true, 1, "")).expect("write the configuration");
    let _nginx = net.nginx("server", &dir);
    let before = interface(&net, "client", "c0");
    let mut command = net.command("box", midstat());
    command.arg("-n").arg("-f").arg(&conf).stdout(Stdio::piped()).stderr(Stdio::piped());
    let midstat = crate::netns::Process::start(command);
    let got = dir.join("got");
    eventually(Duration::from_secs(10), "midstat forwards", || {
        net.command("client", "curl")
            .args(["-sf", "-m", "1", "-o", "/dev/null", "http://10.77.0.2/nginx.conf"])
            .status()
            .expect("ip runs")
            .success()
    });
    net.run(
        "client",
        "curl",
        &["-sf", "-m", "60", "-o", got.to_str().expect("UTF-8"), "http://10.77.0.2/blob"],
    );
    assert_eq!(sha256(&got), sha256(&dir.join("blob")));
    // The last acknowledgements are still on their way.
    let mut after = interface(&net, "client", "c0");
    eventually(Duration::from_secs(5), "quiet", || {
        std::thread::sleep(Duration::from_millis(50));
        let now = interface(&net, "client", "c0");
        let quiet = now == after;
        after = now;
        quiet
    });
    midstat.signal(libc::SIGINT);
    let out = midstat.finish(Duration::from_secs(10));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    // Every packet that came in went out, or is in the list of reasons why not: a machine under load may drop some.
    let received = figure(&text, "packets received");
    let (_, reasons) = text.split_once("Packets not forwarded, by reason").expect("the reasons");
    let dropped: u64 = reasons.lines().filter_map(|l| l.split_whitespace().last()?.parse::<u64>().ok()).sum();
    assert_eq!(received, figure(&text, "packets forwarded") + dropped, "{text}");
    if dropped == 0 {
        assert_eq!(figure(&text, "bytes received"), figure(&text, "bytes forwarded"), "{text}");
    }
    // What the client's interface saw is what the box saw, but for what came before it was there and what the kernel dropped.
    let (bytes, packets) = (after.0 - before.0, after.1 - before.1);
    let ends = [("client", "c0"), ("box", "b0"), ("box", "b1"), ("server", "s0")];
    let lost: u64 = dropped + ends.iter().map(|(space, device)| drops(&net, space, device)).sum::<u64>();
    assert!(packets.abs_diff(received) <= 20 + lost, "{packets} packets at the client, {lost} lost\n{text}");
    let slack = 20 * 74 + lost * 1514;
    assert!(
        bytes.abs_diff(figure(&text, "bytes received")) <= slack,
        "{bytes} bytes at the client, {lost} lost\n{text}"
    );
}

/// Packets an interface dropped.
fn drops(net: &Net, space: &str, device: &str) -> u64 {
    let read = |name: &str| -> u64 {
        let path = format!("/sys/class/net/{device}/statistics/{name}");
        net.run(space, "cat", &[&path]).trim().parse().expect("a number")
    };
    read("rx_dropped") + read("tx_dropped")
}

#[test]
fn hundred_megabytes_through_midstat_inline() {
    for kind in KINDS {
        hundred_megabytes_through_midstat(*kind);
    }
}

#[test]
fn what_the_box_reads_is_what_the_client_got() {
    for kind in KINDS {
        let Some(net) = Net::inline("what the box reads", false) else { return };
        let dir = fresh("reads");
        blob(&dir.join("blob"), 20_000_000);
        let _nginx = net.nginx("server", &dir);
        let running = start(&net, "reads", &kind.conf(&["b0", "b1"], true, 1, ""), &[]);
        let size = net.run(
            "client",
            "curl",
            &[
                "-sf",
                "-m",
                "60",
                "-o",
                "/dev/null",
                "-w",
                "%{size_request} %{size_header} %{size_download}",
                "http://10.77.0.2/blob",
            ],
        );
        let sizes: Vec<u64> = size.split(' ').map(|n| n.parse().expect("a number")).collect();
        let report = running.stop();
        report.check();
        let [flow] = &report.flows[..] else { panic!("{report:#?}") };
        assert_eq!(flow.bytes(), (sizes[0], sizes[1] + sizes[2]), "{report:#?}");
        // What a busy machine drops is sent again: the streams are whole all the same.
        assert_eq!(report.sum("bytes_missing"), 0);
        assert_eq!(report.sum("fwd_packets") + report.sum("drop_tx_full"), report.sum("rx_packets"));
    }
}

/// A kernel bridge carries the packets; the library listens on both of its ports and sends nothing. Nothing waits for a tap: what
/// a busy machine lets it miss is counted, and then another run must show that a tap that keeps up sees all.
#[test]
fn a_tap_beside_a_bridge() {
    for kind in TAPS {
        for attempt in 1.. {
            let Some(net) = Net::inline("a tap", false) else { return };
            let dir = fresh("tap");
            blob(&dir.join("blob"), 5_000_000);
            net.bridge("box", &["b0", "b1"]);
            let _nginx = net.nginx("server", &dir);
            let running = start(&net, "tap", &kind.conf(&["b0", "b1"], false, 1, ""), &[]);
            for n in 0..20 {
                net.run(
                    "client",
                    "curl",
                    &["-sf", "-m", "60", "-o", "/dev/null", &format!("http://10.77.0.2/blob?{n}")],
                );
            }
            let report = running.stop();
            report.check();
            assert_eq!(report.sum("fwd_packets"), 0);
            if report.sum("rx_missed") > 0 && attempt < 5 {
                note(&format!("a tap: {} packets missed, once more", report.sum("rx_missed")));
                continue;
            }
            assert_eq!(report.sum("rx_missed"), 0, "the machine is too busy for a tap");
            assert_eq!(report.flows.len(), 20, "{report:#?}");
            for flow in &report.flows {
                assert!(flow.said.starts_with("starts=1 ends=2 "), "{report:#?}");
                assert!(flow.bytes().1 > 5_000_000, "{report:#?}");
            }
            break;
        }
    }
}

/// With offloads on, frames are larger than the MTU and their checksums unfinished: a tap takes them as they are.
#[test]
fn a_tap_of_offloaded_packets() {
    let Some(net) = Net::inline("a tap of offloaded packets", true) else { return };
    let dir = fresh("offloads");
    blob(&dir.join("blob"), 5_000_000);
    net.bridge("box", &["b0", "b1"]);
    let _nginx = net.nginx("server", &dir);
    let running = start(&net, "offloads", &Kind::Pcap.conf(&["b0", "b1"], false, 1, ""), &[]);
    net.run("client", "curl", &["-sf", "-m", "60", "-o", "/dev/null", "http://10.77.0.2/blob"]);
    let report = running.stop();
    report.check();
    let [flow] = &report.flows[..] else { panic!("{report:#?}") };
    assert!(flow.bytes().1 > 5_000_000, "{report:#?}");
    assert_eq!(report.sum("in_malformed_tcp_checksum"), 0);
    assert!(report.sum("rx_packets") < 3000, "frames larger than the MTU were expected: {report:#?}");
    assert!(report.said.contains("ethtool -K b0 tso off gso off tx off"), "{}", report.said);
}

/// Unfinished checksums are completed on the way through; frames larger than the MTU cannot be, so segmentation is off.
#[test]
fn unfinished_checksums_are_completed() {
    let Some(net) = Net::inline("unfinished checksums", true) else { return };
    for (space, device) in [("client", "c0"), ("server", "s0"), ("box", "b0"), ("box", "b1")] {
        net.run(space, "ethtool", &["-K", device, "tso", "off", "gso", "off", "gro", "off"]);
    }
    let dir = fresh("unfinished");
    blob(&dir.join("blob"), 3_000_000);
    let _nginx = net.nginx("server", &dir);
    let running = start(&net, "unfinished", &Kind::Pcap.conf(&["b0", "b1"], true, 1, ""), &[]);
    let got = dir.join("got");
    net.run(
        "client",
        "curl",
        &["-sf", "-m", "30", "-o", got.to_str().expect("UTF-8"), "http://10.77.0.2/blob"],
    );
    assert_eq!(sha256(&got), sha256(&dir.join("blob")));
    let _echo = net.start("server", "python3", &["-c", UDP_ECHO]);
    eventually(Duration::from_secs(5), "the server listens for datagrams", || {
        net.run("server", "cat", &["/proc/net/udp"]).contains(":1B58 ")
    });
    net.run("client", "python3", &["-c", UDP_ASK]);
    let report = running.stop();
    report.check();
    assert_eq!(report.sum("in_malformed_tcp_checksum"), 0, "{report:#?}");
    // Both stacks count wrong checksums.
    for (space, protocol) in [("client", "Tcp:"), ("server", "Tcp:"), ("client", "Udp:"), ("server", "Udp:")]
    {
        let snmp = net.run(space, "cat", &["/proc/net/snmp"]);
        let lines: Vec<&str> = snmp.lines().filter(|l| l.starts_with(protocol)).collect();
        let at = lines[0].split(' ').position(|w| w == "InCsumErrors").expect("a column");
        assert_eq!(lines[1].split(' ').nth(at), Some("0"), "{space}, {protocol}");
    }
}

/// Sends datagrams back.
const UDP_ECHO: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 7000))
while True:
    s.sendto(*s.recvfrom(65536))
";

/// Sends datagrams of all lengths, odd and even, and waits for each to come back.
const UDP_ASK: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect(('10.77.0.2', 7000))
for n in list(range(40)) + [999, 1000, 1471, 1472]:
    sent = bytes(i * 7 & 255 for i in range(n)); s.send(sent); assert s.recv(65536) == sent, n
";

/// Two programs tap the same bridge, one with one core, one with two: each flow is seen the same.
#[test]
fn two_cores_see_what_one_sees() {
    for kind in TAPS {
        let Some(net) = Net::inline("two cores", false) else { return };
        let dir = fresh("cores");
        for n in 0..40 {
            blob(&dir.join(format!("blob{n}")), 1000 + n * 5000);
        }
        net.bridge("box", &["b0", "b1"]);
        let _nginx = net.nginx("server", &dir);
        let boxes = [1, 3].map(|mask| {
            let conf = kind.conf(&["b0", "b1"], false, mask, "\trss = fair\n");
            start(&net, &format!("cores{mask}"), &conf, &[])
        });
        clients(&net, 40);
        let [one, two] = boxes.map(|running| {
            let report = running.stop();
            report.check();
            assert_eq!((report.sum("rx_missed"), report.sum("resteer_lost")), (0, 0), "{report:#?}");
            report
        });
        let cores: BTreeSet<usize> = two.flows.iter().map(|f| f.core).collect();
        assert_eq!(cores.len(), 2, "{two:#?}");
        // The kernel dealt the frames out: none had to be handed over.
        assert_eq!(two.sum("resteered"), 0, "{two:#?}");
        let flows = |report: &crate::lab::Report| -> Vec<(String, String)> {
            let mut flows: Vec<_> = report.flows.iter().map(|f| (f.client.clone(), f.said.clone())).collect();
            flows.sort();
            flows
        };
        assert_eq!(flows(&one).len(), 40);
        assert_eq!(flows(&one), flows(&two));
    }
}

/// Fetches `blob0`, `blob1`, ..., all at once.
pub fn clients(net: &Net, count: usize) {
    let mut clients: Vec<_> = (0..count)
        .map(|n| {
            let url = format!("http://10.77.0.2/blob{n}");
            net.start("client", "curl", &["-sf", "-m", "30", "-o", "/dev/null", &url])
        })
        .collect();
    eventually(Duration::from_secs(40), "all clients are served", || clients.iter_mut().all(|c| !c.runs()));
}

/// Each interface on a core of its own: every flow's packets reach one core all the same, by hand-over.
#[test]
fn interfaces_on_different_cores() {
    let Some(net) = Net::inline("interfaces on different cores", false) else { return };
    let dir = fresh("apart");
    for n in 0..20 {
        blob(&dir.join(format!("blob{n}")), 1000 + n * 50_000);
    }
    let _nginx = net.nginx("server", &dir);
    let conf = Kind::Pcap.conf(&["b0", "b1"], true, 1, "\trss = fair\n").replace("b1 0x1", "b1 0x2");
    let running = start(&net, "apart", &conf, &[]);
    clients(&net, 20);
    let report = running.stop();
    report.check();
    assert_eq!(report.flows.len(), 20, "{report:#?}");
    let cores: BTreeSet<usize> = report.flows.iter().map(|f| f.core).collect();
    assert_eq!(cores.len(), 2, "{report:#?}");
    assert!(report.flows.iter().all(|f| f.said.starts_with("starts=1 ends=2 ")), "{report:#?}");
    assert!(report.sum("resteered") > 100 && report.sum("resteer_lost") == 0, "{report:#?}");
    assert_eq!((report.sum("bytes_missing"), report.sum("in_orphan")), (0, 0), "{report:#?}");
    assert_eq!(report.sum("fwd_packets"), report.sum("rx_packets"));
}
