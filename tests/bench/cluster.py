"""Measures what Pilotlight adds in a cluster to the same pod without it: docs/benchmarks-cluster.md.

    make show-bench-cluster          with a cluster that is up and the images loaded

Four measurements in one run: the first answer of a new Function compared with a plain pod that becomes
Ready; a warm call through the gateway compared with the same lease at the pod itself; the processor time
that a call takes in each gateway while several clients call at once; and the resources that controller and
gateway use while idle. Figures are printed, never asserted.
"""

import argparse
import http.client
import json
import os
import platform
import random
import re
import socket
import statistics
import subprocess
import threading
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.harness import manifests, release
from tests.harness.cluster import kubernetes
from tests.harness.kubectl import FUNCTIONS, apply, get, kubectl
from tests.harness.metrics import read_metrics, sum_of_samples
from tests.harness.paths import REPOSITORY
from tests.harness.patience import PATIENCE, until
from tests.harness.processes import PILOTLIGHT, named
from tests.harness.release import HOST, LEASE_PORT, await_known, parts

SOURCE = "def lambda_handler(event, context):\n    return event\n"
EVENT = json.dumps({"text": "x" * 84}).encode()
KUBELET_PERIOD = 1  # seconds between two looks at the containers
PAGE = 4096
TICK = os.sysconf("SC_CLK_TCK")
CLIENTS = 4


def function(name, **spec):
    return manifests.function(name, SOURCE, **spec)


class Client:
    """One kept-alive connection, without the delays of Nagle's algorithm."""

    def __init__(self, host, port, path, headers=None):
        self.connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.path, self.headers = path, headers or {}

    def call(self):
        """Seconds until the whole answer was there."""
        headers = {name: value() for name, value in self.headers.items()}
        begin = time.perf_counter()
        self.connection.request("POST", self.path, EVENT, headers)
        answer = self.connection.getresponse()
        body = answer.read()
        took = time.perf_counter() - begin
        self.timing = answer.getheader("server-timing")
        assert answer.status == 200 and json.loads(body) == json.loads(EVENT), (answer.status, body)
        return took


def gateway(name, host=HOST, port=80):
    return Client(host, port, f"/2015-03-31/functions/{name}/invocations")


def by_role(name):
    """The addresses of the function's owner and of one that forwards to it, if there is one."""
    owners, others = [], []
    for pod in parts("gateway"):
        ip = pod["status"]["podIP"]
        instances = sum_of_samples(read_metrics(f"http://{ip}:8081"), "pilotlight_instances", name)
        (owners if instances else others).append(ip)
    assert len(owners) == 1, f"{name} has {len(owners)} owners"
    return {"owner": owners[0], **({"forwarder": others[0]} if others else {})}


class Watch:
    """Remembers when each pod of the namespace was first seen Ready."""

    def __init__(self):
        self.ready, self.made = {}, threading.Condition()
        command = ["kubectl", f"--namespace={FUNCTIONS}", "get", "pods", "--watch", "--output=json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        text, decoder = "", json.JSONDecoder()
        # Each object ends in a line with nothing but a brace.
        for line in self.process.stdout:
            text += line
            if line != "}\n":
                continue
            pod, text = decoder.decode(text), ""
            conditions = pod.get("status", {}).get("conditions", [])
            if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
                with self.made:
                    self.ready.setdefault(pod["metadata"]["name"], time.perf_counter())
                    self.made.notify_all()

    def await_ready(self, name):
        with self.made:
            assert self.made.wait_for(lambda: name in self.ready, PATIENCE), f"{name} is not Ready"
            return self.ready[name]


def proxy():
    """The API server without kubectl's own start in each figure."""
    process = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
    return process, int(re.search(r":(\d+)$", process.stdout.readline().strip())[1])


def create(port, path, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(body).encode(),
        method="POST",
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=PATIENCE).read()


def plain(pod, name):
    """The same pod, of nobody: neither the controller's nor a gateway's."""
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def measure_cold(samples):
    apply(function("bench-model"))
    await_known(["bench-model"])
    gateway("bench-model").call()
    [model] = get("pods", "--selector=pilotlight.dev/function=bench-model")["items"]
    watch, (process, port) = Watch(), proxy()
    names = [f"bench-cold-{number}" for number in range(samples)]
    apply(*map(function, names))
    await_known(names)
    bare, first = [], []
    try:

        def start_plain(number):
            begin = time.perf_counter()
            create(port, f"/api/v1/namespaces/{FUNCTIONS}/pods", plain(model, f"bench-plain-{number}"))
            bare.append(watch.await_ready(f"bench-plain-{number}") - begin)

        def start_function(number):
            client = gateway(names[number])
            first.append(client.call())

        for number in range(samples):
            turn = [start_plain, start_function]
            random.shuffle(turn)
            for start in turn:
                # A kubelet looks once a second, and what it sees ends a sample. Begun at that
                # moment, each kind would meet one phase of it every time, and not the same one.
                time.sleep(random.random() * KUBELET_PERIOD)
                start(number)
    finally:
        for ended in (watch.process, process):
            ended.terminate()
            ended.wait()
        kubectl("delete", "function", *names, "bench-model")
        kubectl(
            "delete",
            "pod",
            "--ignore-not-found",
            "--grace-period=1",
            *[f"bench-plain-{number}" for number in range(samples)],
        )
    return bare, first


def measure_warm(calls, rounds):
    name = "bench-warm"
    apply(function(name))
    await_known([name])
    gateway(name).call()
    try:
        [pod] = get("pods", f"--selector=pilotlight.dev/function={name}")["items"]
        arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
        lease = Client(
            pod["status"]["podIP"],
            LEASE_PORT,
            "/lease",
            {
                "pilotlight-request-id": lambda: str(uuid.uuid4()),
                "lambda-runtime-invoked-function-arn": lambda: arn,
            },
        )
        ways = {"lease": lease, **{role: gateway(name, ip, 8080) for role, ip in by_role(name).items()}}
        took = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, client in ways.items():
                seconds = [client.call() for _ in range(calls)]
                if number:  # the first round warms up
                    took[way].append(seconds)
        return took
    finally:
        kubectl("delete", "function", name)


def process_of(pod, name=PILOTLIGHT):
    pid = named(pod, name)
    if not pid:
        raise SystemExit(f"the processes of {pod['metadata']['name']} are not on this machine")
    return Path(f"/proc/{pid}")


def use_of(folder):
    """Resident bytes and processor seconds."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    resident = int((folder / "statm").read_text().split()[1]) * PAGE
    return resident, (int(fields[11]) + int(fields[12])) / TICK


def measure_busy(calls):
    """For each role of the gateway that is called: the processor seconds of each role, and the calls a second."""
    name = "bench-busy"
    apply(function(name))
    await_known([name])
    gateway(name).call()
    try:
        addresses = by_role(name)
        pods = {pod["status"]["podIP"]: pod for pod in parts("gateway")}
        folders = {role: process_of(pods[ip]) for role, ip in addresses.items()}
        found = {}
        for called, ip in addresses.items():
            together(name, ip, CLIENTS)  # the instances start
            before = {role: use_of(folder)[1] for role, folder in folders.items()}
            begin = time.perf_counter()
            together(name, ip, calls)
            took = time.perf_counter() - begin
            used = {role: use_of(folder)[1] - before[role] for role, folder in folders.items()}
            found[called] = (used, calls / took)
        return found
    finally:
        kubectl("delete", "function", name)


def together(name, ip, calls):
    """So many calls, by CLIENTS at once."""

    def work():
        client = gateway(name, ip, 8080)
        for _ in range(calls // CLIENTS):
            client.call()

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(work) for _ in range(CLIENTS)]:
            done.result()


def measure_idle(functions, seconds):
    names = [f"bench-idle-{number}" for number in range(functions)]
    for begin in range(0, functions, 250):
        apply(*map(function, names[begin : begin + 250]))
    await_known(names[-1:])
    until(
        lambda: len([one for one in get("functions")["items"] if one.get("status")]) >= functions,
        lambda: "not every Function has a status",
    )
    processes = {
        f"{component} {number}": process_of(pod)
        for component in ("controller", "gateway")
        for number, pod in enumerate(parts(component), 1)
    }
    try:
        time.sleep(10)  # of idleness before, so that the last status is written
        before = {name: use_of(folder) for name, folder in processes.items()}
        time.sleep(seconds)
        after = {name: use_of(folder) for name, folder in processes.items()}
        return {name: (after[name][0], round(after[name][1] - before[name][1], 3)) for name in processes}
    finally:
        for begin in range(0, functions, 250):
            kubectl("delete", "function", "--wait=false", *names[begin : begin + 250])


def machine():
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"Machine: {os.cpu_count()} cores ({model}), Linux {platform.release()}, Kubernetes {kubernetes()};"
        f" load average {os.getloadavg()[0]:.1f} at the end."
    )


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def spread(values, form="{:.0f}"):
    shown = [form.format(value) for value in (statistics.median(values), min(values), max(values))]
    return f"{shown[0]} ({shown[1]}–{shown[2]})"


def report(cold, warm, busy, idle, options):
    bare, first = ([second * 1000 for second in row] for row in cold)
    ratio = statistics.median(first) / statistics.median(bare)
    rounds = {way: [[second * 1000 for second in row] for row in rows] for way, rows in warm.items()}
    shares, roles = (0.5, 0.99), [way for way in rounds if way != "lease"]

    def compared(role, share, how):
        pairs = zip(rounds[role], rounds["lease"], strict=True)
        return [how(percentile(one, share), percentile(other, share)) for one, other in pairs]

    added = {
        (role, share): compared(role, share, lambda one, other: one - other)
        for role in roles
        for share in shares
    }
    ratios = {
        (role, share): compared(role, share, lambda one, other: one / other)
        for role in roles
        for share in shares
    }
    over = {role: statistics.median(added[role, 0.5]) for role in roles}
    yes = {True: "yes", False: "**no**"}
    goals = [
        ("first answer of a new Function, of a plain pod's Ready", "≤ 110 %", f"{ratio:.0%}", ratio <= 1.1),
        *(
            (
                f"added to a warm call, p50, by the {role}",
                "≤ 0.5 ms",
                f"{over[role]:.2f} ms",
                over[role] <= 0.5,
            )
            for role in roles
        ),
        *(
            (
                f"resident memory of the {name}, {options.functions} idle Functions",
                "≤ 60 MB",
                f"{resident / 1e6:.0f} MB",
                resident <= 60e6,
            )
            for name, (resident, _) in idle.items()
        ),
        *(
            (
                f"processor of the {name}, {options.functions} idle Functions",
                "≤ 0.1 %",
                f"{used / options.seconds:.2%}",
                used <= options.seconds * 0.001,
            )
            for name, (_, used) in idle.items()
        ),
    ]
    lines = [
        "<!-- Generated by `make show-bench-cluster` (tests/bench/cluster.py); changes made here are lost. -->",
        "",
        "# Benchmarks in a cluster",
        "",
        "What Pilotlight adds to a pod. All figures are of one run on one machine, whose cores the",
        "client, two nodes and the control plane share; repeat it with `make show-bench-cluster`.",
        "",
        machine(),
        "",
        "## Goals",
        "",
        "| figure | goal | measured | reached |",
        "|---|--:|--:|--:|",
        *(f"| {name} | {goal} | {measured} | {yes[reached]} |" for name, goal, measured, reached in goals),
        "",
        "## Cold: a Function that nobody has called",
        "",
        "| ms | median (min–max) | of plain | n |",
        "|---|--:|--:|--:|",
        f"| plain pod: create → Ready | {spread(bare)} | 100 % | {len(bare)} |",
        f"| Function: call → answer | {spread(first)} | {ratio:.0%} | {len(first)} |",
        "",
        "In random order, each begun at a random moment of the second at which a kubelet looks at its",
        "containers. The plain pod is a copy of an instance's: same image, code, resources. The call's",
        "time has all of it: the gateway's queue, the controller, the pod, Python's start, the event.",
        "",
        "## Warm: one connection, 96-byte events",
        "",
        "| ms | p50 | p90 | p99 | calls |",
        "|---|--:|--:|--:|--:|",
    ]
    titles = {
        "lease": "leased at the pod itself",
        "owner": "through the gateway that owns the function",
        "forwarder": "through another gateway, which forwards",
    }
    for way, title in titles.items():
        if way in rounds:
            values = [value for row in rounds[way] for value in row]
            figures = " | ".join(f"{percentile(values, share):.2f}" for share in (0.5, 0.9, 0.99))
            lines.append(f"| {title} | {figures} | {len(values)} |")
    lines += [
        "",
        "| added by | | ms | ratio |",
        "|---|---|--:|--:|",
        *(
            f"| {role} | p{int(share * 100)} | {spread(added[role, share], '{:.2f}')} "
            f"| {spread(ratios[role, share], '{:.2f}')} |"
            for role in roles
            for share in shares
        ),
        "",
        f"By turns in {options.rounds} rounds; differences and ratios are taken within a round.",
        "",
        f"## Busy: {CLIENTS} connections at once, 96-byte events",
        "",
        "| called | calls/s | CPU of a call in the owner, µs | in the forwarder, µs |",
        "|---|--:|--:|--:|",
        *(
            f"| {called} | {rate:.0f} | "
            + " | ".join(
                f"{used[role] / options.busy * 1e6:.0f}" if role in used else "–"
                for role in ("owner", "forwarder")
            )
            + " |"
            for called, (used, rate) in busy.items()
        ),
        "",
        "All processor time of the gateways' processes is counted, that of their watches included. The value",
        "`gateway.resources.requests.cpu` of the chart follows from it.",
        "",
        f"## Idle: {options.functions} Functions without instances",
        "",
        f"| process | resident, MB | CPU in {options.seconds} s, ms |",
        "|---|--:|--:|",
        *(
            f"| {name} | {resident / 1e6:.1f} | {used * 1000:.0f} |"
            for name, (resident, used) in idle.items()
        ),
        "",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=20, help="cold starts of each kind")
    parser.add_argument("--calls", type=int, default=500, help="warm calls a round")
    parser.add_argument("--rounds", type=int, default=8, help="rounds of warm calls")
    parser.add_argument("--busy", type=int, default=20_000, help="calls at once, for each role")
    parser.add_argument("--functions", type=int, default=1000, help="idle Functions")
    parser.add_argument("--seconds", type=int, default=30, help="of idleness")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/benchmarks-cluster.md")
    options = parser.parse_args()
    release.install(release.OPEN)
    cold = measure_cold(options.samples)
    warm = measure_warm(options.calls, options.rounds)
    busy = measure_busy(options.busy)
    idle = measure_idle(options.functions, options.seconds)
    options.output.write_text(report(cold, warm, busy, idle, options))
    print(options.output.read_text())


if __name__ == "__main__":
    main()
