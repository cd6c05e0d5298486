"""AWS_LAMBDA_EXEC_WRAPPER: a script of the function starts the runtime."""

import pytest

from tests.faithful.served import bootstrap, code, nodejs, packed, serve
from tests.harness.archives import zipped
from tests.harness.endpoint import IN_CLUSTER
from tests.harness.release import HOST
from tests.harness.web import Web

HANDLER = """\
import os, sys

def lambda_handler(event, context):
    return {name: os.environ.get(name) for name in ("ADDED", "TZ", "WORDS", "PWD")}
"""

EXPORTS = '#!/bin/bash\nexport ADDED="by $(basename "$0")" WORDS=$#\nexec "$@"\n'
# Without a shebang line: the shell runs it.
BARE = 'ADDED=bare\nexport ADDED\nexec "$@"\n'
CHANGES = '#!/bin/sh\nexport TZ=Asia/Tokyo\nunset WORDS\nexec env ADDED="through env" "$@"\n'
# A program that keeps running, and starts the runtime as its child.
STAYS = """\
#!/usr/bin/env python3
import os, subprocess, sys
sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, "ADDED": "by its parent"}).returncode)
"""
ENDS = "#!/bin/sh\necho 'no licence was found' >&2\nexit 3\n"

# Adds an option before the last argument, which is the script, as many wrappers do.
NODE_WRAPPER = """\
#!/bin/bash
export ADDED="by $(basename "$0") of $(basename "$1")"
exec "${@:1:$#-1}" --title=wrapped "${@: -1}"
"""
NODE = "exports.handler = async () => [process.env.ADDED, process.title, process.env.PILOTLIGHT_STARTS_WRAPPER];\n"

# As in the vendor's examples for Java: the first argument is the program, the others are its arguments.
JAVA_WRAPPER = """\
#!/bin/sh
program=$1
shift
export JAVA_TOOL_OPTIONS="-Dadded=by.options"
exec "$program" -Dadded.too="by $(basename "$program")" "$@"
"""
JAVA = """\
public class Hello {
    public Object handle(Object event) {
        return System.getProperty("added") + ", " + System.getProperty("added.too")
            + ", " + System.getenv("PILOTLIGHT_STARTS_WRAPPER");
    }
}
"""

SCRIPT = """\
#!/bin/bash
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
    id=$(curl -sf -D - -o /dev/null "$api/next" | tr -d '\\r' | sed -n 's/^lambda-runtime-aws-request-id: //Ip')
    curl -sf -d "\\"${ADDED-nothing}\\"" "$api/$id/response"
done
"""


def wrapped(wrapper, files=None, **environment):
    files = {"lambda_function.py": HANDLER, **(files or {})}
    return code("python3.11", files, environment={"AWS_LAMBDA_EXEC_WRAPPER": wrapper, **environment})


FUNCTIONS = {
    "relative": wrapped("./wrapper", {"wrapper": EXPORTS}),
    "folder": wrapped("scripts/wrap", {"scripts/wrap": EXPORTS}),
    "whole": wrapped("/var/task/scripts/wrap", {"scripts/wrap": EXPORTS}),
    "changes": wrapped("./wrapper", {"wrapper": CHANGES}, WORDS="some", TZ="Europe/Budapest"),
    "stays": wrapped("./wrapper", {"wrapper": STAYS}),
    "ends": wrapped("./wrapper", {"wrapper": ENDS}),
    "empty": wrapped(""),
    "missing": wrapped("/opt/missing"),
    "node": code(
        "nodejs22",
        {"index.js": NODE, "wrapper": NODE_WRAPPER},
        environment={"AWS_LAMBDA_EXEC_WRAPPER": "./wrapper"},
    ),
    "java": code(
        "java17",
        {"Hello.java": JAVA, "wrapper": JAVA_WRAPPER},
        handler="Hello::handle",
        memory=256,
        environment={"AWS_LAMBDA_EXEC_WRAPPER": "./wrapper"},
    ),
    "java-missing": code(
        "java17",
        {"Hello.java": JAVA},
        handler="Hello::handle",
        memory=256,
        environment={"AWS_LAMBDA_EXEC_WRAPPER": "./nothing"},
    ),
    "options": nodejs("exports.handler = async () => global.required;\n", "index.js"),
    "program": bootstrap(SCRIPT, environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/missing"}),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    web = Web(HOST if IN_CLUSTER else "127.0.0.1")
    files = {
        "wrapper": EXPORTS,
        "bare": BARE,
        "not-executable": EXPORTS,
        "required.js": "global.required = 'from the layer';\n",
    }
    plain = dict.fromkeys(("not-executable", "required.js"), 0o100644)
    layers = [web.archive("/wrappers.zip", zipped(files, plain))["archive"]]
    functions = {
        **FUNCTIONS,
        "in-a-layer": {**wrapped("/opt/wrapper"), "layers": layers},
        "bare": {**wrapped("/opt/bare"), "layers": layers},
        "not-executable": {**wrapped("/opt/not-executable"), "layers": layers},
        "options": {
            **FUNCTIONS["options"],
            "layers": layers,
            "environment": {"NODE_OPTIONS": "--require /opt/required.js"},
        },
    }
    folder = tmp_path_factory.mktemp("own")
    (folder / "lambda_function.py").write_text(HANDLER)
    (folder / "wrapper").write_text(EXPORTS)
    spec = wrapped("./wrapper")
    functions["own-not-executable"] = {**spec, "code": {"path": str(folder)}}
    if IN_CLUSTER:
        functions["own-not-executable"]["code"] = web.archive("/own.zip", packed(folder))
    yield from serve(functions, tmp_path_factory.mktemp("functions"))
    web.close()


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("relative", "by wrapper"),
        ("folder", "by wrap"),
        ("whole", "by wrap"),
        ("bare", "bare"),
        ("stays", "by its parent"),
        ("in-a-layer", "by wrapper"),
    ],
)
def test_a_wrapper_starts_the_runtime(served, name, added):
    """the handler sees the wrapper's variable, whatever the wrapper's place and language"""
    assert served.answer(name)["ADDED"] == added


def test_a_wrapper_gets_the_whole_command_of_the_runtime(served):
    """the wrapper's arguments are a program and the program's arguments"""
    assert int(served.answer("relative")["WORDS"]) > 1


def test_a_wrapper_may_change_the_environment(served):
    """the handler sees the variables that the wrapper sets, and not those that it removes"""
    found = served.answer("changes")
    assert (found["ADDED"], found["TZ"], found["WORDS"]) == ("through env", "Asia/Tokyo", None)


def test_every_managed_runtime_has_wrappers(served):
    """a wrapper also starts Node.js and Java, and gets them and their options as arguments"""
    assert served.answer("node") == ["by wrapper of node", "wrapped", None]
    assert served.answer("java") == "by.options, by java, null"


def test_a_runtime_whose_process_is_the_functions_own_program_has_no_wrapper(served):
    """a `bootstrap` starts without the wrapper, as on the original platform"""
    assert served.answer("program") == "nothing"


def test_an_empty_value_means_no_wrapper(served):
    """an empty variable changes nothing"""
    assert served.answer("empty")["ADDED"] is None


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("missing", 127, "missing: does not exist"),
        ("java-missing", 127, "nothing: does not exist"),
        ("not-executable", 126, "not-executable: is not an executable"),
        ("own-not-executable", 126, "wrapper: is not an executable"),
        ("ends", 3, "no licence was found"),
    ],
)
def test_a_wrapper_that_does_not_start_the_runtime_says_why(served, name, status, said):
    """the exit status is the original platform's, and the log has the reason"""
    answered = served.invoke(name, LogType="Tail")
    assert answered["FunctionError"] == "Unhandled"
    assert answered["Body"]["errorType"] == "Runtime.ExitError"
    assert answered["Body"]["errorMessage"].endswith(f"exit status {status}")
    assert said in (answered["Log"] if IN_CLUSTER else served.logs(name))


def test_options_of_a_runtime_may_name_files_of_layers(served):
    """NODE_OPTIONS names a file in /opt"""
    assert served.answer("options") == "from the layer"
