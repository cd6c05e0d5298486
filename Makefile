# The project's commands. Each does its own set-up; `make help` lists them.

CARGO_BIN := target/release
VENV := target/venv
PYTHON ?= python3
RUST_ECHO := examples/rust-echo/build/bootstrap
# Runtimes with an image, all of which the conformance table runs.
IMAGES := dotnet go java17 nodejs22 nodejs24 python3.11 ruby3.1 rust
STAGE := tests/cluster/stages run
INSIDE := tests/cluster/cluster exec --

.PHONY: help
help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)

.PHONY: run
run: ## set up, then serve an example on http://127.0.0.1:7070
	cargo build --locked --no-default-features -p pilotlight -p pilotlight-supervisor
	target/debug/pilotlight local examples/hello

.PHONY: build
build: ## the programs, optimised
	cargo build --locked --release -p pilotlight -p pilotlight-supervisor

.PHONY: examples
examples: ## the examples that are compiled
	cargo build --locked --release -p example-rust-echo
	mkdir -p $(dir $(RUST_ECHO))
	install -m 755 $(CARGO_BIN)/bootstrap $(RUST_ECHO)

.PHONY: test
test: lint python-lint test-rust fuzz-short test-python test-node test-runtimes test-cluster ## every test

.PHONY: lint
lint: ## formatting and clippy
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked -p pilotlight --no-default-features -- -D warnings

.PHONY: python-lint
python-lint: $(VENV)/ready ## formatting and likely mistakes of all Python
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

.PHONY: test-rust
test-rust: examples ## units, manifests, the simulation, the workspace's edges
	cargo test --locked --workspace

.PHONY: fuzz-short
fuzz-short: ## every parser of bytes from outside, fuzzed for 10 seconds (needs a C++ compiler)
	fuzz/run short

.PHONY: fuzz
fuzz: ## the same for SECONDS=600 each, keeping what is learnt in fuzz/grown
	fuzz/run long $(or $(SECONDS),600)

.PHONY: test-python
test-python: build examples $(VENV)/ready ## boto3 against `pilotlight local`
	$(VENV)/bin/pytest tests/sdk/python

.PHONY: test-node
test-node: build examples tests/sdk/node/node_modules ## the JavaScript SDK against `pilotlight local`
	cd tests/sdk/node && npm test

.PHONY: test-runtimes
test-runtimes: build $(VENV)/ready runtime-tools ## the conformance table, for every runtime in local mode
	$(VENV)/bin/pytest tests/conformance

.PHONY: runtimes-table
runtimes-table: build $(VENV)/ready runtime-tools ## the same, written to docs/runtimes.md
	$(VENV)/bin/pytest tests/conformance --table docs/runtimes.md

.PHONY: test-runtimes-cluster
test-runtimes-cluster: build $(VENV)/ready runtime-tools ## the same table in pods, for every runtime
	@tests/cluster/stages begin
	@$(STAGE) "Debian packages" -- tests/cluster/cluster setup
	@command -v mmdebstrap >/dev/null || apt-get install --yes --no-install-recommends mmdebstrap
	@$(STAGE) "Kubernetes, built" -- tests/cluster/cluster build
	@$(STAGE) "images, built" -- runtime-image/build archives pilotlight $(IMAGES)
	@$(STAGE) "functions, packaged" -- $(VENV)/bin/python -m tests.conformance.package $(IMAGES)
	@trap 'tests/cluster/cluster down; tests/cluster/stages report' EXIT; set -e; \
	$(STAGE) "cluster up" -- tests/cluster/cluster up --nodes 2; \
	$(STAGE) "images loaded" -- tests/cluster/cluster load $(patsubst %,target/images/%.tar,pilotlight $(IMAGES)); \
	for runtime in $(IMAGES); do \
		$(STAGE) $$runtime -- $(INSIDE) $(VENV)/bin/python -m tests.conformance.serve $$runtime $(VENV)/bin/pytest tests/conformance $(TABLE) || failed=1; \
	done; \
	test -z "$$failed"

.PHONY: runtimes-table-cluster
runtimes-table-cluster: TABLE := --table docs/runtimes.md
runtimes-table-cluster: test-runtimes-cluster ## the same, written to docs/runtimes.md

.PHONY: runtime-tools
runtime-tools: ## what the runtimes need of the machine and it lacks (Debian)
	ruby -e 'require "kramdown"' 2>/dev/null || apt-get install --yes --no-install-recommends ruby ruby-kramdown
	command -v cmake >/dev/null || apt-get install --yes --no-install-recommends cmake g++ make
	command -v javac >/dev/null || apt-get install --yes --no-install-recommends openjdk-17-jdk-headless
	command -v mvn >/dev/null || apt-get install --yes --no-install-recommends maven
	test -d /usr/lib/cli/Newtonsoft.Json-5.0 -a -x /usr/bin/mcs || apt-get install --yes --no-install-recommends mono-runtime mono-mcs libmono-cil-dev libnewtonsoft-json5.0-cil
	command -v go >/dev/null || apt-get install --yes --no-install-recommends golang

$(VENV)/ready: tests/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

tests/sdk/node/node_modules: tests/sdk/node/package-lock.json
	cd tests/sdk/node && npm ci --no-audit --no-fund
	touch $@

.PHONY: crds
crds: ## write the custom resource definitions from their source
	for kind in function warmpool; do \
		cargo run --locked -p pilotlight -- crd $$kind >target/$$kind.yaml && \
		install -m 644 target/$$kind.yaml crds/ && \
		install -m 644 target/$$kind.yaml charts/pilotlight/crds/ || exit 1; \
	done

.PHONY: test-cluster
test-cluster: build load $(VENV)/ready tests/sdk/node/node_modules ## a real cluster: manifests, chart, images, functions in pods
	@tests/cluster/stages begin
	@$(STAGE) "Debian packages" -- tests/cluster/cluster setup
	@command -v mmdebstrap >/dev/null || apt-get install --yes --no-install-recommends mmdebstrap
	@ls /usr/lib/*/faketime/*.so.1 >/dev/null 2>&1 || apt-get install --yes --no-install-recommends libfaketime
	@$(STAGE) "Kubernetes, built" -- tests/cluster/cluster build
	@$(STAGE) "images, built" -- runtime-image/build archives custom pilotlight python3.11
	@trap 'tests/cluster/cluster down; tests/cluster/stages report' EXIT; set -e; \
	$(STAGE) "cluster up" -- tests/cluster/cluster up --nodes 2; \
	$(STAGE) "images loaded" -- tests/cluster/cluster load target/images/*.tar; \
	$(STAGE) "manifests" -- $(VENV)/bin/pytest tests/manifests; \
	$(STAGE) "chart" -- $(VENV)/bin/pytest tests/chart; \
	$(STAGE) "images" -- $(VENV)/bin/pytest tests/images; \
	$(STAGE) "boto3" -- $(INSIDE) $(VENV)/bin/python -m tests.e2e.serve $(VENV)/bin/pytest tests/sdk/python; \
	$(STAGE) "JavaScript SDK" -- $(INSIDE) $(VENV)/bin/python -m tests.e2e.serve npm --prefix tests/sdk/node test; \
	$(STAGE) "end to end" -- $(INSIDE) $(VENV)/bin/pytest tests/e2e; \
	$(STAGE) "chaos" -- $(INSIDE) $(VENV)/bin/pytest tests/chaos

.PHONY: chaos
chaos: build load $(VENV)/ready ## every fault by itself and mixed, under account, for an hour; writes docs/reliability.*
	tests/cluster/cluster build
	runtime-image/build archives custom pilotlight python3.11
	@trap 'tests/cluster/cluster down' EXIT; set -e; \
	tests/cluster/cluster up --nodes 2; \
	tests/cluster/cluster load $(patsubst %,target/images/%.tar,custom pilotlight python3.11); \
	test ! -d target/previous || tests/cluster/cluster load target/previous/source/target/images/*.tar; \
	$(INSIDE) $(VENV)/bin/python -m tests.chaos.run $(CHAOS)

.PHONY: previous
previous: ## programs, images and chart of the commit REF, for `make chaos` to upgrade from
	tests/chaos/previous $(REF)

.PHONY: test-chaos
test-chaos: build load $(VENV)/ready ## a short chaos, the same each time, and steps of the clock
	tests/cluster/cluster build
	runtime-image/build archives custom pilotlight python3.11
	@trap 'tests/cluster/cluster down' EXIT; set -e; \
	tests/cluster/cluster up --nodes 2; \
	tests/cluster/cluster load $(patsubst %,target/images/%.tar,custom pilotlight python3.11); \
	$(INSIDE) $(VENV)/bin/pytest tests/chaos

.PHONY: load
load: ## the load tool: generator, journal and checker (tests/load)
	cargo build --locked --release -p pilotlight-load

.PHONY: bench-cluster
bench-cluster: build examples $(VENV)/ready ## cold starts, warm pools, bursts and idle cost in a cluster; writes docs/benchmarks-{cluster,pool}.*
	cargo build --locked --release -p pilotlight-bench -p pilotlight-load
	tests/cluster/cluster build
	runtime-image/build archives custom pilotlight python3.11
	@trap 'tests/cluster/cluster down' EXIT; set -e; \
	tests/cluster/cluster up --nodes 2; \
	tests/cluster/cluster load target/images/*.tar; \
	$(INSIDE) $(VENV)/bin/python -m tests.bench.cluster; \
	$(INSIDE) $(VENV)/bin/python -m tests.bench.pool

.PHONY: bench
bench: build examples ## overhead and throughput beside bare proxies; writes docs/benchmarks.*
	cargo run --locked --release -p pilotlight-bench

.PHONY: deny
deny: ## licences and sources of all crates (needs cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny check bans licenses sources

.PHONY: clean
clean: ## remove all that was built
	cargo clean
	cargo clean --manifest-path fuzz/Cargo.toml
	rm -rf tests/sdk/node/node_modules $(dir $(RUST_ECHO))
