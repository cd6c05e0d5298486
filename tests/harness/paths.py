"""The paths of files of the repository, and of the programs under test.

PILOTLIGHT_BIN names another `pilotlight` than the one that `make build` makes; the other programs are
expected beside it.
"""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = REPOSITORY / "tests/cluster/cluster"
CHART = REPOSITORY / "charts/pilotlight"
IMAGE_BUILD = REPOSITORY / "runtime-image/build"
EXAMPLES = REPOSITORY / "examples"
PILOTLIGHT = Path(os.environ.get("PILOTLIGHT_BIN", REPOSITORY / "target/release/pilotlight")).absolute()
SUPERVISOR = PILOTLIGHT.parent / "pilotlight-supervisor"
BENCH = PILOTLIGHT.parent / "pilotlight-bench"
LOAD = PILOTLIGHT.parent / "pilotlight-load"
JETSTREAM_LOOP = PILOTLIGHT.parent / "jetstream-loop"
