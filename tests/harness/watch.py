"""Follows objects of the cluster by a watch of kubectl's, which misses no state in between."""

import subprocess
import threading

from tests.harness.kubectl import FUNCTIONS
from tests.harness.patience import PATIENCE


class Watch:
    """Inside `with`: what `form`, a JSONPath, gives of the objects now and after each change, in order."""

    def __init__(self, *objects, form):
        command = ["kubectl", f"--namespace={FUNCTIONS}", "get", *objects, "--watch"]
        self.seen, self._changed = [], threading.Condition()
        self._command = [*command, f'--output=jsonpath={form}{{"\\n"}}']

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def _read(self):
        for line in self._process.stdout:
            with self._changed:
                self.seen.append(line.rstrip("\n"))
                self._changed.notify_all()

    def until(self, condition):
        """Returns once `condition` holds of all that was seen so far."""
        with self._changed:
            held = self._changed.wait_for(lambda: condition(self.seen), PATIENCE)
            assert held, f"not within {PATIENCE} s: {self.seen}"
