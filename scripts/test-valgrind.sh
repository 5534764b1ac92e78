#!/bin/bash
# C programs under valgrind: no invalid access, nothing uninitialised used, nothing leaked.
#
#   scripts/test-valgrind.sh [LIBDIR]      LIBDIR holds what `make build` made (target/release)
#
# Ends with "N passed, N failed".
set -uo pipefail

cd "$(dirname "$0")/.."
libdir=$(realpath -m "${1:-target/release}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset "${!MOS_@}"
export LC_ALL=C LD_LIBRARY_PATH=$libdir MOS_REPLAY_START=join MOS_LOG=off
passed=0 failed=0

# clean NAME PROGRAM ARGUMENTS...: the program ends with 0 and valgrind has nothing to say.
clean() {
	local name=$1
	shift
	if timeout 300 valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect,possible \
		--errors-for-leak-kinds=definite,indirect,possible --error-exitcode=9 \
		--log-file="$work/valgrind" "$@" >"$work/out" 2>&1 &&
		[ -s "$work/out" ]; then
		echo "ok      valgrind: $name"
		passed=$((passed + 1))
	else
		echo "FAILED  valgrind: $name"
		head -n 60 "$work/valgrind" "$work/out" | sed 's/^/        /'
		failed=$((failed + 1))
	fi
}

builds() { # SOURCE PROGRAM
	gcc -std=gnu11 -O1 -g -Iinclude -I"$(dirname "$1")" "$1" -o "$2" -L"$libdir" -lmos -lpthread
}

config() { # CAPTURE
	cat >"$work/mos.conf" <<-CONF
		mos {
			forward = 0
			max_concurrency = 1000
			rmem_size = 8192
			tcp_timeout = 30
			tcp_tw_interval = 0
			netdev {
				$PWD/$1 0x1
			}
		}
	CONF
}

builds tests/cases/evtrace.c "$work/evtrace" &&
	builds tests/c/streams.c "$work/streams" &&
	builds tests/c/badargs.c "$work/badargs" &&
	builds examples/midstat/midstat.c "$work/midstat" || { echo "0 passed, 1 failed"; exit 1; }

# A handshake to a full close; disorder; more than fits the ring at once; resets; streams that
# end inside a hole, begin inside a SYN; headers cut short or nonsense.
for case in normal ooo big_burst rst_server fin_data_ooo syn_data truncated_tcp bad_opts; do
	config "tests/cases/$case.pcap"
	MOS_REPLAY_BURST=1 clean "evtrace on $case" "$work/evtrace" -f "$work/mos.conf"
done
config tests/cases/tuple_reuse.pcap
MOS_REPLAY_BURST=1 clean "wrong arguments to every function" "$work/badargs" -f "$work/mos.conf"
config tests/data/demo.pcap
clean "midstat" "$work/midstat" -f "$work/mos.conf"
clean "streams" "$work/streams" -f "$work/mos.conf"

echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
