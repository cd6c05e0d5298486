"""Whether a suite starts a server of its own or calls one that is there.

PILOTLIGHT_ENDPOINT names a gateway that serves the suite's functions already, a cluster's
(tests/e2e/serve.py, tests/conformance/serve.py): the same tests run there.
"""

import os

import pytest

ENDPOINT = os.environ.get("PILOTLIGHT_ENDPOINT")
IN_CLUSTER = ENDPOINT is not None


def only_local(reason):
    """For a test that a cluster cannot pass; `reason` says what it lacks."""
    return pytest.mark.skipif(IN_CLUSTER, reason=f"not in a cluster: {reason}")
