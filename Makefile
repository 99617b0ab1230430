# Boxwood: build it, set it up, try it, test it.
#
#   make run     from nothing to a first box
#   make test    the same, then every check and test
#   make rest    everything that the API's document allows, asked of a real daemon
#   make fuzz FUZZ_SECONDS=600
#                anything into every decoder of the protocols
#   make bench   how fast it is here, beside ctr and podman when they are installed
#   make install PREFIX=/usr/local

PREFIX ?= /usr/local
GUEST_TARGET := x86_64-unknown-linux-gnu
BOXWOOD := target/release/boxwood
# The guest lives in the memory of every box.
SMALL := CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
GUEST := target/$(GUEST_TARGET)/release/boxwood-guest
# Tests share one store, so that the kernel is fetched and templates are baked once.
TEST_STORE := $(CURDIR)/target/test-store

.PHONY: run test build deps deps-test setup check unit fuzz failpoints vm rest bench install clean

run: deps build
	$(BOXWOOD) setup
	@scripts/first-box $(BOXWOOD)

test: deps-test build check unit fuzz vm rest

build: deps
	scripts/cargo build --release --locked -p boxwood-cli
	$(SMALL) RUSTFLAGS="-C target-feature=+crt-static" scripts/cargo build --release --locked \
		-p boxwood-guest --target $(GUEST_TARGET)

deps:
	@scripts/deps build run

deps-test:
	@scripts/deps build run test

setup: build
	$(BOXWOOD) setup

check:
	scripts/cargo fmt --all --check
	scripts/cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" scripts/cargo doc --workspace --no-deps --locked

unit:
	scripts/cargo test --workspace --exclude boxwood-tests --locked

# Seconds for each decoder; the saved corpus is always tried.
FUZZ_SECONDS ?= 5
fuzz:
	scripts/fuzz $(FUZZ_SECONDS)

# The binary with steps at which tests kill it. For development: its dependencies are those of the unit tests.
failpoints:
	scripts/cargo build --locked -p boxwood-cli --features failpoints
	install -D -m 0755 target/debug/boxwood target/failpoints/boxwood

vm: build failpoints
	BOXWOOD_HOME=$(TEST_STORE)/home BOXWOOD_STORE=$(TEST_STORE) $(BOXWOOD) setup
	BOXWOOD_STORE=$(TEST_STORE) BOXWOOD_BIN=$(CURDIR)/$(BOXWOOD) scripts/cargo test --locked -p boxwood-tests

# Everything the REST API's document allows, asked of a real daemon.
rest: build
	BOXWOOD_HOME=$(TEST_STORE)/home BOXWOOD_STORE=$(TEST_STORE) $(BOXWOOD) setup
	BOXWOOD_STORE=$(TEST_STORE) scripts/rest $(BOXWOOD)

bench: build
	$(BOXWOOD) setup
	scripts/cargo run --release --locked -p boxwood-bench

# Builds nothing: it is run by root, who need not have the builder's toolchain.
install:
	@test -x $(BOXWOOD) && test -x $(GUEST) || \
		{ echo "boxwood: there is nothing to install yet: run 'make build' first" >&2; exit 1; }
	install -D -m 0755 $(BOXWOOD) $(DESTDIR)$(PREFIX)/bin/boxwood
	install -D -m 0755 $(GUEST) $(DESTDIR)$(PREFIX)/lib/boxwood/boxwood-guest

clean:
	scripts/cargo clean
