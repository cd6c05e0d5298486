"""Kubernetes objects of the tests, as values."""

import json

from tests.harness.patience import LONGER

API_VERSION = "pilotlight.dev/v1alpha1"


def resource(kind, name, spec):
    """One of Pilotlight's own kinds."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def function(name, source, **spec):
    """A Function whose code is one Python file, but for what `spec` replaces."""
    code = {"inline": {"lambda_function.py": source}}
    return resource("Function", name, {"runtime": "python3.11", "timeout": LONGER, "code": code, **spec})


def warm_pool(name, **spec):
    """A WarmPool of one Python pod, or as `spec` says."""
    return resource("WarmPool", name, {"runtime": "python3.11", "size": 1, **spec})


def as_yaml(objects):
    """One manifest of several objects: JSON is YAML."""
    return "---\n".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects)


def namespace(name, **labels):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def config_map(name, data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name, data):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def no_pods(name):
    """A ResourceQuota that refuses every pod."""
    spec = {"hard": {"pods": "0"}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec}


def schedule(name, function, **spec):
    """A Schedule of each day, or as `spec` says."""
    return resource("Schedule", name, {"function": function, "schedule": "rate(1 day)", **spec})
