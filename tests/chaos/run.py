"""Chaos under account: each fault by itself, then many mixed; writes docs/reliability.md.

    make show-chaos                  with a cluster of two nodes that is up and the images loaded

What comes when is drawn from the seed. Fails if a rule is broken: an invocation lost, run twice,
beside another, in outdated code, refused but run, or failed for no fault's sake; too many instances;
something left.
"""

import argparse
import random
import sys
from pathlib import Path

from tests.chaos import report
from tests.chaos.faults import FAULTS
from tests.chaos.trial import Trial
from tests.harness import release
from tests.harness.load import verdict
from tests.harness.paths import REPOSITORY

WARM_UP = 25  # seconds in which the first instances start


def singly(folder, options, names):
    """Each fault by itself, when the one before is over for the callers."""
    with Trial(folder, options.seed, options.rate) as trial:
        trial.quiet(WARM_UP)
        for name in names:
            trial.calm()
            print(f"{name}: {FAULTS[name].what}", flush=True)
            trial.strike([FAULTS[name]])


def mixed(folder, options, names):
    """Faults at random moments, now and then two at once, until so many invocations are sent."""
    with Trial(folder, options.seed, options.rate) as trial:
        # Its own: what a fault strikes is drawn as it comes.
        dice = random.Random(options.seed)
        trial.quiet(WARM_UP)
        while trial.sent() < options.invocations:
            together = dice.sample([FAULTS[name] for name in names], 2 if dice.random() < 0.3 else 1)
            lengths = [fault.seconds * dice.uniform(0.5, 1) for fault in together]
            print(f"{trial.sent()} sent; {' and '.join(fault.name for fault in together)}", flush=True)
            trial.strike(together, lengths)
            trial.quiet(dice.uniform(1, 5))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=50, help="calls a second, besides bursts")
    parser.add_argument("--invocations", type=int, default=100_000, help="of the mixed run")
    parser.add_argument("--only", action="append", choices=FAULTS, help="these faults")
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        choices=("singly", "mixed"),
        help="one of the two runs: the report takes the last one",
    )
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "target/chaos")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/reliability.md")
    options = parser.parse_args()
    names = options.only or list(FAULTS)
    release.install()
    for way in (singly, mixed):
        if way.__name__ not in options.skip:
            way(options.folder / way.__name__, options, names)
    judged = [name for name in ("singly", "mixed") if not options.only or name not in options.skip]
    verdicts = {name: verdict(options.folder / name) for name in judged}
    for way, (_, words) in verdicts.items():
        print(f"--- {way}\n{words}")
    if not options.only:
        report.write(options.output, options.folder, verdicts)
    return 0 if all(is_well for is_well, _ in verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
