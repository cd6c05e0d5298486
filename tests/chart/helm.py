"""helm and kubectl in the cluster's client network."""

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = REPOSITORY / "tests/cluster/cluster"
CHART = REPOSITORY / "charts/pilotlight"


def run(*words, stdin=None):
    command = [CLUSTER, "exec", "--", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)


def good(*words, stdin=None):
    done = run(*words, stdin=stdin)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def template(*options, namespace="system", release="pilotlight"):
    # Without one, helm renders for the version that it was built with.
    version = "--kube-version=1.34.4"
    return run("helm", "template", release, CHART, f"--namespace={namespace}", version, *options)
