"""What it costs to know the callers, and what bad signatures cost the good callers; writes docs/benchmarks-callers.md.

    make show-bench-callers

Two gateways of local mode, one of which asks its callers who they are, and a bare proxy in front of an echo server. The
same event goes to each of them at a steady rate, by turns: without a credential, with a token, and signed. Then good
callers sign beside calls with a bad signature, and beside nobody, by turns; so does the bare proxy. The cost of the bad
ones is the p50 (p99) beside them, divided by that of the same round beside nobody. The flood and its connections do
their work on the machine of the gateway: the proxy's cost is that part, and the gateway's divided by the proxy's is the
gateway's own. Nothing is asserted but the answers.
"""

import argparse
import contextlib
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.bench.door import measure, quartiles, role
from tests.harness.commit import commit
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.paths import EXAMPLES, LOAD, PILOTLIGHT, REPOSITORY
from tests.harness.patience import PATIENCE
from tests.harness.section import rewrite
from tests.harness.stalls import path_of

DOCUMENT = REPOSITORY / "docs/benchmarks-callers.md"
EVENT = '{"name": "world", "text": "%s"}' % ("x" * 64)
FUNCTIONS = {"quiet": {"runtime": "custom", "code": {"path": str(EXAMPLES / "rust-echo/build")}}}
KEY = r"AWS_ACCESS_KEY_ID=(\S+) AWS_SECRET_ACCESS_KEY=(\S+) PILOTLIGHT_TOKEN=(\S+)"
SENT = f"--event={EVENT}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rate", type=int, default=500, help="calls a second of good callers")
    parser.add_argument("--flood", type=int, default=10_000, help="calls a second with a bad signature")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        manifest = Path(folder) / "functions.yaml"
        manifest.write_text(as_yaml([resource("Function", *one) for one in FUNCTIONS.items()]))

        def serve(*arguments):
            server = LocalServer(manifest, arguments=arguments)
            stack.callback(server.stop)
            return server, server.endpoint.removeprefix("http://")

        _, plain = serve()
        server, asks = serve("--auth=required")
        key_id, secret, token = server.wait_for_line(KEY).groups()
        echo = stack.enter_context(role("echo"))
        proxy = stack.enter_context(role("proxy", echo))
        path = path_of("quiet")

        def signed(secret):
            # A signature holds for five minutes, so it is made for each measurement and sent with all of its calls.
            return signature(f"http://{asks}{path}", key_id, secret)

        kinds = {
            "proxy": (proxy, "/", list),
            "off": (plain, path, list),
            "token": (asks, path, lambda: [f"--header=authorization: Bearer {token}"]),
            "signature": (asks, path, lambda: signed(secret)),
        }

        def of(kind):
            address, path, headers = kinds[kind]
            return measure(address, path, options, SENT, *headers())

        for kind in kinds:
            of(kind)
        alone = [in_turns(of, list(kinds), turn) for turn in range(options.rounds)]
        beside, floods = [], []
        for turn in range(options.rounds):
            found = {}
            for is_beside in (False, True) if turn % 2 == 0 else (True, False):
                if is_beside:
                    with flood(asks, path, signed("wrong" + secret[5:]), options, floods):
                        found["beside"] = in_turns(of, ["proxy", "signature"], turn)
                else:
                    found["nobody"] = in_turns(of, ["proxy", "signature"], turn)
            beside.append(found)
    lines = page(alone, beside, floods, options)
    print("\n".join(lines))
    rewrite(DOCUMENT, "show-bench-callers", lines)


def in_turns(of, kinds, turn):
    order = kinds if turn % 2 == 0 else kinds[::-1]
    return {kind: of(kind) for kind in order}


def signature(url, key_id, secret):
    """The headers of a signed call, as options of the load."""
    request = AWSRequest("POST", url, data=EVENT.encode(), headers={"Content-Type": "application/json"})
    SigV4Auth(Credentials(key_id, secret), "lambda", "us-east-1").add_auth(request)
    names = ("Authorization", "X-Amz-Date")
    return [f"--header={name}: {request.headers[name]}" for name in names]


@contextlib.contextmanager
def flood(address, path, headers, options, floods):
    """Calls with a bad signature for as long as `with` lasts, and a little longer."""
    seconds = 4 * options.seconds + 10
    load = (f"steady:{options.flood}", f"--seconds={seconds}", SENT, "--status=403")
    # Callers do not use the gateway's processors.
    command = ["nice", "-n", "19", LOAD, "time", address, path, *load, *headers]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # Its warm-up.
    time.sleep(2)
    yield
    assert process.poll() is None, "the flood has ended before the measurement"
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    floods.append(float(re.search(r'"rate":([0-9.]+)', output)[1]))


def page(alone, beside, floods, options):
    names = {
        "proxy": "a bare proxy",
        "off": "`auth: off`",
        "token": "a token",
        "signature": "a signature",
    }
    rows = []
    for kind, name in names.items():
        p50, p99 = (statistics.median(one[kind][figure] for one in alone) for figure in ("p50", "p99"))
        added = [one[kind]["p50"] - one["off"]["p50"] for one in alone]
        ratio = [one[kind]["p50"] / one["off"]["p50"] for one in alone]
        rows.append(
            f"| {name} | {p50:.3f} ms | {p99:.3f} ms | {1000 * statistics.median(added):+.0f} µs | {quartiles(ratio)} |"
        )
    costs = []
    for figure in ("p50", "p99"):
        cost = {
            kind: [one["beside"][kind][figure] / one["nobody"][kind][figure] for one in beside]
            for kind in ("signature", "proxy")
        }
        own = [good / proxy for good, proxy in zip(cost["signature"], cost["proxy"], strict=True)]
        costs.append(
            f"| {figure} | {quartiles(cost['signature'])} | {quartiles(cost['proxy'])} | {quartiles(own)} |"
        )
    return [
        f"With the programs of `{PILOTLIGHT.parent.name}` at commit `{commit()}`.",
        f"{options.rate} calls a second of a warm function, {options.rounds} rounds by turns of {options.seconds} s each;",
        "medians over the rounds, with quartiles in brackets. The answers about the callers are known, as they are for",
        "all calls but the first of a minute. [access.md](access.md) explains what a gateway asks.",
        "",
        "| callers show | p50 | p99 | p50 added to `auth: off` | p50 / `auth: off` |",
        "|---|---:|---:|---:|---:|",
        *rows,
        "",
        f"Good callers that sign, beside {statistics.median(floods):,.0f} refused calls a second with a bad signature,",
        "divided by the same round beside nobody:",
        "",
        "| | good callers | a bare proxy on the same machine | good callers / proxy |",
        "|---|---:|---:|---:|",
        *costs,
    ]


if __name__ == "__main__":
    main()
