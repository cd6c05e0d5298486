"""Code from archives: fetched once by the gateway, brought to each instance."""

import io
import json
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.refusal import refusal
from tests.harness.patience import until
from tests.harness.release import HOST
from tests.harness.room import ROOMS
from tests.harness.state import pods
from tests.harness.web import Web

HANDLER = """
import os, uuid
from library import greeting
from rooms import enter
instance = str(uuid.uuid4())
def lambda_handler(event, context):
    enter(event["room"], instance)
    return {"greeting": greeting.text, "instance": instance, "files": sorted(os.listdir())}
"""


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def tarred(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.fixture
def web():
    served = Web(HOST)
    yield served
    served.close()


def test_instances_run_the_code_of_an_archive_that_is_fetched_once(web, function, invoke, room):
    files = {
        "lambda_function.py": HANDLER,
        "library/__init__.py": "",
        "library/greeting.py": "text = 'from an archive'",
        **ROOMS,
    }
    name = function("e2e-zip", "", code=web.archive("/code.zip", zipped(files)))
    event = {"room": room(size=3).address}
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: invoke(name, event)["Body"], range(3)))
    assert {answer["greeting"] for answer in answers} == {"from an archive"}
    assert len({answer["instance"] for answer in answers}) == 3
    # Python leaves its byte code there.
    assert set(answers[0]["files"]) - {"__pycache__"} == {"lambda_function.py", "library", "rooms.py"}
    assert web.asked == ["/code.zip"]
    assert len(pods(name)) == 3


def test_a_bootstrap_in_a_tar_is_executable(web, function, invoke):
    bootstrap = """#!/bin/sh
while :; do
  id=$(curl -s -D /dev/stdout -o /tmp/event "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next" |
       grep -i request-id | tr -d '\\r' | cut -d' ' -f2)
  curl -s -o /dev/null -d '"from a tar"' "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response"
done
"""
    code = web.archive("/code.tar.gz", tarred({"bootstrap": bootstrap}))
    name = function("e2e-tar", "", runtime="custom", code=code)
    assert invoke(name, {})["Body"] == "from a tar"


def test_layers_are_in_opt_and_a_later_one_replaces_files_of_an_earlier_one(web, function, invoke):
    source = "import deep, shop\ndef lambda_handler(event, context): return shop.WORD + deep.WORD"
    below = {
        "python/shop.py": "WORD = 'covered'",
        "python/lib/python3.11/site-packages/deep.py": "WORD = ' layer'",
    }
    above = {"python/shop.py": "WORD = 'from the'"}
    layers = [
        web.archive(f"/{name}.zip", zipped(files))["archive"]
        for name, files in {"below": below, "above": above}.items()
    ]
    for name, code in {
        "e2e-layers": {"inline": {"lambda_function.py": source}},
        "e2e-layers-archive": web.archive("/code.zip", zipped({"lambda_function.py": source})),
    }.items():
        function(name, "", code=code, layers=layers)
        assert invoke(name, {})["Body"] == "from the layer"
    # Two functions share what was fetched.
    by_path = {path: web.asked.count(path) for path in ("/below.zip", "/above.zip", "/code.zip")}
    assert all(1 <= count <= 2 for count in by_path.values()), by_path


def test_a_missing_layer_fails_the_call_and_is_named(web, function, client):
    layer = {"url": f"{web.at}/none.zip", "sha256": "0" * 64}
    name = function("e2e-layerless", "def lambda_handler(event, context): return 1", layers=[layer])
    refusal(client, name, "spec.layers[0]")


def test_an_archive_with_another_hash_fails_the_call(web, function, client):
    code = web.archive("/code.zip", zipped({"lambda_function.py": HANDLER}))
    code["archive"]["sha256"] = "0" * 64
    name = function("e2e-wrong", "", code=code)
    refusal(client, name, "spec.code.archive", f"has another one than {'0' * 64}")


def test_an_update_of_the_archive_replaces_the_instances(web, function, invoke):
    def code(text):
        source = f"def lambda_handler(event, context): return {json.dumps(text)}"
        return web.archive(f"/{text}.zip", zipped({"lambda_function.py": source}))

    name = function("e2e-updated", "", code=code("old"))
    assert invoke(name, {})["Body"] == "old"
    function("e2e-updated", "", code=code("new"))
    until(lambda: invoke(name, {})["Body"] == "new", lambda: "the old code answers still")
