# make build      the shared and the static library, optimised as a whole; with DPDK where libdpdk is
#                 installed (DPDK=0: without it)
# make demo       midstat on the capture that ships in tests/data
# make test       everything: Rust tests, the C side, C programs under valgrind
# make soak       DPDK ports under load for 30 seconds each (in make test: 5)
# make churn      a million connections, in memory
# make bench      the benchmark table
# make bench-cores      two cores against one
# make bench-flows      over the number of open connections, 1,000 to 4,000,000; draws docs/flows.svg
# make bench-check   fails when a workload takes over 5 % more instructions a packet than it did
# make bench-live       iperf3 through the box, beside a kernel bridge
# make bench-endpoint   epserver beside nginx, and connections in memory
# make install    to $(DESTDIR)$(PREFIX)
# make compat-tree DEST=DIR   the tree that applications written for mOS expect
# make lint       format and lints
# make deps       installs, with apt-get, what is missing
# make clean

SHELL      := bash
PREFIX     ?= /usr/local
CARGO      ?= cargo
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
LIBDIR     := $(TARGET_DIR)/release
# Asked when needed, and so after `deps`.
DPDK        = $(shell scripts/has-dpdk.sh >/dev/null && echo 1 || echo 0)
FEATURES    = $(if $(filter 0,$(DPDK)),,--features dpdk)

all: build

# Of the crate types, the Rust library cannot take part in link-time optimisation: it is left
# out here, so that the two for C are optimised as a whole.
build: deps
	@mkdir -p $(LIBDIR)
	@set -o pipefail; $(CARGO) rustc -p mos --release --lib --crate-type cdylib,staticlib $(FEATURES) -- \
		--print native-static-libs 2>&1 | tee $(LIBDIR)/build.log | sed -u '/^note: \(link against\|native-static\)/,/^$$/d'
	@sed -n 's/^note: native-static-libs: //p' $(LIBDIR)/build.log | tail -n 1 \
		>$(LIBDIR)/libmos.private-libs
	@test -s $(LIBDIR)/libmos.private-libs
	@ln -sfn libmos.so $(LIBDIR)/libmos.so.0

demo: build
	@$(MAKE) -s --no-print-directory -C examples/midstat LIBDIR=$(LIBDIR)
	@examples/midstat/midstat -f examples/midstat/mos.conf -x 0.5

test: build
	@CARGO='$(CARGO)' FEATURES='$(FEATURES)' scripts/test.sh $(LIBDIR)

soak: deps
	MOS_SOAK_SECONDS=30 $(CARGO) test $(FEATURES) --test dpdk_soak

churn:
	$(CARGO) test --release --test endpoint_scale -- --ignored --nocapture

bench: build
	python3 benches/run.py $(LIBDIR)

bench-cores: build
	python3 benches/cores.py $(LIBDIR)

bench-flows: build
	python3 benches/flows.py $(LIBDIR) --svg docs/flows.svg

bench-check: build
	python3 benches/count.py $(LIBDIR) --check benches/instructions.json

bench-live: build
	python3 benches/live.py $(LIBDIR)

bench-endpoint: build
	python3 benches/endpoint.py $(LIBDIR)
	@$(MAKE) -s --no-print-directory churn

install:
	@test -e $(LIBDIR)/libmos.so || { echo "run 'make build' first" >&2; exit 1; }
	@DESTDIR='$(DESTDIR)' scripts/install.sh $(LIBDIR) '$(PREFIX)'

compat-tree: build
	@test -n '$(DEST)' || { echo "usage: make compat-tree DEST=DIR" >&2; exit 2; }
	@scripts/compat-tree.sh '$(DEST)' $(LIBDIR)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(if $(FEATURES),$(CARGO) clippy --workspace --all-targets $(FEATURES) -- -D warnings)

deps:
	@scripts/deps.sh

clean:
	$(CARGO) clean
	for app in midstat nat simple_firewall epserver epwget; do $(MAKE) -C examples/$$app clean; done

.PHONY: all build demo test soak churn bench bench-cores bench-flows bench-check bench-live bench-endpoint install compat-tree lint deps clean
