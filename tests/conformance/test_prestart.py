"""A process that waited for its function is like one that was started for it.

The same handler runs under the real supervisor and the real client twice: in a process of its own,
and in one that waited unclaimed. It must find the same in both, except for what differs between any two processes.
Cases of a single runtime are in test_prestart_*.py.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.conformance.waiting import both
from tests.harness.endpoint import only_local
from tests.harness.patience import PATIENCE, until

pytestmark = only_local("it starts supervisors of its own")


@pytest.mark.parametrize("files", [{}, {"opt/lib/liblate.so": ""}], ids=["waited", "started in its place"])
def test_everything_that_a_handler_finds_is_the_same(start, files):
    """a process that waited finds what a fresh one finds; so does one that it starts in its place"""
    compared = both(start, {"do": "find"}, files=files)
    assert compared.same_process == (not files) and "errorType" not in compared.fresh, compared
    fresh, waited = without_address(compared.fresh), without_address(compared.waited)
    different = {key: (fresh[key], waited[key]) for key in fresh if fresh[key] != waited[key]}
    assert not different
    assert fresh.keys() == waited.keys() and len(fresh) > 30


def test_variables_that_the_function_sets_are_those_of_its_process(start):
    """a PATH and a time zone of the function's own are found by a process that waited"""
    own = {
        "PATH": "/mine/bin:/usr/bin:/bin",
        "TZ": "Asia/Tokyo",
        "NODE_PATH": "/mine",
        "AWS_REGION": "eu-west-1",
    }
    compared = both(start, {"do": "find"}, variables=own)
    assert compared.same_process and "errorType" not in compared.fresh, compared
    fresh, waited = without_address(compared.fresh), without_address(compared.waited)
    assert not {key: (fresh[key], waited[key]) for key in fresh if fresh[key] != waited[key]}
    assert "/mine/bin" in str(waited)


@pytest.mark.parametrize(
    "own",
    [
        {"AWS_LAMBDA_EXEC_WRAPPER": "/usr/bin/env"},
        {"LD_LIBRARY_PATH": "/mine/lib"},
    ],
    ids=["wrapper", "libraries"],
)
def test_settings_that_a_running_process_cannot_change_get_a_fresh_one(start, own):
    """a wrapper script or another path of libraries needs a process of its own"""
    compared = both(start, {"do": "find"}, variables=own)
    assert not compared.same_process and "errorType" not in compared.waited, compared
    assert without_address(compared.fresh) == without_address(compared.waited)


def without_address(found):
    """The address of the Runtime API differs between any two processes. So do the numbers of descriptors that the threads
    of a runtime open: the kernel gives the lowest free number to whoever comes first."""
    address = re.search(r"AWS_LAMBDA_RUNTIME_API=(\S+)", found["subprocess"])[1]

    def cleaned(value):
        if isinstance(value, dict):
            return {key: cleaned(part) for key, part in value.items()}
        if isinstance(value, list):
            return [cleaned(part) for part in value]
        return value.replace(address, "API") if isinstance(value, str) else value

    found = cleaned(found)
    if isinstance(descriptors := found.get("descriptors"), dict):
        found["descriptors"] = {number: descriptors.pop(number) for number in "012" if number in descriptors}
        found["descriptors"]["further"] = sorted(descriptors.values())
    if isinstance(handed_on := found.get("subprocess_descriptors"), list):
        found["subprocess_descriptors"] = sorted(
            re.sub(r"^(?![012] )\d+", "further", one) for one in handed_on
        )
    return found


def test_random_values_differ_between_processes(start):
    """no two processes draw the same lots"""
    drawn = []
    for waits in (True, True, False):
        instance = start(waits)
        drawn.append(instance.invoke({"do": "draw"}))
        instance.end()
    for key in drawn[0]:
        assert len({str(one[key]) for one in drawn}) == 3, drawn


def test_all_differences_are_documented(start, runtime_that_waits):
    """the kernel's view of the process's start is that of the waiting"""
    compared = both(start, {"do": "kernel"})
    fresh, waited = compared.fresh, compared.waited
    assert "GREETING=grüße" in fresh["environ"] and "GREETING=grüße" not in waited["environ"]
    assert fresh["cmdline"][0] == waited["cmdline"][0]
    # Python's names no handler.
    assert (fresh["cmdline"] == waited["cmdline"]) == (runtime_that_waits.folder == "python")


def test_errors_are_the_same(start):
    """an error's trace is the same"""
    # Java's client logs the error after it has told it, and before it asks for the next event.
    compared = both(start, {"do": "fail"}, then={"do": "draw"})
    assert compared.same_process
    assert "as it was asked to" in compared.same["errorMessage"]
    traces = [line for log in compared.logs for line in log if "as it was asked to" in line]
    assert len({re.sub(r"\d", "0", line) for line in traces}) == len(traces) / 2 > 0, traces


def test_a_library_that_came_with_the_claim_is_found_by_the_loader(start):
    """libraries in folders that were not there before the claim are loaded"""
    library = next(Path("/usr/lib").glob("*-linux-gnu/libz.so.1")).read_bytes()
    files = {"opt/lib/libpilotlighttest.so": library}
    compared = both(start, {"do": "load", "library": "libpilotlighttest.so"}, files=files)
    assert "cannot open" not in compared.same


def test_a_process_that_waits_does_nothing(start, runtime_that_waits):
    """while it waits, the process is not given a processor"""
    if runtime_that_waits.folder == "java":
        pytest.skip("its machine looks after itself five times a second")
    idle = start(True, claimed=False)

    def stands_still():
        before = idle.switches()
        start(True).invoke({"do": "draw"})
        return idle.switches() == before

    # At first the threads of its interpreter may still end what they do at a start.
    until(stands_still, lambda: f"{idle.switches()} switches")
    before = idle.switches()
    idle.claim()
    idle.invoke({"do": "draw"})
    assert idle.switches() > before


def test_a_waiting_process_without_a_claim_ends(runtime_that_waits, tmp_path):
    """without a function the process ends quietly"""
    runtime_that_waits.lay_out(tmp_path)
    (tmp_path / "var/task").mkdir()
    prestart = runtime_that_waits.prestart(tmp_path)
    done = subprocess.run(
        prestart["command"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        env={**prestart["environment"], "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"},
        cwd=prestart["taskRoot"],
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
