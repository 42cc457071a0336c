"""Settings of the JAX backend's tests."""

from pathlib import Path

import pytest
from tests import compiled_programs
from tests.builders import tiny_llava


@pytest.fixture(scope="session", autouse=True)
def _keep_compiled_programs(pytestconfig: pytest.Config) -> None:
    compiled_programs.keep(pytestconfig)


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("llava"))
