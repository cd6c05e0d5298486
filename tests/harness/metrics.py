"""Reads Pilotlight's metrics, as Prometheus would."""

import urllib.request

from tests.harness.patience import PATIENCE


def read_metrics(endpoint):
    with urllib.request.urlopen(f"{endpoint}/metrics", timeout=PATIENCE) as answer:
        return answer.read().decode()


def sum_of_samples(text, name, function):
    """The sum of the samples of `name` that carry this function, None without a sample."""
    samples = [
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith(name + "{") and f'function="{function}"' in line
    ]
    return sum(samples) if samples else None
