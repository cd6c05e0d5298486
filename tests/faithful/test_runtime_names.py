"""The original platform's names of runtimes, and the advice for names without a runtime here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faithful.served import bootstrap, code, nodejs, python
from tests.harness.endpoint import only_local
from tests.harness.lambda_client import invoker, lambda_client
from tests.harness.local_server import LocalServer
from tests.harness.manifests import as_yaml, resource
from tests.harness.paths import PILOTLIGHT
from tests.harness.patience import PATIENCE

SCRIPT = """\
#!/bin/bash
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
    id=$(curl -sf -D - -o /dev/null "$api/next" | tr -d '\\r' | sed -n 's/^lambda-runtime-aws-request-id: //Ip')
    curl -sf -d '"from the bootstrap"' "$api/$id/response"
done
"""
NODE = "exports.handler = async () => process.env.AWS_EXECUTION_ENV;\n"
PYTHON = "def lambda_handler(event, context): return 'python'\n"
RUBY = "def lambda_handler(event:, context:) = ENV.fetch('AWS_EXECUTION_ENV')\n"

FUNCTIONS = {
    "al2023": bootstrap(SCRIPT) | {"runtime": "provided.al2023"},
    "al2": bootstrap(SCRIPT) | {"runtime": "provided.al2"},
    "custom": bootstrap(SCRIPT),
    "node-x": nodejs(NODE, "index.js", runtime="nodejs22.x"),
    "node": nodejs(NODE, "index.js", runtime="nodejs22"),
    "node-24": nodejs(NODE, "index.js", runtime="nodejs24.x"),
    "python": python(PYTHON),
}


@pytest.mark.parametrize(
    ("name", "answer", "shown"),
    [
        ("al2023", "from the bootstrap", "provided.al2023"),
        ("al2", "from the bootstrap", "provided.al2"),
        ("custom", "from the bootstrap", "provided.al2023"),
        ("node-x", "AWS_Lambda_nodejs22.x", "nodejs22.x"),
        ("node", "AWS_Lambda_nodejs22.x", "nodejs22.x"),
        ("node-24", "AWS_Lambda_nodejs24.x", "nodejs24.x"),
        ("python", "python", "python3.11"),
    ],
)
def test_both_names_of_a_runtime_are_accepted(served, name, answer, shown):
    """an alias runs the same runtime, and the API shows the name in the service model"""
    assert served.answer(name) == answer
    assert served.client.get_function_configuration(FunctionName=name)["Runtime"] == shown


def local(folder, runtime, path=None, files=None):
    """Runs `pilotlight local` with one function of that runtime until it ends by itself."""
    spec = code(runtime, files or {"lambda_function.py": PYTHON})
    file = folder / "function.yaml"
    file.write_text(as_yaml([resource("Function", "one", spec)]))
    environment = {**os.environ, "PATH": path} if path else None
    command = [PILOTLIGHT, "local", "--listen", "127.0.0.1:0", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    return done.returncode, done.stderr + done.stdout


@only_local("tests/e2e has the conditions")
@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("pyhton3.11", "did you mean `python3.11`?"),
        ("nodejs22x", "did you mean `nodejs22"),
        ("provided.al2032", "did you mean `provided.al2023`?"),
        ("cobol", "must be one of custom, "),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(runtime, said, tmp_path):
    """the error names the misspelt field and the intended name"""
    status, output = local(tmp_path, runtime)
    assert status == 2 and "spec.runtime" in output and said in output, output


@only_local("tests/e2e has the conditions")
@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("go1.x", "use go, or provided.al2023 with the program as `bootstrap`"),
        ("python2.7", "use python3"),
        ("nodejs14.x", "use nodejs"),
        ("dotnetcore3.1", "self-contained `bootstrap`"),
        ("provided", "use provided.al2023"),
    ],
)
def test_a_retired_name_is_refused_with_advice(runtime, said, tmp_path):
    """the error says that the runtime is retired, and names its successor"""
    status, output = local(tmp_path, runtime)
    assert status == 2 and "is a retired runtime" in output and said in output, output


@only_local("the machine's own interpreters")
@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("ruby3.4", "Install Ruby 3.4"),
        ("java21", "Install Java 21"),
        ("python3.14", "Install Python 3.14"),
        ("dotnet8", "self-contained `bootstrap`"),
    ],
)
def test_a_known_runtime_that_the_machine_lacks_says_what_to_install(runtime, said, tmp_path):
    """the error says how to install the program"""
    empty = tmp_path / "bin"
    empty.mkdir()
    status, output = local(tmp_path, runtime, path=str(empty))
    assert status != 0 and "spec.runtime" in output and said in output, output
    assert "must be one of" not in output


@only_local("the machine's own interpreters")
@pytest.mark.skipif(not shutil.which("ruby"), reason="it stands in for another version")
def test_the_machines_own_interpreter_runs_a_runtime_without_an_image(tmp_path):
    """a program of that version on the PATH is used"""
    programs = tmp_path / "bin"
    programs.mkdir()
    ruby = programs / "ruby3.3"
    asked = f"echo 3.3.6; echo {ruby}"
    ruby.write_text(f'#!/bin/sh\nif [ "$1" = -e ]; then {asked}; else exec {shutil.which("ruby")} "$@"; fi\n')
    ruby.chmod(0o755)
    file = Path(tmp_path / "function.yaml")
    file.write_text(as_yaml([resource("Function", "one", code("ruby3.3", {"lambda_function.rb": RUBY}))]))
    server = LocalServer(file, environment={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
    answer = invoker(lambda_client(server.endpoint))("one", {})["Body"]
    server.stop()
    assert answer == "AWS_Lambda_ruby3.3"
