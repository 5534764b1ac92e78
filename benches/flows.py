#!/usr/bin/env python3
"""Nanoseconds a packet over the number of open connections, 1,000 to 4,000,000, as a table and a picture.

flows.py [LIBDIR] [-n RUNS] [--most FLOWS] [--svg FILE]. All connections are opened first, three packets each; then 4,000,000 packets with
data go by, each on a connection picked at random, and only these are timed. The floor in turn with each. Results in
target/flows.json; --svg draws them, --draw only draws what is there. The largest takes some 4 GB of memory.
"""
import argparse
import json
import statistics
import sys
from pathlib import Path

import plot
import run
from gen_traces import OPEN_DATA

POINTS = ["1k", "3k", "10k", "30k", "100k", "300k", "1m", "2m", "4m"]
UNIT = {"k": 1000, "m": 1_000_000}
WORKLOADS = {
    "nullmon -n": "counted only",
    "pktcount -n": "two callbacks a packet",
    "reasm": "reassembled and read",
}
RESULTS = run.TARGET / "flows.json"


def flows_of(point):
    """1k: 1,000."""
    return int(point[:-1]) * UNIT[point[-1]]


def configuration(trace, flows):
    """The trace's mos.conf, with room for its connections."""
    path = run.configuration(trace)
    path.write_text(path.read_text().replace("max_concurrency = 2000000", f"max_concurrency = {flows + 1000}"))
    return path


def one_run(workload, trace, flows):
    """Nanoseconds a packet, behind the handshakes."""
    program, *flags = workload.split()
    env = {**run.environment(), "MOS_REPLAY_WARMUP": str(3 * flows)}
    _, errors = run.pinned([run.WORK / program, "-f", configuration(trace, flows), *flags], env)
    stats = [run.pairs(line) for line in errors.splitlines() if line.startswith("MOS_REPLAY_STATS ")]
    if not stats or stats[-1]["peak_flows"] != flows or abs(stats[-1]["packets"] - OPEN_DATA) > 64:
        raise run.Failure(f"{workload} on {trace}: {stats or errors[-300:]}")
    return stats[-1]["loop_ns_per_packet"]


def floor_run(floor, trace, flows):
    """The same of the floor."""
    output, _ = run.pinned([floor, run.TRACES / f"{trace}.pcap", "--warmup", 3 * flows])
    return run.pairs(output)["ns_per_packet"]


def kept():
    """The last result."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def measure(options):
    """All points; what was found, by flows."""
    run.build(options.libdir, [workload.split()[0] for workload in WORKLOADS])
    floor = run.build_floor()
    found = [row for row in kept() if row["flows"] < options.least]
    for point in POINTS:
        flows, trace = flows_of(point), f"open{point}"
        if not options.least <= flows <= options.most:
            continue
        run.sh(sys.executable, run.HERE / "gen_traces.py", "-o", run.TRACES, trace)
        taken = {name: [] for name in ["floor", *WORKLOADS]}
        for _ in range(options.runs):
            for workload in WORKLOADS:
                taken[workload].append(one_run(workload, trace, flows))
            taken["floor"].append(floor_run(floor, trace, flows))
        row = {name: round(statistics.median(times), 1) for name, times in taken.items()}
        print(f"{flows:9,}  " + "  ".join(f"{name} {ns:6.1f}" for name, ns in row.items()), flush=True)
        found.append({"flows": flows, **row})
        if not options.keep:
            (run.TRACES / f"{trace}.pcap").unlink()
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libdir", nargs="?", help="where libmos.so is; built when not given")
    parser.add_argument("-n", dest="runs", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--least", type=int, default=0, help="not below so many connections: those are kept from the last result")
    parser.add_argument("--most", type=int, default=4_000_000, help="not beyond so many connections")
    parser.add_argument("--keep", action="store_true", help="leave the traces, 5 GB")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="draw the result there")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw the last result")
    options = parser.parse_args()
    found = kept() if options.draw else measure(options)
    if options.svg:
        names = {"reasm": WORKLOADS["reasm"], "pktcount -n": WORKLOADS["pktcount -n"], "nullmon -n": WORKLOADS["nullmon -n"]}
        lines = {label: [(row["flows"], row[name]) for row in found] for name, label in names.items()}
        floor = [(row["flows"], row["floor"]) for row in found]
        options.svg.write_text(plot.draw("ns a packet", "open connections", lines, {"the floor": floor}))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (run.Failure, OSError) as failure:
        sys.exit(f"benches/flows.py: {failure}")
