"""Serves the functions that a module names in FUNCTIONS."""

import pytest

from tests.faithful.served import serve


@pytest.fixture(scope="module")
def served(request, tmp_path_factory):
    yield from serve(request.module.FUNCTIONS, tmp_path_factory.mktemp("functions"))
