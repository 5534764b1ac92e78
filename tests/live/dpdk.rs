//! What only DPDK's devices have: memory in huge pages, other drivers, several queues, a link that is lost.

use crate::harness::note;
use crate::lab::{Kind, Report, Running, fresh, start, try_start};
use crate::netns::Net;
use crate::transfers::{blob, clients, sha256};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const LEN: usize = 20_000_000;

/// The file, fetched through the box.
fn fetched_whole(net: &Net, dir: &Path) {
    let got = dir.join("got");
    let to = got.to_str().expect("UTF-8");
    net.run("client", "curl", &["-sf", "-m", "60", "-o", to, "http://10.77.0.2/blob"]);
    assert_eq!(sha256(&got), sha256(&dir.join("blob")));
}

fn one_flow_whole(report: &Report) {
    report.check();
    let [flow] = &report.flows[..] else { panic!("{report:#?}") };
    assert!(flow.bytes().1 > LEN as u64, "{report:#?}");
}

/// One test at a time changes how many huge pages there are.
pub static HUGE_PAGES: Mutex<()> = Mutex::new(());

/// Huge pages of 2 MB, reserved for as long as this lives.
struct Reserved(String, #[allow(dead_code)] MutexGuard<'static, ()>);

const PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl Reserved {
    fn pages(n: u64) -> Option<Reserved> {
        let alone = HUGE_PAGES.lock().unwrap_or_else(PoisonError::into_inner);
        let before = fs::read_to_string(PAGES).ok()?;
        let had: u64 = before.trim().parse().ok()?;
        let reserved = Reserved(before, alone);
        fs::write(PAGES, (had + n).to_string()).ok()?;
        let has: u64 = fs::read_to_string(PAGES).ok()?.trim().parse().ok()?;
        (has >= had + n).then_some(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = fs::write(PAGES, &self.0);
    }
}

#[test]
fn packets_in_huge_pages() {
    let Some(net) = Net::inline("huge pages", false) else { return };
    let Some(_reserved) = Reserved::pages(96) else {
        return note("skipped: huge pages: this kernel gives no 96 pages of 2 MB");
    };
    let dir = fresh("huge");
    blob(&dir.join("blob"), LEN);
    let _nginx = net.nginx("server", &dir);
    let running = start(&net, "huge", &Kind::HugePages.conf(&["b0", "b1"], true, 1, ""), &[]);
    fetched_whole(&net, &dir);
    one_flow_whole(&running.stop());
}

/// The box with another driver, or why the kernel has it not.
fn with_driver(net: &Net, test: &str, conf: &str) -> Option<Running> {
    match try_start(net, test, conf, &[]) {
        Ok(running) => Some(running),
        Err(said) => {
            let reason = said.lines().rev().find(|l| l.contains("libmos")).unwrap_or("no reason given");
            note(&format!("skipped: {test}: {reason}"));
            None
        }
    }
}

#[test]
fn through_net_af_xdp() {
    let Some(net) = Net::inline("net_af_xdp", false) else { return };
    let dir = fresh("xdp");
    blob(&dir.join("blob"), LEN);
    let _nginx = net.nginx("server", &dir);
    let conf = Kind::AfXdp.conf(&["b0", "b1"], true, 1, "");
    let Some(running) = with_driver(&net, "net_af_xdp", &conf) else { return };
    fetched_whole(&net, &dir);
    one_flow_whole(&running.stop());
}

/// net_tap makes an interface for each port; a kernel bridge takes each to the client, and to the server.
#[test]
fn through_net_tap() {
    let Some(net) = Net::inline("net_tap", false) else { return };
    let dir = fresh("tap_ports");
    blob(&dir.join("blob"), LEN);
    let _nginx = net.nginx("server", &dir);
    let conf = Kind::Tap.conf(&["t0", "t1"], true, 1, "");
    let Some(running) = with_driver(&net, "net_tap", &conf) else { return };
    for (bridge, ends) in [("br0", ["b0", "t0"]), ("br1", ["b1", "t1"])] {
        net.ip("box", &["link", "add", bridge, "type", "bridge"]);
        net.ip("box", &["link", "set", bridge, "up"]);
        net.offloads_off("box", ends[1]);
        for device in ends {
            net.ip("box", &["link", "set", device, "master", bridge, "up"]);
        }
    }
    fetched_whole(&net, &dir);
    one_flow_whole(&running.stop());
}

/// net_af_packet has one queue, or several that the kernel fills by a rule of its own: hand-over brings both directions of
/// each flow to one core.
#[test]
fn two_cores_share_net_af_packet() {
    for queues in [1, 2] {
        let Some(net) = Net::inline("two cores on net_af_packet", false) else { return };
        let dir = fresh("shared");
        for n in 0..20 {
            blob(&dir.join(format!("blob{n}")), 1000 + n * 50_000);
        }
        let _nginx = net.nginx("server", &dir);
        let conf = Kind::AfPacket.conf(&["b0", "b1"], true, 3, "\trss = fair\n");
        let conf = conf.replace(",framecnt", &format!(",qpairs={queues},framecnt"));
        let running = start(&net, "shared", &conf, &[]);
        clients(&net, 20);
        let report = running.stop();
        report.check();
        assert_eq!(report.flows.len(), 20, "{report:#?}");
        let cores: BTreeSet<usize> = report.flows.iter().map(|f| f.core).collect();
        assert_eq!(cores.len(), 2, "{report:#?}");
        assert!(report.flows.iter().all(|f| f.said.starts_with("starts=1 ends=2 ")), "{report:#?}");
        assert!(report.sum("resteered") > 100, "{report:#?}");
    }
}

/// The way out is lost under load: what cannot leave is dropped and counted, and the core goes on.
#[test]
fn a_lost_link_drops_and_counts() {
    let Some(net) = Net::inline("a lost link", false) else { return };
    let running = start(&net, "lost", &Kind::AfPacket.conf(&["b0", "b1"], true, 1, ""), &[]);
    net.ip("box", &["link", "set", "b1", "down"]);
    // Nobody answers: the frames say who they are for.
    let mac = "02:00:00:00:00:99";
    net.ip("client", &["neigh", "replace", "10.77.0.2", "lladdr", mac, "dev", "c0"]);
    let flood = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nfor n in range(5000): s.sendto(bytes(500),('10.77.0.2',9))";
    net.run("client", "python3", &["-c", flood]);
    std::thread::sleep(Duration::from_millis(300));
    let report = running.stop();
    report.check();
    assert!(report.sum("rx_packets") >= 5000, "{report:#?}");
    assert!(report.sum("drop_tx_full") >= 4000, "{report:#?}");
}
