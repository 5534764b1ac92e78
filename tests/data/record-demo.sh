#!/bin/bash
# Records demo.pcap: real TCP clients and servers (Linux, curl, Python) in two network
# namespaces joined by a veth pair, seen from the client's end. Nothing leaves the machine.
#
#   sudo tests/data/record-demo.sh [FILE]
#
# Needs: root, iproute2, ethtool, iptables, tcpdump, curl, python3.
#
# In the capture: single and repeated requests on one connection, six downloads at a time, a
# download with lost segments (before and after the tap), a refused port, a server that
# resets, a client that closes its half first, a talk with pauses, a connection left open, a
# little UDP and an ICMP answer.
set -euo pipefail

out=$(realpath -m "${1:-$(dirname "$0")/demo.pcap}")
client=mosdemo-c server=mosdemo-s
work=$(mktemp -d)
pids=()

cleanup() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	ip netns del "$client" 2>/dev/null || true
	ip netns del "$server" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

ip netns add "$client"
ip netns add "$server"
ip link add name mosdemo0 netns "$client" address 02:00:00:00:01:01 type veth \
	peer name mosdemo1 netns "$server" address 02:00:00:00:02:01
c() { ip netns exec "$client" "$@"; }
s() { ip netns exec "$server" "$@"; }
for run in c s; do
	$run sysctl -qw net.ipv6.conf.all.disable_ipv6=1
	$run ip link set lo up
done
c ip addr add 192.0.2.10/24 dev mosdemo0
s ip addr add 192.0.2.80/24 dev mosdemo1
c ip link set mosdemo0 up
s ip link set mosdemo1 up
# What is captured is what a wire would carry: checksums filled in, segments of one MTU.
c ethtool -K mosdemo0 tx off tso off gso off gro off >/dev/null
s ethtool -K mosdemo1 tx off tso off gso off gro off >/dev/null

mkdir "$work/www"
python3 - "$work/www" <<'PY'
import random, sys
random.seed(80)
words = "flow segment window packet sender receiver stream buffer event port".split()
for name, size in (("index.html", 1800), ("page.txt", 9000), ("data.txt", 30000), ("large.txt", 90000)):
    text = ""
    while len(text) < size:
        text += random.choice(words) + random.choice([" ", " ", ", ", ".\n"])
    open(f"{sys.argv[1]}/{name}", "w").write(text[:size])
PY

cat >"$work/servers.py" <<'PY'
import http.server, os, socket, socketserver, struct, sys, threading, time
os.chdir(sys.argv[1])

class Web(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass

class Resetter(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(100)
        self.request.sendall(b"going, going, ")
        time.sleep(0.05)
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()

class Upper(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096):
            time.sleep(0.02)
            self.request.sendall(data.upper())

class Clock(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(b"12:00:00", self.client_address)

class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    def shutdown_request(self, request): self.close_request(request)
class WebServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16

addr = "192.0.2.80"
for srv in (WebServer((addr, 8000), Web), Tcp((addr, 7001), Resetter), Tcp((addr, 7002), Upper),
            socketserver.UDPServer((addr, 7003), Clock)):
    threading.Thread(target=srv.serve_forever, daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
PY

cat >"$work/clients.py" <<'PY'
import socket, sys, time
def conn(port):
    s = socket.create_connection(("192.0.2.80", port), 5)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s

s = conn(7001); s.sendall(b"hello\n")
try:
    while s.recv(100): pass
except ConnectionResetError: pass
s.close()

try: conn(7009)
except ConnectionRefusedError: pass

s = conn(7002)
for line in (b"who is there?\n", b"a flow\n", b"which flow?\n"):
    s.sendall(line); s.recv(100); time.sleep(0.15)
s.shutdown(socket.SHUT_WR)
assert s.recv(100) == b""
s.close()

s = conn(7002); s.sendall(b"x" * 12000 + b"\n")
s.shutdown(socket.SHUT_WR)
got = 0
while data := s.recv(65536): got += len(data)
assert got == 12001, got
s.close()

u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.sendto(b"time?", ("192.0.2.80", 7003)); u.recv(100)
u.sendto(b"anybody?", ("192.0.2.80", 7008)); time.sleep(0.1)

idle = conn(7002); idle.sendall(b"still here\n"); idle.recv(100)
print("idle", flush=True)
time.sleep(float(sys.argv[1]))
PY

# exec, so that $! is the program itself and not a shell around it.
(exec ip netns exec "$server" python3 "$work/servers.py" "$work/www") >"$work/ready" & pids+=($!)
for _ in $(seq 50); do grep -q ready "$work/ready" && break; sleep 0.1; done
grep -q ready "$work/ready"

(exec ip netns exec "$client" tcpdump -q -i mosdemo0 -s 0 -w "$work/demo.pcap") \
	2>"$work/tcpdump.log" & pids+=($!)
tap=$!
for _ in $(seq 50); do grep -q listening "$work/tcpdump.log" && break; sleep 0.1; done

web=http://192.0.2.80:8000
get() { c curl -sS -m 20 -o /dev/null "$@"; }

get $web/
get $web/ -o /dev/null $web/page.txt -o /dev/null $web/not-there.html -o /dev/null $web/page.txt
for n in 1 2 3 4 5 6; do get $web/data.txt & downloads[n]=$!; done
for n in 1 2 3 4 5 6; do wait "${downloads[n]}"; done
(exec ip netns exec "$client" python3 "$work/clients.py" 30) >"$work/idle" & pids+=($!)
for _ in $(seq 100); do grep -q idle "$work/idle" && break; sleep 0.1; done

# Losses: some segments of the server never reach the tap, some are seen there but never
# reach the client, and so do some acknowledgements.
s iptables -A OUTPUT -p tcp --sport 8000 -m length --length 400:1500 \
	-m statistic --mode nth --every 17 --packet 5 -j DROP
c iptables -A INPUT -p tcp --sport 8000 -m length --length 400:1500 \
	-m statistic --mode nth --every 13 --packet 3 -j DROP
c iptables -A OUTPUT -p tcp --dport 8000 -m statistic --mode nth --every 7 --packet 6 -j DROP
get $web/large.txt
get $web/page.txt

sleep 1.5 # tcpdump gets its packets up to a second late
kill "$tap"
wait "$tap" || true

if tcpdump -nvvr "$work/demo.pcap" 2>/dev/null | grep -E 'cksum 0x.*\(incorrect|bad cksum'; then
	echo "the capture holds unfinished checksums" >&2
	exit 1
fi
size=$(stat -c %s "$work/demo.pcap")
[ "$size" -lt 600000 ] || { echo "$size bytes is too large" >&2; exit 1; }
cp "$work/demo.pcap" "$out"
echo "$out: $(tcpdump -nr "$out" 2>/dev/null | wc -l) packets, $size bytes"
