"""helm: alone to render the chart, and in the cluster's client network for everything else."""

from tests.harness.commands import attempt, inside
from tests.harness.commands import run as checked
from tests.harness.paths import CHART, REPOSITORY

BUILT = REPOSITORY / "target/cluster/bin/helm"  # by `tests/cluster/cluster build helm`


def run(*words, stdin=None):
    return attempt(*inside(*words), input=stdin)


def good(*words, stdin=None):
    return checked(*inside(*words), input=stdin)


def alone(*words):
    """helm without a cluster; the one on the PATH if none is built."""
    return attempt(BUILT if BUILT.exists() else "helm", *words)


# Values without a default: the image, and that of `helm test`.
NO_DEFAULTS = [
    "--set=image=registry.example/pilotlight:0.1.0",
    "--set=runtimeImages.custom=registry.example/custom:0.1.0",
]


def template(*options, namespace="system", release="pilotlight", images=NO_DEFAULTS):
    # Without one, helm renders for the version that it was built with.
    version = "--kube-version=1.34.4"
    return alone("template", release, CHART, f"--namespace={namespace}", version, *images, *options)
