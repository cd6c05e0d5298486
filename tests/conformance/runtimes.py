"""The differences between the runtimes of the table: names, handlers, the shapes of their errors.

The cases (test_conformance.py) read it, the functions lie in functions/. A new runtime is an entry
here and a folder there.
"""

from dataclasses import dataclass, field, replace

from tests.harness.manifests import as_yaml, resource
from tests.harness.paths import REPOSITORY
from tests.harness.patience import LONGER

FUNCTIONS = REPOSITORY / "tests/conformance/functions"
# The archives that `package` makes and `serve` serves: a folder for each runtime.
PACKAGES = REPOSITORY / "target/conformance"
# Examples whose libraries come with the code. Those of .NET and Ruby use the machine's.
EXAMPLES = {"python3.11": ["thumbnail"], "nodejs22": ["nodejs-qr"], "java17": ["java-csv"], "go": ["go-ids"]}


@dataclass(frozen=True)
class Runtime:
    name: str
    folder: str
    # AWS_EXECUTION_ENV; None: the runtime sets none.
    execution_environment: str | None
    # A second entry point of the same code; None: the code is a program and has one.
    other: str | None
    missing: str | None
    # errorType of the handler's own error, of an answer that cannot be written, of a missing handler.
    raised: str
    unserialisable: str
    not_found: str | None
    # errorType of code that cannot be loaded, and what its message holds.
    init: tuple[str, str]
    # Inline code that cannot be loaded; or a handler or variable that makes it so.
    broken: dict = field(default_factory=dict)
    memory: int = 128
    # The field of a stack trace; None: the client tells none.
    trace: str | None = "stackTrace"
    # errorType where the runtime itself keeps to the function's memory; None: it is killed.
    memory_error: str | None = None


RUNTIMES = [
    Runtime(
        name="python3.11",
        folder="python",
        execution_environment="AWS_Lambda_python3.11",
        other="lambda_function.other",
        missing="lambda_function.nope",
        raised="ValueError",
        unserialisable="Runtime.MarshalError",
        not_found="Runtime.HandlerNotFound",
        init=("RuntimeError", "no table is configured"),
        broken={"code": {"inline": {"lambda_function.py": "raise RuntimeError('no table is configured')\n"}}},
    ),
    Runtime(
        name="ruby3.1",
        folder="ruby",
        execution_environment="AWS_Lambda_ruby3.1",
        other="lambda_function.Shop::Orders.other",
        missing="lambda_function.nope",
        raised="Function<ArgumentError>",
        unserialisable="Function<JSON::GeneratorError>",
        not_found="Function<NoMethodError>",
        init=("Init<RuntimeError>", "no table is configured"),
        broken={"code": {"inline": {"lambda_function.rb": "raise 'no table is configured'\n"}}},
    ),
    Runtime(
        name="nodejs22",
        folder="nodejs",
        execution_environment="AWS_Lambda_nodejs22.x",
        other="index.other",
        missing="index.nope",
        trace="trace",
        raised="RangeError",
        unserialisable="Error",
        not_found="Runtime.HandlerNotFound",
        init=("Error", "no table is configured"),
        broken={"code": {"inline": {"index.js": "throw new Error('no table is configured');\n"}}},
        memory=256,
    ),
    Runtime(
        name="java17",
        folder="java",
        execution_environment="AWS_Lambda_java17",
        other="example.Hello::other",
        missing="example.Hello::nope",
        raised="java.lang.IllegalArgumentException",
        unserialisable="",
        not_found=None,
        init=("java.lang.ExceptionInInitializerError", ""),
        broken={"handler": "example.Broken::handleRequest"},
        memory=256,
        memory_error="java.lang.OutOfMemoryError",
    ),
    Runtime(
        name="dotnet",
        folder="dotnet",
        execution_environment="AWS_Lambda_dotnet",
        other="Function::Example.Function::Other",
        missing="Function::Example.Function::nope",
        raised="ArgumentException",
        unserialisable="JsonException",
        not_found="LambdaValidationException",
        init=("InvalidOperationException", "no table is configured"),
        broken={"handler": "Function::Example.Broken::Never"},
        memory_error="OutOfMemoryException",
    ),
    Runtime(
        name="go",
        folder="go",
        execution_environment=None,
        other=None,
        missing=None,
        trace=None,
        raised="errorString",
        unserialisable="UnsupportedTypeError",
        not_found=None,
        init=("Runtime.ExitError", "exit status 2"),
        broken={"environment": {"BROKEN": "1"}},
    ),
    Runtime(
        name="rust",
        folder="rust",
        execution_environment=None,
        other=None,
        missing=None,
        trace=None,
        raised="&alloc::boxed::Box<dyn core::error::Error + core::marker::Send + core::marker::Sync>",
        # The client gives up.
        unserialisable="Runtime.ExitError",
        not_found=None,
        init=("Runtime.ExitError", "exit status 101"),
        broken={"environment": {"BROKEN": "1"}},
    ),
]
# A newer client, in a newer Node.js.
RUNTIMES += [
    replace(
        one,
        name="nodejs24",
        execution_environment="AWS_Lambda_nodejs24.x",
        unserialisable="Runtime.JSONStringifyError",
    )
    for one in RUNTIMES
    if one.name == "nodejs22"
]


def manifests(runtime: Runtime) -> str:
    """One function for each scenario that would disturb another."""
    specs = {
        "table": {"environment": {"TABLE_NAME": "orders", "GREETING": "grüße"}},
        "figures": {},
        "short": {"timeout": 1},
        "memory": {},
        "exit": {},
        "meet": {},
        "broken": runtime.broken,
    }
    if runtime.other:
        specs |= {"other": {"handler": runtime.other}, "missing": {"handler": runtime.missing}}
    documents = []
    for name, own in specs.items():
        spec = {
            "runtime": runtime.name,
            "memory": runtime.memory,
            "timeout": LONGER,
            "code": {"path": str(FUNCTIONS / runtime.folder)},
        } | own
        documents.append(resource("Function", name, spec))
    return as_yaml(documents)
