"""Upgrades a release that asks its callers nothing and speaks plain text, under load, and accounts for every call; writes
the table into docs/upgrading.md.

    make previous REF=c70955b && make show-upgrade

The earlier release is installed with its own chart, and `helm upgrade` gets no value about callers: the empty modes
decide. Calls without a credential go on all the time: an accounted load (tests/load), SDKs with keys of another
platform, one that sends each call once and one that repeats as SDKs do, and a function that calls another one. Then the
next `helm upgrade` follows. A lost call, and one that ran twice, break a rule of the account. A call of the SDK that repeats
must be answered.
"""

import json
import shutil
import ssl
import sys
import threading
import time
import tomllib
import urllib.request
from collections import Counter
from contextlib import ExitStack

from botocore.exceptions import BotoCoreError, ClientError

from tests.harness import manifests, release
from tests.harness.addresses import own_address
from tests.harness.callers import account_with, call, rules, token
from tests.harness.commands import run
from tests.harness.commit import commit
from tests.harness.kubectl import FUNCTIONS, TIMEOUT, apply, get, kubectl
from tests.harness.lambda_client import lambda_client
from tests.harness.load import Journal, Load, accounted, verdict
from tests.harness.manifests import function
from tests.harness.paths import REPOSITORY
from tests.harness.patience import PATIENCE, until
from tests.harness.release import CHART, ENDPOINT, HOST, IMAGES, RELEASE, RUNTIMES, SYSTEM, VERSION
from tests.harness.section import rewrite

PREVIOUS = REPOSITORY / "target/previous/source"
FOLDER = REPOSITORY / "target/upgrade"
DOCUMENT = REPOSITORY / "docs/upgrading.md"
STEADY, BURSTY, ECHO, CALLER = "upgraded-steady", "upgraded-bursty", "upgraded-echo", "upgraded-caller"
RATE = 5  # calls a second: the machine also runs both versions, and replaces all pods
SETTLED = 20  # seconds of calls before and after each step
CALLS = """
import boto3
def lambda_handler(event, context):
    return boto3.client("lambda").invoke(FunctionName="upgraded-echo", Payload=b'"hi"')["Payload"].read().decode()
"""
# Each with boto3, keys that nobody knows, and the function that it calls. None: it sends a call once. The SDK in the
# function repeats in each case.
REPEATS = "an SDK that repeats (mode standard, three attempts)"
CALLERS = {
    "an SDK that sends each call once": (ECHO, None),
    REPEATS: (ECHO, {"mode": "standard"}),
    "a function, by its SDK; its own caller sends once": (CALLER, None),
}
# docs/upgrading.md, "The one exception": what calls may get in an upgrade from before parts proved who they are.
ALLOWED = ["ServiceException", "ResourceNotReadyException", "TooManyRequestsException"]


def main():
    version = tomllib.loads((PREVIOUS / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    shutil.rmtree(FOLDER, ignore_errors=True)
    apply(manifests.namespace(FUNCTIONS))
    steps = Steps()
    # Another suite of this cluster may have applied the definitions.
    helm(PREVIOUS / "charts/pilotlight", version, "--take-ownership")
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(FOLDER, own_address(HOST)))
        concurrency = {"reserved": 4, "queue": 10_000}
        echo = "def lambda_handler(event, context):\n    return event\n"
        apply(
            accounted(STEADY, concurrency=concurrency),
            accounted(BURSTY, concurrency=concurrency),
            function(ECHO, echo),
            function(CALLER, CALLS),
        )
        # A release of that time asks nobody.
        release.await_known([STEADY, BURSTY, ECHO, CALLER])
        with Load(journal, HOST, {STEADY: f"steady:{RATE}", BURSTY: "3x4"}, work=20) as load:
            load.await_successes(3 * RATE)
            with ExitStack() as callers:
                for caller in CALLERS:
                    callers.enter_context(Calling(steps, caller))
                rest(load)
                until(lambda: steps.answered() >= set(CALLERS), "each caller is served")
                note(journal.folder, record="fault", fault="upgraded", allows=ALLOWED)
                steps.begin("upgrade")
                helm(CHART, VERSION)
                release.await_replaced()
                rest(load)
                note(journal.folder, record="over", fault="upgraded")
                steps.begin("after the upgrade")
                modes("optional", "permissive")
                rest(load)
                first = probes()
                steps.begin("next upgrade")
                helm(CHART, VERSION)
                release.await_replaced()
                rest(load)
                steps.begin("after the next upgrade")
                modes("optional", "required")
                rest(load)
                second = probes()
        is_well, words = verdict(journal.folder)
    kubectl("delete", "function", STEADY, BURSTY, ECHO, CALLER)
    release.uninstall()
    lines = page(version, steps, words, first, second)
    print("\n".join(lines))
    rewrite(DOCUMENT, "show-upgrade", lines)
    if lost := steps.failed(REPEATS):
        sys.exit(f"calls of an SDK that repeats them failed: {lost}")
    sys.exit(0 if is_well else f"a rule is broken; the records are in {FOLDER}")


def helm(chart, version, *options):
    """As a user upgrades, without a word about callers, TLS or parts."""
    images = [release.image_of(runtime, version) for runtime in RUNTIMES]
    words = ["upgrade", "--install", RELEASE, chart, f"--namespace={SYSTEM}", "--create-namespace", "--wait"]
    own = [f"--set=functionNamespace={FUNCTIONS}", f"--set=image={IMAGES}/pilotlight:{version}"]
    # Two small nodes have room for few pods.
    pools = ["--set=defaultWarmPools.size=0"] if release.knows(chart, "defaultWarmPools") else []
    # The store of logs that the upgrade brings. No storage class makes volumes here.
    store = [f"--set=logs.store.image={IMAGES}/victoria-logs:v1.52.1", "--set=logs.store.volume=false"]
    store += ["--set=logs.store.resources.requests.cpu=20m"]
    logs = store if release.knows(chart, "logs") else []
    run(
        "helm",
        *words,
        TIMEOUT,
        "--set=gateway.resources.requests.cpu=100m",
        *own,
        *images,
        *pools,
        *logs,
        *options,
    )


def modes(callers, parts):
    """Checks what the empty values have become."""
    gateway = get("deployment", f"{RELEASE}-gateway", namespace=SYSTEM)
    arguments = " ".join(gateway["spec"]["template"]["spec"]["containers"][0]["args"])
    for argument in (f"--auth={callers}", f"--tls={callers}", f"--parts-identity={parts}"):
        assert argument in arguments, (argument, arguments)


def rest(load):
    load.await_successes(SETTLED * RATE)


def note(folder, **record):
    with (folder / "driver.jsonl").open("a") as file:
        file.write(json.dumps({"at": time.time_ns() // 1000, **record}) + "\n")


class Steps:
    """How often each kind of caller got which outcome, by step."""

    def __init__(self):
        self.names, self.counts, self.now = ["before"], Counter(), "before"

    def begin(self, name):
        self.names.append(name)
        self.now = name

    def count(self, who, outcome):
        self.counts[(who, self.now, outcome)] += 1

    def answered(self):
        """Who is served in this step."""
        return {who for who, when, outcome in list(self.counts) if (when, outcome) == (self.now, "answered")}

    def failed(self, who):
        """What this caller got instead of answers, in all steps."""
        return {
            (when, outcome): count
            for (one, when, outcome), count in self.counts.items()
            if one == who and outcome != "answered"
        }

    def cell(self, who, step):
        found = {
            outcome: count
            for (one, when, outcome), count in self.counts.items()
            if (one, when) == (who, step)
        }
        return ", ".join(f"{outcome} {count}" for outcome, count in sorted(found.items())) or "none"


class Calling:
    """Calls again and again in a thread of its own inside `with`."""

    def __init__(self, steps, caller):
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(steps, caller))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _run(self, steps, caller):
        name, retries = CALLERS[caller]
        client = lambda_client(ENDPOINT, retries)
        while not self._ended.wait(0.2):
            try:
                outcome = read(client.invoke(FunctionName=name, Payload=b'"hi"'))
            except ClientError as error:
                outcome = error.response["Error"]["Code"]
            except BotoCoreError as error:
                outcome = type(error).__name__
            steps.count(caller, outcome)


def read(answer):
    said = json.load(answer["Payload"])
    if "FunctionError" in answer:
        # The function's SDK was refused: boto3's exceptions have the code in their text.
        return said["errorMessage"].partition("(")[2].partition(")")[0] or said["errorType"]
    return "answered"


def probes():
    """What the callers of the new kinds get."""
    authorities = until(
        lambda: (get("configmap", f"{RELEASE}-ca", namespace=SYSTEM).get("data") or {}).get("ca.crt"),
        "the authorities are published",
    )
    context = ssl.create_default_context(cadata=authorities)
    path = f"/2015-03-31/functions/{ECHO}/invocations"
    request = urllib.request.Request(f"https://{HOST}{path}", data=b'"hi"')
    found = {"nothing, over TLS": urllib.request.urlopen(request, timeout=PATIENCE, context=context).status}
    found["nothing, in plain text"] = call(ECHO)[0]
    with (
        account_with("upgraded-known", rules()["invoke"]) as known,
        account_with("upgraded-none", []) as none,
    ):
        found["a token with the right"] = call(ECHO, token(known))[0]
        status, kind, _ = call(ECHO, token(none))
        found["a token without the right"] = f"{status} {kind}"
    return found


def page(version, steps, words, first, second):
    sent = words.splitlines()
    lines = [
        f"At commit `{commit()}`, from version {version}, with {RATE} calls a second and bursts of 3 from callers that show",
        "nothing, and with callers that call again after 200 ms, on a machine with 2 processors. The account of the load:",
        "",
        *(f"    {line}" for line in sent),
        "",
        f"| who calls | {' | '.join(steps.names)} |",
        f"|---|{'---|' * len(steps.names)}",
    ]
    for who in CALLERS:
        lines.append(f"| {who} | {' | '.join(steps.cell(who, step) for step in steps.names)} |")
    lines += ["", "| a caller shows | after the upgrade | after the next upgrade |", "|---|---|---|"]
    lines += [f"| {what} | {first[what]} | {second[what]} |" for what in first]
    return lines


if __name__ == "__main__":
    main()
