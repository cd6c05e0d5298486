"""Takes the API server away for minutes, and asks as several callers whom the gateways still serve; writes the table into
docs/access.md.

    make show-outage

Each caller asks each gateway, with calls of a warm function. One calls all the time; one has called just before the
outage, and calls again near its end; the last call of another is so old that its answer ends within the outage; one has a
token that ends in it; and one has never called.
"""

import argparse
import sys
import time
from collections import Counter
from contextlib import ExitStack

from tests.harness import manifests, release
from tests.harness.callers import access_key, account_with, call, rules, session, signature, token
from tests.harness.cluster import without_api_server
from tests.harness.commit import commit
from tests.harness.kubectl import apply, kubectl
from tests.harness.paths import REPOSITORY
from tests.harness.patience import until
from tests.harness.section import rewrite

DOCUMENT = REPOSITORY / "docs/access.md"
WARM = "outage-warm"
HOLDS = 900  # seconds for which a `yes` holds in an outage: operator/core/src/access/reviews.rs
SHORTEST = 600  # seconds: the API server makes no token for less
MARGIN = 90  # seconds before the end of the outage, in which the short ones are over
SERVED = "served"
ACCOUNTS = ("constant", "once", "old", "short", "session", "key", "stranger", "joins")


class Caller:
    """What it shows, and what the gateways have answered, by the second of the outage.

    `first`: the second of its first call in the outage.
    """

    def __init__(self, what, outcome, first=0):
        self.what, self.outcome, self.first, self.answers = what, outcome, first, {}

    def asks(self, mark):
        if mark >= self.first:
            self.answers[mark] = self.outcome()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=10, help="5 to 14")
    parser.add_argument(
        "--lead",
        type=int,
        help="seconds from the only call of one caller to the outage; by default its answer ends within the outage",
    )
    options = parser.parse_args()
    seconds = 60 * options.minutes
    with release.installed("--set=auth.mode=required"), ExitStack() as stack:
        echo = "def lambda_handler(event, context):\n    return event\n"
        apply(manifests.function(WARM, echo, keepAlive=3600))
        stack.callback(kubectl, "delete", "function", WARM)
        for name in ACCOUNTS:
            stack.enter_context(account_with(f"outage-{name}", rules()["invoke"]))
        hosts = [gateway.removeprefix("http://") for gateway in release.gateways()]

        def calls(shown):
            """The outcome of a call at each gateway: one word if they agree."""

            def outcome():
                found = {calls_at(host, shown) for host in hosts}
                return " or ".join(sorted(found))

            return outcome

        def begins(caller):
            until(lambda: caller.outcome() == SERVED, lambda: f"{caller.what}: {caller.outcome()}")

        tokens = {name: token(f"outage-{name}", seconds=7200) for name in ACCOUNTS if name != "short"}
        pause = options.lead or HOLDS - seconds + MARGIN
        old = Caller(f"whose last call was {pause / 60:.1f} minutes before", calls(tokens["old"]))
        begins(old)
        asked = time.monotonic()
        credentials = until(lambda: session("outage-session", tokens["session"]), "a session")
        key = stack.enter_context(access_key("outage-key"))
        constant = Caller("who calls all the time, with a token", calls(tokens["constant"]))
        sleep_until(asked + pause - MARGIN)
        ends = SHORTEST - MARGIN
        callers = [
            constant,
            Caller("the same with a session of STS", calls(signature(*credentials))),
            Caller("the same with an access key", calls(signature(*key))),
            Caller(
                f"the same with a token that ends after {ends / 60:.1f} minutes",
                calls(token("outage-short", seconds=SHORTEST)),
            ),
            Caller(
                "who has called just before, and calls again at the end", calls(tokens["once"]), seconds - 30
            ),
        ]
        for caller in callers:
            begins(caller)
        callers += [
            old,
            Caller("who has never called", calls(tokens["stranger"])),
            Caller(
                "who asks for a session, with a known token", lambda: joins(tokens["constant"], "constant")
            ),
            Caller("who asks for a session, with a new token", lambda: joins(tokens["joins"], "joins")),
        ]
        sleep_until(asked + pause)
        many = Counter()
        for caller in callers[:5]:
            begins(caller)
        with without_api_server():
            began = time.monotonic()
            for mark in (20, *range(60, seconds, 60), seconds - 15):
                while time.monotonic() < began + mark:
                    many[constant.outcome()] += 1
                    time.sleep(0.2)
                for caller in callers:
                    caller.asks(mark)
                print(mark, [caller.answers.get(mark) for caller in callers], flush=True)
            sleep_until(began + seconds)
            lasted = time.monotonic() - began
        for caller in callers:
            if "token that ends" not in caller.what:
                begins(caller)
        after = [caller.outcome() for caller in callers]
    lines = page(callers, after, many, lasted)
    print("\n".join(lines))
    rewrite(DOCUMENT, "show-outage", lines)
    sys.exit(0 if set(many) == {SERVED} else f"a known caller was refused: {many}")


def calls_at(host, shown):
    status, kind, _ = call(WARM, shown, host=host)
    return SERVED if status == 200 else kind


def joins(bearer, account):
    return SERVED if session(f"outage-{account}", bearer) else "an error that SDKs repeat"


def sleep_until(moment):
    time.sleep(max(0, moment - time.monotonic()))


def page(callers, after, many, lasted):
    marks = sorted({mark for caller in callers for mark in caller.answers})
    rows = []
    for caller, then in zip(callers, after, strict=True):
        rows.append(f"| {caller.what} | {periods(caller.answers, marks)} | {then} |")
    return [
        f"At commit `{commit()}`, {lasted / 60:.1f} minutes. Who calls all the time was served {many[SERVED]} times by both gateways,",
        f"and refused {sum(many.values()) - many[SERVED]} times.",
        "",
        "| caller | in the outage | after it |",
        "|---|---|---|",
        *rows,
    ]


def periods(answers, marks):
    """The answers as periods: from which minute to which."""
    found = []
    for mark in marks:
        if mark not in answers:
            continue
        if found and found[-1][0] == answers[mark]:
            found[-1][2] = mark
        else:
            found.append([answers[mark], mark, mark])
    return ", then ".join(
        f"{answer} (minute {minute(begin)}{f' to {minute(end)}' if end > begin else ''})"
        for answer, begin, end in found
    )


def minute(seconds):
    return f"{seconds / 60:.1f}".removesuffix(".0")


if __name__ == "__main__":
    main()
