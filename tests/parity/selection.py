"""Which backend runs which parameters of a test."""

from collections.abc import Container, Iterable
from typing import Any

import pytest

BACKENDS = ("cuda", "jax_tpu")

# JAX compiles a dozen programs for every shape of a model or of its steps that is new, which is seconds where torch
# needs none. So it runs every test, with every tower, family, kind of variant and behaviour, but not all products of
# them: what a test leaves out stands beside its parameters.
not_on_jax_tpu = pytest.mark.left_out("jax_tpu")


def sparing(values: Iterable[Any], jax_tpu: Container[Any]) -> list[Any]:
    """Parameters of a test, all for the cuda backend; jax_tpu gets those that are named."""
    return [value if value in jax_tpu else pytest.param(value, marks=not_on_jax_tpu) for value in values]
