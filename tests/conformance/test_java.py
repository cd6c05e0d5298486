"""Cases of Java alone: the archive of the client's classes, the heap, which classes take precedence."""

import json

import pytest

from tests.harness.endpoint import only_local
from tests.harness.lambda_client import lambda_client
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.patience import LONGER

pytestmark = only_local("it reads files of the function's machine; the same start.sh starts Java in pods")

PROBE = """\
package probe;

import com.amazonaws.services.lambda.runtime.Context;
import com.sun.management.HotSpotDiagnosticMXBean;
import java.lang.management.ManagementFactory;
import java.util.Map;

public class Probe {
    public Object handleRequest(Map<String, String> asked, Context context) throws Exception {
        switch (asked.get("do")) {
            case "heap":
                var options = ManagementFactory.getPlatformMXBean(HotSpotDiagnosticMXBean.class);
                return Long.parseLong(options.getVMOption("MaxHeapSize").getValue()) / (1 << 20);
            case "property": return System.getProperty(asked.get("name"));
            case "loader":
                Class<?> type = Class.forName(asked.get("class"));
                return type.getClassLoader().getClass().getSimpleName();
            case "resource": return new String(Probe.class.getResourceAsStream("/note.txt").readAllBytes());
            default: return null;
        }
    }
}
"""
# A function's own version of a class that the client has.
CONTEXT = "package com.amazonaws.services.lambda.runtime.api.client;\n\npublic class HandlerInfo {\n}\n"
FUNCTIONS = {
    "small": {"memory": 128},
    "middle": {"memory": 256},
    "large": {"memory": 1024},
    "logged": {"memory": 256},
}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("java") / "classes.log"


@pytest.fixture(scope="module")
def invoke(log, tmp_path_factory):
    code = {"Probe.java": PROBE, "HandlerInfo.java": CONTEXT, "note.txt": "the function's"}
    variables = {"logged": {"JAVA_TOOL_OPTIONS": f"-Xlog:class+load:file={log}"}}
    documents = [
        resource(
            "Function",
            name,
            {
                "runtime": "java17",
                "handler": "probe.Probe::handleRequest",
                "timeout": LONGER,
                "code": {"inline": code},
                "environment": variables.get(name, {}),
                **spec,
            },
        )
        for name, spec in FUNCTIONS.items()
    ]
    file = tmp_path_factory.mktemp("manifests") / "functions.yaml"
    file.write_text(as_yaml(documents))
    server = LocalServer(file)
    client = lambda_client(server.endpoint)

    def call(name, /, **event):
        answer = client.invoke(FunctionName=name, Payload=json.dumps(event))
        body = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, body
        return body

    yield call
    server.stop()


@pytest.mark.parametrize("name, mebibytes", [("small", 64), ("middle", 192), ("large", 870)])
def test_the_heap_follows_the_functions_memory(invoke, name, mebibytes):
    assert invoke(name, do="heap") == mebibytes


def test_the_clients_classes_come_from_the_archive(invoke, log):
    invoke("logged", do="heap")
    lines = [line for line in log.read_text().splitlines() if " com.amazonaws." in line]
    # What Java makes of lambdas and annotations has no file that it could come from.
    others = [line for line in lines if "source: shared objects file" not in line and "$$Lambda" not in line]
    assert len(lines) > 500 and not others


def test_the_clients_classes_are_not_replaced_by_the_functions(invoke):
    loaders = {
        name: invoke("middle", do="loader", **{"class": name})
        for name in [
            "probe.Probe",
            "com.amazonaws.services.lambda.runtime.api.client.HandlerInfo",
            "com.amazonaws.services.lambda.runtime.Context",
        ]
    }
    assert list(loaders.values()) == ["CustomerClassLoader", "AppClassLoader", "AppClassLoader"]


def test_the_class_path_is_that_of_the_client(invoke):
    paths = invoke("middle", do="property", name="java.class.path").split(":")
    assert len(paths) == 5 and all(path.endswith(".jar") for path in paths)
    assert invoke("middle", do="resource") == "the function's"
