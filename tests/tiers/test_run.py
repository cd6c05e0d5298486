"""A run of real stages: what is shown, what its end is, and that nothing outlives it."""

import fcntl
import os
import subprocess
import sys

import pytest

from tests.harness.patience import PATIENCE, until
from tests.tiers import run as runner
from tests.tiers.stage import Stage, State


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "RECORDS", tmp_path)
    monkeypatch.setattr(runner, "REPOSITORY", tmp_path)
    monkeypatch.setattr(runner, "GRACE", 1)
    return lambda *stages: runner.Run("trial", stages, 2)


def test_output_is_shown_whole_where_a_stage_fails_or_tests(run, capsys):
    lines = "seq 101 110"
    made = run(Stage("builds", lines), Stage("tests", lines, tests=True), Stage("fails", f"{lines}; exit 3"))
    assert not made.all()
    assert made.states == {"builds": State.PASSED, "tests": State.PASSED, "fails": State.FAILED}
    shown = capsys.readouterr().out
    assert shown.count("101\n") == 2 and shown.count("110\n") == 3
    assert "fails: FAILED with exit status 3" in shown and "failed or not run: fails" in shown


def test_a_command_that_fails_in_the_middle_fails_the_stage(run):
    assert not run(Stage("a", "false; true")).all()


def test_a_stage_in_the_background_runs_at_the_lowest_priority(run):
    assert run(Stage("a", 'test "$(nice)" = 19', background=True), Stage("b", 'test "$(nice)" != 19')).all()


def test_a_stage_that_does_not_end_is_stopped_with_all_its_processes(run, tmp_path, capsys):
    hangs = Stage("hangs", f"sleep 1000 & echo $! > {tmp_path}/pid; wait", limit=1 / 60)
    assert not run(hangs, Stage("next", "true", needs=("hangs",))).all()
    assert "within its limit" in capsys.readouterr().out
    await_end(int((tmp_path / "pid").read_text()))


def test_the_slowest_tests_of_all_runners_are_one_list(run, tmp_path, capsys):
    rust = "test pool::one ... ok <2.500s>"
    suite = '<testsuites><testsuite><testcase classname="tests.e2e.test_a" name="two" time="4.0"/></testsuite></testsuites>'
    made = run(Stage("rust", f"echo '{rust}'"), Stage("suite", f"echo '{suite}' > $PILOTLIGHT_REPORT"))
    assert made.all()
    shown = capsys.readouterr().out
    assert shown.index("4.0 s  suite: e2e.test_a two") < shown.index("2.5 s  rust: pool::one")


def test_a_second_run_of_a_tier_leaves_the_logs_of_the_first(run, tmp_path, capsys):
    assert run(Stage("a", "true")).all()
    with (tmp_path / "trial.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not run(Stage("b", "true")).all()
    assert "another run of this tier is under way" in capsys.readouterr().out
    assert (tmp_path / "trial/a.log").exists() and not (tmp_path / "trial/b.log").exists()


def test_an_interrupt_ends_the_stages_too(tmp_path):
    program = (
        "from pathlib import Path\n"
        "from tests.tiers import run as runner\n"
        "from tests.tiers.stage import Stage\n"
        f"runner.RECORDS = Path({str(tmp_path)!r})\n"
        f"runner.REPOSITORY = Path({str(tmp_path)!r})\n"
        # A shell that is interrupted just before it starts a program goes on; it ends by the second signal.
        "runner.GRACE = 1\n"
        f"stages = [Stage('a', 'echo $$ > {tmp_path}/pid; sleep 1000')]\n"
        "raise SystemExit(not runner.Run('trial', stages, 2).all())\n"
    )
    root = runner.REPOSITORY
    process = subprocess.Popen([sys.executable, "-c", program], cwd=root, stderr=subprocess.DEVNULL)

    def has_started():
        assert process.poll() is None
        return (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()

    until(has_started, "the stage has started")
    process.terminate()
    assert process.wait(PATIENCE) == 1
    await_end(int((tmp_path / "pid").read_text()))


def await_end(pid):
    until(lambda: not is_alive(pid), f"process {pid} has ended")


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
