"""Compares cold starts from a warm pool: a function with two layers, a Secret and a service account beside a plain one, in
turns on one cluster in one run; writes the table into docs/benchmarks-callers.md.

    python -m tests.bench.pool_real          in the cluster's client network, the images loaded

Each turn measures the first calls of several Functions with a full pool (pool.py). The pool of the functions with access
declares the same account and the same Secret. Every first call must come from a pool: one that does not has no phase
`claim`, and ends the run. Figures are printed, never asserted.
"""

import argparse
import os
import statistics

from tests.bench.cluster import SOURCE, percentile
from tests.bench.pool import measure_hits, medians, milliseconds
from tests.harness import manifests, release
from tests.harness.archives import zipped
from tests.harness.commit import commit
from tests.harness.kubectl import apply, kubectl
from tests.harness.paths import REPOSITORY
from tests.harness.section import rewrite
from tests.harness.web import Web

DOCUMENT = REPOSITORY / "docs/benchmarks-callers.md"
NAME = "bench-real"
READS = """
import os
from library_a import A
from library_b import B
assert (os.environ["TOKEN"], A, B) == ("secret", 1, 2)
assert os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""
KINDS = ("plain", "real")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--hits", type=int, default=20, help="cold starts in each turn")
    parser.add_argument("--pool", type=int, default=6, help="pods that wait")
    options = parser.parse_args()
    found = {kind: [] for kind in KINDS}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME}}
    with release.installed():
        # The release's name is known as soon as it is installed.
        web = Web(release.HOST)
        apply(account, manifests.secret(NAME, {"TOKEN": "secret"}))
        access = {"environmentFrom": [{"secretRef": {"name": NAME}}]}
        settings = {
            "plain": (SOURCE, {}, {}),
            "real": (
                READS + SOURCE,
                {**access, "serviceAccount": NAME},
                {**access, "pod": {"serviceAccount": NAME}, "layers": layers(web)},
            ),
        }
        for turn in range(options.rounds):
            for kind in sorted(KINDS, reverse=turn % 2 == 0):
                source, pool, spec = settings[kind]
                code = {"inline": {"lambda_function.py": source}}
                took, timings = measure_hits(
                    kind, "python3.11", code, options.hits, options.pool, pool=pool, **spec
                )
                assert all("claim" in phases for phases in timings), "a function was not served by the pool"
                found[kind].append((took, timings))
        kubectl("delete", "secret", NAME)
        kubectl("delete", "serviceaccount", NAME)
        web.close()
    lines = list(table(found))
    print("\n".join(lines))
    rewrite(DOCUMENT, "show-bench-cluster", lines)


def layers(web):
    """Two of 200 KiB, each with a library that the function imports and data that it does not read."""
    made = []
    for letter, value in (("a", 1), ("b", 2)):
        files = {
            f"python/library_{letter}.py": f"{letter.upper()} = {value}\n",
            f"python/library_{letter}.bin": os.urandom(200 * 1024),
        }
        made.append(web.archive(f"/{letter}.zip", zipped(files))["archive"])
    return made


def table(found):
    yield f"At commit `{commit()}`, {len(found['plain'])} turns of each with a full pool; times are the client's, inside the cluster."
    yield ""
    yield "| cold start from the pool, ms | plain, p50 | with layers, Secret and account, p50 | ratio of the turns' p50 | plain, p95 | with, p95 | calls |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    turns = {kind: [milliseconds(took) for took, _ in found[kind]] for kind in KINDS}
    pooled = {kind: sum(turns[kind], []) for kind in KINDS}
    p50s = {kind: [statistics.median(took) for took in turns[kind]] for kind in KINDS}
    ratios = [real / plain for plain, real in zip(p50s["plain"], p50s["real"], strict=True)]
    row = [f"{statistics.median(pooled[kind]):.1f}" for kind in KINDS]
    row.append(f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})")
    row += [f"{percentile(pooled[kind], 0.95):.1f}" for kind in KINDS]
    yield f"| Python | {' | '.join(row)} | {len(pooled['real'])} each |"
    for kind in KINDS:
        timings = sum((timings for _, timings in found[kind]), [])
        phases = ", ".join(f"{name} {value:.1f}" for name, value in medians(timings).items())
        yield f"\n{kind}, medians of the phases in ms: {phases}"


if __name__ == "__main__":
    main()
