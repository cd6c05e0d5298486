"""What may be another's in a Python process that waited: modules, and what Python reads as it starts."""

import json
from pathlib import Path

import pytest

from tests.conformance.waiting import both
from tests.harness.endpoint import only_local

pytestmark = [
    only_local("it starts supervisors of its own"),
    pytest.mark.parametrize("runtime_that_waits", ["python3.11"], indirect=True),
]


def test_log_records_count_from_the_claim(start):
    """the log's clock starts with the function"""
    compared = both(start, {"do": "relative"})
    assert 0 <= compared.waited < 5000 and 0 <= compared.fresh < 5000


@pytest.mark.parametrize("folder", ["var/task", "opt/python"])
def test_a_module_of_the_functions_own_wins_over_the_clients(start, runtime_that_waits, folder):
    """code and layers that hide a module of the client's do so"""
    packages = Path(runtime_that_waits.interpreter).parents[1] / "lib/python3.11/site-packages"
    modules = packages.glob("simplejson/*.py")
    files = {f"{folder}/simplejson/{module.name}": module.read_text() for module in modules}
    files[f"{folder}/simplejson/__init__.py"] += f"\nwhose = {folder!r}\n"
    assert both(start, {"do": "whose", "module": "simplejson"}, files=files).same == folder


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


def test_a_layers_sitecustomize_is_run(start):
    """a layer's sitecustomize runs before the handler"""
    files = {"opt/python/sitecustomize.py": "import builtins\nbuiltins.whose = 'layer'\n"}
    assert both(start, {"do": "builtin"}, files=files).same == "layer"


def test_a_home_with_modules_is_looked_in(start, tmp_path):
    """modules below HOME are found"""
    site = "var/task/.local/lib/python3.11/site-packages"
    files, variables = {f"{site}/late.py": "whose = 'home'\n"}, {"HOME": f"{tmp_path}/root/var/task"}
    compared = both(start, {"do": "user_site"}, files=files, variables=variables)
    assert site in json.dumps(compared.same)


def test_other_values_of_what_is_read_once_have_a_process_of_their_own(start):
    """a function that says how Python shall start gets a process that started so"""
    compared = both(start, {"do": "draw"}, variables={"PYTHONHASHSEED": "1"})
    assert "PYTHONHASHSEED" in next(line for line in compared.logs[1] if "is not used" in line)
    assert compared.fresh["hash"] == compared.waited["hash"]
