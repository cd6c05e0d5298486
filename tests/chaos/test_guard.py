"""Real processes show that a run ends at its first own error, and that the next run removes its leftovers."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager

import pytest

from tests.chaos import clean, world
from tests.chaos.clean import end_processes, mark, marked, start_time
from tests.chaos.fault import API_SERVER, Fault
from tests.chaos.faults import FAULTS
from tests.chaos.guard import Guard, HarnessError
from tests.chaos.plan import Claim
from tests.chaos.trial import Trial
from tests.chaos.world import GATEWAY, INSTANCE, LEADER, World
from tests.harness.patience import until

# Faults that start and end with the pod's own processes alone, without the API server.
LOCAL = [
    name
    for name in FAULTS
    if FAULTS[name].target in (GATEWAY, INSTANCE, LEADER) and API_SERVER not in FAULTS[name].claim.shared
]


@pytest.fixture
def guard():
    return Guard()


@contextmanager
def running(*command, **options):
    """A process that ends with the `with` block, also after an error."""
    with subprocess.Popen(command, **options) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture
def process():
    with running("sleep", "1000") as started:
        yield started


def broken_after(guard, break_it):
    """The error of an endless wait during which `break_it` runs."""
    breaker = threading.Timer(0.2, break_it)
    breaker.start()
    with pytest.raises(HarnessError) as error:
        guard.sleep(3600)
    breaker.join()
    return str(error.value)


def test_a_process_that_ends_ends_every_wait(guard, process, tmp_path):
    errors = tmp_path / "journal.errors"
    errors.write_text("first\nthe disk is full\n\n")
    guard.depend_on("journal", process, errors)
    assert broken_after(guard, process.kill) == "journal ended with -9: the disk is full"
    # The next wait fails too.
    with pytest.raises(HarnessError, match="journal ended"):
        guard.until(lambda: True, "never asked")


def test_a_process_that_is_no_longer_watched_may_end(guard, process, tmp_path):
    guard.depend_on("journal", process, tmp_path / "none")
    guard.let_go()
    process.kill()
    process.wait()
    guard.sleep(0.3)


def test_an_error_of_a_thread_ends_every_wait(guard):
    assert broken_after(guard, lambda: guard.fail("the watch failed")) == "the watch failed"


def test_the_first_error_is_the_one_that_is_reported(guard):
    guard.fail("the cause")
    guard.fail("what followed from it")
    with pytest.raises(HarnessError, match="the cause"):
        guard.check()


def test_a_fault_that_fails_ends_the_one_beside_it(tmp_path):
    """The other fault is undone at once, and the error names the failed one."""
    mended = []

    def fails(world):
        raise OSError("no such device")
        yield

    def lasts(world):
        try:
            yield
        finally:
            mended.append(True)

    faults = [
        Fault(name, "", 3600, frozenset(), None, Claim(), strike)
        for name, strike in (("fails", fails), ("lasts", lasts))
    ]
    trial = Trial(tmp_path, seed=1)
    with pytest.raises(HarnessError, match="the fault fails failed: OSError.*no such device"):
        trial.strike(faults)
    assert mended


def test_faults_that_exclude_each_other_are_refused(tmp_path):
    pair = [FAULTS["api-server-slow"], FAULTS["api-server-stopped"]]
    with pytest.raises(HarnessError, match="api-server-slow and api-server-stopped exclude each other"):
        Trial(tmp_path, seed=1).strike(pair)


@pytest.mark.parametrize("name", LOCAL)
def test_a_target_that_is_gone_is_no_error(name, guard, capsys):
    gone = {"metadata": {"name": "gone", "uid": str(uuid.uuid4())}}
    with FAULTS[name].inflict(World(1, [], guard), gone):
        pass
    assert "missed, as it is gone" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["packets-lost", "network-slow"])
def test_a_target_may_disappear_while_the_fault_lasts(name, guard, monkeypatch):
    """The pod is a process in its own network namespace."""
    with running("unshare", "--net", "sleep", "1000") as pod:
        network = f"/proc/{pod.pid}/ns/net"
        until(lambda: os.readlink(network) != os.readlink("/proc/self/ns/net"), "a network of its own")
        if name == "network-slow":
            link = ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other"]
            subprocess.run(["nsenter", f"--net={network}", *link], check=True)
        alive = [pod.pid]
        monkeypatch.setattr(world, "processes", lambda _: alive)
        with FAULTS[name].inflict(World(1, [], guard), {"metadata": {"name": "pod"}}):
            pod.kill()
            pod.wait()
            alive.clear()


@pytest.fixture
def own_mark(monkeypatch):
    """A separate mark for each test, because a real run may be active on this machine."""
    name = f"PILOTLIGHT_CHAOS_{uuid.uuid4().hex}"
    monkeypatch.setattr(clean, "MARK", name)
    yield name
    os.environ.pop(name, None)


def test_processes_of_a_killed_run_are_ended_and_no_others(guard, process, own_mark):
    """The processes of a killed run stay until the next run ends them."""
    script = (
        "import subprocess, time\n"
        "from tests.chaos import clean\n"
        f"clean.MARK = '{own_mark}'\n"
        "clean.mark()\n"
        "print(subprocess.Popen(['sleep', '1000']).pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    mark()
    with running(sys.executable, "-c", script, stdout=subprocess.PIPE, text=True) as run:
        orphan = int(run.stdout.readline())
        # While the other run is alive, this one must not end its processes.
        with pytest.raises(HarnessError, match=f"another run of the chaos is under way: process {run.pid}"):
            end_processes(guard)
        run.send_signal(signal.SIGKILL)
    assert start_time(orphan)
    with running("sleep", "1000") as own:
        assert end_processes(guard) == [f"process {orphan}: sleep 1000"]
        assert process.poll() is None and own.poll() is None


def test_a_mark_with_a_process_id_that_was_reused_is_an_old_one(guard, own_mark):
    """The kernel may reuse the id of a killed run, so the mark also has the run's start time."""
    earlier = {**os.environ, own_mark: f"{os.getpid()}:{start_time(os.getpid()) - 1}"}
    with running("sleep", "1000", env=earlier) as orphan:
        # Right after its start a process shows no environment.
        until(lambda: orphan.pid in marked(), "the mark is seen")
        assert end_processes(guard) == [f"process {orphan.pid}: sleep 1000"]
