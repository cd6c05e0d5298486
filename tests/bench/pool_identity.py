"""Compares cold starts from a warm pool with and without identity, in turns on one cluster in one run.

    python -m tests.bench.pool_identity          in the cluster's client network, the images loaded

Each turn changes `--parts-identity` of gateways and controllers, then measures the first calls of several Functions with
a full pool (pool.py). The chart has no value for `off`: nobody should run without identity but to compare.
"""

import argparse
import json

from tests.bench.pool import measure_hits
from tests.bench.pool_builds import KINDS, table
from tests.harness import release
from tests.harness.kubectl import get, kubectl
from tests.harness.release import RELEASE, SYSTEM

KIND = "Python hello"
# The table's names of the two sides.
MODES = {"before": "off", "after": "required"}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--hits", type=int, default=20, help="cold starts in each turn")
    parser.add_argument("--pool", type=int, default=6, help="pods that wait")
    options = parser.parse_args()
    runtime, code = KINDS[KIND]
    found = {(side, KIND): [] for side in MODES}
    with release.installed(release.image_of(runtime)):
        for turn in range(options.rounds):
            for side in sorted(MODES, reverse=turn % 2 == 0):
                switch(MODES[side])
                found[side, KIND].append(measure_hits("identity", runtime, code, options.hits, options.pool))
    print("Before: identity off. After: identity required.\n")
    print("\n".join(table(found, [KIND])))


def switch(mode):
    for component in ("controller", "gateway"):
        name = f"{RELEASE}-{component}"
        [container] = get("deployment", name, namespace=SYSTEM)["spec"]["template"]["spec"]["containers"]
        option = "--parts-identity="
        arguments = [option + mode if one.startswith(option) else one for one in container["args"]]
        path = "/spec/template/spec/containers/0/args"
        patch = json.dumps([{"op": "replace", "path": path, "value": arguments}])
        kubectl("patch", "deployment", name, "--type=json", f"--patch={patch}", namespace=SYSTEM)
    for component in ("controller", "gateway"):
        release.await_rollout(component)


if __name__ == "__main__":
    main()
