"""`python3 -m tests.tiers TIER [STAGE...]`: runs a tier, or the stages named and what they need."""

import argparse
import os
import sys

from tests.tiers.run import Run
from tests.tiers.table import TIERS, needed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tier", choices=TIERS)
    parser.add_argument(
        "stages", nargs="*", metavar="STAGE", help="only these, and the stages that they need"
    )
    parser.add_argument("--slots", type=float, default=os.cpu_count(), help="processors to keep busy")
    parser.add_argument("--list", action="store_true", help="name the stages and run none")
    options = parser.parse_args()
    stages = needed(TIERS[options.tier], options.stages)
    if options.list:
        for stage in stages:
            print(f"{stage.name}: {stage.command}")
        return 0
    return 0 if Run(options.tier, stages, options.slots).all() else 1


if __name__ == "__main__":
    sys.exit(main())
