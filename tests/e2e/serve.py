r"""Serves the functions of the SDK suites from the cluster while a command runs: the suite.

    tests/cluster/cluster exec -- target/venv/bin/python -m tests.e2e.serve \
        target/venv/bin/pytest tests/sdk/python

Installs Pilotlight if necessary, applies the functions, with the folders that they name as config
maps, and passes the command the gateways' address. Deletes the functions at the end.
"""

import os
import subprocess
import sys

from tests.harness.kubectl import SUITE, apply, documents, kubectl, wait
from tests.harness.manifests import config_map
from tests.harness.paths import EXAMPLES, REPOSITORY
from tests.harness.release import ENDPOINT, QUEUED, STORED, await_known, install, statuses, uninstall

SERVED = ("hello", "json-api", "failures", "shell")
MANIFESTS = [
    REPOSITORY / "tests/sdk/functions.yaml",
    *(EXAMPLES / name / "function.yaml" for name in SERVED),
]


def objects(manifest):
    """The manifests of the file, changed for a cluster, which has no `code.path`."""
    made = {}
    for function in documents(manifest):
        function["metadata"].pop("namespace", None)
        code = function["spec"]["code"]
        if folder := code.pop("path", None):
            folder = (manifest.parent / folder).resolve()
            name = f"{manifest.parent.name}-{folder.name}"
            files = [file for file in folder.iterdir() if file.is_file()]
            made[name] = config_map(name, {file.name: file.read_text() for file in files})
            code["configMap"] = name
        made[function["metadata"]["name"]] = function
    return list(made.values())


def main(command):
    # CloudWatch's API reads the logs of all pods, and asynchronous calls need a queue.
    install(*STORED, *QUEUED)
    made = [one for manifest in MANIFESTS for one in objects(manifest)]
    functions = [one for one in made if one["kind"] == "Function"]
    apply(*made)
    try:
        await_known([one["metadata"]["name"] for one in functions])
        environment = {
            **os.environ,
            "PILOTLIGHT_ENDPOINT": ENDPOINT,
            "PILOTLIGHT_METRICS": ",".join(statuses()),
            "PILOTLIGHT_FUNCTIONS": str(len(functions)),
        }
        return subprocess.run(command, env=environment).returncode
    finally:
        for kind in ("Function", "ConfigMap"):
            names = [one["metadata"]["name"] for one in made if one["kind"] == kind]
            kubectl("delete", kind, *names)
        wait("delete", "pods", "--selector=pilotlight.dev/function")
        if SUITE:
            # Nobody else uses a suite's own release, whose parts take the room of others' pods.
            uninstall()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
