"""Reads Pilotlight's metrics, as Prometheus would."""

import urllib.request

from tests.harness.patience import PATIENCE


def read_metrics(endpoint):
    with urllib.request.urlopen(f"{endpoint}/metrics", timeout=PATIENCE) as answer:
        return answer.read().decode()


def sum_of_samples(text, name, function, **labels):
    """The sum of the samples of `name` that carry this function and these labels, None without a sample."""
    parts = [f'{label}="{value}"' for label, value in {"function": function, **labels}.items()]
    samples = [
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith(name + "{") and all(part in line for part in parts)
    ]
    return sum(samples) if samples else None
