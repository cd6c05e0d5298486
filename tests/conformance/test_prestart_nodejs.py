"""State that a waiting Node.js process may have from before its function: paths of modules, and what it reads once."""

import pytest

from tests.conformance.waiting import both
from tests.harness.endpoint import only_local

pytestmark = [
    only_local("it starts supervisors of its own"),
    pytest.mark.parametrize("runtime_that_waits", ["nodejs22", "nodejs24"], indirect=True),
]


@pytest.mark.parametrize(
    "folder",
    [
        "opt/nodejs/node_modules",
        "var/task/shop/node_modules",
        "var/task/.node_modules",
    ],
)
def test_modules_that_came_with_the_claim_are_found(start, tmp_path, folder):
    """folders of layers, of the code and below HOME are looked in"""
    files = {f"{folder}/late/index.js": f"exports.whose = '{folder}';\n"}
    variables = {"HOME": f"{tmp_path}/root/var/task"}
    compared = both(start, {"do": "whose", "module": "late"}, files=files, variables=variables)
    assert compared.same_process and compared.same == folder


def test_a_functions_module_may_have_the_name_of_one_of_the_clients(start):
    """what lies in the client's folder hides nothing of the function's"""
    files = {"opt/nodejs/node_modules/aws-lambda-ric/index.js": "exports.whose = 'layer';\n"}
    compared = both(start, {"do": "whose", "module": "aws-lambda-ric"}, files=files)
    assert compared.same_process and compared.same == "layer"


@pytest.mark.parametrize(
    "name, value, event",
    [
        ("NODE_OPTIONS", "--stack-trace-limit=1", {"do": "fail"}),
        ("UV_THREADPOOL_SIZE", "9", {"do": "threads"}),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256", {"do": "options"}),
    ],
)
def test_other_values_of_variables_that_are_read_once_get_a_fresh_process(start, name, value, event):
    """a function with options for Node.js's start gets a process that was started with them"""
    compared = both(start, event, variables={name: value})
    assert f"another {name}" in next(line for line in compared.logs[1] if "is not used" in line)
    assert compared.same
