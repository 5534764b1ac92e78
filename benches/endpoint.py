#!/usr/bin/env python3
"""epserver on libmos beside nginx on the kernel's TCP: the same client, the same pair of interfaces, in turn.

    benches/endpoint.py [LIBDIR] [-n RUNS] [-t SECONDS]       LIBDIR holds libmos.so (target/release)

Client and server are network namespaces, connected by a veth pair, nothing larger than the wire's packets on it. The
client is wrk with 64 connections; bodies of 64 B and of 8 KB; connections that are kept and a new one for each request.
epserver runs on one core, by libpcap and by DPDK's net_af_packet; nginx has one worker. Needs root, nginx, wrk,
ethtool and iproute2. Connections a second and bytes a connection on a link in memory: `make churn`.

`req/cpu-s` divides by the server process's own user and system time. The kernel does part of nginx's TCP work in
interrupts that it charges to whoever runs, here mostly the client: `req/busy-s` divides by the time that the whole machine
was busy, the client included.

Results are printed and, machine-readable, in target/bench-endpoint.json.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys

import netns

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.path.join(ROOT, "target", "bench-endpoint")
SERVER = "10.77.0.2"
BODIES = {"64 B": ("64", 64), "8 KB": ("8k", 8192)}

CONF = """application {{
	type = end
	run = epserver
}}
mos {{
	forward = 0
	max_concurrency = 100000
	rmem_size = 16384
	wmem_size = 262144
	tcp_tw_interval = 1
	netdev {{
		{device} 0x1 10.77.0.2/24
	}}
{more}}}
"""
EAL = """	dpdk {
		eal = "--no-huge -m 128 --no-shconf --no-pci --no-telemetry --vdev=net_af_packet0,iface=s0,framecnt=8192"
	}
"""
NGINX = """daemon off; master_process off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/nginx.err;
events {{ worker_connections 4096; }}
http {{
	access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; open_file_cache max=16;
	client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3;
	uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;
	server {{ listen 80 backlog=4096; root {0}/www; }}
}}
"""


def write(path, content):
    with open(path, "wb" if isinstance(content, bytes) else "w") as out:
        out.write(content)
    return path


def load(server, path, keep, seconds):
    """Requests a second, and per CPU second of the server and of the machine, under one run of wrk."""
    close = [] if keep else ["-H", "Connection: close"]
    own, busy = server.cpu_seconds(), netns.busy_seconds()
    text = netns.inside("client", "wrk", "-t1", "-c64", f"-d{seconds}s", "--latency", *close, f"http://{SERVER}/{path}")
    own, busy = server.cpu_seconds() - own, netns.busy_seconds() - busy
    server.must_live()
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if errors or requests == 0:
        sys.exit(f"{' '.join(server.command)}: wrk says\n{text}")
    return {"rps": float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)),
            "p99": re.search(r"99%\s+(\S+)", text).group(1),
            "per_cpu": requests / max(own, 0.01), "per_busy": requests / max(busy, 0.01)}


def main():
    options = argparse.ArgumentParser(usage=__doc__)
    options.add_argument("libdir", nargs="?", default=os.path.join(ROOT, "target", "release"))
    options.add_argument("-n", type=int, default=5)
    options.add_argument("-t", type=int, default=3)
    options = options.parse_args()
    netns.need("ip", "ethtool", "nginx", "wrk", "cc", "ping", "curl")
    library = os.path.join(options.libdir, "libmos.so")
    if not os.path.exists(library):
        sys.exit(f"{library} is missing: make build")
    www = os.path.join(WORK, "www")
    os.makedirs(www, exist_ok=True)
    for name, size in BODIES.values():
        write(os.path.join(www, name), bytes(n % 95 + 32 for n in range(size)))
    epserver = os.path.join(WORK, "epserver")
    netns.run("cc", "-O2", "-std=gnu11", "-I" + os.path.join(ROOT, "include"), "-o", epserver,
              os.path.join(ROOT, "examples", "epserver", "epserver.c"),
              "-L" + options.libdir, "-Wl,-rpath," + options.libdir, "-lmos", "-lpthread")
    conf = write(os.path.join(WORK, "nginx.conf"), NGINX.format(WORK))
    pcap = write(os.path.join(WORK, "pcap.conf"), CONF.format(device="s0", more=""))
    dpdk = write(os.path.join(WORK, "dpdk.conf"), CONF.format(device="dpdk0", more=EAL))
    contenders = {"nginx, kernel": ["nginx", "-c", conf, "-p", WORK],
                  "epserver, libpcap": [epserver, "-f", pcap, "-d", www]}
    if "librte_ethdev" in netns.run("readelf", "-d", library):
        contenders["epserver, net_af_packet"] = [epserver, "-f", dpdk, "-d", www]
    else:
        print("libmos.so is built without DPDK: left out", file=sys.stderr)

    netns.make(["client", "server"], [(("client", "c0"), ("server", "s0"))], [("client", "c0", "10.77.0.1/24")])
    cells = [(body, keep) for body in BODIES for keep in (True, False)]
    found = {(name, *cell): [] for cell in cells for name in contenders}
    for turn in range(options.n):
        for name, command in contenders.items():
            print(f"\rrun {turn + 1} of {options.n}: {name} ...".ljust(60), end="", file=sys.stderr, flush=True)
            kernels = command[0] == "nginx"
            if kernels:
                netns.run("ip", "-n", netns.name("server"), "addr", "add", SERVER + "/24", "dev", "s0")
            # The hardware address may have changed with the server.
            netns.run("ip", "-n", netns.name("client"), "neigh", "flush", "all")
            server = netns.Program("server", command, os.path.join(WORK, "server.log"))
            netns.until(name, lambda: subprocess.run(
                ["ip", "netns", "exec", netns.name("client"), "curl", "-sfm1", f"http://{SERVER}/64"],
                capture_output=True).returncode == 0)
            for body, keep in cells:
                found[name, body, keep].append(load(server, BODIES[body][0], keep, options.t))
            server.end()
            if kernels:
                netns.run("ip", "-n", netns.name("server"), "addr", "del", SERVER + "/24", "dev", "s0")
    print("\r".ljust(61) + "\r", end="", file=sys.stderr)

    rows, records = [], []
    for body, keep in cells:
        base = None
        for name in contenders:
            runs = found[name, body, keep]
            middle = {key: statistics.median(run[key] for run in runs) for key in ("rps", "per_cpu", "per_busy")}
            base = base or middle
            ratio = {key: middle[key] / base[key] for key in middle}
            kind = "kept" if keep else "new"
            rows.append((name, body, kind, *netns.spread([run["rps"] for run in runs], "{:.0f}"),
                         *(cell for key in ("rps", "per_cpu", "per_busy")
                           for cell in ([f"{ratio[key]:.2f}"] if key == "rps"
                                        else [f"{middle[key]:.0f}", f"{ratio[key]:.2f}"])), runs[-1]["p99"]))
            records.append({"server": name, "body": body, "connections": kind, **middle,
                            **{"ratio_" + key: value for key, value in ratio.items()}})
    netns.table(("server", "body", "conn.", "req/s", "min-max", "ratio", "req/cpu-s", "ratio", "req/busy-s", "ratio", "p99"),
                rows)
    print(f"\n64 connections, {options.t} s, median of {options.n}; client and server share {os.cpu_count()} cores.")
    with open(os.path.join(ROOT, "target", "bench-endpoint.json"), "w") as out:
        json.dump(records, out, indent=1)


if __name__ == "__main__":
    main()
