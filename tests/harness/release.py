"""Pilotlight in the cluster, installed by its chart: its parts, and what its gateways know.

One release serves all tests of a suite. A test that needs it installs it, which is quick if it exists already.
Runs in the cluster's client network (`cluster exec`).
"""

import os
import re
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from tests.harness import paths
from tests.harness.commands import run
from tests.harness.kubectl import FUNCTIONS, SUITE, TIMEOUT, apply, get, kubectl
from tests.harness.manifests import namespace
from tests.harness.patience import PATIENCE, until
from tests.harness.state import living

RELEASE = "pilotlight"
SYSTEM = f"pilotlight-{SUITE}" if SUITE else "pilotlight"  # its namespace
HOST = f"{RELEASE}-gateway.{SYSTEM}.svc.cluster.local"
ENDPOINT = f"http://{HOST}"
CHART = Path(os.environ.get("PILOTLIGHT_CHART", paths.CHART))
IMAGES = "pilotlight.test"
VERSION = "0.1.0"
RUNTIMES = ("python3.11", "custom")
LABELS = (paths.REPOSITORY / "operator/api/src/labels.rs").read_text()
LEASE_PORT, HEALTH_PORT = (
    int(re.search(rf"{name}_PORT: u16 = (\d+)", LABELS)[1]) for name in ("CONTROL", "HEALTH")
)


ACCESS_KEYS = "pilotlight-access-keys"  # the namespace of access keys


# The store of logs that the chart installs. The cluster has no storage class.
STORED = (
    "--set=logs.store.install=true",
    f"--set=logs.store.image={IMAGES}/victoria-logs:v1.52.1",
    "--set=logs.store.size=1Gi",
    "--set=logs.store.resources.requests.cpu=20m",
    "--set=logs.store.volume=false",
)
# The event queue that the chart installs, likewise without a volume.
QUEUED = (
    "--set=events.queue.install=true",
    f"--set=events.queue.image={IMAGES}/nats:v2.15.3",
    "--set=events.queue.size=1Gi",
    "--set=events.queue.resources.requests.cpu=50m",
    "--set=events.queue.volume=false",
)
# For what connects to instances itself, as a bench does.
OPEN = "--set=networkPolicy.enabled=false"
# Tests name taints and runtime classes as they need them. `test_authors.py` closes these lists again.
ANY_PLACE = '--set-json=authors.allow={"tolerations": ["*"], "runtimeClasses": ["*"]}'


def install(*settings, chart=CHART, version=VERSION):
    # As the chart makes it: every suite shows that the pods of functions and warm pools are admitted there.
    apply(namespace(FUNCTIONS, **{"pod-security.kubernetes.io/enforce": "restricted"}))
    # Releases share it, and the first one would make it.
    apply(namespace(ACCESS_KEYS))
    # The definitions belong to the whole cluster, and suites run side by side, each with a release.
    run("kubectl", "apply", "--server-side", "--force-conflicts", f"--filename={definitions(CHART)}")
    run(
        "helm",
        "upgrade",
        "--install",
        RELEASE,
        chart,
        f"--namespace={SYSTEM}",
        "--create-namespace",
        "--wait",
        TIMEOUT,
        f"--set=functionNamespace={FUNCTIONS}",
        # Several suites share the processors of two small nodes, each with a release of its own.
        "--set=gateway.resources.requests.cpu=100m",
        f"--set=image={IMAGES}/pilotlight:{version}",
        *(image_of(runtime, version) for runtime in RUNTIMES),
        *([] if has_own_definitions(chart) else ["--set=crds.install=false"]),
        # Callers of most suites show nothing; test_access.py is about those that do.
        *(["--set=auth.mode=off"] if knows(chart, "auth") else []),
        *([ANY_PLACE] if knows(chart, "authors") else []),
        # Tests count pods, and two small nodes have room for few.
        *(["--set=defaultWarmPools.size=0"] if knows(chart, "defaultWarmPools") else []),
        # test_log_store.py is about the store of logs.
        *(["--set=logs.store.install=false"] if knows(chart, "logs") else []),
        # test_events.py is about the event queue.
        *(["--set=events.queue.install=false"] if knows(chart, "events") else []),
        # Most suites call by plain text; test_tls.py is about TLS.
        *(["--set=gateway.tls.mode=off"] if knows(chart, "  tls") else []),
        *settings,
    )


def knows(chart, value):
    """Whether the chart has this value, which charts of earlier versions refuse."""
    return re.search(rf"^{value}:", (Path(chart) / "values.yaml").read_text(), re.MULTILINE) is not None


def has_own_definitions(chart):
    """Whether the chart is of the time before definitions were templates."""
    return (Path(chart) / "crds").exists()


def definitions(chart):
    return Path(chart) / ("crds" if has_own_definitions(chart) else "files/crds")


def image_of(runtime, version=VERSION):
    """The setting for its image; helm takes dots of its name for levels."""
    key = runtime.replace(".", "\\.")
    return f"--set=runtimeImages.{key}={IMAGES}/{runtime}:{version}"


def uninstall():
    run("helm", "uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait", TIMEOUT)


@contextmanager
def installed(*settings):
    """The release for as long as `with` lasts; its logs are printed at the end."""
    install(*settings)
    yield
    tell_of_the_release()
    uninstall()


@contextmanager
def without_walls():
    """Everybody may connect to every port of the release and of its functions as long as `with` lasts: what policies
    allow adds up."""
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "without-walls"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]},
    }
    for place in (SYSTEM, FUNCTIONS):
        apply(policy, namespace=place)
    try:
        yield
    finally:
        for place in (SYSTEM, FUNCTIONS):
            kubectl("delete", "networkpolicy", "without-walls", namespace=place)


def all_parts(component):
    """The pods of `controller` or `gateway`."""
    return get("pods", f"--selector=app.kubernetes.io/component={component}", namespace=SYSTEM)["items"]


def parts(component):
    """Those that are not on their way out."""
    return living(all_parts(component))


def leading(component):
    """The pod that holds the lease, if it is there."""
    holder = pod_of(get("lease", f"pilotlight-{component}")["spec"].get("holderIdentity"))
    return next((pod for pod in parts(component) if pod["metadata"]["name"] == holder), None)


def pod_of(holder):
    """The name of the pod that holds a lease: its identity is NAMESPACE/NAME/UID."""
    return (holder or "").rpartition("/")[0].rpartition("/")[2]


def await_rollout(component):
    """Returns once all of the Deployment's pods are of its latest kind, and ready."""
    deployment = f"deployment/{RELEASE}-{component}"
    kubectl("rollout", "status", deployment, TIMEOUT, namespace=SYSTEM)


def await_replaced():
    """Returns once none of the earlier parts serves any more."""
    for component in ("controller", "gateway"):
        await_rollout(component)
        until(
            lambda component=component: len(all_parts(component)) == len(parts(component)),
            f"no {component} is on its way out",
        )


def roll(component):
    """As an upgrade does it: the Deployment's own way of replacing its pods."""
    kubectl("rollout", "restart", f"deployment/{RELEASE}-{component}", namespace=SYSTEM)
    await_rollout(component)


def gateways():
    return [f"http://{pod['status']['podIP']}:8080" for pod in parts("gateway")]


def statuses():
    """Where each gateway has its probes and metrics."""
    return [f"http://{pod['status']['podIP']}:8081" for pod in parts("gateway")]


def await_known(names):
    """Returns once each gateway knows the Functions: its watch sees them some milliseconds later."""

    def known(gateway, name):
        try:
            path = f"2015-03-31/functions/{name}/configuration"
            return urllib.request.urlopen(f"{gateway}/{path}", timeout=PATIENCE).status == 200
        except urllib.error.HTTPError as error:
            assert error.code == 404, error.read()
            return False

    places = [(gateway, name) for gateway in gateways() for name in names]
    for place in places:
        until(lambda: known(*place), f"known: {place}")


def logged(component, text):
    """The lines of the last minutes in the logs of a component that contain the text."""
    selector = f"--selector=app.kubernetes.io/component={component}"
    lines = kubectl("logs", "--tail=-1", "--since=5m", selector, namespace=SYSTEM).splitlines()
    return "\n".join(line for line in lines if text in line)


def tell_of_the_release():
    """The state of the release, for the report of a failed test."""
    for component in ("controller", "gateway"):
        print(f"--- {component}")
        selector = f"--selector=app.kubernetes.io/component={component}"
        print(kubectl("logs", "--tail=100", "--prefix", selector, namespace=SYSTEM))
    print(kubectl("get", "functions,pods", "--output=wide"))
