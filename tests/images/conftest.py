"""Fixtures: the archives, made if they are missing, and a namespace in the cluster of this machine."""

import json
import sys
import tarfile

import pytest

from tests.harness.cluster import cluster
from tests.harness.commands import run
from tests.harness.paths import IMAGE_BUILD, REPOSITORY
from tests.harness.patience import PATIENCE
from tests.images.cluster import Namespace


class Archive:
    def __init__(self, name):
        made = json.loads((REPOSITORY / f"target/images/{name}.json").read_text())
        self.name, self.image, self.path, self.bytes = name, made["image"], made["archive"], made["bytes"]
        with tarfile.open(self.path) as archive:

            def read(member):
                return json.load(archive.extractfile(member))

            manifest = read("manifest.json")[0]
            self.config = read(manifest["Config"])["config"]
            self.entries = {}
            for name in manifest["Layers"]:
                with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                    self.entries |= {f"/{entry.name}": entry for entry in layer}
        self.environment = dict(line.split("=", 1) for line in self.config["Env"])


@pytest.fixture(scope="session")
def archives():
    names = ("custom", "pilotlight", "python3.11")
    run(sys.executable, IMAGE_BUILD, "archives", *names, timeout=6 * PATIENCE)
    return {name: Archive(name) for name in names}


@pytest.fixture(scope="session")
def namespace(archives):
    cluster("up")
    cluster("load", *(archive.path for archive in archives.values()))
    made = Namespace()
    yield made
    made.delete()
