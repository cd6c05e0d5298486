"""Pilotlight in the cluster, installed by its chart, and the words to speak to both.

One release serves all tests; conftest.py and `serve` install it, which is quick
when it is there already. Runs in the cluster's client network (`cluster exec`).
"""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = REPOSITORY / "tests/cluster/cluster"
RELEASE, SYSTEM, FUNCTIONS = "pilotlight", "pilotlight", "functions"
HOST = f"{RELEASE}-gateway.{SYSTEM}.svc.cluster.local"
ENDPOINT = f"http://{HOST}"
CHART = Path(os.environ.get("PILOTLIGHT_CHART", REPOSITORY / "charts/pilotlight"))
IMAGES = "pilotlight.test"
VERSION = "0.1.0"
RUNTIMES = ("python3.11", "custom")
LEASE_PORT = int(
    re.search(r"CONTROL_PORT: u16 = (\d+)", (REPOSITORY / "operator/api/src/labels.rs").read_text())[1]
)
POOL = "pilotlight.dev/warm-pool"  # the label of its unclaimed pods


def run(*command, **options):
    options = {"timeout": 180, **options}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def kubectl(*words, namespace=FUNCTIONS, **options):
    return run("kubectl", f"--namespace={namespace}", *words, **options)


def get(*words, **options):
    return json.loads(kubectl("get", *words, "--output=json", **options))


def apply(*objects, **options):
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    return kubectl("apply", "--filename=-", input=json.dumps(listed), **options)


def function(name, source, **spec):
    """A Function whose code is one Python file."""
    return {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": name},
        "spec": {"runtime": "python3.11", "code": {"inline": {"lambda_function.py": source}}, **spec},
    }


def warm_pool(name, **spec):
    """A WarmPool of one Python pod, or as `spec` says."""
    return {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "WarmPool",
        "metadata": {"name": name},
        "spec": {"runtime": "python3.11", "size": 1, **spec},
    }


def documents(text):
    """What `kubectl --output=json` says: one object after the other, or one list."""
    decoder, text = json.JSONDecoder(), text.strip()
    while text:
        one, end = decoder.raw_decode(text)
        yield from one.get("items", [one])
        text = text[end:].strip()


def until(condition, seconds, what):
    """Polls `condition` and returns its first true value; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        time.sleep(0.1)
    return value


def install(*settings, chart=CHART, version=VERSION):
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": FUNCTIONS}})
    run("kubectl", "apply", "--server-side", "--force-conflicts", f"--filename={CHART}/crds")
    run(
        "helm",
        "upgrade",
        "--install",
        RELEASE,
        chart,
        f"--namespace={SYSTEM}",
        "--create-namespace",
        "--wait",
        "--timeout=120s",
        f"--set=functionNamespace={FUNCTIONS}",
        f"--set=image={IMAGES}/pilotlight:{version}",
        *(image_of(runtime, version) for runtime in RUNTIMES),
        *settings,
    )


def image_of(runtime, version=VERSION):
    """The setting for its image; helm takes dots of its name for levels."""
    key = runtime.replace(".", "\\.")
    return f"--set=runtimeImages.{key}={IMAGES}/{runtime}:{version}"


def uninstall():
    run("helm", "uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait")


def kubernetes():
    """Its version, as a node says."""
    return get("nodes")["items"][0]["status"]["nodeInfo"]["kubeletVersion"]


def cluster(*words):
    """Has the cluster lose a part, and get it back."""
    run(CLUSTER, *words, timeout=240)


def all_parts(component):
    """The pods of `controller` or `gateway`."""
    return get("pods", f"--selector=app.kubernetes.io/component={component}", namespace=SYSTEM)["items"]


def parts(component):
    """Those that are not on their way out."""
    return [pod for pod in all_parts(component) if "deletionTimestamp" not in pod["metadata"]]


def leading(component):
    """The pod that holds the lease, if it is there."""
    holder = get("lease", f"pilotlight-{component}")["spec"].get("holderIdentity")
    return next((pod for pod in parts(component) if pod["metadata"]["name"] == holder), None)


def await_rollout(component, seconds):
    """All of the Deployment's pods are of its latest kind, and ready."""
    kubectl(
        "rollout",
        "status",
        f"deployment/{RELEASE}-{component}",
        f"--timeout={seconds}s",
        namespace=SYSTEM,
        timeout=seconds + 10,
    )


def roll(component, seconds):
    """As an upgrade does it: the Deployment's own way of replacing its pods."""
    kubectl("rollout", "restart", f"deployment/{RELEASE}-{component}", namespace=SYSTEM)
    await_rollout(component, seconds)


def waiting(pool):
    """The unclaimed pods of a warm pool that are not on their way out."""
    listed = get("pods", f"--selector={POOL}={pool}")["items"]
    return [pod for pod in listed if "deletionTimestamp" not in pod["metadata"]]


def is_ready(pod):
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def is_full(pool):
    """Whether as many pods wait as a warm pool is to have, and its status says so."""
    told = get("warmpool", pool)
    size, ready = told["spec"]["size"], [pod for pod in waiting(pool) if is_ready(pod)]
    return len(ready) == size == told.get("status", {}).get("ready")


def gateways():
    return [f"http://{pod['status']['podIP']}:8080" for pod in parts("gateway")]


def await_known(names, seconds=10):
    """Watches tell the gateways of Functions, some milliseconds later."""

    def known(gateway, name):
        try:
            path = f"2015-03-31/functions/{name}/configuration"
            return urllib.request.urlopen(f"{gateway}/{path}", timeout=5).status == 200
        except urllib.error.HTTPError as error:
            assert error.code == 404, error.read()
            return False

    places = [(gateway, name) for gateway in gateways() for name in names]
    for place in places:
        until(lambda: known(*place), seconds, lambda: f"known: {place}")


def tell_of_the_release():
    """For a person who reads about a test that failed."""
    for component in ("controller", "gateway"):
        print(f"--- {component}")
        print(
            kubectl(
                "logs",
                "--tail=100",
                "--prefix",
                namespace=SYSTEM,
                *[f"--selector=app.kubernetes.io/component={component}"],
            )
        )
    print(kubectl("get", "functions,pods", "--output=wide"))
