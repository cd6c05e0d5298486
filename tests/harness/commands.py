"""Runs the commands that tests need, in the cluster's client network too."""

import subprocess

from tests.harness.paths import CLUSTER
from tests.harness.patience import PATIENCE


def run(*command, **options):
    """The output of a command; fails with all that it printed if its exit code is not 0."""
    done = attempt(*command, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def attempt(*command, **options):
    """The same for a command that may fail: its exit code and output."""
    # A command that bounds its own waiting (kubectl.TIMEOUT) ends before, and says what it waited for.
    options = {"timeout": PATIENCE + 60, **options}
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)


def inside(*command):
    """The command that runs `command` where the cluster's Services and pods are reachable."""
    return [CLUSTER, "exec", "--", *command]
