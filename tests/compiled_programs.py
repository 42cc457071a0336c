"""What jax compiles in tests is kept with pytest's own cache, for all test processes together."""

from typing import Any

import jax
import pytest


def settings(config: pytest.Config) -> dict[str, Any]:
    """Options of jax; in capitals they are its environment variables."""
    assert config.cache is not None
    return {
        "jax_compilation_cache_dir": str(config.cache.mkdir("jax-programs")),
        # With a limit jax locks the folder: without, one process could read what another is still writing.
        "jax_compilation_cache_max_size": 1 << 30,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }


def keep(config: pytest.Config) -> None:
    """Do so in this process."""
    for name, value in settings(config).items():
        jax.config.update(name, value)
