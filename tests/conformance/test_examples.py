"""The examples in each language answer as their README files say."""

import base64
import json
import os

import pytest

from tests.conformance.runtimes import EXAMPLES
from tests.harness import paths
from tests.harness.endpoint import ENDPOINT, IN_CLUSTER, only_local
from tests.harness.lambda_client import in_time, invoker, lambda_client
from tests.harness.local_server import LocalServer

LOCAL = ["dotnet-totals", "go-ids", "java-csv", "nodejs-qr", "ruby-markdown", "thumbnail"]
SERVED = EXAMPLES.get(os.environ.get("PILOTLIGHT_RUNTIME"), []) if IN_CLUSTER else LOCAL


def example(name):
    """Skips a test of an example of another runtime: a cluster serves one runtime at a time."""
    return pytest.mark.skipif(name not in SERVED, reason="an example of another runtime")


@pytest.fixture(scope="module")
def answer():
    server = None
    if not IN_CLUSTER:
        server = LocalServer(*(paths.EXAMPLES / name for name in LOCAL))
    invoke = in_time(invoker(lambda_client(server.endpoint if server else ENDPOINT)))
    yield lambda name, event: invoke(name, event)["Body"]
    if server:
        server.stop()


@only_local("its library is Debian's, of this machine")
def test_ruby_markdown(answer):
    assert answer("ruby-markdown", {"markdown": "Hello *wörld*"}) == {"html": "<p>Hello <em>wörld</em></p>\n"}
    assert answer("ruby-markdown", {})["errorMessage"] == "markdown: is missing"


@example("nodejs-qr")
def test_nodejs_qr(answer):
    code = answer("nodejs-qr", {"text": "hello"})
    assert code["modules"] == 21 and code["svg"].startswith("<svg ")
    assert answer("nodejs-qr", {})["errorType"] == "TypeError"


@example("java-csv")
def test_java_csv(answer):
    assert answer("java-csv", {"csv": "name,age\nAda,36\n"}) == [{"name": "Ada", "age": "36"}]
    assert answer("java-csv", {})["errorMessage"] == "csv: is missing"


@example("go-ids")
def test_go_ids(answer):
    assert len(set(answer("go-ids", {"count": 3})["ids"])) == 3
    assert answer("go-ids", {"count": 0})["errorMessage"] == "count: must be 1 to 100, got 0"


@only_local("its library is Debian's, of this machine")
def test_dotnet_totals(answer):
    lines = [{"article": "tea", "price": 2.5, "count": 3}, {"article": "cup", "price": 4, "count": 1}]
    assert answer("dotnet-totals", {"lines": lines}) == {"lines": 2, "total": 11.5}
    assert answer("dotnet-totals", {})["errorMessage"] == "lines: is missing"


@example("thumbnail")
def test_thumbnail(answer):
    event = json.loads((paths.EXAMPLES / "thumbnail/event.json").read_text())
    made = answer("thumbnail", event)
    assert base64.b64decode(made["image"]).startswith(b"\x89PNG") and made["format"] == "PNG"
