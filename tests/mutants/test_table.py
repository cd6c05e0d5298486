"""The table of mutants fits the sources: `make check` sees at once when one has been edited away."""

import re
from pathlib import Path

import pytest

from tests.mutants.table import GATEWAY, MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
TEST = re.compile(r"#\[tokio::test\(start_paused = true\)\]\s+async fn (\w+)")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_the_text_of_each_mutant_exists_exactly_once(mutant: Mutant):
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1


def test_each_in_process_test_has_a_mutant_and_each_mutant_its_test():
    files = (ROOT / GATEWAY / "tests").glob("*.rs")
    tests = {f"{file.stem}::{name}" for file in files for name in TEST.findall(file.read_text())}
    assert tests == {mutant.test for mutant in MUTANTS if "::tests::" not in mutant.test}
