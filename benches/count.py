#!/usr/bin/env python3
"""Instructions per packet of each workload, counted by callgrind: a figure that no neighbour's load changes.

count.py [LIBDIR] [--functions N] [--save FILE | --check FILE]. Counted are a trace's packets beyond the first half of a short cut, so that
start-up cancels out: (all of the cut - its first half) / packets between. For `small` both are whole traces, of 2,000
and of 1,000 flows, so that flows begin, exchange and end in it. --check fails where a count is more than 5 % above the one
saved; with another compiler it only reports. --functions also prints the N functions that take most.
"""
import argparse
import collections
import json
import os
import re
import struct
import sys
from pathlib import Path

import run

CUT = 20000
CUTS = run.WORK / "cuts"
# The name in the table, and the trace it is cut from; small is generated in two sizes.
TRACES = ["http", "mix", "elephant", "small"]
TOLERANCE = 0.05


def cut(trace, packets):
    """Writes the first packets of a trace; returns the new file's path."""
    path = CUTS / f"{trace}-{packets}.pcap"
    data = (run.TRACES / f"{trace}.pcap").open("rb")
    with data, path.open("wb") as out:
        out.write(data.read(24))
        for _ in range(packets):
            head = data.read(16)
            out.write(head + data.read(struct.unpack("<I", head[8:12])[0]))
    return path


def captures(trace):
    """The shorter and the longer capture, with their packets."""
    if trace == "small":
        run.sh(sys.executable, run.HERE / "gen_traces.py", "-o", CUTS, "small1k", "small2k")
        return [(CUTS / "small1k.pcap", 9000), (CUTS / "small2k.pcap", 18000)]
    run.sh(sys.executable, run.HERE / "gen_traces.py", "-o", run.TRACES, trace)
    return [(cut(trace, packets), packets) for packets in (CUT // 2, CUT)]


def instructions(workload, trace, capture):
    """Instructions of one run, the whole process, by function."""
    program, *flags = workload.split()
    out = CUTS / "callgrind.out"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", run.WORK / program]
    command += ["-f", run.configuration(trace, capture), *flags]
    # The secret of the flow table's hash is fixed: buckets then fill alike. The file is read as it is replayed: filling the
    # memory for all of it beforehand would count for each byte.
    _, errors = run.pinned(command, {**run.environment(), "MOS_HASH_SEED": "1", "MOS_REPLAY_PRELOAD": "0"})
    if "RESULT " not in errors:
        raise run.Failure(f"{workload} on {capture}: no RESULT line")
    return by_function(out)


def by_function(path):
    """The instructions that each function of a callgrind file executed itself."""
    names, counts, function, inclusive = {}, collections.Counter(), None, False
    for line in path.read_text().splitlines():
        if line.startswith(("fn=", "cfn=")):
            number, name = re.fullmatch(r"c?fn=(\(\d+\))(?: (.*))?", line).groups()
            names.setdefault(number, name)
            if line.startswith("fn="):
                function = names[number]
        elif line.startswith("calls="):
            # The next line is what the function called took.
            inclusive = True
        elif re.match(r"[0-9+*-]", line):
            if not inclusive:
                counts[function] += int(line.split()[1])
            inclusive = False
    return counts


def compare(saved, counts, compiler):
    """Prints what changed since the counts were saved; returns whether that is a failure."""
    failed = False
    for workload, row in counts.items():
        for trace, count in row.items():
            before = saved["counts"].get(workload, {}).get(trace)
            if before is None:
                print(f"{workload} on {trace}: {count:.1f}, none saved")
            elif abs(count / before - 1) > TOLERANCE:
                print(f"{workload} on {trace}: {before:.1f} -> {count:.1f} ({count / before - 1:+.1%})")
                failed |= count > before
    if failed and saved["rustc"] != compiler:
        print(f"saved with {saved['rustc']}, this is {compiler}: not a failure")
        return False
    return failed


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libdir", nargs="?", help="where libmos.so is; built when not given")
    parser.add_argument("--only", metavar="PATTERN", default="", help="workloads and traces that match")
    parser.add_argument("--functions", metavar="N", type=int, default=0, help="list the functions that take most")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--save", metavar="FILE", type=Path, help="keep the counts there")
    kept.add_argument("--check", metavar="FILE", type=Path, help="compare with the counts there")
    options = parser.parse_args()

    run.build(options.libdir)
    CUTS.mkdir(parents=True, exist_ok=True)
    counts = {}
    print("instructions per packet".ljust(24) + "".join(trace.rjust(12) for trace in TRACES))
    files, listed = {}, []
    for workload in run.TIMED:
        line = workload.ljust(24)
        for trace in TRACES:
            if not re.search(options.only, f"{workload} on {trace}"):
                line += "-".rjust(12)
                continue
            if trace not in files:
                files[trace] = captures(trace)
            (short, few), (long, many) = files[trace]
            more = instructions(workload, trace, long)
            more.subtract(instructions(workload, trace, short))
            counts.setdefault(workload, {})[trace] = round(sum(more.values()) / (many - few), 1)
            line += f"{counts[workload][trace]:12.1f}"
            listed += [(workload, trace, name, count / (many - few)) for name, count in more.most_common(options.functions)]
        print(line, flush=True)
    for workload, trace, name, count in listed:
        print(f"{workload} on {trace}".ljust(24) + f"{count:10.1f}  {name}")

    compiler = run.sh(os.environ.get("RUSTC", "rustc"), "--version").strip()
    if options.save:
        options.save.write_text(json.dumps({"rustc": compiler, "counts": counts}, indent=1) + "\n")
    if options.check:
        return 1 if compare(json.loads(options.check.read_text()), counts, compiler) else 0
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (run.Failure, OSError) as failure:
        sys.exit(f"benches/count.py: {failure}")
