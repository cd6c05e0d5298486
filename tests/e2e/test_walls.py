"""Walls that NetworkPolicies put before strangers and functions: each port of each part, the addresses of a cloud's
metadata and of the API server.

A refused connection is silent, as a broken network is. So each silence is seen beside connections that succeed
(harness/probe.py), and ends when a policy allows it.

A network plugin may learn of a pod or of a policy after the pod's first connections, which then pass. So a test looks
until the walls stand (`walled`), and once more.
"""

import inspect
import json
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness import manifests, probe, release
from tests.harness.addresses import own_address
from tests.harness.kubectl import FUNCTIONS, SUITE, TIMEOUT, apply, get, kubectl, wait
from tests.harness.patience import until
from tests.harness.state import pods, waiting

ELSEWHERE = f"strangers-{SUITE}" if SUITE else "strangers"
NAMESPACES = (FUNCTIONS, release.SYSTEM, ELSEWHERE)
PROBE = inspect.getsource(probe)
STRANGER = f"{PROBE}\nimport json, sys\nprint(json.dumps(probe(*json.loads(sys.argv[1]))))"
FUNCTION = f"{PROBE}\ndef lambda_handler(event, context):\n    return probe(*event)\n"
# Ports to which every pod of the cluster may connect, as the chart has it. A port that is missing here fails the test.
PORTS = {
    ("gateway", "api"): True,
    ("gateway", "status"): True,
    ("gateway", "parts"): False,
    ("controller", "health"): False,
    ("instance", "control"): False,
    ("instance", "health"): False,
    ("unclaimed", "control"): False,
    ("unclaimed", "health"): False,
}
METADATA = "169.254.169.254"


def stranger():
    """A pod with no label, which waits for scripts."""
    container = {
        "name": "stranger",
        "image": f"{release.IMAGES}/python3.11:{release.VERSION}",
        "command": ["python3.11", "-c", "import signal; signal.sigwait({signal.SIGTERM})"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec}


@pytest.fixture(scope="module")
def strangers():
    """One in each namespace: of the functions, of the release, and another one."""
    apply(manifests.namespace(ELSEWHERE))
    account = "serviceaccount/default"
    kubectl("wait", "--for=create", account, TIMEOUT, namespace=ELSEWHERE)
    for namespace in NAMESPACES:
        apply(stranger(), namespace=namespace)
    for namespace in NAMESPACES:
        wait("condition=Ready", "pod/stranger", namespace=namespace)
    yield
    for namespace in NAMESPACES:
        kubectl("delete", "pod", "stranger", "--wait=false", namespace=namespace)
    kubectl("delete", "namespace", ELSEWHERE, "--wait=false")


def found_by(namespace, closed, opened):
    """What the stranger of this namespace finds."""
    command = ("exec", "pod/stranger", "--", "python3.11", "-c", STRANGER, json.dumps([closed, opened]))
    return json.loads(kubectl(*command, namespace=namespace))


def found_by_all(namespaces, closed, opened):
    with ThreadPoolExecutor(len(namespaces)) as threads:
        found = threads.map(lambda one: found_by(one, closed, opened), namespaces)
        return dict(zip(namespaces, found, strict=True))


def expected(closed, opened):
    return {**dict.fromkeys(closed, "silence"), **dict.fromkeys(opened, "connected")}


def walled(find, want):
    """Waits until `find` finds what is wanted, and checks that it stays so."""
    until(lambda: find() == want, lambda: (find(), want))
    assert find() == want


@pytest.fixture
def places(function, invoke, warm_pool):
    """Each port of each part: {(PART, PORT): its places, HOST:PORT}."""
    name = function("walls-called", "def lambda_handler(event, context):\n    return 'called'\n")
    assert invoke(name, {})["Body"] == "called"
    pool = warm_pool("walls-unclaimed")
    found = {}
    for component in ("gateway", "controller"):
        for pod in release.parts(component):
            for port in pod["spec"]["containers"][0]["ports"]:
                place = f"{pod['status']['podIP']}:{port['containerPort']}"
                found.setdefault((component, port["name"]), []).append(place)
    for kind, some in (("instance", pods(name)), ("unclaimed", waiting(pool))):
        for port, number in (("control", release.LEASE_PORT), ("health", release.HEALTH_PORT)):
            found[kind, port] = [f"{pod['status']['podIP']}:{number}" for pod in some]
    assert found.keys() == PORTS.keys() and all(found.values()), found
    return found


def divided(places, is_open):
    """The closed and the open ones."""
    chosen = {True: [], False: []}
    for port, some in places.items():
        chosen[is_open(*port)] += some
    return chosen[False], chosen[True]


def test_a_stranger_reaches_only_what_is_for_callers_and_for_metrics(strangers, places):
    closed, open_to_all = divided(places, lambda *port: PORTS[port])
    wanted = dict.fromkeys(NAMESPACES, expected(closed, open_to_all))
    walled(lambda: found_by_all(NAMESPACES, closed, open_to_all), wanted)
    # Something listens at each closed port: a policy was all that stood between.
    every = closed + open_to_all
    with release.without_walls():
        until(
            lambda: all(one == expected([], every) for one in found_by_all(NAMESPACES, [], every).values()),
            "with a policy that allows it, every port answers",
        )


def test_named_callers_are_the_only_ones_who_reach_a_gateway(strangers, places):
    caller = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ELSEWHERE}}}
    release.install(f"--set-json=networkPolicy.callers={json.dumps([caller])}")
    try:
        for namespace in (FUNCTIONS, ELSEWHERE):
            is_caller = namespace == ELSEWHERE
            closed, opened = divided(places, lambda *port, is_caller=is_caller: PORTS[port] and is_caller)
            # Somebody else's pod, which no policy concerns, shows that the network works.
            with listening(own_address(release.HOST)) as beside:
                opened.append(beside)
                walled(lambda: found_by(namespace, closed, opened), expected(closed, opened))
    finally:
        release.install()


class listening:
    """Takes connections at an address of the test's own, and gives `with` the place, HOST:PORT."""

    def __init__(self, host):
        self.server = socketserver.ThreadingTCPServer((host, 0), socketserver.BaseRequestHandler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,)).start()
        return "{}:{}".format(*self.server.server_address)

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def metadata():
    """A cloud's metadata server: the test listens at its address, where this cluster leads it to."""
    try:
        server = listening(METADATA)
    except OSError:
        pytest.skip(f"{METADATA} is not an address of this machine; tests/cluster has it")
    with server as place:
        yield place


@pytest.fixture
def api_server():
    """The release with the API server's addresses, of the Service and of its endpoints: {HOST:PORT}."""
    service = get("service", "kubernetes", namespace="default")["spec"]
    [endpoints] = get(
        "endpointslices", "--selector=kubernetes.io/service-name=kubernetes", namespace="default"
    )["items"]
    hosts = [address for one in endpoints["endpoints"] for address in one["addresses"]]
    ranges = json.dumps([f"{host}/32" for host in (service["clusterIP"], *hosts)])
    release.install(f"--set-json=functions.egress.apiServer={ranges}")
    port = endpoints["ports"][0]["port"]
    yield [f"{service['clusterIP']}:443", *(f"{host}:{port}" for host in hosts)]
    release.install()


def test_a_function_reaches_neither_metadata_nor_without_an_account_the_api_server(
    strangers, function, invoke, metadata, api_server
):
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "walls"}}
    apply(account)
    plain = function("walls-plain", FUNCTION)
    with_account = function("walls-account", FUNCTION, pod={"serviceAccount": "walls"})
    called = until(lambda: release.parts("gateway"), "a gateway")[0]["status"]["podIP"]
    with listening(own_address(release.HOST)) as elsewhere:
        allowed = [f"{called}:8080", elsewhere]
        closed = [metadata, *api_server]
        # A stranger is no function: no policy concerns it, and all of this answers it at the same time.
        with ThreadPoolExecutor(1) as beside:
            seen = beside.submit(found_by, FUNCTIONS, [], closed + allowed)
            walled(lambda: invoke(plain, [closed, allowed])["Body"], expected(closed, allowed))
        assert seen.result() == expected([], closed + allowed)
        opened = api_server + allowed
        walled(lambda: invoke(with_account, [[metadata], opened])["Body"], expected([metadata], opened))
    kubectl("delete", "serviceaccount", "walls")


def test_a_function_resolves_names(function, invoke):
    source = "import socket\ndef lambda_handler(event, context):\n    return socket.gethostbyname(event)\n"
    found = invoke(function("walls-names", source), release.HOST)["Body"]
    assert (
        found == get("service", f"{release.RELEASE}-gateway", namespace=release.SYSTEM)["spec"]["clusterIP"]
    )
