#!/bin/bash
# Lays out the source tree that applications written for mOS expect around them.
#
#   scripts/compat-tree.sh DEST LIBDIR      LIBDIR holds libmos.so
set -euo pipefail

if [ $# -ne 2 ]; then
	echo "usage: $0 DEST LIBDIR" >&2
	exit 2
fi
top=$(realpath "$(dirname "$0")/..")
dest=$1
lib=$(realpath -m "$2/libmos.so")
if [ ! -e "$lib" ]; then
	echo "$0: $lib is missing: run 'make build' first" >&2
	exit 1
fi

mkdir -p "$dest"/core/{include,lib,src/include} "$dest"/util/include "$dest"/samples/common \
	"$dest"/drivers/dpdk/lib
for dir in core/include core/src/include; do
	install -m 644 "$top"/include/*.h "$dest/$dir"
done
install -m 644 "$top"/compat/util/include/*.h "$dest"/util/include
install -m 644 "$top"/compat/util/*.c "$dest"/util
install -m 644 "$top"/compat/samples/common/*.[ch] "$dest"/samples/common

# Applications run "make" here when the library is missing.
cat >"$dest"/core/src/Makefile <<'MAKE'
# The library is built elsewhere; ../lib/libmtcp.a leads to it.
all:
clean:
.PHONY: all clean
MAKE

# Makefiles that were made for DPDK read linker options here: $(RTE_SDK)/$(RTE_TARGET) or
# ../../drivers/dpdk. One that changes nothing, since "-Wl," alone is an error.
echo "--as-needed" >"$dest"/drivers/dpdk/lib/ldflags.txt

install -m 755 "$top"/compat/makefiles.sh "$dest"

# Text instead of an archive: the linker reads it as a script, named as a file or by -lmtcp.
echo "INPUT($lib)" >"$dest"/core/lib/libmtcp.a
echo "$dest: applications go to $dest/samples, and run with LD_LIBRARY_PATH=$(dirname "$lib")"
