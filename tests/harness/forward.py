"""A port of a pod through its node: a NetworkPolicy may keep the test from connecting to it."""

import re
import subprocess
from contextlib import contextmanager

from tests.harness.kubectl import FUNCTIONS


@contextmanager
def forwarded(pod, port, namespace=FUNCTIONS):
    """The address, HOST:PORT, under which a pod's port is reached as long as `with` lasts."""
    name = pod["metadata"]["name"]
    command = ["kubectl", f"--namespace={namespace}", "port-forward", f"pod/{name}", f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            said = re.search(r"Forwarding from (127\.0\.0\.1:\d+) ", line)
            assert said, f"{command}: {line}"
            yield said[1]
        finally:
            process.kill()
