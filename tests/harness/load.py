"""The load tool as tests start it: a journal of handlers, loads, and the verdict on their records.

The tool is `pilotlight-load`; tests/load/README.md has its records and rules. All records of a run lie in
one folder. A load whose journal is gone ends by itself, which fails the test that waits for it.
"""

import json
import subprocess

from tests.harness.manifests import function
from tests.harness.paths import LOAD, REPOSITORY
from tests.harness.patience import PATIENCE, until

# Reports to the journal that its event names, as the load's handlers must.
HANDLER = (REPOSITORY / "tests/load/handler.py").read_text()


def accounted(name, prints=False, **spec):
    """A Function with that handler; the account knows its revisions. `prints`: it prints a line for each record."""
    environment = {"REVISION": "0", **({"PRINTS": "yes"} if prints else {})}
    return function(name, HANDLER, timeout=30, environment=environment, **spec)


class Ending(subprocess.Popen):
    """A process that is terminated when `with` is left."""

    def __exit__(self, *exception):
        self.terminate()
        return super().__exit__(*exception)


class Journal:
    """Serves at `address` inside `with`, and writes what handlers report into `folder`."""

    def __init__(self, folder, host):
        self.folder, self._host = folder, host
        self._file = folder / "handlers.jsonl"

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [LOAD, "journal", f"{self._host}:0", self._file]
        self._process = Ending(command, stdout=subprocess.PIPE, text=True)
        self.address = self._process.stdout.readline().split()[-1]
        return self

    def __exit__(self, *exception):
        return self._process.__exit__(*exception)

    def ids(self, record):
        """The ids of the events that have `began` or `ended`, in their order."""
        lines = self._file.read_text().splitlines(keepends=True)
        # The last line may not be whole yet.
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [one["id"] for one in found if one["record"] == record]


class Load:
    """Calls functions inside `with`, then waits until every call is answered or given up.

    `functions` has an arrival, such as "steady:40", for each name, and `events` for those that are called asynchronously; a
    handler works `work` milliseconds.
    """

    def __init__(self, journal, endpoint, functions, work=10, events=None):
        self._output = journal.folder / "load.jsonl"
        self._command = [
            LOAD,
            "load",
            endpoint if ":" in endpoint else f"{endpoint}:80",
            *(f"--function={name}={arrivals}" for name, arrivals in functions.items()),
            *(f"--event={name}={arrivals}" for name, arrivals in (events or {}).items()),
            "--name=call",
            f"--journal={journal.address}",
            f"--output={self._output}",
            f"--work={work}",
        ]
        self._read, self._successes = 0, 0

    def __enter__(self):
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *exception):
        if exception[0] is not None:
            self._process.kill()
        # The load ends with its standard input.
        _, errors = self._process.communicate(timeout=PATIENCE)
        if exception[0] is None:
            assert self._process.returncode == 0, f"the load ended with {self._process.returncode}: {errors}"

    def successes(self):
        """How many calls their handlers have answered up to now."""
        if self._output.exists():
            with self._output.open("rb") as file:
                file.seek(self._read)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read += len(whole)
            self._successes += whole.count(b'"outcome":"success"')
        return self._successes

    def await_successes(self, number):
        """Returns once handlers have answered `number` more calls."""
        wanted = self.successes() + number

        def are_there():
            if self._process.poll() is not None:
                raise AssertionError(f"the load has ended: {self._process.stderr.read()}")
            return self.successes() >= wanted

        until(are_there, lambda: f"{number} more answers, of {self._successes} in all")


def verdict(folder):
    """Whether the records of a run break no rule, and what the checker says."""
    done = subprocess.run([LOAD, "check", folder], capture_output=True, text=True)
    # Other codes say that the harness failed, and nothing about the platform.
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0, done.stdout


def figures_of_events(folder):
    """What became of the events of a run in which no rule was broken, and the milliseconds from 202 to the begin."""
    file = folder / "events.json"
    done = subprocess.run([LOAD, "check", folder, "--events", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text())


def assert_no_rule_is_broken(folder):
    """Without a fault on record: no call failed, was lost or ran twice, and no instance ran two at once."""
    is_well, words = verdict(folder)
    print(words)
    assert is_well, f"{words}\nThe records are in {folder}."
