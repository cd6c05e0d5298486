"""Compares cold starts from a warm pool of two versions, in turns on one cluster in one run.

    python -m tests.bench.pool_builds BEFORE          in the cluster's client network, both images loaded

BEFORE is a source tree whose images are built and loaded: its chart is installed with the version of its
Cargo.toml, then this tree's, and so on. Each turn measures the first calls of several Functions with a full
pool (pool.py). The table has the medians of the turns, and their ratio.
"""

import argparse
import re
import statistics
from pathlib import Path

from tests.bench.cluster import SOURCE, percentile
from tests.bench.pool import measure_hits, medians, milliseconds
from tests.harness import release
from tests.harness.paths import REPOSITORY

KINDS = {
    "Python hello": ("python3.11", {"inline": {"lambda_function.py": SOURCE}}),
    "Node.js hello": (
        "nodejs22",
        {"inline": {"index.mjs": "export const handler = async (event) => event;\n"}},
    ),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--hits", type=int, default=15, help="cold starts of a kind in each turn")
    parser.add_argument("--pool", type=int, default=6, help="pods that wait")
    parser.add_argument("--kinds", nargs="*", default=["Python hello"], choices=list(KINDS))
    options = parser.parse_args()
    trees = {"before": options.before, "after": REPOSITORY}
    found = {(tree, kind): [] for tree in trees for kind in options.kinds}
    for turn in range(options.rounds):
        for tree in sorted(trees, reverse=turn % 2 == 0):
            install(trees[tree], options.kinds)
            for kind in options.kinds:
                runtime, code = KINDS[kind]
                label = kind.split()[0].lower().replace(".", "")
                found[tree, kind].append(measure_hits(label, runtime, code, options.hits, options.pool))
    print("\n".join(table(found, options.kinds)))


def install(tree, kinds):
    [version] = re.findall(r'^version = "(.+)"$', (tree / "Cargo.toml").read_text(), re.MULTILINE)
    images = (release.image_of(KINDS[kind][0], version) for kind in kinds)
    release.install(*images, chart=tree / "charts/pilotlight", version=version)
    for component in ("controller", "gateway"):
        release.await_rollout(component)


def table(found, kinds):
    yield "| cold start from the pool, ms | before, p50 | after, p50 | ratio of the turns' p50 | before, p95 | after, p95 | calls |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for kind in kinds:
        turns = {tree: [milliseconds(took) for took, _ in found[tree, kind]] for tree in ("before", "after")}
        pooled = {tree: sum(turns[tree], []) for tree in turns}
        p50s = {tree: [statistics.median(took) for took in turns[tree]] for tree in turns}
        ratios = [after / before for before, after in zip(p50s["before"], p50s["after"], strict=True)]
        row = [f"{statistics.median(pooled[tree]):.1f}" for tree in ("before", "after")]
        row.append(f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})")
        row += [f"{percentile(pooled[tree], 0.95):.1f}" for tree in ("before", "after")]
        yield f"| {kind} | {' | '.join(row)} | {len(pooled['after'])} each |"
    for tree, kind in found:
        timings = sum((timings for _, timings in found[tree, kind]), [])
        phases = ", ".join(f"{name} {value:.1f}" for name, value in medians(timings).items())
        yield f"\n{tree}, {kind}, medians of the phases in ms: {phases}"


if __name__ == "__main__":
    main()
