"""Code from archives: fetched once by the gateway, brought to each instance."""

import io
import json
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from tests.harness.patience import until
from tests.harness.release import HOST
from tests.harness.state import pods
from tests.harness.web import Web

HANDLER = """
import os, time, uuid
from library import greeting
instance = str(uuid.uuid4())
def lambda_handler(event, context):
    time.sleep(event.get("seconds", 0))
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


def test_instances_run_the_code_of_an_archive_that_is_fetched_once(web, function, invoke):
    files = {
        "lambda_function.py": HANDLER,
        "library/__init__.py": "",
        "library/greeting.py": "text = 'from an archive'",
    }
    name = function("e2e-zip", "", code=web.archive("/code.zip", zipped(files)), timeout=30)
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: invoke(name, {"seconds": 2})["Body"], range(3)))
    assert {answer["greeting"] for answer in answers} == {"from an archive"}
    assert len({answer["instance"] for answer in answers}) == 3
    # Python leaves its byte code there.
    assert set(answers[0]["files"]) - {"__pycache__"} == {"lambda_function.py", "library"}
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


def test_layers_lie_under_opt_a_later_one_over_an_earlier_one(web, function, invoke):
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


def test_a_layer_that_is_not_there_fails_the_call_and_is_named(web, function, client):
    layer = {"url": f"{web.at}/none.zip", "sha256": "0" * 64}
    name = function("e2e-layerless", "def lambda_handler(event, context): return 1", layers=[layer])
    with pytest.raises(ClientError) as refused:
        client.invoke(FunctionName=name)
    assert "spec.layers[0]" in refused.value.response["Error"]["Message"]


def test_an_archive_that_is_not_what_the_manifest_says_fails_the_call(web, function, client):
    code = web.archive("/code.zip", zipped({"lambda_function.py": HANDLER}))
    expected, code["archive"]["sha256"] = code["archive"]["sha256"], "0" * 64
    name = function("e2e-wrong", "", code=code)
    with pytest.raises(ClientError) as refused:
        client.invoke(FunctionName=name)
    error = refused.value.response["Error"]
    assert error["Code"] == "ResourceNotReadyException"
    assert "spec.code.archive" in error["Message"]
    assert f"has {expected}, not {'0' * 64}" in error["Message"]


def test_an_update_of_the_archive_replaces_the_instances(web, function, invoke):
    def code(text):
        source = f"def lambda_handler(event, context): return {json.dumps(text)}"
        return web.archive(f"/{text}.zip", zipped({"lambda_function.py": source}))

    name = function("e2e-updated", "", code=code("old"))
    assert invoke(name, {})["Body"] == "old"
    function("e2e-updated", "", code=code("new"))
    until(lambda: invoke(name, {})["Body"] == "new", lambda: "the old code answers still")
