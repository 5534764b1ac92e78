#!/bin/bash
# Installs, with apt-get, what the build and the tests need and this machine lacks.
set -euo pipefail

cd "$(dirname "$0")/.."
missing=()
command_from() { command -v "$1" >/dev/null || missing+=("$2"); }
header_from() { echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1 || missing+=("$2"); }

command_from cc build-essential
command_from g++ build-essential
command_from pkg-config pkg-config
command_from nm binutils
command_from python3 python3
command_from tcpdump tcpdump
command_from ip iproute2
command_from ethtool ethtool
# Without it, IPv6 chatter of the kernel is counted among a test's packets.
command_from sysctl procps
command_from ping iputils-ping
command_from curl curl
command_from nginx nginx-light
command_from iptables iptables
command_from valgrind valgrind
# Benchmarks.
command_from iperf3 iperf3
command_from wrk wrk
header_from pcap/pcap.h libpcap-dev
header_from numa.h libnuma-dev
header_from openssl/ssl.h libssl-dev
# Names of ports in filters.
[ -e /etc/services ] || missing+=(netbase)

# What cannot be had of this is done without.
read -ra optional < <(scripts/has-dpdk.sh) || true

sudo=()
may_install() { # PACKAGES: whether they can be installed here; says why not
	if [ "$(id -u)" -ne 0 ]; then
		if ! command -v sudo >/dev/null; then
			echo "missing: $*" >&2
			echo "neither root nor sudo: as root, run: apt-get install $*" >&2
			return 1
		fi
		sudo=(sudo)
	fi
	if ! command -v apt-get >/dev/null; then
		echo "missing (names as in Debian): $*; no apt-get here, please install them" >&2
		return 1
	fi
}
install() { # PACKAGES
	echo "installing $*"
	"${sudo[@]}" apt-get -qq update &&
		"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" >/dev/null
}

if [ ${#missing[@]} -ne 0 ]; then
	mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
	may_install "${missing[@]}" || exit 1
	install "${missing[@]}"
fi
if [ ${#optional[@]} -ne 0 ]; then
	{ may_install "${optional[@]}" && install "${optional[@]}"; } ||
		echo "going on without ${optional[*]}: no DPDK ports (DPDK=0 keeps this quiet)" >&2
fi
