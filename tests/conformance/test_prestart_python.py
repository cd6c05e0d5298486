"""State that a waiting Python process may have from before its function: modules, and what it reads at its start."""

import json
import time

import pytest

from tests.conformance.waiting import both
from tests.harness.endpoint import only_local

pytestmark = [
    only_local("it starts supervisors of its own"),
    pytest.mark.parametrize("runtime_that_waits", ["python3.11"], indirect=True),
]


def test_log_records_count_from_the_claim(start):
    """the log's clock starts with the function"""
    instance = start(True, claimed=False)
    # From before the claim to after the answer; the process is older by the time it took to be waiting.
    begun = time.monotonic()
    instance.claim()
    since_the_claim = instance.invoke({"do": "relative"})
    assert 0 <= since_the_claim <= (time.monotonic() - begun) * 1000


@pytest.mark.parametrize("folder", ["var/task", "opt/python"])
def test_modules_that_the_client_has_loaded_are_not_hidden(start, runtime_that_waits, folder):
    """code and layers find what the client has loaded, whatever lies there by its name"""
    files = {f"{folder}/{name}.py": f"whose = {folder!r}\n" for name in ("simplejson", "traceback", "queue")}
    hidden = both(start, {"do": "whose", "module": "simplejson"}, files=files)
    assert hidden.same_process and hidden.same is None
    own = both(start, {"do": "whose", "module": "queue"}, files=files)
    assert own.same_process and own.same == folder


@pytest.mark.parametrize(
    "files",
    [
        {"opt/python/late.py": "whose = 'layer'\n"},
        {"var/task/late.py": "whose = 'code'\n"},
    ],
    ids=["layer", "code"],
)
def test_modules_that_came_with_the_claim_are_found(start, files):
    """folders that were not there before the claim are looked in"""
    compared = both(start, {"do": "whose", "module": "late"}, files=files)
    assert compared.same_process and compared.same in ("code", "layer")


@pytest.mark.parametrize("folder", ["var/task", "opt/python/lib/python3.11/site-packages", "opt/python"])
def test_path_files_of_code_and_layers_count(start, folder):
    """a folder that a .pth file names is on the path, and its imports are run"""
    files = {
        f"{folder}/more.pth": "vendored\nimport builtins; builtins.whose = 'path file'\n",
        f"{folder}/vendored/late.py": "whose = 'vendored'\n",
    }
    found = both(start, {"do": "whose", "module": "late"}, files=files)
    assert found.same_process and found.same == "vendored"
    assert both(start, {"do": "builtin"}, files=files).same == "path file"


def test_a_layers_sitecustomize_is_run_if_the_functions_own_path_leads_there(start, tmp_path):
    """a layer's sitecustomize runs before the client if PYTHONPATH names its folder, as on the platform"""
    files = {"opt/python/sitecustomize.py": "import builtins\nbuiltins.whose = 'layer'\n"}
    assert both(start, {"do": "builtin"}, files=files).same is None
    variables = {"PYTHONPATH": f"{tmp_path}/root/opt/python"}
    assert both(start, {"do": "builtin"}, files=files, variables=variables).same == "layer"


def test_modules_in_home_are_found(start, tmp_path):
    """modules below HOME are found"""
    site = "var/task/.local/lib/python3.11/site-packages"
    files, variables = {f"{site}/late.py": "whose = 'home'\n"}, {"HOME": f"{tmp_path}/root/var/task"}
    compared = both(start, {"do": "user_site"}, files=files, variables=variables)
    assert site in json.dumps(compared.same)


def test_other_values_of_variables_that_are_read_once_get_a_fresh_process(start):
    """a function with options for Python's start gets a process that was started with them"""
    compared = both(start, {"do": "draw"}, variables={"PYTHONHASHSEED": "1"})
    assert "PYTHONHASHSEED" in next(line for line in compared.logs[1] if "is not used" in line)
    assert compared.fresh["hash"] == compared.waited["hash"]
