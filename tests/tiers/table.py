"""The tiers: which stages each has, what each needs, and what it keeps busy.

`check` needs no root and no cluster, and no network after the first time. `test` adds what needs them:
real SDKs and runtimes, and on a cluster one representative of each mechanism. What takes longer is a
target `make show-...`.
"""

from collections.abc import Sequence

from tests.tiers.stage import Stage

VENV = "target/venv"
PYTEST = f"{VENV}/bin/pytest --durations=10"
CLUSTER = "tests/cluster/cluster"
INSIDE = f"{CLUSTER} exec --"
# The programs that the suites of local mode run, as `make run` builds them.
LOCAL = "PILOTLIGHT_BIN=target/debug/pilotlight"
# Images of the cluster's suites.
IMAGES = "custom pilotlight python3.11"
APT = frozenset({"apt"})
# Rust's compiler holds the lock of a build folder, so that two builds of one profile cannot overlap.
DEV, RELEASE, GO = frozenset({"target/debug"}), frozenset({"target/release"}), frozenset({"go"})
# libtest prints a test's time only with an unstable option, which this variable permits at run time.
TIMED = """--config 'target."cfg(all())".runner=["env","RUSTC_BOOTSTRAP=1"]'"""

CHECK = [
    Stage("Python packages", "make --silent target/venv/ready", limit=10),
    Stage("format", "cargo fmt --all --check; cargo fmt --manifest-path fuzz/Cargo.toml --check", slots=0.5),
    Stage(
        "clippy",
        "cargo clippy --locked --workspace --all-targets -- -D warnings; "
        "cargo clippy --locked -p pilotlight --no-default-features -- -D warnings",
        uses=DEV,
    ),
    Stage(
        "Rust tests",
        f"cargo test --locked --workspace --lib --bins --tests {TIMED} -- -Z unstable-options --report-time",
        after=("clippy",),
        uses=DEV,
        tests=True,
    ),
    Stage(
        "Rust docs",
        "RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items",
        after=("clippy", "Rust tests"),
        uses=DEV,
    ),
    Stage("helm", f"{CLUSTER} build helm", uses=GO),
    Stage("ruff", f"{VENV}/bin/ruff format --check .; {VENV}/bin/ruff check .", needs=("Python packages",)),
    Stage(
        "golden files",
        f"runtime-image/build dockerfiles --check; {PYTEST} tests/chart/test_templates.py",
        needs=("Python packages", "helm"),
        tests=True,
    ),
    Stage("Python units", f"{PYTEST} tests/tiers", needs=("Python packages",), tests=True),
]

# On the longest path from cold: Kubernetes, the cluster, and what runs in it.
TEST = [
    Stage("Debian packages", "make --silent debian-packages", uses=APT, limit=20),
    Stage("Kubernetes", f"{CLUSTER} build", needs=("Debian packages",), uses=GO, limit=45),
    *CHECK,
]

TIERS = {"check": CHECK, "test": TEST}


def needed(stages: Sequence[Stage], names: Sequence[str]) -> list[Stage]:
    """The stages of these names and all that they need; every stage if no name is given."""
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
    return [stage for stage in stages if stage.name in wanted]
