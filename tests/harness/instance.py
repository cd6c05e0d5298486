"""Instances of a function, as the gateways count them."""

from tests.harness.metrics import read_metrics, sum_of_samples
from tests.harness.release import statuses


def counted(name, state):
    """How many instances of the function are `starting`, `idle`, `busy` or `stopping`."""
    texts = [read_metrics(one) for one in statuses()]
    return sum(sum_of_samples(text, "pilotlight_instances", name, state=state) or 0 for text in texts)
