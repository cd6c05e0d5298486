"""A NATS server of this machine with JetStream, as the chart configures it: the program that the cluster's tools build."""

import re
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

from tests.harness.paths import REPOSITORY
from tests.harness.patience import PATIENCE

PROGRAM = REPOSITORY / "target/cluster/bin/nats-server"
SETTINGS = """
listen: "127.0.0.1:-1"
max_payload: 2MB
jetstream {{ store_dir: "{folder}/jetstream", sync_interval: always }}
"""
LISTENS = re.compile(r"Listening for client connections on (127\.0\.0\.1:\d+)")


@contextmanager
def nats_server(folder):
    """Its address for as long as `with` lasts."""
    assert PROGRAM.is_file(), f"{PROGRAM} is missing: tests/cluster/cluster build nats"
    config = Path(folder) / "nats.conf"
    config.write_text(SETTINGS.format(folder=folder))
    process = subprocess.Popen([PROGRAM, "--config", config], stderr=subprocess.PIPE, text=True)
    try:
        address = None
        for line in process.stderr:
            if found := LISTENS.search(line):
                address = found[1]
            if "Server is ready" in line:
                break
        assert address, "the NATS server ended"
        # Its log goes on, and it must not wait for a reader.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield f"nats://{address}"
    finally:
        process.terminate()
        process.wait(PATIENCE)
