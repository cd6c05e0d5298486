r"""Serves one runtime's functions of the table from the cluster while a command runs: pytest.

    python -m tests.conformance.package ruby3.1
    tests/cluster/cluster exec -- target/venv/bin/python -m tests.conformance.serve ruby3.1 \
        target/venv/bin/pytest tests/conformance

Installs Pilotlight with all images of runtimes if necessary, serves the archives of package.py over HTTP, applies
the Functions with `code.archive`, and passes the command the gateways' address and the runtime.
Takes the functions along at the end. PILOTLIGHT_RUNTIME_CLASS=runsc runs all functions in gVisor
(`tests/cluster/cluster build gvisor`).
"""

import os
import subprocess
import sys

from tests.conformance.runtimes import EXAMPLES, PACKAGES, RUNTIMES
from tests.harness import paths
from tests.harness.kubectl import apply, documents, kubectl, wait
from tests.harness.release import ENDPOINT, HOST, await_known, image_of, install, tell_of_the_release
from tests.harness.web import Web


def main(name, *command):
    place = PACKAGES / name
    if not place.is_dir():
        sys.exit(
            f"serve: nothing is packaged for {name}: run `python -m tests.conformance.package {name}` first"
        )
    install(*(image_of(runtime.name) for runtime in RUNTIMES), *sandbox())
    web = Web(HOST)
    made = functions(name, place, web)
    names = [one["metadata"]["name"] for one in made]
    apply(*made)
    try:
        await_known(names)
        environment = {**os.environ, "PILOTLIGHT_ENDPOINT": ENDPOINT, "PILOTLIGHT_RUNTIME": name}
        status = subprocess.run(command, env=environment).returncode
        if status != 0:
            tell_of_the_release()
        return status
    finally:
        kubectl("delete", "functions", *names)
        wait("delete", "pods", "--selector=pilotlight.dev/function")
        web.close()


def sandbox():
    """The setting for a runtime class of all functions, PILOTLIGHT_RUNTIME_CLASS, which is made if it is not there."""
    handler = os.environ.get("PILOTLIGHT_RUNTIME_CLASS")
    if not handler:
        return []
    apply(
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": handler},
            "handler": handler,
        }
    )
    return [f"--set=functions.runtimeClassName={handler}"]


def functions(name, place, web):
    """As the manifests say, with the packages for code."""
    files = [place / "functions.yaml"]
    files += [paths.EXAMPLES / example / "function.yaml" for example in EXAMPLES.get(name, [])]
    made = []
    for file in files:
        for function in documents(file):
            function["metadata"].pop("namespace", None)
            archive = place / f"{function['metadata']['name']}.zip"
            function["spec"]["code"] = web.archive(f"/{archive.name}", archive.read_bytes())
            made.append(function)
    return made


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
