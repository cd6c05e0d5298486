"""Runs each SDK from a pod with nothing but a service account, and from outside with an access key; writes the table into
docs/access.md.

    make show-callers

Each runs with the right to call and without it. With it both calls must succeed, and without it GetCallerIdentity alone.
The release is as it is installed by default: callers prove who they are, and speak TLS.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.harness import manifests, release
from tests.harness.callers import access_key, account_with, rules
from tests.harness.commit import commit
from tests.harness.kubectl import apply, kubectl
from tests.harness.patience import until
from tests.harness.section import rewrite
from tests.sdk.callers import pods
from tests.sdk.callers.pods import DOCUMENT, PLACE, SDKS, in_a_pod, outside

ECHO = "echo"
SESSION, USER = "assumed-role", "user"  # as an ARN names a session of STS, and an access key


def main():
    with (
        release.installed("--set=auth.mode=required", "--set=gateway.tls.mode=required"),
        ExitStack() as stack,
    ):
        apply(manifests.namespace(PLACE))
        stack.callback(kubectl, "delete", "namespace", PLACE, "--wait=false")
        apply(manifests.function(ECHO, "def lambda_handler(event, context):\n    return event\n"))
        stack.callback(kubectl, "delete", "function", ECHO)
        certificates = pods.publish(for_java=True)
        files = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (files / "ca.crt").write_text(certificates)
        (files / "trust.p12").write_bytes(pods.trust_store(certificates))
        rights = {"caller": rules()["invoke"], "stranger": []}
        keys = {}
        for who, allowed in rights.items():
            stack.enter_context(account_with(who, allowed, home=PLACE))
            keys[who] = stack.enter_context(access_key(who, home=PLACE))

        def from_outside(sdk, who):
            # A gateway sees a new key some milliseconds later.
            def known():
                said = outside(sdk, *keys[who], ECHO, files)
                return said if isinstance(said["identity"], str) else None

            return until(known, lambda: outside(sdk, *keys[who], ECHO, files))

        failures, rows = [], []
        for sdk in SDKS:
            cells = []
            for kind, ask in ((SESSION, lambda sdk, who: in_a_pod(sdk, who, ECHO)), (USER, from_outside)):
                said = {who: ask(sdk, who) for who in rights}
                print(sdk.name, kind, said, flush=True)
                is_served, is_refused = verdict(said, kind)
                cells += ["yes" if is_served else "**no**", "yes" if is_refused else "**no**"]
            rows.append(f"| {sdk.name} | {said['caller']['version']} | {' | '.join(cells)} |")
            failures += [sdk.name] if "**no**" in cells else []
    write(rows)
    print("\n".join(rows))
    sys.exit(f"failed: {failures}" if failures else 0)


def verdict(said, kind):
    """Whether who has the right is served, and whether who lacks it only learns who it is."""
    known = {
        who: isinstance(one["identity"], str) and f":{kind}/{PLACE}/{who}" in one["identity"]
        for who, one in said.items()
    }
    is_served = known["caller"] and said["caller"]["answer"] == {"name": "é"}
    is_refused = known["stranger"] and said["stranger"]["answer"].get("error") == "AccessDeniedException"
    return is_served, is_refused


def write(rows):
    head = [
        f"At commit `{commit()}`, over TLS with the authorities of the release. Each SDK is unmodified and asks",
        "`GetCallerIdentity` and `Invoke`. Refused: without the role, `GetCallerIdentity` answers and `Invoke` gets",
        "`AccessDeniedException`.",
        "",
        "| SDK | version | from a pod with a service account | refused | from outside with an access key | refused |",
        "|---|---|---|---|---|---|",
    ]
    rewrite(DOCUMENT, "show-callers", [*head, *rows])


if __name__ == "__main__":
    main()
