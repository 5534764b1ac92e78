//! Starting, idling and ending live.

use crate::lab::{KINDS, Kind, box_program, fresh, launch, launch_as, start};
use crate::netns::{Net, has};
use std::time::{Duration, Instant};

#[test]
fn a_missing_interface_is_named() {
    let Some(net) = Net::inline("a missing interface", false) else { return };
    let report = launch(&net, "missing", &Kind::Pcap.conf(&["b0", "nosuch7"], true, 1, ""), &[]).report();
    assert_eq!(report.code, Some(3));
    assert!(
        report.said.contains("device 'nosuch7': no such interface; expected one of b0, b1"),
        "{}",
        report.said
    );
}

#[test]
fn an_interface_that_is_down_says_what_to_do() {
    let Some(net) = Net::inline("an interface that is down", false) else { return };
    net.ip("box", &["link", "set", "b1", "down"]);
    let report = launch(&net, "down", &Kind::Pcap.conf(&["b0", "b1"], true, 1, ""), &[]).report();
    assert_eq!(report.code, Some(3));
    assert!(report.said.contains("ip link set b1 up"), "{}", report.said);
}

#[test]
fn without_privilege_the_remedy_is_told() {
    let Some(net) = Net::inline("missing privilege", false) else { return };
    if !has("setpriv") {
        return;
    }
    let mut command = net.command("box", "setpriv");
    command.args(["--bounding-set", "-all", "--inh-caps", "-all"]).arg(box_program());
    let report =
        launch_as(&mut command, "denied", &Kind::Pcap.conf(&["b0", "b1"], true, 1, ""), &[]).report();
    assert_eq!(report.code, Some(3));
    assert!(
        report.said.contains("device 'b0': no permission") && report.said.contains("cap_net_raw"),
        "{}",
        report.said
    );
}

#[test]
fn captures_and_interfaces_do_not_mix() {
    let Some(net) = Net::inline("a mixture", false) else { return };
    let capture = crate::harness::root().join("tests/cases/normal.pcap");
    let conf = Kind::Pcap.conf(&["b0", capture.to_str().expect("UTF-8")], false, 1, "");
    let report = launch(&net, "mixed", &conf, &[]).report();
    assert_eq!(report.code, Some(3));
    assert!(report.said.contains("not both"), "{}", report.said);
}

/// Ticks (10 ms) of CPU time the process has used.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

#[test]
fn idle_interfaces_cost_nothing() {
    let Some(net) = Net::inline("idle", false) else { return };
    for (mask, more) in [(1, ""), (3, "\tstat_print = b\n")] {
        let mut running = start(&net, "idle", &Kind::Pcap.conf(&["b0", "b1"], true, mask, more), &[]);
        std::thread::sleep(Duration::from_millis(300));
        let pid = running.process().id();
        let before = ticks(pid);
        std::thread::sleep(Duration::from_secs(2));
        let used = ticks(pid) - before;
        assert!(used <= 4, "{used} ticks of 10 ms in 2 s");
        let report = running.stop();
        report.check();
        // The lines appear although nothing arrives.
        assert_eq!(report.said.matches("[ ALL ] b0, RX:").count() >= 2, mask == 3, "{}", report.said);
    }
}

#[test]
fn a_stop_takes_less_than_a_second() {
    for kind in KINDS {
        let Some(net) = Net::inline("a stop", false) else { return };
        let conf = kind.conf(&["b0", "b1"], true, 3, "");
        let running = start(&net, "stop", &conf, &[]);
        std::thread::sleep(Duration::from_millis(200));
        let asked = Instant::now();
        running.stop_now().check();
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());

        let report = start(&net, "destroy", &conf, &["-t", "1"]).report();
        let line = report
            .lines
            .iter()
            .find(|l| l.starts_with("destroyed in"))
            .unwrap_or_else(|| panic!("{report:#?}"));
        let ms: u64 = line.split(' ').nth(2).and_then(|n| n.parse().ok()).expect("a number");
        assert!(ms < 1000 && report.code == Some(0), "{report:#?}");
    }
}

/// A flow that is silent ends by `tcp_timeout` although no packet wakes the core.
#[test]
fn silence_ends_flows_in_time() {
    let Some(net) = Net::inline("silence", false) else { return };
    let script =
        "import socket,time\ns=socket.socket();s.bind(('',8080));s.listen(1);c,_=s.accept();time.sleep(30)";
    let _server = net.start("server", "python3", &["-c", script]);
    net.wait_for_port("server", 8080);
    let running =
        start(&net, "silence", &Kind::Pcap.conf(&["b0", "b1"], true, 1, "\ttcp_timeout = 1\n"), &[]);
    let client = "import socket,time\ns=socket.create_connection(('10.77.0.2',8080));time.sleep(30)";
    let _client = net.start("client", "python3", &["-c", client]);
    std::thread::sleep(Duration::from_millis(2500));
    let report = running.stop();
    report.check();
    assert_eq!((report.sum("flows_created"), report.sum("flows_timed_out")), (1, 1), "{report:#?}");
}

/// Contexts that were destroyed are made anew, and their interfaces serve on.
#[test]
fn contexts_made_again_go_on() {
    for kind in KINDS {
        let Some(net) = Net::inline("contexts made again", false) else { return };
        let dir = fresh("again");
        let _nginx = net.nginx("server", &dir);
        let fetch = |url: &str| {
            net.run("client", "curl", &["-sf", "-m", "5", "-o", "/dev/null", url]);
        };
        let mut running = start(&net, "again", &kind.conf(&["b0", "b1"], true, 3, ""), &["-t", "1", "-a"]);
        fetch("http://10.77.0.2/nginx.conf");
        assert!(running.line().starts_with("destroyed in"));
        assert_eq!(running.line(), "again\n");
        for _ in 0..5 {
            fetch("http://10.77.0.2/nginx.conf");
        }
        let report = running.stop();
        report.check();
        assert_eq!(report.flows.len(), 6, "{report:#?}");
        // The counters are those of the new contexts. On a busy machine the first request may have met them, too.
        assert!((5..=6).contains(&report.sum("flows_created")), "{report:#?}");
    }
}

/// What is not TCP goes on: ICMP, UDP, fragments of both, ARP.
#[test]
fn what_is_not_tcp_passes() {
    for kind in KINDS {
        let Some(net) = Net::inline("what is not TCP", false) else { return };
        if !has("ping") {
            return;
        }
        let running = start(&net, "other", &kind.conf(&["b0", "b1"], true, 1, ""), &[]);
        net.run("client", "ping", &["-c", "3", "-i", "0.2", "-W", "2", "10.77.0.2"]);
        // (DPDK's net_af_packet has the kernel put fragments together.)
        let fragments = if *kind == Kind::Pcap { 12 } else { 0 };
        if fragments > 0 {
            net.run("client", "ping", &["-c", "2", "-i", "0.2", "-W", "2", "-s", "4000", "10.77.0.2"]);
        }
        let report = running.stop();
        report.check();
        assert!(report.sum("in_non_ip") >= 2, "ARP: {report:#?}");
        assert_eq!((report.sum("in_non_tcp"), report.sum("in_fragment")), (6, fragments), "{report:#?}");
        assert_eq!(report.sum("fwd_packets"), report.sum("rx_packets"), "{report:#?}");
    }
}
