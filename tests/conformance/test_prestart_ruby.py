"""State that a waiting Ruby process may have from before its function: files, gems, and what it reads at its start."""

import pytest

from tests.conformance.waiting import both
from tests.harness.endpoint import only_local

pytestmark = [
    only_local("it starts supervisors of its own"),
    pytest.mark.parametrize("runtime_that_waits", ["ruby3.1"], indirect=True),
]
CODES_GEMS, LAYERS_GEMS = "var/task/vendor/bundle/ruby/3.1.0", "opt/ruby/gems/3.1.0"


def gem(folder, name, version, code):
    specification = (
        f"Gem::Specification.new do |s|\n  s.name = '{name}'\n  s.version = '{version}'\n"
        "  s.summary = 'a test'\n  s.authors = ['a test']\n  s.require_paths = ['lib']\nend\n"
    )
    return {
        f"{folder}/specifications/{name}-{version}.gemspec": specification,
        f"{folder}/gems/{name}-{version}/lib/{name}.rb": code,
    }


@pytest.mark.parametrize("folder", ["var/task", "var/task/lib", "opt/ruby/lib"])
def test_files_that_came_with_the_claim_are_found(start, folder):
    """folders that were not there before the claim are looked in"""
    files = {f"{folder}/late.rb": f"def whose = '{folder}'\n"}
    compared = both(start, {"do": "whose", "module": "late"}, files=files)
    assert compared.same_process and compared.same == folder


@pytest.mark.parametrize("folder", [CODES_GEMS, LAYERS_GEMS])
def test_gems_that_came_with_the_claim_are_found(start, folder):
    """gems of the code and of layers are found"""
    files = gem(folder, "late", "1.0", f"def whose = '{folder}'\n")
    compared = both(start, {"do": "whose", "module": "late"}, files=files)
    assert compared.same_process and compared.same == folder


@pytest.mark.parametrize("folder", ["var/task", "opt/ruby/lib"])
def test_a_functions_own_file_takes_precedence_over_a_loaded_one(start, folder):
    """code and layers that hide a file of Ruby's do so"""
    files = {f"{folder}/logger.rb": f"def whose = '{folder}'\nclass Logger; end\n"}
    compared = both(start, {"do": "whose", "module": "logger"}, files=files)
    assert compared.same == folder and not compared.same_process


def test_a_newer_gem_takes_precedence_over_a_loaded_one(start):
    """a newer version of one of Ruby's own gems is the one that is loaded"""
    files = gem(CODES_GEMS, "logger", "99.0", "def whose = 'gem'\nclass Logger; end\n")
    compared = both(start, {"do": "version", "gem": "logger"}, files=files)
    assert compared.same.endswith("logger-99.0") and not compared.same_process


def test_an_older_gem_does_not_matter(start):
    """nor does an older version of one of Ruby's own gems"""
    compared = both(start, {"do": "version", "gem": "logger"}, files=gem(CODES_GEMS, "logger", "0.1", ""))
    assert compared.same_process and "logger-0.1" not in compared.same


def test_other_values_of_variables_that_are_read_once_get_a_fresh_process(start):
    """a function with options for Ruby's start gets a process that was started with them"""
    compared = both(start, {"do": "draw"}, variables={"RUBYOPT": "-W0"})
    assert "another RUBYOPT" in next(line for line in compared.logs[1] if "is not used" in line)
    assert not compared.same_process


def test_rubygems_uses_the_functions_own_home(start, tmp_path):
    """RubyGems knows the function's HOME"""
    variables = {"HOME": f"{tmp_path}/root/var/task"}
    compared = both(start, {"do": "homes"}, variables=variables)
    assert compared.same_process and compared.same[0].startswith(variables["HOME"])
