"""Every query of the dashboard and every alert, asked of a real Prometheus that reads a running `pilotlight local`.

Functions succeed, fail, run out of time and memory, are throttled, wait, and lose their instances, while Prometheus
scrapes. Metrics of controllers have no source here; `test_queries` compares their names with docs/metrics.md.
"""

import json
import threading
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, function, resource
from tests.harness.metrics import read_metrics
from tests.harness.paths import REPOSITORY
from tests.harness.patience import LONGER, until
from tests.harness.room import ROOMS, Room
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.queries import SELECTOR, alerts, is_in_clusters, panels, variables

FUNCTIONS = REPOSITORY / "tests/monitoring/functions"
WAITS = """
from rooms import enter
def lambda_handler(event, context):
    enter(event, "waiting")
"""
MALFORMED = """
import json
def lambda_handler(event, context):
    metrics = [{"Name": "absent"}]
    print(json.dumps({"_aws": {"CloudWatchMetrics": [{"Namespace": "n", "Metrics": metrics}]}}))
"""


def returns(value):
    return f"def lambda_handler(event, context): {value}\n"


# What each function does with each call.
MANIFESTS = [
    function("good", returns("return event"), concurrency={"provisioned": 1}),
    function("bad", returns("raise ValueError('no')")),
    function("late", "import time\n" + returns("time.sleep(60)"), timeout=1),
    function("hungry", returns("return len(bytes(range(256)) * 4_000_000)"), memory=128),
    function("throttled", returns("return 1"), concurrency={"reserved": 0}),
    function("kills", "import os\n" + returns("os.kill(os.getppid(), 9)")),
    function("malformed", MALFORMED),
    resource(
        "Function",
        "waits",
        {
            "runtime": "python3.11",
            "timeout": LONGER,
            "concurrency": {"reserved": 2, "queue": 5, "provisioned": 1},
            "code": {"inline": {"lambda_function.py": WAITS, **ROOMS}},
        },
    ),
    *(
        resource("Function", name, {"runtime": "python3.11", "code": {"path": str(FUNCTIONS / name)}})
        for name in ("embedded", "powertools")
    ),
]
CALLED = [one["metadata"]["name"] for one in MANIFESTS if one["metadata"]["name"] != "waits"]
# What these calls provoke within a test. The others are in test_alerts.py alone.
PROVOKED = {
    "PilotlightFunctionErrors",
    "PilotlightFunctionTimeouts",
    "PilotlightFunctionOutOfMemory",
    "PilotlightFunctionThrottled",
    "PilotlightInvocationsLost",
    "PilotlightInstancesLost",
    "PilotlightQueueAge",
    "PilotlightConcurrencyNearLimit",
    "PilotlightProvisionedInstancesBusy",
    "PilotlightFunctionMetricsDropped",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    file = tmp_path_factory.mktemp("manifests") / "functions.yaml"
    file.write_text(as_yaml(MANIFESTS), encoding="utf-8")
    server = LocalServer(file)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, server):
    target = urllib.parse.urlsplit(server.status).netloc
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), [target])
    yield prometheus
    prometheus.stop()


@pytest.fixture(scope="module", autouse=True)
def load(server):
    """Calls each function again and again, and has three calls of one wait until the end."""
    invoke = invoker(lambda_client(server.endpoint))
    ended = threading.Event()

    def call(name):
        while not ended.is_set():
            try:
                invoke(name, {})
            except Exception:
                # Calls are refused and lost here on purpose. What came of them is in the metrics.
                ended.wait(0.2)

    room = Room(server.host)
    with ThreadPoolExecutor(len(CALLED) + 3) as callers:
        for name in CALLED:
            callers.submit(call, name)
        # Two run, and the third waits for an instance.
        for _ in range(3):
            callers.submit(invoke, "waits", room.address)
        yield
        ended.set()
        room.open()
    room.close()


def test_each_query_of_the_dashboard_returns_data(prometheus):
    wanted = {
        query: title for title, queries in panels().items() for query in queries if not is_in_clusters(query)
    }
    assert len(wanted) > 40, wanted

    def missing():
        return {query: title for query, title in wanted.items() if not prometheus.has(query)}

    until(lambda: not missing(), lambda: f"no data: {missing()}\n{prometheus.tail()}")
    for metric, label in variables():
        values = prometheus.get(f"label/{label}/values", **{"match[]": metric})
        assert {"namespace": "local", "function": "good"}[label] in values, values


def test_each_series_of_an_alert_exists(prometheus):
    expressions = [rule["expr"] for rule in alerts().values() if not is_in_clusters(rule["expr"])]
    wanted = {selector for expression in expressions for selector in SELECTOR.findall(expression)}

    def missing():
        return {selector for selector in wanted if not prometheus.has(f"count({selector})")}

    until(lambda: not missing(), lambda: f"no series: {missing()}")


def test_what_happens_to_the_functions_fires_alerts(prometheus):
    until(lambda: prometheus.firing() >= PROVOKED, lambda: f"not firing: {PROVOKED - prometheus.firing()}")
    rules = prometheus.get("rules")["groups"]
    states = {rule["name"]: (rule["health"], rule.get("lastError")) for one in rules for rule in one["rules"]}
    assert set(states) == set(alerts())
    assert all(health == "ok" for health, _ in states.values()), states


def test_an_exemplar_leads_to_the_log_of_its_call(prometheus, server):
    def exemplars():
        name = 'pilotlight_invocation_duration_seconds_bucket{function="good"}'
        found = prometheus.get("query_exemplars", query=name, start="0", end="99999999999")
        return [one["labels"] for series in found for one in series["exemplars"]]

    labels = until(exemplars, "an exemplar")[-1]
    assert len(labels["trace_id"]) == 32, labels
    url = f"{server.endpoint}/pilotlight/v1/functions/good/logs?request-id={labels['request_id']}"
    with urllib.request.urlopen(url) as answer:
        texts = [json.loads(line)["text"] for line in answer]
    assert any(text.startswith("REPORT") for text in texts), texts


def test_metrics_of_unmodified_clients_have_their_units_and_dimensions(prometheus, server):
    for function_name, namespace, metric, unit, dimensions, mean in (
        ("embedded", "shop", "items", "Count", {"page": "cart"}, 3),
        ("embedded", "shop", "latency", "Milliseconds", {"page": "cart"}, 10),
        ("powertools", "orders", "placed", "Count", {"service": "checkout", "environment": "test"}, 2),
        (
            "powertools",
            "orders",
            "ColdStart",
            "Count",
            {"service": "checkout", "function_name": "powertools"},
            1,
        ),
    ):
        labels = {
            "function": function_name,
            "metric_namespace": namespace,
            "metric": metric,
            "unit": unit,
            **{f"dimension_{name}": value for name, value in dimensions.items()},
        }
        selector = "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
        query = f"pilotlight_function_metric_sum{selector} / pilotlight_function_metric_count{selector}"
        samples = until(lambda: prometheus.query(query), lambda: f"{query}\n{read_metrics(server.status)}")
        assert [value for _, value in samples] == [mean], samples
        found = {name for name in samples[0][0] if name.startswith("dimension_")}
        assert found == {f"dimension_{name}" for name in dimensions}, samples
