#!/usr/bin/env python3
"""Runs the benchmark programs through libmos.so, each in turn with the floor, and prints the table.

run.py [LIBDIR]: LIBDIR holds libmos.so; without it the library is built. Everything the runs need and leave is in
target/bench and target/bench-traces; the results are in target/bench.json. The status is 1 if a program failed or
counted wrongly. What is measured, and how, is in README.md beside this file.
"""
import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import expected

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = ROOT / "target"
WORK = TARGET / "bench"
TRACES = TARGET / "bench-traces"

PROGRAMS = ["nullmon", "pktcount", "ude", "rexmit", "reasm"]
TIMED = ["nullmon -n", "nullmon", "pktcount -n", "pktcount", "ude -n", "rexmit", "reasm"]
NAMES = ["http", "mix", "elephant", "conn", "small200k", "small1m"]
# Traces whose flows end are replayed several times in one run, so that the fastest workload takes this long.
LOOPED, LOOP_NS = {"http", "mix", "elephant", "conn"}, 1e9
# A trace of connections without data: what is asked of it is how many of them a second.
CONN, CONN_PACKETS = "conn", 6
# Bytes of stream buffer a side; the elephant's window is large.
RMEM = {"elephant": 262144}
# Programs whose counts are checked on one pass: the hash of a stream must not be taken twice.
CHECKED = [("reasm -H", "http"), ("reasm -H", "mix"), ("rexmit", "mix"), ("pktcount", "http"), ("ude", "http")]
# The library's core thread is core 0's; whatever else the process does shares that core.
CPU = 0
TIMEOUT = 600


class Failure(Exception):
    """A program failed, or its output lacks what it must print."""


def sh(*command, **options):
    """Runs a command that must succeed; returns what it printed."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, **options)
    if done.returncode:
        raise Failure(f"{' '.join(str(word) for word in command)}: status {done.returncode}")
    return done.stdout


def cargo(*arguments):
    """Runs cargo; returns the paths of what it built, those of the wanted target last."""
    built = []
    message_format = "--message-format=json-render-diagnostics"
    for line in sh(os.environ.get("CARGO", "cargo"), *arguments, message_format, cwd=ROOT).splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact":
            built += [message["executable"]] if message["executable"] else message["filenames"]
    return [Path(path) for path in built]


def build(libdir, programs=None):
    """Puts the library and C programs into WORK."""
    lib = WORK / "lib"
    lib.mkdir(parents=True, exist_ok=True)
    if libdir is None:
        # The Rust library is left out: with it, the shared one would not be optimised as a whole.
        built = cargo("rustc", "-p", "mos", "--release", "--lib", "--crate-type", "cdylib")
        libdir = next(path for path in reversed(built) if path.name == "libmos.so").parent
    # A copy: later builds may replace the original between two runs.
    shutil.copy(Path(libdir) / "libmos.so", lib / "libmos.so.0")
    if not (lib / "libmos.so").is_symlink():
        (lib / "libmos.so").symlink_to("libmos.so.0")
    for name in programs or PROGRAMS:
        compiler = os.environ.get("CC", "cc")
        flags = ["-O2", "-Wall", "-Wno-format", f"-I{ROOT / 'include'}"]
        sh(compiler, *flags, "-o", WORK / name, HERE / f"{name}.c", f"-L{lib}", "-lmos", f"-Wl,-rpath,{lib}")


def build_floor():
    """Returns the floor's path. Built apart, because the Rust library's build replaces the shared one's file."""
    return cargo("bench", "-p", "mos", "--bench", "floor", "--no-run", "--target-dir", WORK / "cargo")[-1]


def configuration(trace, capture=None):
    """Writes the trace's mos.conf; returns its path."""
    capture = capture or TRACES / f"{trace}.pcap"
    path = WORK / f"{trace}.conf"
    path.write_text(
        "mos {\n"
        "\tforward = 0\n"
        "\tmax_concurrency = 2000000\n"
        f"\trmem_size = {RMEM.get(trace, 8192)}\n"
        "\ttcp_timeout = 30\n"
        "\tnetdev {\n"
        f"\t\t{capture} 0x1\n"
        "\t}\n"
        "}\n"
    )
    return path


def pairs(line):
    """The key=value words of a line, whole numbers and decimal fractions as numbers."""
    found = {}
    for key, value in re.findall(r"(\w+)=(\S+)", line):
        if re.fullmatch(r"\d+", value) and key != "xor":
            found[key] = int(value)
        else:
            try:
                found[key] = value if key == "xor" else float(value)
            except ValueError:
                found[key] = value
    return found


def environment(passes=1):
    """What tells the library to preload a capture, replay it so often and print its figures."""
    return {
        **os.environ,
        "MOS_REPLAY_PRELOAD": "1",
        "MOS_REPLAY_STATS": "1",
        "MOS_REPLAY_LOOP": str(passes),
        "MOS_LOG": "off",
    }


def pinned(command, env=None):
    """Runs a command on one core; returns its standard output and error."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env=env,
            preexec_fn=lambda: os.sched_setaffinity(0, {CPU}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired as late:
        raise Failure(f"{command[0]}: not done after {TIMEOUT} s") from late
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
        raise Failure(f"{' '.join(str(word) for word in command)}: status {done.returncode}\n{last}")
    return done.stdout, done.stderr


def run_program(workload, trace, passes):
    """One run of a program; returns the library's figures and the program's counts."""
    program, *flags = workload.split()
    command = [WORK / program, "-f", configuration(trace), *flags]
    _, errors = pinned(command, environment(passes))
    lines = errors.splitlines()
    stats = [line for line in lines if line.startswith("MOS_REPLAY_STATS ")]
    counts = [line for line in lines if line.startswith("RESULT ")]
    if not stats or not counts:
        raise Failure(f"{workload} on {trace}: no {'RESULT' if stats else 'MOS_REPLAY_STATS'} line\n{errors[-500:]}")
    return pairs(stats[-1]), pairs(counts[-1])


def run_floor(floor, trace, passes):
    """One run of the floor; returns its figures."""
    output, _ = pinned([floor, TRACES / f"{trace}.pcap", "--passes", passes])
    return pairs(output)


class Progress:
    """A line for each run."""

    def __init__(self, total):
        self.total, self.done = total, 0

    def __call__(self, what, text):
        self.done += 1
        print(f"[{self.done:3}/{self.total}] {what:34} {text}", flush=True)


def check(workload, trace, passes, counts, complaints):
    """Compares a program's counts with those the trace must give."""
    for key, value in expected.counts(workload, trace, passes).items():
        if counts.get(key) != value:
            complaints.append(f"{workload} on {trace}: {key}={counts.get(key)}, expected {value}")


def passes_for(trace, workload):
    """How often to replay a trace in one run."""
    if trace not in LOOPED:
        return 1
    stats, _ = run_program(workload, trace, 1)
    return max(4, math.ceil(LOOP_NS / max(1, stats["loop_thread_ns"])))


def measure(floor, trace, workloads, runs, progress, complaints):
    """All runs of the workloads on one trace, each followed by the floor; returns the runs by workload."""
    passes = passes_for(trace, workloads[0])
    taken = {workload: [] for workload in workloads}
    for number in range(runs):
        for workload in workloads:
            what = f"{workload} on {trace}, {number + 1} of {runs}"
            try:
                stats, counts = run_program(workload, trace, passes)
                progress(what, f"{stats['loop_ns_per_packet']:8.1f} ns/packet")
                check(workload, trace, passes, counts, complaints)
                base = run_floor(floor, trace, passes)
                progress(what, f"{base['ns_per_packet']:8.1f} ns/packet: the floor")
                if stats["packets"] != base["packets"]:
                    complaints.append(
                        f"{workload} on {trace}: {stats['packets']} packets, the floor saw {base['packets']}"
                    )
                taken[workload].append((stats, base))
            except Failure as failure:
                progress(what, "failed")
                complaints.append(str(failure))
    return taken


class Cell:
    """The figures of one workload on one trace: medians over its runs."""

    def __init__(self, workload, trace, runs):
        self.workload, self.trace = workload, trace
        self.ns = sorted(stats["loop_ns_per_packet"] for stats, _ in runs)
        self.floor = sorted(base["ns_per_packet"] for _, base in runs)

        def median(figure):
            return statistics.median(figure(stats) for stats, _ in runs)

        self.packets = median(lambda s: s["packets"])
        self.bytes = median(lambda s: s["bytes"])
        self.flows = int(median(lambda s: s["peak_flows"]))
        self.bytes_per_flow = median(lambda s: s["bytes_per_flow"])
        self.rss = int(median(lambda s: s["peak_rss_bytes"]))
        self.process_ns = median(lambda s: s["loop_process_ns"] / s["packets"])
        self.drain_ms = median(lambda s: s["drain_ns"] / 1e6)

    def row(self):
        """The table's row."""
        ns, floor = statistics.median(self.ns), statistics.median(self.floor)
        return [
            self.workload,
            self.trace,
            f"{self.flows:,}",
            f"{ns:.1f}",
            f"{self.ns[0]:.1f}-{self.ns[-1]:.1f}",
            f"{self.process_ns:.1f}",
            f"{1e3 / ns:.2f}",
            f"{self.bytes / self.packets * 8 / ns:.1f}",
            f"{floor:.1f}",
            f"{self.floor[0]:.1f}-{self.floor[-1]:.1f}",
            f"{ns / floor:.2f}",
            f"{self.bytes_per_flow:,.0f}",
            f"{self.rss / 1e6:,.0f}",
            f"{self.drain_ms:.1f}",
        ]

    def record(self):
        """The object in bench.json."""
        return {
            "workload": self.workload,
            "trace": f"{self.trace}.pcap",
            "flows": self.flows,
            "ns_per_packet": round(statistics.median(self.ns), 2),
            "floor_ns_per_packet": round(statistics.median(self.floor), 2),
            "bytes_per_flow": round(self.bytes_per_flow, 1),
            "peak_rss_bytes": self.rss,
        }


HEADS = ["workload", "trace", "flows", "ns/pkt", "min-max", "process", "Mpkt/s", "Gb/s", "floor", "min-max", "ratio"]
HEADS += ["B/flow", "RSS MB", "drain ms"]


def print_table(cells):
    """Prints the cells, numbers to the right."""
    rows = [HEADS] + [cell.row() for cell in cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    print()
    for row in rows:
        words = [word.ljust(w) if at < 2 else word.rjust(w) for at, (word, w) in enumerate(zip(row, widths))]
        print("  ".join(words).rstrip())


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libdir", nargs="?", help="where libmos.so is; built when not given")
    parser.add_argument("-n", dest="runs", type=int, help="runs of each workload (5)")
    parser.add_argument("--quick", action="store_true", help="http and small200k only, 3 runs")
    parser.add_argument("--only", metavar="PATTERN", help="workloads and traces whose 'workload on trace' matches")
    options = parser.parse_args()
    runs = max(1, options.runs or (3 if options.quick else 5))
    names = ["http", "small200k"] if options.quick else NAMES

    def wanted(workload, trace):
        return trace in names and re.search(options.only or "", f"{workload} on {trace}") is not None

    plan = {trace: [w for w in TIMED if wanted(w, trace)] for trace in names}
    if CONN in plan:
        plan[CONN] = [w for w in plan[CONN] if w in ("nullmon -n", "nullmon", "pktcount -n")]
    checks = [(w, t) for w, t in CHECKED if wanted(w, t)]
    if not checks and not any(plan.values()):
        parser.error(f"nothing matches {options.only}")

    build(options.libdir)
    floor = build_floor()
    traces = [t for t in names if plan[t] or any(t == other for _, other in checks)]
    sh(sys.executable, HERE / "gen_traces.py", "-o", TRACES, *traces)

    progress = Progress(len(checks) + 2 * runs * sum(map(len, plan.values())))
    complaints = []
    for workload, trace in checks:
        try:
            _, counts = run_program(workload, trace, 1)
            before = len(complaints)
            check(workload, trace, 1, counts, complaints)
            progress(f"{workload} on {trace}, its counts", "right" if len(complaints) == before else "WRONG")
        except Failure as failure:
            progress(f"{workload} on {trace}, its counts", "failed")
            complaints.append(str(failure))

    cells = []
    for trace, workloads in plan.items():
        if not workloads:
            continue
        taken = measure(floor, trace, workloads, runs, progress, complaints)
        cells += [Cell(workload, trace, done) for workload, done in taken.items() if done]
    if cells:
        print_table(cells)
        for cell in cells:
            if cell.trace == CONN:
                each = statistics.median(cell.ns) * CONN_PACKETS
                print(f"{cell.workload}: {1e3 / each:.2f} million connections a second, {each:.0f} ns each")
        (TARGET / "bench.json").write_text(json.dumps([cell.record() for cell in cells], indent=1) + "\n")
        print(f"\nmedians of {runs}; ns of the core's thread; process: ns of all threads; floor: run in turn with each")
    for complaint in dict.fromkeys(complaints):
        print(f"WRONG: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failure, OSError) as failure:
        sys.exit(f"benches/run.py: {failure}")
