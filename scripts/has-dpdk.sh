#!/bin/bash
# Whether a build here can have DPDK: libdpdk, and libclang to read its headers. Names (as in Debian) what is missing.
#
#   scripts/has-dpdk.sh      DPDK=0 in the environment: not wanted
set -u

if [ "${DPDK:-1}" = 0 ]; then
	exit 1
fi
missing=()
pkg-config --exists 'libdpdk >= 21.11' 2>/dev/null || missing+=(libdpdk-dev)
# The headers are asked for: the library alone comes without the compiler's own, which it needs.
if [ -z "${LIBCLANG_PATH:-}" ] && ! compgen -G '/usr/lib*/llvm*/include/clang-c/Index.h' >/dev/null &&
	[ ! -e /usr/include/clang-c/Index.h ]; then
	missing+=(libclang-dev)
fi
if [ ${#missing[@]} -ne 0 ]; then
	echo "${missing[*]}"
	exit 1
fi
