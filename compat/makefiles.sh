#!/bin/sh
# Makes a Makefile of each samples/*/Makefile.in of this tree: libmos.so picks its packet devices
# when it runs, so the place that mOS's setup.sh fills with the I/O library's flags stays empty.
set -eu

cd "$(dirname "$0")/samples"
for template in */Makefile.in; do
	[ -e "$template" ] || continue
	sed 's/^__IO_LIB_ARGS$//' "$template" >"${template%.in}"
	echo "$PWD/${template%.in}"
done
