"""Settings of the JAX backend's tests."""

import pytest
from tests import compiled_programs


@pytest.fixture(scope="session", autouse=True)
def _keep_compiled_programs(pytestconfig: pytest.Config) -> None:
    compiled_programs.keep(pytestconfig)
