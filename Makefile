# The project's commands. Each does its own set-up; `make help` lists them.
#
# Tests come in three tiers (CONTRIBUTING.md): `make check` while you work, `make test` as CI runs it, and
# `make show-...` for long measurements, which write their results into docs.

VENV := target/venv
PYTHON ?= python3
PYTEST := $(VENV)/bin/pytest
RUST_ECHO := examples/rust-echo/build/bootstrap
NODE_SDK := tests/sdk/node/node_modules
# Runtimes with an image, all of which the conformance table runs.
RUNTIMES := dotnet go java17 nodejs22 nodejs24 python3.11 ruby3.1 rust
# An interpreter with a vendor's client, and a program of the user's own.
SANDBOXED := python3.11 rust
# Images of the suites that run on the cluster.
IMAGES := custom pilotlight python3.11
CLUSTER := tests/cluster/cluster
INSIDE := $(CLUSTER) exec --
MODULE := $(INSIDE) $(VENV)/bin/python -m

.PHONY: help
help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 29

.PHONY: run
run: ## set up, then serve an example on http://127.0.0.1:7070
	cargo build --locked --no-default-features -p pilotlight -p pilotlight-supervisor
	target/debug/pilotlight local examples/hello

# --- the tiers

.PHONY: check
check: ## formatting, lints, docs, unit and simulation tests: no root, no cluster, below 5 minutes
	@$(PYTHON) -m tests.tiers check

.PHONY: test
test: ## all that CI runs: `check`, every SDK and runtime, and a cluster; needs root
	@$(PYTHON) -m tests.tiers test

.PHONY: show-bench
show-bench: build examples ## overhead and throughput compared with bare proxies; writes docs/benchmarks.*
	cargo run --locked --release -p pilotlight-bench

.PHONY: show-bench-builds
show-bench-builds: build examples ## compare warm calls of this build and of the programs in BEFORE=DIR
	$(VENV)/bin/python -m tests.bench.builds $(BEFORE)

.PHONY: show-bench-counts
show-bench-counts: build examples ## allocations and system calls of a warm call, of this build and of the programs in BEFORE=DIR
	$(VENV)/bin/python -m tests.bench.counts $(BEFORE) target/release

.PHONY: show-identity
show-identity: $(VENV)/ready ## instructions that identity costs a call and a connection, counted at both ends
	command -v valgrind >/dev/null || apt-get install --yes --no-install-recommends valgrind
	$(PYTHON) -m tests.bench.identity

.PHONY: show-callers
show-callers: cluster-ready ## each SDK from a pod with nothing but a service account, and from outside; writes a table into docs/access.md
	$(VENV)/bin/python -m tests.sdk.callers.image
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar) target/sdk/callers/callers.tar; \
	$(MODULE) tests.sdk.callers.show

.PHONY: show-bench-callers
show-bench-callers: build examples load-tool $(VENV)/ready ## what knowing the callers costs them, and bad signatures; writes docs/benchmarks-callers.md
	cargo build --locked --release -p pilotlight-bench
	$(VENV)/bin/python -m tests.bench.callers

.PHONY: show-bench-cluster
show-bench-cluster: build examples cluster-ready ## cold starts, warm pools, bursts, events and idle cost in a cluster; writes docs/benchmarks-{cluster,pool,callers,events}.*
	cargo build --locked --release -p pilotlight-bench -p pilotlight-load
	$(CLUSTER) build nats
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar) target/images/nats.tar; \
	$(MODULE) tests.bench.cluster; \
	$(MODULE) tests.bench.pool; \
	$(MODULE) tests.bench.pool_real; \
	$(MODULE) tests.bench.events

.PHONY: show-chaos
show-chaos: cluster-ready load-tool ## every fault alone and mixed, each call and each event accounted for, for an hour; writes docs/reliability.*
	$(CLUSTER) build nats
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar) target/images/nats.tar; \
	test ! -d target/previous || $(CLUSTER) load target/previous/source/target/images/*.tar; \
	$(MODULE) tests.chaos.run $(CHAOS)

.PHONY: show-long
show-long: cluster-ready build-dev ## the end-to-end tests that wait for minutes
	$(CLUSTER) build victoria-logs
	$(CLUSTER) build nats
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar) target/images/victoria-logs.tar target/images/nats.tar; \
	PILOTLIGHT_BIN=$$PWD/target/debug/pilotlight PILOTLIGHT_SUITE=e2e $(CLUSTER) exec -- $(VENV)/bin/pytest -m long tests/e2e

.PHONY: show-chaos-lines
show-chaos-lines: cluster-ready load-tool ## a short chaos run with a store of logs: each printed line is accounted for
	$(CLUSTER) build victoria-logs
	$(CLUSTER) build nats
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar) target/images/victoria-logs.tar target/images/nats.tar; \
	PILOTLIGHT_SUITE=chaos $(MODULE) tests.chaos.printed

.PHONY: show-chaos-seeds
show-chaos-seeds: cluster-ready load-tool ## killed chaos runs, and short ones with 20 seeds; writes docs/chaos-seeds.md
	$(CLUSTER) build nats
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar) target/images/nats.tar; \
	$(MODULE) tests.chaos.killed; \
	$(MODULE) tests.chaos.seeds $(SEEDS)

.PHONY: show-outage
show-outage: cluster-ready ## ten minutes without the API server, and whom gateways serve then; writes a table into docs/access.md
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar); \
	$(MODULE) tests.e2e.outage $(OUTAGE)

.PHONY: show-upgrade
show-upgrade: cluster-ready load-tool ## an upgrade from `make previous REF=c70955b`, which asked nobody, under load; writes a table into docs/upgrading.md
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar) target/images/victoria-logs.tar target/previous/source/target/images/*.tar; \
	$(MODULE) tests.e2e.upgrade

.PHONY: previous
previous: ## programs, images and chart of the commit REF, for `make show-chaos` and `make show-upgrade` to upgrade from
	tests/chaos/previous $(REF)

.PHONY: show-runtimes
show-runtimes: build-dev $(VENV)/ready debian-packages ## the conformance table of local mode, written to docs/runtimes.md
	PILOTLIGHT_BIN=$(CURDIR)/target/debug/pilotlight $(PYTEST) tests/conformance --table docs/runtimes.md

.PHONY: show-runtimes-cluster
show-runtimes-cluster: IMAGES := pilotlight $(RUNTIMES)
show-runtimes-cluster: cluster-ready ## the conformance table in pods, for every runtime, written to docs/runtimes.md
	$(VENV)/bin/python -m tests.conformance.package $(RUNTIMES)
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar); \
	for runtime in $(RUNTIMES); do \
		$(MODULE) tests.conformance.serve $$runtime $(PYTEST) tests/conformance --table docs/runtimes.md || failed=1; \
	done; \
	test -z "$$failed"

.PHONY: show-gvisor
show-gvisor: IMAGES := pilotlight $(SANDBOXED)
show-gvisor: cluster-ready ## the conformance table of two runtimes in pods that gVisor runs, written to docs/runtimes.md
	$(CLUSTER) build gvisor
	$(VENV)/bin/python -m tests.conformance.package $(SANDBOXED)
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) down; $(CLUSTER) up --nodes 1; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar); \
	export PILOTLIGHT_RUNTIME_CLASS=runsc; \
	for runtime in $(SANDBOXED); do \
		$(MODULE) tests.conformance.serve $$runtime $(PYTEST) \
			tests/conformance/test_conformance.py tests/conformance/test_pool.py --table docs/runtimes.md || failed=1; \
	done; \
	test -z "$$failed"

.PHONY: show-door
show-door: build examples load-tool $(VENV)/ready ## 2,000 connections that stall, and a quiet function beside them; writes docs/door.md
	cargo build --locked --release -p pilotlight-bench
	$(VENV)/bin/python -m tests.bench.door

.PHONY: show-logs-search
show-logs-search: $(VENV)/ready ## searches over LINES=10000000 lines of logs; writes docs/benchmarks-logs.md
	$(CLUSTER) build victoria-logs
	cargo build --locked --release -p pilotlight-bench --bin log-search
	$(VENV)/bin/python -m tests.bench.logs $(LINES)

.PHONY: show-logs-cost
show-logs-cost: build examples load-tool $(VENV)/ready ## what logging costs a call, and a quiet function beside a loud one; writes docs/benchmarks-logs.md
	cargo build --locked --release -p pilotlight-bench
	$(VENV)/bin/python -m tests.bench.logs_cost

.PHONY: show-logs-pods
show-logs-pods: cluster-ready ## from the print to the reader in pods, and 10,000 lines a second; writes docs/benchmarks-logs.md
	$(CLUSTER) build victoria-logs
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar) target/images/victoria-logs.tar; \
	$(MODULE) tests.bench.logs_pods

.PHONY: show-events-local
show-events-local: build load-tool $(VENV)/ready ## how soon events run on local mode, beside a bare JetStream loop; writes docs/benchmarks-events.md
	$(CLUSTER) build nats
	cargo build --locked --release -p pilotlight-bench --bin jetstream-loop
	$(VENV)/bin/python -m tests.bench.events --local

.PHONY: show-events-cost
show-events-cost: build examples load-tool $(VENV)/ready ## 100,000 waiting events, and a quiet function beside them; writes docs/benchmarks-events.md
	cargo build --locked --release -p pilotlight-bench
	$(VENV)/bin/python -m tests.bench.events_cost

.PHONY: show-load
show-load: build load-tool $(VENV)/ready ## all kinds of arrivals on local mode, each call accounted for; writes docs/load.md
	$(VENV)/bin/python -m tests.load.show

.PHONY: show-traces
show-traces: build $(VENV)/ready ## one trace through two functions, sent to Jaeger and asked of it; writes docs/traces.md
	$(VENV)/bin/python -m tests.traces.show

.PHONY: show-traces-cluster
show-traces-cluster: cluster-ready ## the same in pods, with the collector in the cluster; writes docs/traces.md
	$(VENV)/bin/python -m tests.traces.pack
	@trap '$(CLUSTER) down' EXIT; set -e; \
	$(CLUSTER) up --nodes 2; \
	$(CLUSTER) load $(IMAGES:%=target/images/%.tar) target/traces/jaeger.tar; \
	$(MODULE) tests.traces.cluster

.PHONY: show-mutants
show-mutants: ## check that each in-process test of the gateway fails without its mechanism
	$(PYTHON) -m tests.mutants

.PHONY: show-fuzz
show-fuzz: ## every fuzz target for SECONDS=600 each; the inputs that it finds stay in fuzz/grown
	fuzz/run long $(or $(SECONDS),600)

# --- the parts of the tiers

.PHONY: build
build: ## the programs, optimised
	cargo build --locked --release -p pilotlight -p pilotlight-supervisor

.PHONY: build-dev
build-dev: ## the programs and test tools, not optimised
	cargo build --locked --workspace --bins

.PHONY: load-tool
load-tool: ## the load tool: load, journal and checker, optimised
	cargo build --locked --release -p pilotlight-load

.PHONY: examples
examples: ## the examples that are compiled
	cargo build --locked --release -p example-rust-echo
	install -D -m 755 target/release/bootstrap $(RUST_ECHO)

.PHONY: debian-packages
debian-packages: ## install the packages that the tests need (Debian, root)
	@$(CLUSTER) setup --tests

# Builds everything that a cluster and its suites need.
.PHONY: cluster-ready
cluster-ready: debian-packages build $(VENV)/ready
	$(CLUSTER) build
	runtime-image/build archives $(IMAGES)

$(VENV)/ready: tests/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(NODE_SDK)/.package-lock.json: tests/sdk/node/package-lock.json
	cd tests/sdk/node && npm ci --no-audit --no-fund
	touch $@

# --- generated files that are committed

.PHONY: format
format: $(VENV)/ready ## format all Rust and Python
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(VENV)/bin/ruff check --quiet --fix .
	$(VENV)/bin/ruff format --quiet .

.PHONY: crds
crds: ## write the custom resource definitions from their source
	for kind in function warmpool schedule; do \
		cargo run --locked -p pilotlight -- crd $$kind >target/$$kind.yaml && \
		install -m 644 target/$$kind.yaml crds/ && \
		install -m 644 target/$$kind.yaml charts/pilotlight/files/crds/ || exit 1; \
	done

# --- upkeep

.PHONY: deny
deny: ## advisories, licences and sources of all crates (CHECKS="bans licenses sources" needs no network)
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny check $(CHECKS)
	cargo deny --manifest-path fuzz/Cargo.toml --config deny.toml check $(CHECKS)

.PHONY: clean
clean: ## remove everything that was built
	cargo clean
	cargo clean --manifest-path fuzz/Cargo.toml
	rm -rf $(NODE_SDK) $(dir $(RUST_ECHO))

# Short names of two frequent commands.
.PHONY: bench bench-cluster
bench: show-bench
bench-cluster: show-bench-cluster
