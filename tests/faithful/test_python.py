"""Python starts as on the original platform: the order of modules and folders, names, text, boto3."""

import io
import json
import zipfile

import pytest

from tests.faithful.served import python, serve
from tests.harness.endpoint import IN_CLUSTER, only_local
from tests.harness.local_server import LocalServer
from tests.harness.release import HOST
from tests.harness.web import Web

ECHO = """
def lambda_handler(event, context):
    return event
"""

# Returns the marker of each requested module, or null if it has none. The marker says where the module comes from.
WHOSE = """
import importlib
def lambda_handler(event, context):
    return [getattr(importlib.import_module(name), "WHOSE", None) for name in event["modules"]]
"""

SURROUNDINGS = """
import os, sys, threading
AT_INIT = "boto3" in sys.modules
def lambda_handler(event, context):
    main = sys.modules["__main__"]
    with open("/proc/self/status") as file:
        threads = next(line.split()[1] for line in file if line.startswith("Threads:"))
    return {
        "name": os.environ["AWS_EXECUTION_ENV"],
        "threads": [threads, threading.current_thread() is threading.main_thread()],
        "main": [os.path.basename(main.__file__), main.__name__],
        "argv": [os.path.basename(word) for word in sys.argv],
        "ours": [name for name in os.environ if name.startswith("PILOTLIGHT")],
        "boto3": AT_INIT,
        "first": [entry == os.environ["LAMBDA_TASK_ROOT"] == os.getcwd() for entry in sys.path[:2]],
        "runtime": os.environ["LAMBDA_RUNTIME_DIR"] in sys.path,
        "pythonpath": os.environ["PYTHONPATH"] == os.environ["LAMBDA_RUNTIME_DIR"],
    }
"""

SPAWNS = """
import multiprocessing
def work(pipe, number):
    pipe.send(number * 2)
def lambda_handler(event, context):
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=work, args=(there, event["number"]))
    process.start()
    there.close()
    answer = here.recv()
    process.join()
    return [answer, process.exitcode]
"""

RAISES = """
def deep(event):
    raise ValueError(event["say"])
def lambda_handler(event, context):
    deep(event)
"""

USES_BOTO3 = """
import boto3, subprocess, sys
def lambda_handler(event, context):
    child = [sys.executable, "-c", "import boto3; print(boto3.__version__)"]
    printed = subprocess.run(child, capture_output=True, text=True, check=True).stdout
    return {
        "region": boto3.client("s3").meta.region_name,
        "operations": len(boto3.client("lambda").meta.service_model.operation_names),
        "same in a child": printed.strip() == boto3.__version__,
    }
"""

WAITS_FOR_THE_END = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
def lambda_handler(event, context):
    return "waits"
"""


def marked(*names):
    """Modules with a marker that says that they are the function's own."""
    return {name: "WHOSE = 'own'\n" for name in names}


def files(source, more, **spec):
    return {**python(source, **spec), "code": {"inline": {"lambda_function.py": source, **more}}}


def zipped(texts):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return content.getvalue()


SITE = "python/lib/python3.11/site-packages"
FIRST = {f"{SITE}/shared.py": "WHOSE = 'site-packages'\n", f"{SITE}/covered.py": "WHOSE = 'layer'\n"}
SECOND = {
    "python/shared.py": "WHOSE = 'python'\n",
    "python/plain.py": "WHOSE = 'plain'\n",
    "python/more.pth": "vendored\nnot-there\n# a remark\n",
    "python/vendored/from_path_file.py": "WHOSE = 'layer'\n",
    f"{SITE}/deep.pth": "deep\n",
    f"{SITE}/deep/deeper.py": "WHOSE = 'layer'\n",
}


def functions(layers):
    path = "/opt/python:/var/task/vendored"
    return {
        "echo": python(ECHO),
        "own-modules": files(
            WHOSE, marked("traceback.py", "decimal.py", "json.py", "logging/__init__.py", "simplejson.py")
        ),
        "own-others": files(WHOSE, marked("calendar.py", "queue.py", "http/__init__.py", "awslambdaric.py")),
        "path-files": files(
            WHOSE,
            {
                "libraries.pth": "vendored\nimport builtins; builtins.SEEN = 'at the start'\n",
                "vendored/late.py": "import builtins\nWHOSE = builtins.SEEN\n",
            },
        ),
        "layered": files(WHOSE, marked("covered.py"), layers=layers),
        "own-path": files(WHOSE, {"vendored/late.py": "WHOSE = 'vendored'\n"}, layers=layers)
        | {"environment": {"PYTHONPATH": path}},
        "surroundings": python(SURROUNDINGS),
        "spawns": python(SPAWNS),
        "raises": python(RAISES),
        "lacks": files("import shop_of_nobody\n", {}),
        "boto3": python(USES_BOTO3),
        "own-boto3": files(WHOSE, {"boto3/__init__.py": "WHOSE = 'own'\n"}),
        "waits": python(WAITS_FOR_THE_END),
    }


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    web = Web(HOST if IN_CLUSTER else LocalServer.host)
    layers = [web.archive(f"/{at}.zip", zipped(one))["archive"] for at, one in enumerate([FIRST, SECOND])]
    yield from serve(functions(layers), tmp_path_factory.mktemp("functions"))
    web.close()


@pytest.mark.parametrize(
    "event",
    [b'{"preview": "so happy \\ud83d"}', b'["\\udc00", {"\\ud800 as a key": "\\udfff\\ud83d"}]'],
    ids=["cut in the middle", "in lists and keys"],
)
def test_half_of_a_surrogate_pair_is_returned_escaped(served, event):
    answered = served.client.invoke(FunctionName="echo", Payload=event)
    assert "FunctionError" not in answered
    assert answered["Payload"].read() == event


def test_text_that_is_not_ascii_is_returned_escaped(served):
    answered = served.invoke("echo", {"greeting": "grüße 😀"})
    assert answered["Bytes"] == b'{"greeting": "gr\\u00fc\\u00dfe \\ud83d\\ude00"}'
    assert answered["Body"] == {"greeting": "grüße 😀"}


def test_the_function_sees_the_runtimes_true_name_and_the_platforms_start(served):
    served.answer("surroundings")
    assert served.answer("surroundings") == {
        "name": "AWS_Lambda_python3.11",
        "threads": ["1", True],
        "main": ["bootstrap.py", "__main__"],
        "argv": ["bootstrap.py"],
        "ours": [],
        "boto3": False,
        "first": [True, False],
        "runtime": True,
        "pythonpath": True,
    }


def test_files_named_like_the_clients_modules_do_not_hide_them(served):
    modules = ["traceback", "decimal", "json", "logging", "simplejson"]
    assert served.answer("own-modules", {"modules": modules}) == [None] * len(modules)


def test_files_named_like_other_modules_are_the_functions_own(served):
    modules = ["calendar", "queue", "http"]
    assert served.answer("own-others", {"modules": modules}) == ["own"] * len(modules)
    assert served.answer("own-others", {"modules": ["awslambdaric"]}) == [None]


def test_path_files_beside_the_code_count(served):
    assert served.answer("path-files", {"modules": ["late"]}) == ["at the start"]


def test_site_packages_of_the_layers_come_before_their_python_folder(served):
    assert served.answer("layered", {"modules": ["shared", "plain"]}) == ["site-packages", "plain"]


def test_code_comes_before_the_layers(served):
    assert served.answer("layered", {"modules": ["covered"]}) == ["own"]


def test_path_files_of_layers_count(served):
    assert served.answer("layered", {"modules": ["from_path_file", "deeper"]}) == ["layer", "layer"]


def test_the_functions_own_search_path_replaces_that_of_the_layers(served):
    """PYTHONPATH names folders of an image, also in local mode, where they lie elsewhere."""
    assert served.answer("own-path", {"modules": ["shared", "plain", "late"]}) == [
        "python",
        "plain",
        "vendored",
    ]
    answered = served.invoke("own-path", {"modules": ["deeper"]})
    assert answered["Body"]["errorMessage"] == "No module named 'deeper'"


def test_a_process_that_the_handler_spawns_finds_the_functions_modules(served):
    assert served.answer("spawns", {"number": 21}) == [42, 0]


def test_a_trace_begins_in_the_functions_code(served):
    body = served.invoke("raises", {"say": "no such order"})["Body"]
    assert (body["errorType"], body["errorMessage"]) == ("ValueError", "no such order")
    assert [line.split(", ")[-1].split("\n")[0] for line in body["stackTrace"]] == [
        "in lambda_handler",
        "in deep",
    ]


def test_a_missing_module_is_named(served):
    body = served.invoke("lacks")["Body"]
    assert body["errorType"] == "Runtime.ImportModuleError"
    assert (
        body["errorMessage"] == "Unable to import module 'lambda_function': No module named 'shop_of_nobody'"
    )
    assert "bootstrap.py" not in json.dumps(body["stackTrace"])


def test_boto3_can_be_imported_without_a_manifest(served):
    answer = served.answer("boto3")
    assert answer["operations"] > 60
    assert {**answer, "operations": 0} == {"region": "us-east-1", "operations": 0, "same in a child": True}


def test_a_functions_own_boto3_takes_precedence(served):
    assert served.answer("own-boto3", {"modules": ["boto3"]}) == ["own"]


@only_local("the fixture ends the server, and sees whether it leaves a process")
def test_an_instance_with_its_own_signal_handler_ends(served):
    """Up to Python 3.11 the client waits in the main thread, so the handler cannot run."""
    assert served.answer("waits") == "waits"
