"""The tiers: which stages each has, what each needs, and how many processors it keeps busy.

`check` needs no root and no cluster, and no network after the first time. `test` adds what needs them:
real SDKs and runtimes, and on a cluster one representative of each mechanism. What takes longer is a
target `make show-...`.
"""

from collections.abc import Sequence
from dataclasses import replace

from tests.tiers.stage import Stage

PYTHON = "target/venv/bin/python"
PYTEST = "target/venv/bin/pytest --durations=5"
CLUSTER = "tests/cluster/cluster"
INSIDE = f"{CLUSTER} exec --"
NODE_MODULES = "tests/sdk/node/node_modules/.package-lock.json"
NODE = "npm --prefix tests/sdk/node test -- " + " ".join(
    f"--test-reporter={reporter} --test-reporter-destination={destination}"
    for reporter, destination in (("spec", "stdout"), ("junit", '"$PILOTLIGHT_REPORT"'))
)
# Suites of local mode start the programs and the load tool of this profile, which `Rust build` makes. Only images hold
# the optimised ones, so other suites on the cluster use these.
LOCAL = "PILOTLIGHT_BIN=$PWD/target/debug/pilotlight"
IMAGES = "custom pilotlight python3.11"
# libtest prints a test's time only with an unstable option, which this variable permits at run time.
TIMED = """--config 'target."cfg(all())".runner=["env","RUSTC_BOOTSTRAP=1"]'"""

# All Rust code, tested with real servers too: one build for all stages, as another set of features is another build.
FEATURES = "--features " + ",".join(
    (
        "pilotlight-events/conformance",
        "pilotlight-events/jetstream",
        "pilotlight-events/schedule",
        "pilotlight-logs/conformance",
        "pilotlight-logs/victoria",
    )
)

# Resources that one stage at a time may use. Compilers lock their build folder anyway, and a stage that
# waits for the lock would occupy a slot for nothing.
APT = frozenset({"apt"})
DEBUG = frozenset({"target/debug"})
GO = frozenset({"Go's build cache"})

PACKAGES = [
    Stage("Python packages", "make --silent target/venv/ready", slots=0.5, limit=10),
    Stage("helm", f"{CLUSTER} build helm", uses=GO),
]
BUILD = [
    Stage(
        "format",
        "cargo fmt --all --check; cargo fmt --manifest-path fuzz/Cargo.toml --check",
        slots=0.5,
    ),
    Stage(
        "clippy",
        f"cargo clippy --locked --workspace --all-targets {FEATURES} -- -D warnings; "
        "cargo clippy --locked -p pilotlight --no-default-features -- -D warnings",
        uses=DEBUG,
    ),
    # Programs and tests in one build: by itself `cargo build` leaves out what dev-dependencies ask of tokio
    # and hyper, and would compile half of all crates once more.
    Stage(
        "Rust build",
        f"cargo build --locked --workspace --all-targets {FEATURES}",
        after=("clippy",),
        uses=DEBUG,
    ),
]
UNITS = [
    Stage(
        "Rust tests",
        f"cargo {TIMED} test --locked --workspace {FEATURES} --lib --bins --tests --no-fail-fast "
        "-- -Z unstable-options --report-time",
        needs=("Rust build",),
        uses=DEBUG,
        tests=True,
    ),
    Stage(
        "Rust docs",
        "RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items",
        after=("Rust tests",),
        uses=DEBUG,
    ),
    Stage(
        "ruff",
        "target/venv/bin/ruff format --check .; target/venv/bin/ruff check .",
        needs=("Python packages",),
    ),
    Stage(
        "Python units",
        f"{PYTEST} tests/tiers tests/chaos/test_plan.py tests/chaos/test_lines.py tests/mutants",
        needs=("Python packages",),
        tests=True,
    ),
    Stage(
        "golden files",
        f"runtime-image/build dockerfiles --check; {PYTEST} tests/chart/test_templates.py tests/chart/test_authors.py",
        needs=("Python packages", "helm"),
        tests=True,
    ),
]
CHECK = [*PACKAGES, *BUILD, *UNITS]


# The nodes' processors, as pods request them, suffice for the end-to-end tests and one suite more.
SECOND = frozenset({"room for a second suite"})


def suite(name: str, command: str, **settings) -> Stage:
    """Tests on the cluster, which wait for pods most of the time."""
    needs = ("Python packages", "images loaded", *settings.pop("needs", ()))
    return Stage(name, command, **{"needs": needs, "slots": 0.5, "tests": True, "uses": SECOND, **settings})


def release(name: str) -> str:
    """A release of the suite's own: what one does to its parts, and its pods, are nobody else's."""
    return f"PILOTLIGHT_SUITE={name} {INSIDE}"


# These take a node, the API server or the definition of Functions away from all others.
ALONE = ("tests/e2e/test_outages.py", "tests/e2e/test_unreadable.py")
# These install a store of logs and replace the gateways again and again, in a release of their own.
STORES = ("tests/e2e/test_log_store.py", "tests/e2e/test_log_export.py")
SUITES = [
    suite(
        "end to end",
        f"{LOCAL} {release('e2e')} {PYTEST} -m 'not long' tests/e2e "
        + " ".join(f"--ignore={file}" for file in (*ALONE, *STORES)),
        needs=("Rust build",),
        uses=frozenset(),
    ),
    suite(
        "stores of logs in pods",
        f"{LOCAL} {release('stores')} {PYTEST} -m 'not long' " + " ".join(STORES),
        needs=("Rust build",),
    ),
    suite(
        "chaos",
        f"{LOCAL} {release('chaos')} {PYTEST} tests/chaos/test_guard.py tests/chaos/test_chaos.py",
        needs=("Rust build",),
    ),
    suite(
        "boto3 in pods",
        f"{release('boto3')} {PYTHON} -m tests.e2e.serve {PYTEST} tests/sdk/python",
        needs=("command line of AWS",),
    ),
    suite(
        "JavaScript in pods",
        f"{release('node')} {PYTHON} -m tests.e2e.serve {NODE}",
        needs=("Node packages",),
    ),
    # The endpoint is that of the suite's own release, which it installs itself.
    suite("faithful in pods", f"PILOTLIGHT_ENDPOINT=own {release('faithful')} {PYTEST} tests/faithful"),
    suite("images in pods", f"{PYTEST} tests/images"),
    suite("manifests", f"{PYTEST} tests/manifests"),
    # It replaces the roles of the whole cluster, on which the first end-to-end tests depend.
    suite("chart", f"{PYTEST} tests/chart/test_release.py"),
]
OUTAGES = suite(
    "outages",
    f"{LOCAL} {release('e2e')} {PYTEST} " + " ".join(ALONE),
    needs=("Rust build",),
    after=tuple(one.name for one in SUITES),
)

# The longest path comes first: Kubernetes, images, the cluster, and the suites in it. Rust tests and the suites of local mode
# take what these leave of the processors.
TEST = [
    Stage("Debian packages", f"{CLUSTER} setup --tests", uses=APT, limit=20),
    Stage("Kubernetes", f"{CLUSTER} build kubernetes", needs=("Debian packages",), uses=GO, limit=60),
    # Its last step keeps one processor busy for minutes, and would keep all suites waiting at the end.
    Stage("programs", "make --silent build"),
    Stage("image roots", f"runtime-image/build roots {IMAGES}", needs=("Debian packages",)),
    Stage("images", f"runtime-image/build archives {IMAGES}", needs=("programs", "image roots")),
    Stage("VictoriaLogs", f"{CLUSTER} build victoria-logs", uses=GO, limit=20),
    Stage("NATS", f"{CLUSTER} build nats", uses=GO, limit=20),
    Stage("versitygw", f"{CLUSTER} build versitygw", uses=GO, limit=20),
    *PACKAGES,
    # Its parts would take time from the compilers.
    Stage("cluster up", f"{CLUSTER} up --nodes 2", needs=("Kubernetes", "helm"), after=("programs",)),
    Stage(
        "images loaded",
        f"{CLUSTER} load target/images/*.tar",
        needs=("cluster up", "images", "VictoriaLogs", "NATS"),
    ),
    *BUILD,
    # From the cluster's network no registry is reached.
    Stage(
        "command line of AWS",
        f"{PYTHON} -m tests.harness.aws_cli",
        needs=("Python packages",),
        slots=0.5,
        limit=10,
    ),
    Stage("Node packages", f"make --silent {NODE_MODULES}", slots=0.5, limit=10),
    *SUITES,
    OUTAGES,
    Stage(
        "cluster down",
        f"{CLUSTER} down",
        after=("cluster up", "images loaded", OUTAGES.name, *(one.name for one in SUITES)),
    ),
    *UNITS,
    Stage(
        "examples",
        "install -D -m 755 target/debug/bootstrap examples/rust-echo/build/bootstrap",
        needs=("Rust build",),
        slots=0.1,
    ),
    Stage(
        "runtimes",
        f"{LOCAL} {PYTEST} tests/conformance",
        needs=("Debian packages", "Python packages", "Rust build"),
        tests=True,
        limit=40,
    ),
    # Records of events at real receivers.
    Stage(
        "destinations",
        f"{PYTEST} tests/destinations",
        needs=("Debian packages", "Python packages", "Rust build", "NATS", "versitygw"),
        tests=True,
    ),
    # Both set up the same runtimes where the cache is cold.
    Stage(
        "faithful",
        f"{LOCAL} {PYTEST} tests/faithful",
        needs=("Debian packages", "Python packages", "Rust build"),
        after=("runtimes",),
        tests=True,
        limit=40,
    ),
    Stage(
        "boto3",
        f"{LOCAL} {PYTEST} tests/sdk/python tests/chaos/test_clock.py",
        needs=("Debian packages", "Python packages", "examples"),
        tests=True,
    ),
    # Alerts and dashboard, asked of a real Prometheus.
    Stage(
        "monitoring",
        f"{LOCAL} {PYTEST} tests/monitoring",
        needs=("Debian packages", "Python packages", "Rust build"),
        tests=True,
    ),
    # What unmodified SDKs sign, checked without a gateway. It compiles the client in Go.
    Stage(
        "signatures",
        f"{PYTEST} tests/sdk/signatures",
        needs=("Python packages", "Node packages", "Rust build"),
        uses=GO,
        tests=True,
    ),
    # The store of logs with a real VictoriaLogs, most of whose time is waiting for its disk.
    Stage(
        "log store",
        f"cargo {TIMED} test --locked --workspace {FEATURES} --test victoria "
        "-- --ignored -Z unstable-options --report-time",
        needs=("VictoriaLogs", "Rust build"),
        uses=DEBUG,
        tests=True,
    ),
    # The event queue with a real NATS server, most of whose time is waiting.
    Stage(
        "event queue",
        f"cargo {TIMED} test --locked --workspace {FEATURES} --test jetstream "
        "-- --ignored -Z unstable-options --report-time",
        needs=("NATS", "Rust build"),
        uses=DEBUG,
        tests=True,
    ),
    # Log records in a receiver of OTLP.
    Stage(
        "log export",
        f"{LOCAL} {PYTEST} tests/logs",
        needs=("Debian packages", "Python packages", "VictoriaLogs", "Rust build"),
        tests=True,
    ),
    Stage("JavaScript", f"{LOCAL} {NODE}", needs=("Node packages", "examples"), tests=True),
    # While the suites wait for pods.
    Stage("fuzz", "fuzz/run short", after=("images loaded",), background=True, tests=True, limit=45),
]

TIERS = {"check": CHECK, "test": TEST}


def needed(stages: Sequence[Stage], names: Sequence[str]) -> list[Stage]:
    """The stages of these names and all that they need; every stage if no name is given.

    A cluster that they bring up stays: `cluster down` follows the suites and is needed by none.
    """
    if not names:
        return list(stages)
    known = {stage.name: stage for stage in stages}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no such stage: {', '.join(unknown)}; there are: {', '.join(known)}")
    wanted, open_names = set(), list(names)
    while open_names:
        name = open_names.pop()
        if name not in wanted:
            wanted.add(name)
            open_names += known[name].needs
    chosen = [stage for stage in stages if stage.name in wanted]
    return [replace(stage, after=tuple(name for name in stage.after if name in wanted)) for stage in chosen]
