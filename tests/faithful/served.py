"""Serves the functions of one test module with `pilotlight local` or with pods of the cluster.

A module names its functions in FUNCTIONS, `{name: spec}`; the fixture `served` (conftest.py) serves them as
long as the module's tests run. Locally one server serves all of them. In a cluster each folder of code is
packed into an archive, and functions whose runtime has no image there are left out: a test that calls one is
skipped. Code `{"packed": bytes}` is an archive in both.
"""

import io
import os
import zipfile
from pathlib import Path

import pytest

from tests.harness.endpoint import IN_CLUSTER
from tests.harness.kubectl import apply, kubectl, wait
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.local_server import LocalServer, pilotlight
from tests.harness.manifests import as_yaml, resource
from tests.harness.patience import LONGER
from tests.harness.release import ENDPOINT, HOST, RUNTIMES, await_known
from tests.harness.web import Web

# Runtimes that have an image in this cluster, in addition to those of every release.
MORE_IMAGES = tuple(filter(None, os.environ.get("PILOTLIGHT_IMAGES", "").split(",")))


def code(runtime, files, **spec):
    """The spec of a function whose files are these texts by name."""
    return {"runtime": runtime, "timeout": LONGER, "code": {"inline": files}, **spec}


def python(source, **spec):
    return code("python3.11", {"lambda_function.py": source}, **spec)


def nodejs(source, name="index.mjs", runtime="nodejs22", **spec):
    return code(runtime, {name: source}, **spec)


def bootstrap(source, **spec):
    """A function of runtime `custom` whose program is this script."""
    return code("custom", {"bootstrap": source}, **spec)


def packed(folder):
    """The folder as a zip."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in sorted(Path(folder).rglob("*")):
            archive.write(file, file.relative_to(folder))
    return content.getvalue()


# Other names of the runtimes that have an image.
SAME = {
    "provided.al2023": "custom",
    "provided.al2": "custom",
    "nodejs22.x": "nodejs22",
    "nodejs24.x": "nodejs24",
}


class Served:
    """The server of the functions, and how a test calls them."""

    def __init__(self, functions, endpoint, server=None):
        self.functions, self.endpoint = functions, endpoint
        # The local server, for tests that work only in local mode. None in a cluster.
        self.server = server
        self.client = lambda_client(endpoint)
        self._invoke = invoker(self.client)

    def invoke(self, name, event=None, **options):
        """The answer with `Body`, `Bytes`, `RequestId`, and `Log` if the log's tail was asked for."""
        if name not in self.functions:
            pytest.skip(f"the cluster has no image for the runtime of {name}")
        return self._invoke(name, {} if event is None else event, **options)

    def answer(self, name, event=None):
        """The answer's body; a function error fails the test."""
        answered = self.invoke(name, event)
        assert "FunctionError" not in answered, answered["Body"]
        return answered["Body"]

    def logs(self, name, *options):
        """The output of `pilotlight logs`."""
        done = pilotlight("logs", name, "--endpoint", self.endpoint, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout


def locally(functions, folder, environment=None):
    web = Web("127.0.0.1")
    functions = {name: archived(name, spec, web) for name, spec in functions.items()}
    file = folder / "functions.yaml"
    file.write_text(as_yaml([resource("Function", *one) for one in functions.items()]), encoding="utf-8")
    server = LocalServer(file, environment=environment)
    yield Served(functions, server.endpoint, server)
    server.stop()
    web.close()


def archived(name, spec, web):
    """The spec. A packed archive of code is served by `web`."""
    content = spec["code"].get("packed")
    return {**spec, "code": web.archive(f"/{name}.zip", content)} if content else spec


def in_pods(functions):
    images = {*RUNTIMES, *MORE_IMAGES}
    functions = {
        name: spec for name, spec in functions.items() if SAME.get(spec["runtime"], spec["runtime"]) in images
    }
    web = Web(HOST)
    made = []
    for name, spec in functions.items():
        own = archived(name, spec, web)
        if folder := spec["code"].get("path"):
            own = {**spec, "code": web.archive(f"/{name}.zip", packed(folder))}
        made.append(resource("Function", name, own))
    if made:
        apply(*made)
    try:
        await_known(list(functions))
        yield Served(functions, ENDPOINT)
    finally:
        if made:
            kubectl("delete", "functions", *functions)
            wait("delete", "pods", "--selector=pilotlight.dev/function")
        web.close()


def serve(functions, folder):
    return in_pods(functions) if IN_CLUSTER else locally(functions, folder)
