"""A function that stops its supervisor loses its call and its instance, and no later call."""

from pathlib import Path

import pytest

from tests.faithful.served import python
from tests.harness.endpoint import IN_CLUSTER
from tests.harness.patience import until

STOPS = """
import os, signal, subprocess, time


def lambda_handler(event, context):
    if event.get("stop"):
        # It has left the process group of the runtime.
        child = subprocess.Popen(["sleep", "100000"], start_new_session=True)
        with open(event["stop"], "w") as file:
            file.write(f"{os.getpid()} {os.getppid()} {child.pid}")
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(100000)
    return os.getpid()
"""

FUNCTIONS = {"stops": python(STOPS, timeout=1, concurrency={"reserved": 1})}


@pytest.mark.skipif(IN_CLUSTER, reason="the test looks at processes of this machine")
def test_a_stopped_supervisor_does_not_outrun_the_timeout(served, tmp_path):
    first = served.answer("stops")
    pids = tmp_path / "pids"
    # Without a deadline of the gateway, the client waits for its own read timeout.
    with pytest.raises(served.client.exceptions.ServiceException, match="may have taken effect"):
        served.invoke("stops", {"stop": str(pids)})
    runtime, supervisor, child = map(int, pids.read_text(encoding="utf-8").split())
    assert runtime == first
    assert served.answer("stops") not in (None, first)
    for pid in (runtime, supervisor, child):
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"process {pid} has ended")
