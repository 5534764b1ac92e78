#!/bin/bash
# All tests: Rust's, the C side, C programs under valgrind.
#
#   scripts/test.sh LIBDIR      LIBDIR holds what `make build` made (target/release), with the same
#                               FEATURES (such as "--features dpdk") as the Rust tests are to have
#
# Ends with "N passed, N failed" over all of them.
set -uo pipefail

cd "$(dirname "$0")/.."
libdir=$1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

# part FORM COMMAND...: runs it and adds up the counts in the lines of that form. Something
# that fails without a count, such as a compiler, counts as one.
part() {
	local form=$1 status p f
	shift
	echo "== $*"
	"$@" 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	read -r p f < <(sed -n "s/^$form\$/\1 \2/p" "$log" | awk '{ p += $1; f += $2 } END { print p + 0, f + 0 }')
	if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
		f=1
	fi
	passed=$((passed + p)) failed=$((failed + f))
}

part 'test result: .* \([0-9]*\) passed; \([0-9]*\) failed;.*' "${CARGO:-cargo}" test --no-fail-fast ${FEATURES:-}
part '\([0-9]*\) passed, \([0-9]*\) failed' scripts/test-c.sh "$libdir"
part '\([0-9]*\) passed, \([0-9]*\) failed' scripts/test-valgrind.sh "$libdir"

echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
