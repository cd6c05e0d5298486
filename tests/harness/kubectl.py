"""kubectl in the cluster's client network (`cluster exec`), in the namespace of the Functions.

PILOTLIGHT_SUITE names a release and namespaces of a suite's own, so that suites can run side by side.
"""

import json
import os

from tests.harness.commands import run
from tests.harness.patience import PATIENCE

SUITE = os.environ.get("PILOTLIGHT_SUITE")
FUNCTIONS = f"functions-{SUITE}" if SUITE else "functions"  # the namespace
TIMEOUT = f"--timeout={PATIENCE}s"  # for commands of kubectl and helm that wait


def kubectl(*words, namespace=FUNCTIONS, **options):
    return run("kubectl", f"--namespace={namespace}", *words, **options)


def get(*words, **options):
    return json.loads(kubectl("get", *words, "--output=json", **options))


def apply(*objects, **options):
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    return kubectl("apply", "--filename=-", input=json.dumps(listed), **options)


def enforce(quota):
    """Applies a ResourceQuota and returns once it counts: pods pass until its status is there."""
    apply(quota)
    wait("jsonpath={.status.hard}", f"resourcequota/{quota['metadata']['name']}")


def wait(condition, *objects, **options):
    """Returns once `condition`, in kubectl's words, holds for the objects."""
    kubectl("wait", f"--for={condition}", *objects, TIMEOUT, **options)


def documents(file):
    """The objects of a manifest: kubectl prints one after the other, or one list."""
    options = ("--dry-run=client", "--validate=false", "--output=json")
    text = run("kubectl", "create", *options, f"--filename={file}").strip()
    decoder = json.JSONDecoder()
    while text:
        one, end = decoder.raw_decode(text)
        yield from one.get("items", [one])
        text = text[end:].strip()
