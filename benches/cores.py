#!/usr/bin/env python3
"""How the packet path scales from one core to two (or more): packets a second of all cores together, beside the floor's own scaling.

cores.py [LIBDIR] [-n RUNS] [-c CORES]. 200,000 connections of small packets, 63 each, counted only. The capture is in memory, dealt to the
cores in advance; each core's packets by its thread's CPU time, the cores running at the same time. Everything is run in turn.
"""
import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

import run

TRACE = "small200kx30"
FLOWS, PACKETS = 200_000, 200_000 * 63


def lines(text, first_word):
    """The figures of the lines that begin so."""
    return [run.pairs(line) for line in text.splitlines() if line.startswith(first_word + " ")]


def spread(command, cores, env=None):
    """Runs a command on cores 0 to `cores` - 1; what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        env=env,
        preexec_fn=lambda: os.sched_setaffinity(0, set(range(cores))),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=run.TIMEOUT,
    )
    if done.returncode:
        raise run.Failure(f"{command[0]}: status {done.returncode}\n{done.stdout[-500:]}")
    return done.stdout


def rate(figures, time, cores, packets):
    """Packets a microsecond of all cores together."""
    if len(figures) != cores or sum(f["packets"] for f in figures) != packets:
        raise run.Failure(f"{len(figures)} cores, {sum(f['packets'] for f in figures)} packets; expected {cores}, {packets}")
    return sum(1e3 * f["packets"] / f[time] for f in figures)


def library(cores):
    """One run through libmos.so."""
    conf = run.configuration(TRACE)
    mask = (1 << cores) - 1
    own = conf.with_name(f"{TRACE}-{cores}.conf")
    own.write_text(conf.read_text().replace(" 0x1\n", f" {mask:#x}\n").replace("mos {\n", "mos {\n\trss = fair\n"))
    text = spread([run.WORK / "cores", "-f", own], cores, run.environment())
    counted = sum(f["start"] for f in lines(text, "RESULT"))
    if counted != FLOWS:
        raise run.Failure(f"{counted} connections on {cores} cores, expected {FLOWS}")
    return rate(lines(text, "MOS_REPLAY_STATS"), "loop_thread_ns", cores, PACKETS)


def floor_rate(floor, cores):
    """One run of the floor."""
    text = spread([floor, run.TRACES / f"{TRACE}.pcap", "--cores", cores], cores)
    return rate(lines(text, "FLOOR"), "thread_ns", cores, PACKETS)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libdir", nargs="?", help="where libmos.so is; built when not given")
    parser.add_argument("-n", dest="runs", type=int, default=5, help="runs (5)")
    parser.add_argument("-c", dest="cores", type=int, default=2, help="cores beside one (2)")
    options = parser.parse_args()
    if options.cores > len(os.sched_getaffinity(0)):
        parser.error(f"{options.cores} cores: this machine lets us use {len(os.sched_getaffinity(0))}")

    run.build(options.libdir, ["cores"])
    floor = run.build_floor()
    run.sh(sys.executable, Path(__file__).with_name("gen_traces.py"), "-o", run.TRACES, TRACE)
    wide = options.cores
    taken = []
    for number in range(options.runs):
        one, many = library(1), library(wide)
        floor_one, floor_many = floor_rate(floor, 1), floor_rate(floor, wide)
        taken.append((one, many, floor_one, floor_many))
        print(
            f"[{number + 1}/{options.runs}] 1 core {one:6.2f} Mpkt/s, {wide} cores {many:6.2f} ({many / one:.2f} x);"
            f" floor {floor_one:6.2f}, {floor_many:6.2f} ({floor_many / floor_one:.2f} x)",
            flush=True,
        )
    ours = statistics.median(many / one for one, many, _, _ in taken)
    floors = statistics.median(many / one for _, _, one, many in taken)
    print(f"\n{wide} cores are {ours:.2f} times one; the floor's {floors:.2f} times ({ours / floors - 1:+.1%}); medians of {options.runs}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (run.Failure, OSError) as failure:
        sys.exit(f"benches/cores.py: {failure}")
