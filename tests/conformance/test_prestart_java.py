"""State that a waiting Java process may have from before its function: classes, and what Java reads at its start."""

from pathlib import Path

import pytest

from tests.conformance.waiting import both
from tests.conformance.waiting_compiled import classes
from tests.harness.endpoint import only_local

pytestmark = [
    only_local("it starts supervisors of its own"),
    pytest.mark.parametrize("runtime_that_waits", ["java17"], indirect=True),
]
CONTEXT = "com/amazonaws/services/lambda/runtime/Context"


@pytest.mark.parametrize("folder", ["var/task/", "var/task/shop/"])
def test_files_that_came_with_the_claim_are_found(start, folder):
    """files beside the classes are found"""
    name = f"/{folder}note.txt".replace("/var/task", "")
    compared = both(start, {"do": "resource", "name": name}, files={f"{folder}note.txt": "found"})
    assert compared.same == "found" and compared.same_process


def test_classes_of_the_client_take_precedence(start, runtime_that_waits):
    """a function's own of a class that the client has is hidden by it, as in a fresh process"""
    package, _, name = CONTEXT.replace("/", ".").rpartition(".")
    own = classes(name, f"package {package}; public class {name} {{ }}\n", runtime_that_waits.made)
    files = {f"var/task/{CONTEXT}.class": own[f"{CONTEXT}.class"]}
    compared = both(start, {"do": "class", "name": f"{package}.{name}"}, files=files)
    assert compared.same == "jdk.internal.loader.ClassLoaders$AppClassLoader" and compared.same_process


def test_a_library_that_came_with_the_claim_is_found(start):
    """native libraries of the code are loaded"""
    library = next(Path("/usr/lib").glob("*-linux-gnu/libz.so.1")).read_bytes()
    compared = both(start, {"do": "load", "library": "own"}, files={"var/task/libown.so": library})
    assert compared.same.endswith("/var/task/libown.so") and compared.same_process


@pytest.mark.parametrize(
    "variable, value",
    [
        ("JAVA_TOOL_OPTIONS", "-Dtold=1"),
        ("JDK_JAVA_OPTIONS", "-Dtold=1"),
        ("_JAVA_OPTIONS", "-Dtold=1"),
        ("LC_ALL", "C"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
    ],
)
def test_other_values_of_variables_that_are_read_once_get_a_fresh_process(start, variable, value):
    """a function with options for Java's start gets a process that was started with them"""
    compared = both(start, {"do": "start"}, variables={variable: value})
    assert f"another {variable}" in next(line for line in compared.logs[1] if "is not used" in line)
    assert not compared.same_process
    assert compared.same


@pytest.mark.parametrize(
    "variables",
    [
        {"TZ": "Asia/Tokyo"},
        {"HOME": "/elsewhere"},
        {"TMPDIR": "/elsewhere"},
        {"CLASSPATH": "/elsewhere"},
        {"JAVA_HOME": "/elsewhere"},
        {"EMPTY": ""},
        {"ODD": '\t"\\\n\u0001/é𝄞'},
        {"AWS_LAMBDA_JAVA_NETWORKADDRESS_CACHE_NEGATIVE_TTL": "7"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_all_other_variables_have_the_functions_values(start, variables):
    """variables that are read later are the function's"""
    compared = both(start, {"do": "start"}, variables=variables)
    assert compared.same_process
    assert compared.same["variables"].items() >= variables.items()
