"""The variables of a function: its own value takes precedence, except for a fixed list of names."""

import json

import pytest

from tests.faithful.served import bootstrap, code, nodejs, python, serve
from tests.harness.archives import zipped
from tests.harness.endpoint import IN_CLUSTER, only_local
from tests.harness.kubectl import apply, kubectl
from tests.harness.local_server import pilotlight
from tests.harness.manifests import as_yaml, config_map, resource, secret
from tests.harness.release import HOST
from tests.harness.web import Web

ENVIRONMENT = """\
import json, os, subprocess, time

def lambda_handler(event, context):
    names = event.get("names")
    found = {name: os.environ.get(name) for name in names} if names else dict(os.environ)
    if event.get("run"):
        found["said"] = subprocess.run(event["run"], shell=True, capture_output=True, text=True).stdout.strip()
    found["hour"] = time.strftime("%H", time.localtime(1700000000))
    return found
"""

OWN = {
    "TZ": "Europe/Budapest",
    "LANG": "de_DE.UTF-8",
    "PATH": "/mine/bin:/usr/bin:/bin",
    "LD_LIBRARY_PATH": "/mine/lib",
    "TMPDIR": "/tmp",
    "HOME": "/tmp",
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_LAMBDA_LOG_LEVEL": "DEBUG",
    "AWS_LAMBDA_LOG_FORMAT": "Text",
    "AWS_XRAY_CONTEXT_MISSING": "IGNORE_ERROR",
    "PYTHONUNBUFFERED": "1",
}

# The PATH contains no program at all, and the runtime still starts.
NOWHERE = {"PATH": "/nowhere", "LD_LIBRARY_PATH": "/nowhere"}

NODE = (
    "exports.handler = async () => [process.env.PATH, process.env.TZ, new Date(1700000000000).getHours()];\n"
)
STARTS_NODE = """
const { execSync } = require("child_process");
exports.handler = async () => [String(execSync("node --version")).trim(), process.version];
"""
SCRIPT = """\
#!/bin/bash
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
    id=$(/usr/bin/curl -sf -D - -o /dev/null "$api/next" | /usr/bin/tr -d '\\r' | \
        /usr/bin/sed -n 's/^lambda-runtime-aws-request-id: //Ip')
    /usr/bin/curl -sf -d "\\"$PATH $TZ ${AWS_EXECUTION_ENV-none} $GOMEMLIMIT\\"" "$api/$id/response"
done
"""

FUNCTIONS = {
    "plain": python(ENVIRONMENT),
    "own": python(ENVIRONMENT, environment=OWN),
    "default-region-alone": python(ENVIRONMENT, environment={"AWS_DEFAULT_REGION": "eu-north-1"}),
    "programs-of-its-own": code(
        "python3.11",
        {"lambda_function.py": ENVIRONMENT, "bin/shop-convert": "#!/bin/sh\necho from the code\n"},
        environment={"PATH": "/var/task/bin:/usr/bin:/bin"},
    ),
    "nowhere": python(ENVIRONMENT, environment=NOWHERE),
    "nowhere-node": nodejs(NODE, "index.js", environment={**NOWHERE, "TZ": "Asia/Tokyo"}),
    "starts-node": nodejs(STARTS_NODE, "index.js"),
    "starts-node-24": nodejs(STARTS_NODE, "index.js", runtime="nodejs24"),
    "script": bootstrap(SCRIPT, environment={"TZ": "Asia/Tokyo", "GOMEMLIMIT": "off"}),
}

GIVEN = {
    "TZ": "Asia/Tokyo",
    "PATH": "/given/bin:/usr/bin:/bin",
    "AWS_REGION": "ap-northeast-1",
    "AWS_SECRET_ACCESS_KEY": "from the secret",
    "TABLE": "given",
    "_HANDLER": "evil.handler",
    "AWS_LAMBDA_MAX_CONCURRENCY": "4",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    web = Web(HOST if IN_CLUSTER else "127.0.0.1")
    programs = web.archive("/programs.zip", zipped({"bin/shop-convert": "#!/bin/sh\necho converted\n"}))
    more = {"bin/shop-convert": "#!/bin/sh\necho later\n", "python/inthelayer.py": "V = 'layer'\n"}
    later = web.archive("/later.zip", zipped(more))
    layers = [programs["archive"]]
    functions = {
        **FUNCTIONS,
        "programs": python(ENVIRONMENT, layers=layers),
        "later-programs": python(ENVIRONMENT, layers=[*layers, later["archive"]]),
        "names-the-layer": python(ENVIRONMENT, layers=layers, environment={"PATH": "/opt/bin:/usr/bin:/bin"}),
    }
    yield from serve(functions, tmp_path_factory.mktemp("functions"))
    web.close()


def test_the_functions_own_values_take_precedence(served):
    """a function may set TZ, LANG, PATH and all other names outside the fixed list"""
    found = served.answer("own", {"names": [*OWN, "AWS_DEFAULT_REGION", "AWS_LAMBDA_FUNCTION_NAME"]})
    assert {name: found[name] for name in OWN} == OWN
    assert found["hour"] == "23"
    assert found["AWS_LAMBDA_FUNCTION_NAME"] == "own"
    assert found["AWS_DEFAULT_REGION"] == "eu-west-1", "the SDKs read either"
    assert served.answer("default-region-alone", {"names": ["AWS_REGION"]})["AWS_REGION"] == "eu-north-1"


def test_variables_that_a_function_does_not_set_have_the_platforms_values(served):
    """a function that sets nothing finds the platform's values, and none of the machine's"""
    found = served.answer("plain")
    assert found["TZ"] == ":UTC" and found["LANG"] == "en_US.UTF-8" and found["hour"] == "22"
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"]
    assert found["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert found["AWS_EXECUTION_ENV"].startswith("AWS_Lambda_python3.")
    assert "AWS_ENDPOINT_URL" not in found and "AWS_LAMBDA_MAX_CONCURRENCY" not in found
    for leaked in (
        "USER",
        "LOGNAME",
        "SHELL",
        "OLDPWD",
        "SSH_AUTH_SOCK",
        "VIRTUAL_ENV",
        "PILOTLIGHT_INSTANCE",
    ):
        assert leaked not in found, leaked


def test_a_path_without_programs_does_not_prevent_the_runtime_from_starting(served):
    """the supervisor starts the runtime by its absolute path"""
    found = served.answer("nowhere", {"names": ["PATH", "LD_LIBRARY_PATH"]})
    assert (found["PATH"], found["LD_LIBRARY_PATH"]) == ("/nowhere", "/nowhere")
    assert served.answer("nowhere-node") == ["/nowhere", "Asia/Tokyo", 7]


def test_a_custom_runtime_finds_its_own_values_too(served):
    """a `bootstrap` has no AWS_EXECUTION_ENV, and its own TZ and heap limit"""
    path, zone, execution_environment, heap = served.answer("script").rsplit(" ", 3)
    if IN_CLUSTER:
        assert path.endswith(":/opt/bin")
    assert (zone, execution_environment, heap) == ("Asia/Tokyo", "none", "off")


@pytest.mark.parametrize("name", ["starts-node", "starts-node-24"])
def test_a_runtime_that_is_started_by_name_has_the_functions_version(served, name):
    started, own = served.answer(name)
    assert started == own


def test_an_interpreter_that_is_started_by_name_has_the_functions_version(served):
    said = served.answer("plain", {"run": "python3 -c 'import sys; print(sys.version_info[:2])'"})["said"]
    assert said == "(3, 11)"


def test_programs_of_layers_are_on_the_path(served):
    """the PATH ends with the layers' bin, and a later layer lies over an earlier one"""
    found = served.answer("programs", {"names": ["PATH"], "run": "shop-convert"})
    assert found["said"] == "converted"
    assert found["PATH"].endswith("/bin")
    assert served.answer("later-programs", {"names": ["PATH"], "run": "shop-convert"})["said"] == "later"


def test_a_functions_own_path_may_name_the_layers(served):
    """/opt/bin in the function's own PATH means the layers' folder, also in local mode"""
    assert served.answer("names-the-layer", {"names": ["PATH"], "run": "shop-convert"})["said"] == "converted"


def test_a_functions_own_path_may_name_the_code(served):
    """/var/task/bin in the function's own PATH means the code's folder, also in local mode"""
    found = served.answer("programs-of-its-own", {"names": ["PATH"], "run": "shop-convert"})
    assert found["said"] == "from the code"


def refused(name, folder):
    file = folder / "function.yaml"
    file.write_text(as_yaml([resource("Function", "refused", python(ENVIRONMENT, environment={name: "x"}))]))
    done = pilotlight("local", "--listen", "127.0.0.1:0", str(file))
    assert done.returncode == 2, done.stderr
    return done.stderr + done.stdout


@only_local("tests/manifests asks an API server")
@pytest.mark.parametrize(
    "name",
    [
        "_HANDLER",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "_LAMBDA_TELEMETRY_LOG_FD",
    ],
)
def test_a_reserved_name_is_refused_with_its_place(name, tmp_path):
    """the refusal names the variable and its place"""
    said = refused(name, tmp_path)
    assert "spec.environment" in said and f"`{name}` is set by the platform" in said


@only_local("tests/manifests asks an API server")
def test_a_name_that_would_change_the_clients_mode_is_refused_with_the_reason(tmp_path):
    """with AWS_LAMBDA_MAX_CONCURRENCY, clients would ask for several events at a time"""
    assert "several events at a time" in refused("AWS_LAMBDA_MAX_CONCURRENCY", tmp_path)


@pytest.mark.skipif(not IN_CLUSTER, reason="local mode has no secrets")
def test_values_of_secrets_and_config_maps_take_precedence_as_well(served):
    """the order of precedence is manifest, secret, config map, platform"""
    given = [{"configMapRef": {"name": "given-map"}}, {"secretRef": {"name": "given-secret"}}]
    spec = python(ENVIRONMENT, environment={"TABLE": "own"}, environmentFrom=given)
    apply(
        config_map("given-map", {"TZ": "Europe/Budapest", "LANG": "C.UTF-8"}),
        secret("given-secret", GIVEN),
        resource("Function", "given", spec),
    )
    try:
        served.functions["given"] = spec
        found = served.answer("given", {"names": [*GIVEN, "LANG", "AWS_DEFAULT_REGION"]})
    finally:
        del served.functions["given"]
        kubectl("delete", "function/given", "secret/given-secret", "configmap/given-map")
    assert found["LANG"] == "C.UTF-8" and found["TABLE"] == "own"
    assert found["_HANDLER"] == "lambda_function.lambda_handler"
    assert found["AWS_LAMBDA_MAX_CONCURRENCY"] is None
    assert found["AWS_DEFAULT_REGION"] == "ap-northeast-1"
    for name in ("TZ", "PATH", "AWS_REGION", "AWS_SECRET_ACCESS_KEY"):
        assert found[name] == GIVEN[name], json.dumps(found)
