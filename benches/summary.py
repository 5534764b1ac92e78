#!/usr/bin/env python3
"""Prints README's table from target/bench.json, which `make bench` leaves: ns a packet, and the ratio to the floor."""
import json
import sys

import run

ROWS = {
    "nullmon -n": "followed and counted",
    "pktcount -n": "a callback at each end of every packet",
    "ude -n": "two chained user events",
    "reasm": "streams reassembled, and read by callbacks",
}
COLUMNS = {
    "http": "HTTP, 1,000 flows, 609 B",
    "small200k": "200,000 flows, 63 B",
    "small1m": "1,000,000 flows, 63 B",
    "elephant": "one flow, 1,031 B",
}
# The C original on such a machine: benches/README.md.
ORIGINAL = {
    ("nullmon -n", "http"): 242, ("nullmon -n", "elephant"): 98, ("nullmon -n", "small200k"): 1500,
    ("pktcount -n", "http"): 236, ("pktcount -n", "elephant"): 101, ("pktcount -n", "small200k"): 1437,
    ("ude -n", "http"): 264, ("ude -n", "elephant"): 170, ("ude -n", "small200k"): 1537,
    ("reasm", "http"): 510, ("reasm", "elephant"): 560, ("reasm", "small200k"): 1810,
}


def main():
    """The table."""
    found = {(cell["workload"], cell["trace"].removesuffix(".pcap")): cell for cell in json.loads((run.TARGET / "bench.json").read_text())}
    print("| ns a packet (the C original) | " + " | ".join(COLUMNS.values()) + " |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for workload, title in ROWS.items():
        line = [title]
        for trace in COLUMNS:
            cell = found.get((workload, trace))
            text = f"{cell['ns_per_packet']:.0f}" if cell else "–"
            if original := ORIGINAL.get((workload, trace)):
                text += f" ({original:,})"
            line.append(text)
        print("| " + " | ".join(line) + " |")
    floors = [cell["floor_ns_per_packet"] for trace in COLUMNS if (cell := found.get(("nullmon -n", trace)))]
    print("| the floor | " + " | ".join(f"{floor:.0f}" for floor in floors) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
