"""The examples in each language answer as their README files say."""

import json

import pytest

import local_server
from conftest import connect

EXAMPLES = ["dotnet-totals", "go-ids", "java-csv", "nodejs-qr", "ruby-markdown"]


@pytest.fixture(scope="module")
def answer():
    server = local_server.LocalServer(*(local_server.REPOSITORY / "examples" / name for name in EXAMPLES))
    client = connect(server.endpoint)
    yield lambda name, event: json.loads(
        client.invoke(FunctionName=name, Payload=json.dumps(event))["Payload"].read()
    )
    server.stop()


def test_ruby_markdown(answer):
    assert answer("ruby-markdown", {"markdown": "Hello *wörld*"}) == {"html": "<p>Hello <em>wörld</em></p>\n"}
    assert answer("ruby-markdown", {})["errorMessage"] == "markdown: is missing"


def test_nodejs_qr(answer):
    code = answer("nodejs-qr", {"text": "hello"})
    assert code["modules"] == 21 and code["svg"].startswith("<svg ")
    assert answer("nodejs-qr", {})["errorType"] == "TypeError"


def test_java_csv(answer):
    assert answer("java-csv", {"csv": "name,age\nAda,36\n"}) == [{"name": "Ada", "age": "36"}]
    assert answer("java-csv", {})["errorMessage"] == "csv: is missing"


def test_go_ids(answer):
    assert len(set(answer("go-ids", {"count": 3})["ids"])) == 3
    assert answer("go-ids", {"count": 0})["errorMessage"] == "count: must be 1 to 100, got 0"


def test_dotnet_totals(answer):
    lines = [{"article": "tea", "price": 2.5, "count": 3}, {"article": "cup", "price": 4, "count": 1}]
    assert answer("dotnet-totals", {"lines": lines}) == {"lines": 2, "total": 11.5}
    assert answer("dotnet-totals", {})["errorMessage"] == "lines: is missing"
