"""The event queue as a run needs it: its volume, what waits in it, and its filling.

The cluster has no storage class, so a run makes the volume itself, on the node that loses its power. Without one, an event that
was accepted would go with the pod.
"""

import json
import os
import urllib.error
import urllib.request

from tests.harness.kubectl import apply, kubectl
from tests.harness.manifests import function
from tests.harness.patience import PATIENCE
from tests.harness.processes import running
from tests.harness.release import ENDPOINT, IMAGES, RELEASE, SYSTEM, gateways, parts
from tests.harness.state import is_ready

PORT = 4222
NAME = f"{RELEASE}-events"
NODE = "node-2"
FOLDER = f"/var/lib/{SYSTEM}-events"
# Events may take seven tenths of it, so that it can be filled within seconds. With less, the server has no room for its streams.
SIZE = "640Mi"
SETTINGS = (
    "--set=events.queue.install=true",
    f"--set=events.queue.image={IMAGES}/nats:v2.15.3",
    f"--set=events.queue.size={SIZE}",
    # As much as a gateway: with less, other work of the machine makes it answer later than gateways wait.
    "--set=events.queue.resources.requests.cpu=200m",
)
# Its events fill the queue. It runs one of them for longer than a fault lasts, so that no room comes of it.
FILLER = "chaos-filler"
FILLER_SPEC = {"concurrency": {"reserved": 1}, "keepAlive": 1, "async": {"retries": 0}}
SOURCE = """
import time

def lambda_handler(event, context):
    time.sleep(event["seconds"])
"""
SIZES = (1_000_000, 100_000, 10_000, 1000, 300)  # bytes of the events that fill it, one after the other


def filler():
    return function(FILLER, SOURCE, **FILLER_SPEC)


def make_volume():
    """Makes the volume for the server's claim, unless it is there."""
    kubelets = [
        pid for pid, (_, name, groups) in running().items() if name == "kubelet" and f"/{NODE}/" in groups
    ]
    if not kubelets:
        raise AssertionError(f"{NODE} does not run")
    # The node's own view of its disk. The server's group gets the folder from Kubernetes.
    folder = f"/proc/{kubelets[0]}/root{FOLDER}"
    os.makedirs(folder, exist_ok=True)
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}]
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{SYSTEM}-events"},
        "spec": {
            "capacity": {"storage": SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": SYSTEM, "name": f"data-{NAME}-0"},
            "local": {"path": FOLDER},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    }
    apply(volume)


def delete_volume():
    """What the volume has stays on the disk, and a later run removes it by the names of its functions."""
    kubectl(
        "delete",
        "persistentvolumeclaim",
        f"data-{NAME}-0",
        "--ignore-not-found",
        "--wait=false",
        namespace=SYSTEM,
    )
    kubectl("delete", "persistentvolume", f"{SYSTEM}-events", "--ignore-not-found", "--wait=false")


def asked(endpoint, name, path="", method="GET"):
    """What a gateway says of the events of a function, which need not exist; None if it does not know."""
    url = f"{endpoint}/pilotlight/v1/functions/{name}/events{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=PATIENCE) as answer:
            return json.load(answer)
    except OSError:
        return None


def is_usable():
    """Whether the server is ready and each gateway can ask it."""
    servers = parts("events")
    is_up = bool(servers) and all(map(is_ready, servers))
    return is_up and all(asked(gateway, FILLER) is not None for gateway in gateways())


def waiting(name):
    """How many events of the function have not ended, and how many are dead letters; None if nobody knows."""
    found = asked(ENDPOINT, name)
    return found and (found["count"], found["dead"])


def purge(name):
    """Removes what waits; whether that is done."""
    return asked(ENDPOINT, name, method="DELETE") is not None


def purge_dead(name):
    return asked(ENDPOINT, name, "/dead", "DELETE") is not None


def replay(name):
    """How many dead letters have become events again; None if nobody knows."""
    found = asked(ENDPOINT, name, "/replay", "POST")
    return found and found["replayed"]


def fill(world):
    """Sends events until there is no room for the smallest one; whether there is none."""
    for size in SIZES:
        status = 202
        while status == 202:
            world.sleep(0)
            status = send({"seconds": 25, "data": "x" * size})
        if status != 429:
            return False
    return True


def send(event):
    """The status of an asynchronous call of the filler."""
    request = urllib.request.Request(
        f"{ENDPOINT}/2015-03-31/functions/{FILLER}/invocations",
        json.dumps(event).encode(),
        headers={"X-Amz-Invocation-Type": "Event"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
