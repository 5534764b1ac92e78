"""Network namespaces for the benchmarks over veth pairs: made by the benchmark, deleted when it ends.

What a previous run left behind when it was killed is deleted first. Larger packets than the wire's (TSO, GSO, GRO) and
unfinished checksums are switched off on every interface, for all contenders alike.
"""

import atexit
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

PREFIX = "mosbench"


def run(*command, check=True):
    """Runs a command to its end; its output. Ends the program with the command's words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def need(*programs):
    """Ends the program when it is not root's or something is not installed."""
    missing = [p for p in programs if not shutil.which(p)]
    if missing:
        sys.exit(f"needs {', '.join(missing)} (make deps)")
    if os.geteuid() != 0:
        sys.exit("makes network namespaces: run it as root")


def name(space):
    """A namespace's name as `ip netns` knows it."""
    return f"{PREFIX}-{os.getpid()}-{space}"


def delete(spaces):
    for space in spaces:
        subprocess.run(["ip", "netns", "del", space], capture_output=True)


def make(spaces, links, addresses):
    """Makes namespaces, veth pairs ((space, device), (space, device)) between them, and (space, device, address) on those."""
    left = [s.split()[0] for s in run("ip", "netns", "list").splitlines() if s.startswith(PREFIX + "-")]
    delete(s for s in left if not os.path.exists(f"/proc/{s.split('-')[1]}"))
    atexit.register(delete, [name(s) for s in spaces])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for space in spaces:
        run("ip", "netns", "add", name(space))
        run("ip", "-n", name(space), "link", "set", "lo", "up")
    for (a, a_device), (b, b_device) in links:
        run("ip", "-n", name(a), "link", "add", a_device, "type", "veth", "peer", "name", b_device, "netns", name(b))
        for space, device in ((a, a_device), (b, b_device)):
            run("ip", "-n", name(space), "link", "set", device, "up")
            inside(space, "ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off")
    for space, device, address in addresses:
        run("ip", "-n", name(space), "addr", "add", address, "dev", device)


def inside(space, *command):
    """Runs a command in a namespace; its output."""
    return run("ip", "netns", "exec", name(space), *command)


class Program:
    """A program that runs in a namespace until `end`; what it prints goes to a file."""

    def __init__(self, space, command, log, env=None):
        self.command, self.log = command, log
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MOS_")}
        with open(log, "w") as out:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", name(space), *command],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**environment, **(env or {})})
        atexit.register(self.end)

    def cpu_seconds(self):
        """User and system time of the process so far. `ip netns exec` becomes the program: the pid stays."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def must_live(self):
        if self.process.poll() is not None:
            with open(self.log) as log:
                sys.exit(f"{' '.join(self.command)} has ended:\n{log.read()[-2000:]}")

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def until(what, ready, seconds=15):
    """Waits until `ready()`; ends the program when it takes too long."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            sys.exit(f"waited {seconds} s for {what}")
        time.sleep(0.1)


def answers(space, address):
    """Whether a host answers one echo request. ARP makes the first one late."""
    return subprocess.run(["ip", "netns", "exec", name(space), "ping", "-c1", "-W1", address],
                          capture_output=True).returncode == 0


def busy_seconds():
    """CPU seconds that all of the machine has spent on anything but waiting."""
    with open("/proc/stat") as stat:
        fields = [int(f) for f in stat.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, _steal = fields
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def spread(values, form="{:.2f}"):
    """Median and range of some values, as two cells of a table."""
    return form.format(statistics.median(values)), f"{form.format(min(values))}-{form.format(max(values))}"


def table(head, rows):
    """Prints rows below their heads: the first column to the left, the others to the right."""
    rows = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())
