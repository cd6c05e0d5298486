"""Measures cold starts from a warm pool, bursts and warm calls: docs/benchmarks-pool.md.

    make show-bench-cluster          with a cluster that is up and the images loaded

Everything is measured in one run on one machine, and each figure is compared with one without Pilotlight: a plain
pod, the same claim sent to a waiting pod directly, a bare proxy. Figures are printed, never asserted.
"""

import argparse
import http.client
import io
import json
import os
import re
import statistics
import subprocess
import tarfile
import time
import uuid
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pygal

from tests.bench.cluster import (
    SOURCE,
    by_role,
    function,
    gateway,
    machine,
    measure_cold,
    percentile,
    process_of,
    spread,
    use_of,
)
from tests.harness import release
from tests.harness.commands import run
from tests.harness.kubectl import apply, get, kubectl
from tests.harness.manifests import warm_pool
from tests.harness.paths import BENCH, EXAMPLES, LOAD, REPOSITORY
from tests.harness.patience import PATIENCE, until
from tests.harness.processes import SUPERVISOR
from tests.harness.release import HOST, LEASE_PORT, await_known
from tests.harness.state import is_ready, pods, waiting
from tests.harness.web import Web

BOOTSTRAP = EXAMPLES / "rust-echo/build/bootstrap"
SHARES = ("p50", "p99", "p99.9")
PHASES = ("queue", "claim", "unpack", "init", "call")
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


def package():
    """A function that imports a library of 20 MB, of which it needs a small part."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("lambda_function.py", "import library\n" + SOURCE)
        archive.writestr("library/__init__.py", "from library import module_0\n")
        for number in range(40):
            archive.writestr(f"library/module_{number}.py", f"VALUE = {number}\n")
            archive.writestr(f"library/data_{number}.bin", os.urandom(512 * 1024))
    return packed.getvalue()


def bootstrap():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(BOOTSTRAP, "bootstrap")
    return packed.getvalue()


def ready(name):
    return [pod for pod in waiting(name) if is_ready(pod)]


def await_rest(name, size):
    """The pool is full, and nothing else comes or goes."""

    def rests():
        pods = get("pods")["items"]
        return len(pods) == size == len(ready(name))

    until(rests, lambda: kubectl("get", "pods,warmpools"))


class Run:
    """The parts of a run, each kept as soon as it is measured."""

    def __init__(self, resume):
        self.file = REPOSITORY / "target/bench/pool.json"
        self.parts = json.loads(self.file.read_text()) if resume and self.file.is_file() else {}

    def part(self, name, measure, *arguments):
        if name not in self.parts:
            self.parts[name] = measure(*arguments)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps(self.parts))
        return self.parts[name]


def cold(name):
    """The first call of a Function, on a connection that is there already: seconds, and its phases."""
    client = gateway(name)
    return client.call(), client.timing


def phases_of(timing, took):
    """Milliseconds of each phase, and of what is left: the event and the way."""
    found = {name: float(text) for name, text in re.findall(r"(\w+);dur=([\d.]+)", timing or "")}
    found["call"] = max(0.0, took * 1000 - sum(found.values()))
    return found


def measure_hits(kind, runtime, code, samples, size, pool=None, **spec):
    """The first call of each of so many Functions, with a pool that is full. `pool`: what it declares."""
    name = f"bench-{kind}"
    apply(warm_pool(name, runtime=runtime, size=size, **(pool or {})))
    names = [f"{name}-{number}" for number in range(samples)]
    for begin in range(0, samples, 100):
        apply(
            *(
                function(one, runtime=runtime, code=code, keepAlive=0, **spec)
                for one in names[begin : begin + 100]
            )
        )
    await_known(names)
    took, timings = [], []
    try:
        # The gateways fetch an archive once; that is another figure.
        for warm_up in (True, False):
            for one in names[:4] if warm_up else names:
                await_rest(name, size)
                seconds, timing = cold(one)
                if not warm_up:
                    took.append(seconds)
                    timings.append(phases_of(timing, seconds))
        return took, timings
    finally:
        for begin in range(0, samples, 100):
            kubectl("delete", "function", *names[begin : begin + 100])
        kubectl("delete", "warmpool", name)
        until(lambda: not get("pods")["items"], lambda: kubectl("get", "pods"))


def own_config(name):
    """The configuration of an instance that was made for the function."""
    [pod] = get("pods", f"--selector=pilotlight.dev/function={name}")["items"]
    variables = {one["name"]: one["value"] for one in pod["spec"]["containers"][0]["env"]}
    return json.loads(variables["PILOTLIGHT_INSTANCE"].replace("$$", "$"))


def claim(pod, config):
    """Claims a pod as a gateway does, and returns when it takes leases."""
    code, source = io.BytesIO(), SOURCE.encode()
    with tarfile.open(fileobj=code, mode="w") as archive:
        entry = tarfile.TarInfo("var/task/lambda_function.py")
        entry.size, entry.mode = len(source), 0o755
        archive.addfile(entry, io.BytesIO(source))
    line = json.dumps({"instance": uuid.uuid4().hex, "config": config}).encode() + b"\n"
    ip = pod["status"]["podIP"]
    connection = http.client.HTTPConnection(ip, LEASE_PORT, timeout=PATIENCE)
    connection.request("POST", "/claim", line + code.getvalue())
    answer = connection.getresponse()
    assert answer.status == 200, (answer.status, answer.read())
    status = http.client.HTTPConnection(ip, LEASE_PORT, timeout=PATIENCE)
    status.request("GET", "/status")
    lines = status.getresponse()
    while not lines.readline().rstrip().endswith(b" ready"):
        pass


def measure_by_hand(samples, size):
    """The same claim without gateway and controller, until the instance takes leases."""
    model, name = "bench-hand-model", "bench-by-hand"
    apply(function(model))
    await_known([model])
    gateway(model).call()
    config = own_config(model)
    kubectl("delete", "function", model)
    apply(warm_pool(name, size=size))
    took = []
    try:
        for _ in range(samples):
            await_rest(name, size)
            pod = ready(name)[0]
            begin = time.perf_counter()
            claim(pod, config)
            took.append(time.perf_counter() - begin)
            kubectl("delete", "pod", pod["metadata"]["name"])
        return took
    finally:
        kubectl("delete", "warmpool", name)
        until(lambda: not get("pods")["items"], lambda: kubectl("get", "pods"))


def measure_burst(calls, size):
    """So many calls at once of a Function without instances: each one's time, and pods made."""
    name, source = (
        "bench-burst",
        (
            "import os, time\ndef lambda_handler(event, context):\n"
            "    time.sleep(1)\n    return os.uname().nodename\n"
        ),
    )
    apply(warm_pool(name, size=size))
    apply(function(name, timeout=60, code={"inline": {"lambda_function.py": source}}))
    await_known([name])
    try:
        await_rest(name, size)
        before = {pod["metadata"]["name"] for pod in ready(name)}

        def one(_):
            connection = http.client.HTTPConnection(HOST, 80, timeout=PATIENCE)
            connection.connect()
            begin = time.perf_counter()
            connection.request("POST", f"/2015-03-31/functions/{name}/invocations", b"{}")
            answer = connection.getresponse()
            body = answer.read()
            took = time.perf_counter() - begin
            assert answer.status == 200, (answer.status, body)
            return took, json.loads(body)

        with ThreadPoolExecutor(calls) as threads:
            answers = list(threads.map(one, range(calls)))
        served = Counter(pod for _, pod in answers)
        made = len(get("pods", f"--selector=pilotlight.dev/function={name}")["items"])
        return {
            "took": sorted(took for took, _ in answers),
            "from the pool": len(before & set(served)),
            "instances": made,
            "reused": sum(count - 1 for count in served.values()),
        }
    finally:
        kubectl("delete", "function", name)
        kubectl("delete", "warmpool", name)
        until(lambda: not get("pods")["items"], lambda: kubectl("get", "pods"))


def timed(address, path, load, seconds, *more):
    """The figures of a load: calls, failed, rate, and latencies by quantile in milliseconds."""
    command = [LOAD, "time", address, path, str(load), f"--seconds={seconds}", *more]
    return json.loads(run(*command))


def busy_seconds():
    """The time that all processors of the machine have worked so far."""
    user, nice, system, _idle, _waits, *more = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + sum(more[:2])) / os.sysconf("SC_CLK_TCK")


def rate_at_half(address, path, seconds):
    """Calls a second that keep the machine's processors at work for half of the time, all that takes
    part included."""
    rate = 400
    for _ in range(3):
        before, begun = busy_seconds(), time.monotonic()
        timed(address, path, rate, seconds)
        share = (busy_seconds() - before) / (time.monotonic() - begun) / os.cpu_count()
        rate = int(rate * 0.5 / share)
    return rate


def measure_warm(code, instances, rounds, seconds):
    """Rust echo under calls at random moments: by the owner gateway, and by a bare proxy before the
    same instances. Returns the figures of each round, by rate."""
    name = "bench-echo"
    concurrency = {"provisioned": instances, "reserved": instances}
    apply(function(name, runtime="custom", code=code, concurrency=concurrency))
    await_known([name])
    path = f"/2015-03-31/functions/{name}/invocations"

    def up():
        return [pod for pod in pods(name) if is_ready(pod)]

    until(lambda: len(up()) == instances, lambda: kubectl("get", "pods"))
    upstreams = [f"{pod['status']['podIP']}:{LEASE_PORT}" for pod in up()]
    bare = subprocess.Popen(
        [BENCH, "proxy", *upstreams], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        at = bare.stdout.readline().split()[-1]
        owner = f"{by_role(name)['owner']}:8080"
        ways = {"bare proxy": (at, "/lease", f"--lease={ARN}{name}"), "pilotlight": (owner, path)}
        figures = timed(owner, path, "closed:4", 3)
        assert figures["failed"] == 0, figures
        closed = int(figures["rate"])
        loads = []
        for rate in (rate_at_half(owner, path, seconds), closed // 2):
            rows = {way: [] for way in ways}
            for _ in range(rounds):
                for way, told in rows.items():
                    place, target, *more = ways[way]
                    told.append(timed(place, target, rate, seconds, *more))
            loads.append((rate, rows))
        return closed, loads
    finally:
        bare.stdin.close()
        bare.terminate()
        bare.wait()
        kubectl("delete", "function", name)


def measure_waiting(seconds):
    """The memory and the processor time that a supervisor uses while it waits for its claim."""
    name = "bench-waits"
    apply(warm_pool(name, size=2))
    try:
        await_rest(name, 2)
        folders = [process_of(pod, SUPERVISOR) for pod in ready(name)]
        before = [use_of(folder) for folder in folders]
        time.sleep(seconds)
        after = [use_of(folder) for folder in folders]
        return max(resident for resident, _ in after), sum(
            late - early for (_, late), (_, early) in zip(after, before, strict=True)
        )
    finally:
        kubectl("delete", "warmpool", name)
        until(lambda: not get("pods")["items"], lambda: kubectl("get", "pods"))


def milliseconds(values):
    return [value * 1000 for value in values]


def medians(timings):
    return {phase: statistics.median(timing.get(phase, 0.0) for timing in timings) for phase in PHASES}


def draw(hits, folder):
    bars = pygal.HorizontalStackedBar(
        title="Cold starts that the pool takes in: medians of the phases, ms",
        height=300,
        disable_xml_declaration=True,
        js=[],
        style=pygal.style.CleanStyle,
    )
    bars.x_labels = list(hits)
    for phase in PHASES:
        bars.add(phase, [round(medians(timings)[phase], 2) for _, timings in hits.values()])
    (folder / "benchmarks-pool-phases.svg").write_text(bars.render())


def draw_shares(rows, folder):
    lines = pygal.XY(
        title="First answers within so many ms (share of the calls)",
        height=400,
        show_dots=False,
        logarithmic=False,
        disable_xml_declaration=True,
        js=[],
        style=pygal.style.CleanStyle,
        xrange=(0, 60),
    )
    for name, values in rows.items():
        values = sorted(values)
        lines.add(
            name, [(value, (place + 1) / len(values)) for place, value in enumerate(values) if value <= 60]
        )
    (folder / "benchmarks-pool.svg").write_text(lines.render())


def cold_rows(hits, by_hand, bare, missed):
    plain_median = statistics.median(bare)

    def row(name, values):
        figures = " | ".join(f"{percentile(values, share):.1f}" for share in (0.5, 0.95, 0.99))
        ratio = statistics.median(values) / plain_median
        return f"| {name} | {figures} | {ratio:.1%} | {len(values)} |"

    return [
        *(row(f"pool hit: {kind}", values) for kind, (values, _) in hits.items()),
        row("the same claim by hand, Python hello, until it takes leases", by_hand),
        row("pool miss: Python hello", missed),
        row("plain pod: create → Ready", bare),
    ]


def added(rows):
    """The time that Pilotlight adds in each round."""
    pairs = list(zip(rows["pilotlight"], rows["bare proxy"], strict=True))
    return {share: [one[share] - other[share] for one, other in pairs] for share in SHARES}


def warm_rows(rate, rows):
    def row(what, values, *counts):
        figures = " | ".join(spread(values[share], "{:.2f}") for share in SHARES)
        return f"| {rate} calls/s, {what} | {figures} | {' | '.join(map(str, counts or ('', '')))} |"

    for way, told in rows.items():
        yield row(
            way,
            {share: [one[share] for one in told] for share in SHARES},
            sum(one["calls"] for one in told),
            sum(one["failed"] for one in told),
        )
    yield row("added", added(rows))


def report(hits, by_hand, bare, missed, burst, warm, unclaimed, options):
    closed, loads = warm
    resident, used = unclaimed
    hello = hits["Python hello"][0]
    yes = {True: "yes", False: "**no**"}
    over = {share: statistics.median(values) for share, values in added(loads[0][1]).items()}
    goals = [
        (
            "pool hit, Python hello, p50",
            "≤ 20 ms",
            f"{percentile(hello, 0.5):.1f} ms",
            percentile(hello, 0.5) <= 20,
        ),
        (
            "pool hit, Python hello, p95",
            "≤ 40 ms",
            f"{percentile(hello, 0.95):.1f} ms",
            percentile(hello, 0.95) <= 40,
        ),
        (
            "added to a warm call over the bare proxy, p50",
            "≤ 0.2 ms",
            f"{over['p50']:.2f} ms",
            over["p50"] <= 0.2,
        ),
        ("the same, p99", "≤ 1 ms", f"{over['p99']:.2f} ms", over["p99"] <= 1),
        ("resident memory of an unclaimed supervisor", "≤ 5 MB", f"{resident / 1e6:.1f} MB", resident <= 5e6),
        (f"its processor time in {options.seconds} s", "0", f"{used * 1000:.0f} ms", used == 0),
    ]
    took = milliseconds(burst["took"])
    names = list(hits)
    lines = [
        "<!-- Generated by `make show-bench-cluster` (tests/bench/pool.py); changes made here are lost. -->",
        "",
        "# Benchmarks of the warm pool",
        "",
        "All figures are of one machine, whose cores the client, two nodes and the control plane share, and of",
        "one run, or of several that each measured a part (`--resume`); a table is of one. Repeat it with",
        "`make show-bench-cluster`. All times are the client's, inside the cluster.",
        "",
        machine(),
        "",
        "![First answers](benchmarks-pool.svg)",
        "",
        "## Goals",
        "",
        "| figure | goal | measured | reached |",
        "|---|--:|--:|--:|",
        *(f"| {name} | {goal} | {measured} | {yes[reached]} |" for name, goal, measured, reached in goals),
        "",
        "## Cold starts",
        "",
        "| ms | p50 | p95 | p99 | p50 of a plain pod's | n |",
        "|---|--:|--:|--:|--:|--:|",
        *cold_rows(hits, by_hand, bare, missed),
        "",
        f"A Function that nobody has called, each time another, with a pool of {options.pool} that is full. The",
        "20 MB package comes from an archive that the gateway has fetched before; the Rust bootstrap too.",
        "",
        "![Phases](benchmarks-pool-phases.svg)",
        "",
        "| medians, ms | " + " | ".join(PHASES) + " |",
        "|---|" + "--:|" * len(PHASES),
        *(
            f"| {name} | " + " | ".join(f"{medians(hits[name][1])[phase]:.2f}" for phase in PHASES) + " |"
            for name in names
        ),
        "",
        "`call`: the event itself and all that no other phase has, the client's own time among it.",
        "",
        f"## A burst from 0 to {len(took)} past a pool of {options.pool}",
        "",
        f"{burst['from the pool']} calls were the first of a pod of the pool. {burst['instances']} instances"
        f" were made or claimed for {len(took)} calls of 1 s each; {burst['reused']} calls were answered by",
        "an instance that came free before theirs was up.",
        "",
        "| ms | first | p50 | p90 | last |",
        "|---|--:|--:|--:|--:|",
        f"| call → answer | {took[0]:.0f} | {percentile(took, 0.5):.0f} | {percentile(took, 0.9):.0f} | {took[-1]:.0f} |",
        "",
        f"## Warm: Rust echo on {options.instances} instances, calls at random moments",
        "",
        "The bare proxy leases the same instances in turn; a call that meets one at work is refused, and left",
        "out. Half load is the rate at which all that takes part, the client too, keeps the processors at work",
        f"for half of the time. The other rate is half of the {closed} calls/s that a closed loop of 4",
        "connections gets through the gateway: there the processors have next to no time left.",
        "",
        "| ms | p50 | p99 | p99.9 | calls | refused |",
        "|---|--:|--:|--:|--:|--:|",
        *(row for rate, rows in loads for row in warm_rows(rate, rows)),
        "",
        f"Medians (least–most) of {options.rounds} rounds by turns; differences are taken within a round.",
        "",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hits", type=int, default=200, help="cold starts of Python hello")
    parser.add_argument("--others", type=int, default=60, help="cold starts of each other kind")
    parser.add_argument("--pool", type=int, default=10, help="pods that wait")
    parser.add_argument("--burst", type=int, default=50, help="calls at once")
    parser.add_argument("--instances", type=int, default=8, help="of the warm calls")
    parser.add_argument("--rounds", type=int, default=8, help="of the warm calls")
    parser.add_argument("--seconds", type=int, default=20, help="of idleness")
    parser.add_argument("--resume", action="store_true", help="keep the parts that the last run has measured")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/benchmarks-pool.md")
    options = parser.parse_args()
    # Room for the burst: processors are what the nodes of one machine lack.
    less = ("--set=gateway.resources.requests.cpu=20m", "--set=controller.resources.requests.cpu=10m")
    release.install(release.OPEN, *less)
    web, run = Web(HOST), Run(options.resume)
    echo, size = web.archive("/echo.tar.gz", bootstrap()), options.pool
    hello = {"inline": {"lambda_function.py": SOURCE}}
    package_code = web.archive("/package.zip", package())
    kinds = {
        "Python hello": ("hello", "python3.11", hello, options.hits),
        "Python, 20 MB package": ("package", "python3.11", package_code, options.others),
        "Rust bootstrap": ("rust", "custom", echo, options.others),
    }
    hits = {kind: run.part(kind, measure_hits, *what, size) for kind, what in kinds.items()}
    hits = {kind: (milliseconds(took), timings) for kind, (took, timings) in hits.items()}
    by_hand = milliseconds(run.part("by hand", measure_by_hand, options.others, size))
    bare, missed = map(milliseconds, run.part("misses", measure_cold, 20))
    burst = run.part("burst", measure_burst, options.burst, size)
    unclaimed = run.part("waiting", measure_waiting, options.seconds)
    # As the chart has it: how soon the gateway gets a processor is a matter of what it requests.
    release.install(release.OPEN)
    warm = run.part("warm", measure_warm, echo, options.instances, options.rounds, 5)
    folder = options.output.parent
    draw(hits, folder)
    draw_shares(
        {**{f"pool hit: {kind}": took for kind, (took, _) in hits.items()}, "claim by hand": by_hand}, folder
    )
    options.output.write_text(report(hits, by_hand, bare, missed, burst, warm, unclaimed, options))
    print(options.output.read_text())


if __name__ == "__main__":
    main()
