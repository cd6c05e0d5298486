"""Serves the functions that a module names in FUNCTIONS."""

import pytest

from tests.faithful.served import MORE_IMAGES, serve
from tests.harness.endpoint import IN_CLUSTER
from tests.harness.kubectl import SUITE
from tests.harness.release import image_of, install, uninstall


@pytest.fixture(scope="module")
def served(request, tmp_path_factory):
    yield from serve(request.module.FUNCTIONS, tmp_path_factory.mktemp("functions"))


@pytest.fixture(scope="session", autouse=True)
def release():
    """Installs Pilotlight in a cluster. A release of this suite alone is removed at the end to free memory."""
    if IN_CLUSTER:
        install(*(image_of(runtime) for runtime in MORE_IMAGES))
    yield
    if IN_CLUSTER and SUITE:
        uninstall()
