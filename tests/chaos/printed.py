"""The short chaos run with a store of logs: every printed line is accounted for.

    make show-chaos-lines            with a cluster of two nodes that is up and the images loaded

Exit code 1: a line is missing without an explanation (`lines.py`). The calls are judged by `test_chaos.py`; here a machine that
is too busy for them is no error.
"""

import json
import sys
from dataclasses import asdict

from tests.chaos import queue
from tests.chaos.faults import FAULTS
from tests.chaos.lines import account
from tests.chaos.test_chaos import GROUPS
from tests.chaos.trial import Trial
from tests.harness import release
from tests.harness.kubectl import kubectl
from tests.harness.paths import REPOSITORY

# Lines outlive the gateways. The cluster has no storage class, and no fault strikes the store.
SETTINGS = (
    "--set=certificateLifetime=120",
    *release.STORED,
)


def store():
    """The pod of the store: what it has goes with it."""
    uid = "jsonpath={.metadata.uid}"
    return kubectl("get", "pod", "pilotlight-logs-0", f"--output={uid}", namespace=release.SYSTEM)


def main():
    queue.make_volume()
    with release.installed(*queue.SETTINGS, *SETTINGS):
        before = store()
        folder = REPOSITORY / "target/chaos/lines"
        with Trial(folder, seed=1, rate=30, reads_logs=True, settings=SETTINGS) as trial:
            trial.warm_up()
            for names in GROUPS:
                trial.strike([FAULTS[name] for name in names])
            trial.quiet(5)
        if store() != before:
            print(
                "chaos: the store's pod was replaced, and its volume went with it: no verdict",
                file=sys.stderr,
            )
            return 2
    lines = account(trial.folder, *trial.logged)
    (trial.folder / "lines.json").write_text(json.dumps(asdict(lines)))
    print(lines.words, *lines.unexplained[:20], sep="\n")
    return 0 if lines.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
