"""State that a waiting .NET process may have from before its function: assemblies, and what Mono reads at its start."""

import pytest

from tests.conformance.waiting import both
from tests.conformance.waiting_compiled import assembly
from tests.harness.endpoint import only_local

pytestmark = [
    only_local("it starts supervisors of its own"),
    pytest.mark.parametrize("runtime_that_waits", ["dotnet"], indirect=True),
]


@pytest.mark.parametrize("folder", ["var/task", "opt/dotnet", "opt/dotnet/lib"])
def test_assemblies_that_came_with_the_claim_are_found(start, folder):
    """assemblies of the code and of layers are found"""
    late = assembly(f'public class Late {{ public static string Whose = "{folder}"; }}', "Late")
    files = {f"{folder}/Late.dll": late}
    compared = both(start, {"do": "whose", "type": "Late, Late"}, files=files)
    assert compared.same == folder and compared.same_process


@pytest.mark.parametrize("folder", ["var/task", "opt/dotnet"])
def test_an_assembly_by_the_name_of_one_that_is_loaded_gets_a_fresh_process(start, folder):
    """code and layers with an assembly of Mono's are not for a process that has loaded Mono's"""
    own = assembly("public class Own { }", "System.Xml")
    compared = both(start, {"do": "find"}, files={f"{folder}/System.Xml.dll": own})
    assert not compared.same_process
    assert compared.fresh["assemblies"] == compared.waited["assemblies"]


@pytest.mark.parametrize("variable", ["HOME", "TMPDIR", "LC_ALL", "LANG", "MONO_IOMAP"])
def test_other_values_of_variables_that_are_read_once_get_a_fresh_process(start, variable):
    """a function with options for Mono's start gets a process that was started with them"""
    compared = both(start, {"do": "places"}, variables={variable: "de_DE.UTF-8"})
    assert f"another {variable}" in next(line for line in compared.logs[1] if "is not used" in line)
    assert not compared.same_process
    assert compared.same


@pytest.mark.parametrize("variable", ["TERM", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TZ", "NO_COLOR", "EMPTY"])
def test_all_other_variables_have_the_functions_values(start, variable):
    """variables that are read later are the function's"""
    value = "" if variable == "EMPTY" else "Asia/Tokyo"
    compared = both(start, {"do": "places"}, variables={variable: value})
    assert compared.same_process
    assert compared.same
