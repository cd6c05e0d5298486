"""How soon events run and how many are accepted, beside a bare JetStream loop with the same server.

    make show-bench-cluster          in a cluster, with the event queue that the chart installs
    make show-events-local           on `pilotlight local`, whose events are in SQLite

From the 202 that the client has read to the begin that the handler reports to a journal of this machine, both by one clock. Three
loads by turns in each round: as many events at once as the queue accepts, half of that rate, and 10 events a second. The bare
loop publishes messages of the size of an event to a stream of its own, and pulls them: what no queue on this server can
undercut. Every event is accounted for (tests/load/README.md); the figures are printed, never asserted. Writes a section of
docs/benchmarks-events.md.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness import release
from tests.harness.addresses import own_address
from tests.harness.commit import commit
from tests.harness.kubectl import apply, kubectl
from tests.harness.load import Journal, Load, accounted, figures_of_events
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml
from tests.harness.nats import nats_server
from tests.harness.paths import JETSTREAM_LOOP, PILOTLIGHT, REPOSITORY
from tests.harness.patience import PATIENCE, until
from tests.harness.section import rewrite

NAME = "bench-events"
INSTANCES = 4
AT_ONCE = 16  # calls and messages at once, for the highest rate
SLOW = 10  # events a second
OUT = REPOSITORY / "docs/benchmarks-events.md"
# In ms. What users measured on the original behind a queue.
TO_BEAT = {"p50": 16, "p90": 34, "p99": 105}
FIGURES = tuple(TO_BEAT)


@dataclass
class Place:
    """Where events run, and the server of the bare loop."""

    endpoint: str  # HOST:PORT
    journal: str  # the address at which handlers reach this machine
    nats: str
    user: str = ""
    password: str = ""
    words: str = ""


@contextmanager
def cluster():
    # The stream of the bare loop needs room beside those of the events.
    release.install(release.OPEN, *release.QUEUED, "--set=events.queue.size=4Gi")
    release.await_replaced()
    apply(the_function())
    release.await_known([NAME])
    queue = f"{release.RELEASE}-events"
    secret = kubectl("get", "secret", queue, "--output=jsonpath={.data.password}", namespace=release.SYSTEM)
    try:
        yield Place(
            endpoint=f"{release.HOST}:80",
            journal=own_address(release.HOST),
            nats=f"nats://{queue}.{release.SYSTEM}.svc.cluster.local:4222",
            user="pilotlight",
            password=base64.b64decode(secret).decode(),
            words="In a cluster of two nodes on one machine, with the queue that the chart installs",
        )
    finally:
        kubectl("delete", "function", NAME)


@contextmanager
def local():
    with tempfile.TemporaryDirectory(prefix="pilotlight-events-") as folder:
        manifest = Path(folder) / "functions.yaml"
        manifest.write_text(as_yaml([the_function()]))
        server = LocalServer(manifest)
        try:
            with nats_server(folder) as nats:
                yield Place(
                    endpoint=server.endpoint.removeprefix("http://").rstrip("/"),
                    journal="127.0.0.1",
                    nats=nats,
                    words="On `pilotlight local`, whose events are in SQLite; the bare loop has a NATS server of this machine",
                )
        finally:
            server.stop()


def the_function():
    return accounted(NAME, concurrency={"reserved": INSTANCES}, **{"async": {"retries": 0}})


def waiting(place):
    """How many events have not ended; None if the queue cannot be asked."""
    url = f"http://{place.endpoint}/pilotlight/v1/functions/{NAME}/events"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)["count"]
    except OSError:
        return None


def events(place, arrivals, seconds):
    """The figures of such a load, when all of its events have ended."""
    with tempfile.TemporaryDirectory(prefix="pilotlight-events-") as folder:
        with Journal(Path(folder), place.journal) as journal:
            with Load(journal, place.endpoint, {}, work=0, events={NAME: arrivals}):
                time.sleep(seconds)
            until(lambda: waiting(place) == 0, lambda: f"{waiting(place)} events wait")
        figures = figures_of_events(Path(folder))
    assert figures["refused"] == figures["redelivered"] == 0, figures
    return {**figures, "rate": figures["accepted"] / seconds}


def bare(place, arrivals, seconds):
    command = [JETSTREAM_LOOP, place.nats, arrivals, f"--seconds={seconds}"]
    if place.user:
        command.append(f"--user={place.user}")
    variables = {**os.environ, "NATS_PASSWORD": place.password}
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WAYS = {"events": events, "bare": bare}


def measure(place, options):
    """For each load and each way, the figures of all rounds."""
    until(lambda: waiting(place) is not None, "the queue can be asked")
    # Instances are warm.
    events(place, f"steady:{SLOW}", 5)
    found = {load: {way: [] for way in WAYS} for load in ("highest", "half", "slow")}

    def take(load, turn, arrivals, seconds):
        for way in list(WAYS) if turn % 2 == 0 else list(WAYS)[::-1]:
            found[load][way].append(WAYS[way](place, arrivals, seconds))

    for turn in range(options.rounds):
        take("highest", turn, f"closed:{AT_ONCE}", options.seconds)
    half = statistics.median(one["rate"] for one in found["highest"]["events"]) / 2
    for turn in range(options.rounds):
        take("half", turn, f"steady:{half:.1f}", options.seconds)
        take("slow", turn, f"steady:{SLOW}", options.slow_seconds)
    return found, half


def page(place, found, half, options):
    def middle(load, way, figure):
        return statistics.median(one[figure] for one in found[load][way])

    titles = {"events": "202 → begin of the handler", "bare": "bare loop: acknowledged → received"}
    rates = {"slow": f"{SLOW} a second", "half": f"{half:.0f} a second, half of the highest rate"}
    rows = [
        f"| {titles[way]} | {rate} | "
        + " | ".join(f"{middle(load, way, figure):.1f}" for figure in FIGURES)
        + f" | {sum(one['accepted'] for one in found[load][way])} |"
        for load, rate in rates.items()
        for way in WAYS
    ]
    reached = {figure: middle("slow", "events", figure) <= limit for figure, limit in TO_BEAT.items()}
    goals = ", ".join(
        f"{limit} ms ({figure}): {'yes' if reached[figure] else '**no**'}"
        for figure, limit in TO_BEAT.items()
    )
    highest = {way: middle("highest", way, "rate") for way in WAYS}
    return [
        f"{place.words}, with the programs of `{PILOTLIGHT.parent.name}` at commit {commit()}; {os.cpu_count()} cores, load average",
        f"{os.getloadavg()[0]:.1f} at the end. {options.rounds} rounds, by turns; medians over the rounds. The handler is Python, with",
        f"{INSTANCES} instances at most, and does nothing but report its begin and end. No event was refused or ran twice.",
        "",
        "| ms | rate | p50 | p90 | p99 | n |",
        "|---|---|--:|--:|--:|--:|",
        *rows,
        "",
        f"Below what users measured on the original behind a queue, at {SLOW} events a second: {goals}.",
        "",
        f"Highest rate that is accepted, {AT_ONCE} at once: **{highest['events']:.0f} events a second**, and",
        f"{highest['bare']:.0f} messages a second of the bare loop ({highest['events'] / highest['bare']:.0%}).",
        "",
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--local", action="store_true", help="on `pilotlight local`")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=15, help="of each load, but for the slow one")
    parser.add_argument("--slow-seconds", type=int, default=30)
    parser.add_argument("--no-report", action="store_true", help="only print")
    options = parser.parse_args()
    with local() if options.local else cluster() as place:
        lines = page(place, *measure(place, options), options)
    print("\n".join(lines))
    if not options.no_report:
        rewrite(OUT, "show-events-local" if options.local else "show-bench-cluster", lines)


if __name__ == "__main__":
    main()
