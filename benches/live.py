#!/usr/bin/env python3
"""iperf3 through the box, beside a kernel bridge in its place.

    benches/live.py [LIBDIR] [-n RUNS] [-t SECONDS]       LIBDIR holds libmos.so (target/release)

Client, box and server are network namespaces, connected by veth pairs, nothing larger than the wire's packets on them. In
the box runs midstat (every packet inspected, both streams reassembled), by libpcap and by DPDK's net_af_packet, and, in
turn with these, a kernel bridge, which looks at nothing above Ethernet. Needs root, iperf3, ethtool and iproute2.

Results are printed and, machine-readable, in target/bench-live.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

import netns

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.path.join(ROOT, "target", "bench-live")

CONF = """application {{
	type = monitor
	run = midstat
}}
mos {{
	forward = 1
	max_concurrency = 10000
	rmem_size = 262144
	netdev {{
		{a} 0x1
		{b} 0x1
	}}
	nic_forward_table {{
		{a} {b}
	}}
{more}}}
"""
EAL = """	dpdk {
		eal = "--no-huge -m 128 --no-shconf --no-pci --no-telemetry --vdev=net_af_packet0,iface=b0,framecnt=8192 --vdev=net_af_packet1,iface=b1,framecnt=8192"
	}
"""


def bridge_up():
    for command in ("add br0 type bridge", "set br0 up", "set b0 master br0", "set b1 master br0"):
        netns.run("ip", "-n", netns.name("box"), "link", *command.split())


def bridge_down():
    netns.run("ip", "-n", netns.name("box"), "link", "del", "br0")


def measure(seconds):
    """Gb/s of one TCP connection's payload, as the server received it."""
    text = netns.inside("client", "iperf3", "-c", "10.77.0.2", "-t", str(seconds), "-J")
    return json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e9


def main():
    options = argparse.ArgumentParser(usage=__doc__)
    options.add_argument("libdir", nargs="?", default=os.path.join(ROOT, "target", "release"))
    options.add_argument("-n", type=int, default=5)
    options.add_argument("-t", type=int, default=4)
    options = options.parse_args()
    netns.need("ip", "ethtool", "iperf3", "cc", "ping")
    library = os.path.join(options.libdir, "libmos.so")
    if not os.path.exists(library):
        sys.exit(f"{library} is missing: make build")
    os.makedirs(WORK, exist_ok=True)
    midstat = os.path.join(WORK, "midstat")
    netns.run("cc", "-O2", "-std=gnu11", "-I" + os.path.join(ROOT, "include"), "-o", midstat,
              os.path.join(ROOT, "examples", "midstat", "midstat.c"),
              "-L" + options.libdir, "-Wl,-rpath," + options.libdir, "-lmos", "-lpthread")

    contenders = {"kernel bridge": None, "midstat, libpcap": CONF.format(a="b0", b="b1", more="")}
    if "librte_ethdev" in netns.run("readelf", "-d", library):
        contenders["midstat, DPDK net_af_packet"] = CONF.format(a="dpdk0", b="dpdk1", more=EAL)
    else:
        print("libmos.so is built without DPDK: left out", file=sys.stderr)

    netns.make(["client", "box", "server"],
               [(("client", "c0"), ("box", "b0")), (("box", "b1"), ("server", "s0"))],
               [("client", "c0", "10.77.0.1/24"), ("server", "s0", "10.77.0.2/24")])
    server = netns.Program("server", ["iperf3", "-s"], os.path.join(WORK, "iperf3.log"))
    speeds = {name: [] for name in contenders}
    for turn in range(options.n):
        for name, conf in contenders.items():
            print(f"\rrun {turn + 1} of {options.n}: {name} ...".ljust(60), end="", file=sys.stderr, flush=True)
            if conf is None:
                bridge_up()
            else:
                path = os.path.join(WORK, "mos.conf")
                with open(path, "w") as out:
                    out.write(conf)
                box = netns.Program("box", [midstat, "-n", "-f", path], os.path.join(WORK, "midstat.log"))
            netns.until(f"a way through: {name}", lambda: netns.answers("client", "10.77.0.2"))
            speeds[name].append(measure(options.t))
            if conf is None:
                bridge_down()
            else:
                box.must_live()
                box.end()
    print("\r".ljust(61) + "\r", end="", file=sys.stderr)
    server.end()

    floor = statistics.median(speeds["kernel bridge"])
    netns.table(("in the box", "Gb/s", "min-max", "ratio"),
                [(name, *netns.spread(v), f"{statistics.median(v) / floor:.2f}") for name, v in speeds.items()])
    print(f"\nOne TCP connection, {options.t} s, median of {options.n}; all hosts share {os.cpu_count()} cores.")
    with open(os.path.join(ROOT, "target", "bench-live.json"), "w") as out:
        json.dump([{"box": name, "gbps": v, "ratio": statistics.median(v) / floor} for name, v in speeds.items()],
                  out, indent=1)


if __name__ == "__main__":
    main()
