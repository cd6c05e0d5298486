"""Whether a suite starts its own server or calls a running one.

PILOTLIGHT_ENDPOINT names a gateway that already serves the suite's functions, in a cluster
(tests/e2e/serve.py, tests/conformance/serve.py): the same tests run there.
"""

import os

import pytest

ENDPOINT = os.environ.get("PILOTLIGHT_ENDPOINT")
IN_CLUSTER = ENDPOINT is not None


def only_local(reason):
    """Marks a test that a cluster cannot pass; `reason` says what a cluster lacks."""
    return pytest.mark.skipif(IN_CLUSTER, reason=f"not in a cluster: {reason}")
