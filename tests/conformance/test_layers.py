"""Layers are where each language looks for libraries; a later layer replaces files of an earlier one."""

import json
import subprocess

import pytest

from tests.harness.archives import zipped
from tests.harness.endpoint import only_local
from tests.harness.lambda_client import lambda_client
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.patience import LONGER
from tests.harness.web import Web

pytestmark = only_local("tests/e2e/test_archives.py has layers in pods")

BOOTSTRAP = """\
#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
    id=$(curl -sf -D - -o /dev/null "$api/next" | tr -d '\\r' | sed -n 's/^lambda-runtime-aws-request-id: //Ip')
    curl -sf -d '"from the layer"' "$api/$id/response"
done
"""

FIRST = {
    "python/shop.py": "WORD = 'covered'\n",
    "python/lib/python3.11/site-packages/deep.py": "WORD = ' layer'\n",
    "ruby/lib/shop.rb": "WORD = 'from the layer'\n",
    "nodejs/node_modules/shop/index.js": "exports.word = 'from the layer';\n",
    # In the place of the runtime's own.
    "nodejs/node_modules/@aws-sdk/client-sqs/index.js": "exports.word = 'the layer';\n",
    "bootstrap": BOOTSTRAP,
}
SECOND = {"python/shop.py": "WORD = 'from the'\n"}

CODE = {
    "python3.11": {
        "lambda_function.py": "import shop, deep\ndef lambda_handler(event, context): return shop.WORD + deep.WORD\n"
    },
    "ruby3.1": {"lambda_function.rb": "require 'shop'\ndef lambda_handler(event:, context:) = WORD\n"},
    "nodejs22": {"index.js": "exports.handler = async () => require('shop').word;\n"},
    "nodejs24": {
        "index.mjs": "import { word } from 'shop';\nimport { word as sdk } from '@aws-sdk/client-sqs';\n"
        "export const handler = async () => (word.endsWith(sdk) ? word : sdk);\n"
    },
    # In a layer's jar, see `jar`: it is not there to compile against.
    "java17": {
        "Hello.java": """
package example;

public class Hello {
    public Object handleRequest(Object event) throws Exception {
        return Class.forName("shop.Shop").getField("WORD").get(null);
    }
}
"""
    },
    "custom": {"note.txt": "the bootstrap is in the layer"},
}


def jar(folder):
    """A library in Java, compiled."""
    source = 'package shop;\npublic class Shop { public static String WORD = "from the layer"; }\n'
    (folder / "Shop.java").write_text(source)
    subprocess.run(["javac", "-d", folder, folder / "Shop.java"], check=True)
    return zipped({"shop/Shop.class": (folder / "shop/Shop.class").read_bytes()})


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    first = {**FIRST, "java/lib/shop.jar": jar(tmp_path_factory.mktemp("jar"))}
    web = Web(LocalServer.host)
    yield [
        web.archive(f"/{number}.zip", zipped(files))["archive"]
        for number, files in enumerate([first, SECOND])
    ]
    web.close()


@pytest.fixture(scope="module")
def client(layers, tmp_path_factory):
    documents = [
        resource(
            "Function",
            name.replace(".", "-"),
            {"runtime": name, "memory": 256, "timeout": LONGER, "code": {"inline": code}, "layers": layers},
        )
        for name, code in CODE.items()
    ]
    file = tmp_path_factory.mktemp("manifests") / "functions.yaml"
    file.write_text(as_yaml(documents))
    server = LocalServer(file)
    yield lambda_client(server.endpoint)
    server.stop()


@pytest.mark.parametrize("name", CODE)
def test_a_layer_is_found(client, name):
    answer = client.invoke(FunctionName=name.replace(".", "-"), Payload=b"{}")
    assert json.loads(answer["Payload"].read()) == "from the layer"
