"""`spec.logging` with the format JSON and a level: the vendor's clients write their loggers' records so, without those that
are less severe, and the platform's lines are JSON too. The clients for Ruby and .NET have no such loggers (contract §3)."""

import json

import pytest

from tests.harness.endpoint import only_local
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.patience import LONGER

pytestmark = only_local("a pod gets the same variables, by which the clients do this")

# Each handler logs once at INFO and once at WARN.
CODE = {
    "python3.11": {
        "lambda_function.py": """
import logging

def lambda_handler(event, context):
    logging.getLogger().info("quiet")
    logging.getLogger().warning("loud")
"""
    },
    "nodejs22": {
        "index.mjs": 'export const handler = async () => { console.info("quiet"); console.warn("loud"); };\n'
    },
    "java17": {
        "Hello.java": """
package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.logging.LogLevel;

public class Hello {
    public Object handleRequest(Object event, Context context) {
        context.getLogger().log("quiet", LogLevel.INFO);
        context.getLogger().log("loud", LogLevel.WARN);
        return null;
    }
}
"""
    },
}


@pytest.fixture(scope="module")
def invoke(tmp_path_factory):
    spec = {"memory": 256, "timeout": LONGER, "logging": {"format": "JSON", "level": "WARN"}}
    documents = [
        resource("Function", name.replace(".", "-"), {"runtime": name, "code": {"inline": code}, **spec})
        for name, code in CODE.items()
    ]
    file = tmp_path_factory.mktemp("manifests") / "functions.yaml"
    file.write_text(as_yaml(documents))
    server = LocalServer(file)
    yield invoker(lambda_client(server.endpoint))
    server.stop()


@pytest.mark.parametrize("name", CODE)
def test_records_are_json_from_the_level_on(invoke, name):
    answer = invoke(name.replace(".", "-"), {}, LogType="Tail")
    lines = [json.loads(line) for line in answer["Log"].splitlines()]
    kinds = [line["type"] for line in lines if "type" in line]
    assert {"platform.start", "platform.report"} <= set(kinds), lines
    [record] = [line for line in lines if "type" not in line]
    assert record["level"].upper() in ("WARN", "WARNING"), record
    assert "loud" in record["message"], record
    assert answer["RequestId"] in json.dumps(record), record
