"""The status of an instance in a pod, as a gateway reads it."""

import http.client
from contextlib import closing

from tests.harness.patience import PATIENCE
from tests.harness.release import LEASE_PORT


def await_condition(pod, condition):
    """Returns once the supervisor's stream says `ready` or `draining`."""
    place = pod["status"]["podIP"]
    with closing(http.client.HTTPConnection(place, LEASE_PORT, timeout=PATIENCE)) as connection:
        connection.request("GET", "/status")
        lines = connection.getresponse()
        while line := lines.readline():
            if line.rstrip().endswith(f" {condition}".encode()):
                return
    raise AssertionError(f"{pod['metadata']['name']} ended before it was {condition}")
