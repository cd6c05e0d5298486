"""An unmodified SDK in a pod with nothing but a service account, as docs/access.md shows it, on a release as it is
installed by default: callers prove who they are, and speak TLS.

`make show-callers` runs all SDKs; this one is in the image of a runtime.
"""

import pytest

from tests.harness import manifests, release
from tests.harness.callers import account_with, rules
from tests.harness.kubectl import apply, kubectl
from tests.sdk.callers import pods
from tests.sdk.callers.pods import PLACE, REPRESENTATIVE, in_a_pod

ECHO = "e2e-sdk-pods"


@pytest.fixture(scope="module", autouse=True)
def as_installed_by_default(installed):
    apply(manifests.function(ECHO, "def lambda_handler(event, context):\n    return event\n"))
    release.await_known([ECHO])
    release.install("--set=auth.mode=required", "--set=gateway.tls.mode=required")
    release.await_replaced()
    apply(manifests.namespace(PLACE))
    pods.publish()
    yield
    kubectl("delete", "namespace", PLACE, "--wait=false")
    release.install()
    # The next tests show nothing and speak plain text.
    release.await_replaced()
    kubectl("delete", "function", ECHO)


def test_an_sdk_in_a_pod_calls_what_the_role_of_its_account_allows():
    with account_with("caller", rules()["invoke"], home=PLACE) as account:
        said = in_a_pod(REPRESENTATIVE, account, ECHO)
    assert f":assumed-role/{PLACE}/caller/" in said["identity"], said
    assert said["answer"] == {"name": "é"}, said


def test_an_sdk_in_a_pod_without_a_role_says_who_it_is_and_calls_nothing():
    with account_with("stranger", [], home=PLACE) as account:
        said = in_a_pod(REPRESENTATIVE, account, ECHO)
    assert f":assumed-role/{PLACE}/stranger/" in said["identity"], said
    assert said["answer"]["error"] == "AccessDeniedException", said
