//! Several cores: a capture replayed on any number of them gives each flow the same events, at the same times (decision E).

use crate::harness::{note, root, scratch};
use crate::lab::{Report, box_program, launch_as};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `preload`: each core's packets are picked out of the capture before the first is replayed.
fn replay(capture: &Path, mask: u64, preload: bool) -> Report {
    let conf = format!(
        "mos {{\n\tforward = 0\n\tmax_concurrency = 10000\n\trmem_size = 1048576\n\trss = fair\n\tnetdev {{\n\t\t{} {mask:#x}\n\t}}\n}}\n",
        capture.display()
    );
    let mut command = Command::new(box_program());
    command.env("MOS_REPLAY_START", "join").env("MOS_LOG", "error");
    command.env("MOS_REPLAY_PRELOAD", if preload { "1" } else { "0" });
    let report = launch_as(&mut command, &format!("replay{mask:x}"), &conf, &["-n"]).report();
    assert_eq!(report.code, Some(0), "{} on {mask:#x}: {report:#?}", capture.display());
    report
}

/// Flows in an order of their own, without their cores.
fn flows(report: &Report) -> Vec<(String, String)> {
    let mut flows: Vec<_> = report.flows.iter().map(|f| (f.client.clone(), f.said.clone())).collect();
    flows.sort();
    flows
}

fn same_on_all(capture: &Path) -> (usize, usize) {
    let one = replay(capture, 1, false);
    let mut cores = BTreeSet::new();
    for (mask, preload) in [(0x3u64, false), (0x3, true), (0x7, true), (0xff, false), (0xff, true)] {
        let many = replay(capture, mask, preload);
        assert_eq!(flows(&one), flows(&many), "{} on {mask:#x}", capture.display());
        for counter in [
            "rx_packets",
            "in_flow",
            "in_orphan",
            "in_fragment",
            "in_non_tcp",
            "bytes_missing",
            "flows_timed_out",
        ] {
            assert_eq!(one.sum(counter), many.sum(counter), "{counter}: {} on {mask:#x}", capture.display());
        }
        cores.extend(many.flows.iter().map(|f| f.core));
    }
    (one.flows.len(), cores.len())
}

#[test]
fn a_capture_on_several_cores_is_what_it_is_on_one() {
    let mut captures = vec![root().join("tests/data/demo.pcap")];
    let more =
        std::env::var_os("MOS_TEST_CAPTURES").map_or_else(|| root().join("../shared/traffic"), PathBuf::from);
    for name in ["d14_http-multi-flow.pcap", "d23_many-flows.pcap", "d11_gap-lost-segments.pcap"] {
        let path = more.join(name);
        if path.is_file() {
            captures.push(path);
        } else {
            note(&format!("{}: not there, not compared", path.display()));
        }
    }
    let (mut most_flows, mut most_cores) = (0, 0);
    for capture in &captures {
        let (flows, cores) = same_on_all(capture);
        most_flows = most_flows.max(flows);
        most_cores = most_cores.max(cores);
    }
    assert!(most_flows > 5 && most_cores > 2, "{most_flows} flows on {most_cores} cores show nothing");
    let _ = fs::remove_dir_all(scratch("replay1"));
}
