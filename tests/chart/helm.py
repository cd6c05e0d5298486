"""helm and kubectl in the cluster's client network, for callers outside of it."""

from tests.harness.commands import attempt, inside
from tests.harness.commands import run as checked
from tests.harness.paths import CHART


def run(*words, stdin=None):
    return attempt(*inside(*words), input=stdin)


def good(*words, stdin=None):
    return checked(*inside(*words), input=stdin)


def template(*options, namespace="system", release="pilotlight"):
    # Without one, helm renders for the version that it was built with.
    version = "--kube-version=1.34.4"
    return run("helm", "template", release, CHART, f"--namespace={namespace}", version, *options)
