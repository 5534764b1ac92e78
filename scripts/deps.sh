#!/bin/bash
# Installs, with apt-get, what the build and the tests need and this machine lacks.
set -euo pipefail

missing=()
command_from() { command -v "$1" >/dev/null || missing+=("$2"); }
header_from() { echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1 || missing+=("$2"); }

command_from cc build-essential
command_from g++ build-essential
command_from pkg-config pkg-config
command_from nm binutils
command_from python3 python3
command_from tcpdump tcpdump
command_from valgrind valgrind
header_from pcap/pcap.h libpcap-dev
header_from numa.h libnuma-dev
header_from openssl/ssl.h libssl-dev
# Names of ports in filters.
[ -e /etc/services ] || missing+=(netbase)

if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

sudo=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "missing: ${missing[*]}" >&2
		echo "neither root nor sudo: as root, run: apt-get install ${missing[*]}" >&2
		exit 1
	fi
	sudo=(sudo)
fi
if ! command -v apt-get >/dev/null; then
	echo "missing (names as in Debian): ${missing[*]}; no apt-get here, please install them" >&2
	exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get -qq update
"${sudo[@]}" apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
