"""Packages the table's functions for a cluster with `pilotlight package`, as a user would.

    python -m tests.conformance.package                   every runtime with an image
    python -m tests.conformance.package java17 nodejs22   these

Archives and manifests go to target/conformance/RUNTIME, where serve.py finds them. Runs outside the
cluster's network, which reaches no registry of libraries. PILOTLIGHT_BIN names the program.
"""

import shutil
import subprocess
import sys

from tests.conformance.runtimes import EXAMPLES, PACKAGES, RUNTIMES, manifests
from tests.harness import paths


def main(names):
    known = {runtime.name: runtime for runtime in RUNTIMES}
    if unknown := set(names) - set(known):
        sys.exit(f"package: no such runtime: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in names or known:
        package(known[name])


def package(runtime):
    place = PACKAGES / runtime.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    file = place / "functions.yaml"
    file.write_text(manifests(runtime), encoding="utf-8")
    examples = [paths.EXAMPLES / name for name in EXAMPLES.get(runtime.name, [])]
    command = [paths.PILOTLIGHT, "package", file, *examples, "--output", place]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"{runtime.name}: {len(list(place.glob('*.zip')))} archives")


if __name__ == "__main__":
    main(sys.argv[1:])
