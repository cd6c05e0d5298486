#!/usr/bin/env python3
"""Strikes with each fault alone, then with many mixed, and accounts for every call; writes docs/reliability.md.

    make show-chaos                  with a cluster of two nodes that is up and the images loaded

The seed decides which fault occurs when. Exit code 1: a rule is broken (an invocation was lost, ran twice,
beside another or in outdated code, was refused but ran, or failed without a fault as the cause; there were too many
instances; something was left; an event was lost after its 202, or ran more often than its attempts and the faults
explain). Exit code 2: the run itself failed and says nothing about Pilotlight.
"""

import argparse
import signal
import sys
import traceback
from pathlib import Path

from tests.chaos import plan, report
from tests.chaos.faults import FAULTS
from tests.chaos.guard import reason
from tests.chaos.trial import Trial, verdict
from tests.harness.paths import REPOSITORY

WELL, RULE_BROKEN, HARNESS_FAILED = 0, 1, 2


def singly(folder, options, names):
    """Strikes with each fault alone, once callers no longer notice the previous one."""
    with Trial(folder, options.seed, options.rate, event_rate=options.event_rate) as trial:
        trial.warm_up()
        for name in names:
            trial.calm()
            trial.strike([FAULTS[name]])
    return trial


def mixed(folder, options, names):
    """Strikes at random moments, sometimes with two faults, until so many invocations are sent and events accepted."""
    claims = {name: FAULTS[name].claim for name in names}
    seconds = {name: FAULTS[name].seconds for name in names}
    with Trial(folder, options.seed, options.rate, event_rate=options.event_rate) as trial:
        trial.warm_up()
        for strike in plan.draw(options.seed, claims, seconds, options.together):
            if trial.sent() >= options.invocations and trial.accepted() >= options.events:
                break
            trial.strike([FAULTS[name] for name in strike.faults], strike.seconds)
            trial.quiet(strike.pause)
    return trial


def add_load(parser, rate, invocations, together, events):
    """Adds the options of a mixed run."""
    parser.add_argument("--event-rate", type=float, help="asynchronous calls a second [default: --rate]")
    parser.add_argument(
        "--events", type=int, default=events, help="that are accepted in a mixed run, at least"
    )
    parser.add_argument("--rate", type=float, default=rate, help="calls a second, besides bursts")
    parser.add_argument("--invocations", type=int, default=invocations, help="of a mixed run")
    parser.add_argument(
        "--together", type=float, default=together, help="share of strikes that are two faults"
    )


def end_by_mending():
    """Makes SIGTERM end a run as Ctrl-C does: the run undoes its faults first."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    add_load(parser, rate=50, invocations=100_000, together=plan.TOGETHER, events=100_000)
    parser.add_argument("--only", action="append", choices=FAULTS, help="these faults; no report")
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        choices=("singly", "mixed"),
        help="one of the two runs: the report takes the last one",
    )
    parser.add_argument("--no-report", action="store_true", help="only the verdict")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "target/chaos")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/reliability.md")
    options = parser.parse_args()
    end_by_mending()
    try:
        return judge(options)
    except (Exception, KeyboardInterrupt) as error:
        (options.folder / "harness-error.txt").write_text(traceback.format_exc())
        print(f"chaos: the harness failed, so there is no verdict: {reason(error)}", file=sys.stderr)
        return HARNESS_FAILED


def judge(options):
    names, has_report = options.only or list(FAULTS), not (options.only or options.no_report)
    options.folder.mkdir(parents=True, exist_ok=True)
    for way in (singly, mixed):
        if way.__name__ not in options.skip:
            way(options.folder / way.__name__, options, names)
    judged = [name for name in ("singly", "mixed") if has_report or name not in options.skip]
    verdicts = {name: verdict(options.folder / name) for name in judged}
    for way, found in verdicts.items():
        print(f"--- {way}\n{found.words}")
    if has_report:
        report.write(options.output, options.folder, verdicts)
    return WELL if all(found.is_well for found in verdicts.values()) else RULE_BROKEN


if __name__ == "__main__":
    sys.exit(main())
