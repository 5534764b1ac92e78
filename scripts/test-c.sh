#!/bin/bash
# Tests the C side: headers, exports, installation, the tree for old applications.
#
#   scripts/test-c.sh [LIBDIR]      LIBDIR holds what `make build` made (target/release)
#
# Ends with "N passed, N failed".
set -uo pipefail

cd "$(dirname "$0")/.."
libdir=$(realpath -m "${1:-target/release}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C LD_LIBRARY_PATH=$libdir
unset "${!MOS_@}"
passed=0 failed=0

# check NAME COMMAND...: a test that passes when the command succeeds.
check() {
	local name=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		echo "ok      $name"
		passed=$((passed + 1))
	else
		echo "FAILED  $name"
		sed 's/^/        /' "$work/log" | head -n 40
		failed=$((failed + 1))
	fi
}

# prints LINE COMMAND...: the command succeeds, and what it says has that line.
prints() { # LINE COMMAND...
	local line=$1
	shift
	"$@" >"$work/printed" 2>&1 && grep -qxF -e "$line" "$work/printed" || { cat "$work/printed"; false; }
}

warn="-Wall -Wextra -Werror -Iinclude"

# ---- headers ----

builds_and_runs() { # COMPILER... SOURCE
	"$@" -o "$work/program" && "$work/program"
}
for std in gnu89 gnu99 gnu11 gnu17; do
	check "layout in C, $std" builds_and_runs gcc -std=$std -fgnu89-inline $warn tests/c/layout.c
done
for std in c++11 gnu++14 c++17; do
	check "layout in C++, $std" builds_and_runs g++ -std=$std $warn tests/c/layout.cpp
done

compiles() { gcc "$@" -c -x c "$work/include.c" -o /dev/null; }
for header in include/*.h; do
	echo "#include <$(basename "$header")>" >"$work/include.c"
	check "$(basename "$header") stands alone" compiles -std=gnu89 -fgnu89-inline $warn
done
# struct tcphdr has two homes that exclude each other; either may come first or last.
for other in netinet/tcp.h linux/tcp.h; do
	for order in "$other mos_api.h" "mos_api.h $other"; do
		for header in $order; do echo "#include <$header>"; done >"$work/include.c"
		cat >>"$work/include.c" <<-'C'
			_Static_assert(TCP_ESTABLISHED == 4 && TCP_TIME_WAIT == 10, "states");
			int is_syn(struct tcphdr *h);
			int is_syn(struct tcphdr *h) { return h->syn && h->source && h->doff; }
		C
		check "headers in the order $order" compiles $warn
	done
done

# mTCP's names, by their macro or included; in C++ too.
echo '#include <mtcp_compat.h>' >"$work/mtcp_names.c"
sed '/mtcp_api.h\|mtcp_epoll.h/d' tests/c/mtcp_names.c >>"$work/mtcp_names.c"
for source in "-DMTCP_COMPAT tests/c/mtcp_names.c" "-DMTCP_COMPAT -DWITH_MONITORS tests/c/mtcp_names.c" "$work/mtcp_names.c"; do
	for compiler in "gcc -std=gnu89 -fgnu89-inline" "gcc -std=gnu17" "g++ -x c++ -std=c++17"; do
		# shellcheck disable=SC2086
		check "mTCP's names: $compiler ${source/$work/.}" \
			builds_and_runs $compiler $warn $source -L"$libdir" -lmos
	done
done

# ---- the library ----

same_exports() { # LIBRARY
	nm -D --defined-only --format=posix "$1" | awk '{ sub(/@.*/, "", $1); print $1 }' |
		sort -u | diff -u tests/exports.txt -
}
check "exports are exactly those listed" same_exports "$libdir/libmos.so"

soname_is() { readelf -d "$1" | grep -F "SONAME" | grep -qF "[$2]"; }
check "SONAME is libmos.so.0" soname_is "$libdir/libmos.so" libmos.so.0

# Its drivers are plug-ins, which DPDK finds by itself.
needs_dpdk() { # LIBRARY
	local needed
	needed=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(librte_[a-z_]*\)\.so.*/\1/p' | sort | xargs)
	echo "$needed"
	[[ $needed == *librte_eal*librte_ethdev* && $needed != *librte_net_* ]]
}
if scripts/has-dpdk.sh >/dev/null; then
	check "DPDK is needed by name, its drivers are not" needs_dpdk "$libdir/libmos.so"
fi

entries_are_complete() {
	sed -n 's/^\tENTRY(\(.*\)),$/\1/p' tests/c/linkall.c | diff -u tests/exports.txt -
}
check "linkall.c names every export" entries_are_complete
check "all functions link, from C" builds_and_runs gcc $warn -Wno-cast-function-type \
	tests/c/linkall.c -L"$libdir" -lmos
check "all functions link, from C++" builds_and_runs g++ $warn -Wno-cast-function-type \
	-x c++ tests/c/linkall.c -L"$libdir" -lmos

# ---- configuration ----

check "config.c builds" gcc $warn tests/c/config.c -o "$work/config" -L"$libdir" -lmos
for conf in config/*.conf examples/*/*.conf; do
	check "$conf is accepted without a warning" env MOS_NETDEV=tests/data/demo.pcap \
		bash -c '"$1" "$2" 2>&1 | { ! grep .; }' - "$work/config" "$conf"
done

echo "mos { netdev { $PWD/tests/data/demo.pcap 0x1 } }" >"$work/capture.conf"
check "a program in mTCP's spelling runs" builds_and_runs gcc $warn -DMTCP_COMPAT tests/c/mtcp_names.c \
	-L"$libdir" -lmos
check "a program in mTCP's spelling waits for a pipe" \
	prints ok env MOS_REPLAY_LOOP=4000000000 "$work/program" "$work/capture.conf" sockets

# ---- installation ----

check "install into DESTDIR" env DESTDIR="$work/root" scripts/install.sh "$libdir" /opt/mos
root=$work/root/opt/mos
for name in libmos.so.0 libmos.so libmos.a libmtcp.so libmtcp.a pkgconfig/mos.pc; do
	check "installed: lib/$name" test -s "$root/lib/$name"
done
for header in include/*.h; do
	check "installed: $header" cmp "$header" "$root/$header"
done
pc() {
	PKG_CONFIG_PATH=$root/lib/pkgconfig pkg-config --define-variable=prefix="$root" "$@" mos
}
links_installed() { # WHAT ARGUMENTS...
	local flags=$1
	shift
	# shellcheck disable=SC2046
	gcc $(pc --cflags) tests/c/linkall.c $flags -o "$work/program" && "$@" "$work/program"
}
check "links by pkg-config" links_installed "$(pc --libs)" env LD_LIBRARY_PATH="$root/lib"
check "links as -lmtcp" links_installed "-L$root/lib -lmtcp" env LD_LIBRARY_PATH="$root/lib"
check "links statically" links_installed \
	"$root/lib/libmos.a $(pc --libs --static | sed 's/-lmos\b//')" env

# ---- the tree for applications written for mOS ----

tree=$work/tree
check "compat tree is laid out" scripts/compat-tree.sh "$tree" "$libdir"
# The flags that mOS's setup.sh puts into a Makefile.in, for each of its kinds of device.
io_flags=(
	'LIBS += -m64 -g -pthread -lrt -march=native -Wl,-export-dynamic -L$(RTE_SDK)/$(RTE_TARGET)/lib -Wl,-lnuma -Wl,-lmtcp -Wl,-lpthread -Wl,-lrt -Wl,-ldl -Wl,$(shell cat $(RTE_SDK)/$(RTE_TARGET)/lib/ldflags.txt)'
	'LIBS += -pthread -L../../drivers/dpdk/lib -Wl,-lmtcp -Wl,$(shell cat ../../drivers/dpdk/lib/ldflags.txt)'
	$'GCC_OPT += -D__thread="" -DBE_RESILIENT_TO_PACKET_DROP\nINC += -DENABLE_PCAP\nLIBS += -lpcap'
)
for program in tests/compat/samples/*/; do
	name=$(basename "$program")
	cp -r "$program" "$tree/samples/$name"
	for flags in "${io_flags[@]}"; do
		template=$(<"$program/Makefile.in")
		echo "${template/__IO_LIB_ARGS/"$flags"}" >"$tree/samples/$name/Makefile"
		check "compat tree: $name with ${flags:0:30}..." \
			env RTE_SDK="$tree/drivers" RTE_TARGET=dpdk make -B -C "$tree/samples/$name" DBG_OPT=-Wno-error
	done
	check "compat tree: Makefiles are made" "$tree/makefiles.sh"
	check "compat tree: make in samples/$name" make -B -C "$tree/samples/$name" DBG_OPT=-Wno-error
	check "compat tree: $name needs libmos.so.0 by name" bash -c \
		"readelf -d '$tree/samples/$name/$name' | grep -F NEEDED | grep -F '[libmos.so.0]'"
done
echo "mos { netdev { eth0 0x1 } }" >"$work/old.conf"
check "compat tree: flowdump runs on a capture instead of its device" \
	prints "MOS_ON_CONN_START 39342 -> 8000" \
	env MOS_NETDEV="tests/data/demo.pcap" "$tree/samples/flowdump/flowdump" "$work/old.conf"
check "compat tree: make in core/src" make -C "$tree/core/src"
check "compat tree: helpers" builds_and_runs gcc -std=gnu11 -Wall -Wextra -Werror \
	-I"$tree/core/include" -I"$tree/util/include" -I"$tree/samples/common" \
	tests/compat/helpers.c "$tree"/util/*.c "$tree"/samples/common/*.c "$tree/core/lib/libmtcp.a"

# ---- the README's example ----

sed -n '/^```c$/,/^```$/p' README.md | grep -v '^```' >"$work/requests.c"
check "README's example builds" gcc $warn -Wno-unused-parameter "$work/requests.c" -o "$work/requests" \
	-L"$libdir" -lmos
check "README's example prints requests" prints "GET /page.txt HTTP/1.1" \
	env MOS_NETDEV=tests/data/demo.pcap "$work/requests" config/replay.conf

# ---- the applications ----

for name in nat simple_firewall; do
	cp -r "examples/$name" "$work/$name"
	rm -f "$work/$name/$name"
	check "$name builds" make -C "$work/$name" TOP="$PWD" LIBDIR="$libdir"
done

cp -r examples/midstat "$work/midstat"
rm -f "$work/midstat/midstat"
check "midstat builds" make -C "$work/midstat" TOP="$PWD" LIBDIR="$libdir"
midstat=("$work/midstat/midstat" -f examples/midstat/mos.conf)
check "midstat counts what is in the capture" \
	prints "0 connections open, 16 ended; 592 packets, 377002 bytes" "${midstat[@]}"
check "midstat ends with a summary at SIGINT" prints "Packets received, by kind" \
	env MOS_REPLAY_LOOP=4000000000 timeout --preserve-status -s INT 1 "${midstat[@]}"
check "midstat counts the same on two cores" \
	prints "0 connections open, 16 ended; 592 packets, 377002 bytes" \
	env MOS_NETDEV="tests/data/demo.pcap 0x3" "${midstat[@]}"

# ---- the other applications ----

for name in epserver epwget; do
	cp -r "examples/$name" "$work/$name"
	rm -f "$work/$name/$name"
	check "$name builds" make -C "$work/$name" TOP="$PWD" LIBDIR="$libdir"
done

echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
