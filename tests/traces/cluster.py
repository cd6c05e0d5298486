"""Sends one trace through two functions in pods to a real collector in the cluster, asks that for it, and writes its table
into docs/traces.md.

    make show-traces-cluster

The caller has a span of its own. Both functions take pods of warm pools. The first one comes as an archive: Python with
Powertools' tracer, whose datagrams the pod's X-Ray port takes, and boto3, which calls the second one. The second one is a
custom runtime in shell. Runs in the cluster's client network.
"""

import secrets
import sys
from contextlib import contextmanager

from tests.harness import manifests, release
from tests.harness.kubectl import apply, kubectl
from tests.harness.paths import EXAMPLES
from tests.harness.patience import LONGER, until
from tests.harness.release import ENDPOINT, HOST, SYSTEM
from tests.harness.state import is_full
from tests.harness.web import Web
from tests.traces.jaeger import IMAGE, JaegerAt
from tests.traces.pack import FUNCTION
from tests.traces.show import call, complete, expected, write

IN_PODS = "<!-- the table of make show-traces-cluster -->"
OTLP_PORT, QUERY_PORT = 4318, 16686
AT = f"jaeger.{SYSTEM}.svc.cluster.local"

EXPECTED = expected(front=["fetch", "claim", "unpack", "init"], shell=["claim", "unpack", "init"])


def jaeger():
    """A Deployment and its Service."""
    labels = {"app": "jaeger"}
    ports = {"otlp": OTLP_PORT, "query": QUERY_PORT}
    container = {
        "name": "jaeger",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--collector.otlp.enabled=true", "--log-level=warn"],
        "env": [{"name": "SPAN_STORAGE_TYPE", "value": "memory"}],
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "readinessProbe": {"httpGet": {"path": "/", "port": 14269}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "jaeger"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "jaeger"},
            "spec": {
                "selector": labels,
                "ports": [{"name": name, "port": port} for name, port in ports.items()],
            },
        },
    ]


@contextmanager
def served():
    """Both functions, and pools with a pod for each."""
    web = Web(HOST)
    script = {file.name: file.read_text() for file in (EXAMPLES / "shell/code").iterdir()}
    memory = 512
    front = {"code": web.archive("/front.zip", FUNCTION.read_bytes()), "memory": memory}
    shell = {
        "runtime": "custom",
        "handler": "function.describe",
        "timeout": LONGER,
        "memory": memory,
        "code": {"configMap": "traces-shell"},
    }
    pools = [
        manifests.warm_pool(f"traces-{runtime.split('.')[0]}", runtime=runtime, memory=memory)
        for runtime in ("python3.11", "custom")
    ]
    names = [pool["metadata"]["name"] for pool in pools]
    try:
        apply(*pools)
        for name in names:
            until(lambda name=name: is_full(name), lambda: kubectl("get", "warmpool,pods", "--output=wide"))
        apply(
            manifests.config_map("traces-shell", script),
            manifests.function("front", "", **front),
            manifests.resource("Function", "shell", shell),
        )
        release.await_known(["front", "shell"])
        yield
    finally:
        kubectl("delete", "function", "front", "shell", "--ignore-not-found")
        kubectl("delete", "warmpool", *names, "--ignore-not-found")
        kubectl("delete", "configmap", "traces-shell", "--ignore-not-found")
        web.close()


def show():
    apply(manifests.namespace(SYSTEM))
    apply(*jaeger(), namespace=SYSTEM)
    collector = JaegerAt(f"http://{AT}:{OTLP_PORT}", f"http://{AT}:{QUERY_PORT}")
    settings = [f"--set=tracing.endpoint=http://{AT}:{OTLP_PORT}", "--set-string=tracing.sampling.ratio=0"]
    with release.installed(*settings), served():
        until(collector.answers, "Jaeger answers")
        trace, span = secrets.token_hex(16), secrets.token_hex(8)
        times = call(ENDPOINT, trace, span)
        collector.export(trace, span, "caller", *times)
        spans = complete(collector, trace, EXPECTED)
    return spans


def main():
    write(IN_PODS, show())
    return 0


if __name__ == "__main__":
    sys.exit(main())
