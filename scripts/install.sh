#!/bin/bash
# Installs the library, its headers and mos.pc.
#
#   scripts/install.sh LIBDIR PREFIX        LIBDIR holds what `make build` made
#
# DESTDIR in the environment goes before every path written to, not into mos.pc.
set -euo pipefail

if [ $# -ne 2 ]; then
	echo "usage: $0 LIBDIR PREFIX" >&2
	exit 2
fi
top=$(realpath "$(dirname "$0")/..")
built=$1
prefix=$2
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$top/Cargo.toml" | head -n 1)
major=0 # of the binary interface: build.rs gives the SONAME
root=${DESTDIR:-}$prefix

install -d "$root"/lib/pkgconfig "$root"/include
install -m 755 "$built/libmos.so" "$root/lib/libmos.so.$version"
ln -sfn "libmos.so.$version" "$root/lib/libmos.so.$major"
ln -sfn "libmos.so.$major" "$root/lib/libmos.so"
install -m 644 "$built/libmos.a" "$root/lib/libmos.a"
# The name that applications written for mOS link.
ln -sfn libmos.so "$root/lib/libmtcp.so"
ln -sfn libmos.a "$root/lib/libmtcp.a"
install -m 644 "$top"/include/*.h "$root/include"

cat >"$root/lib/pkgconfig/mos.pc" <<PC
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: mos
Description: Stateful networking stack for middleboxes
Version: $version
Libs: -L\${libdir} -lmos
Libs.private: $(cat "$built/libmos.private-libs")
Cflags: -I\${includedir}
PC
