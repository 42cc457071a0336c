"""Settings of the JAX backend's tests."""

from pathlib import Path

import jax
import pytest
from tests.builders import tiny_llava


@pytest.fixture(scope="session", autouse=True)
def _keep_compiled_programs(pytestconfig: pytest.Config) -> None:
    """Compiled programs lie with pytest's own cache, not with the user's."""
    assert pytestconfig.cache is not None
    jax.config.update("jax_compilation_cache_dir", str(pytestconfig.cache.mkdir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("llava"))
