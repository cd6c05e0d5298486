"""The gateways of a cluster that already serve the functions of this suite.

`tests/e2e/serve.py` passes their address in the environment. Has the methods of a LocalServer that
work from outside.
"""

import os
from urllib.parse import urlsplit

from tests.harness.addresses import own_address
from tests.harness.metrics import read_metrics, sum_of_samples


class RemoteServer:
    """PILOTLIGHT_ENDPOINT takes calls; PILOTLIGHT_METRICS lists where each gateway has its metrics."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.statuses = os.environ["PILOTLIGHT_METRICS"].split(",")
        self.functions = int(os.environ["PILOTLIGHT_FUNCTIONS"])
        place = urlsplit(endpoint)
        self.host = own_address(place.hostname, place.port or 80)

    def metric(self, name, function):
        """The sum over all gateways; a function is one's, and the others say nothing of it or 0."""
        texts = [read_metrics(status) for status in self.statuses]
        return sum_of_samples("\n".join(texts), name, function)

    def stop(self):
        pass
