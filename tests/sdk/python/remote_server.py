"""Gateways that somebody else has started, with the functions of this suite: a cluster's.

`tests/e2e/serve` says in the environment where they are. Has what tests ask of
a LocalServer and what can be had from outside.
"""

import os
import socket
import urllib.request
from urllib.parse import urlsplit

from local_server import sum_of_samples


class RemoteServer:
    """PILOTLIGHT_ENDPOINT takes calls; each of PILOTLIGHT_GATEWAYS has metrics of its own."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.gateways = os.environ.get("PILOTLIGHT_GATEWAYS", endpoint).split(",")
        self.functions = int(os.environ["PILOTLIGHT_FUNCTIONS"])
        self.host = own_address(endpoint)

    def metric(self, name, function):
        """The sum over all gateways; a function is one's, and the others say nothing of it or 0."""
        texts = []
        for gateway in self.gateways:
            with urllib.request.urlopen(f"{gateway}/metrics", timeout=5) as answer:
                texts.append(answer.read().decode())
        return sum_of_samples("\n".join(texts), name, function)

    def stop(self):
        pass


def own_address(url):
    """The address of this machine that the other end would answer to."""
    place = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((place.hostname, place.port or 80))  # sends nothing
        return probe.getsockname()[0]
