"""What a step computes does not grow with the KV cache, of which it reads a little."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aphrodite.backends.jax_tpu.attention import Attend
from aphrodite.backends.jax_tpu.attention_plain import attend_plain
from aphrodite.backends.jax_tpu.native import attend_native, is_native
from aphrodite.domain.architectures.spec import AttentionSpec


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("attend", [attend_plain, attend_native])
def test_attention_makes_no_other_form_of_the_cache(attend: Attend, dtype: str) -> None:
    if attend is attend_native:
        assert is_native(np.dtype(dtype))
    num_tokens, num_rows, block_size, num_heads, head_dim = 16, 4, 16, 2, 32

    def temporary_bytes(num_blocks: int) -> int:
        struct = jax.ShapeDtypeStruct
        queries = struct((num_tokens, num_heads, head_dim), jnp.dtype(dtype))
        cache = struct((num_blocks, block_size, 2 * num_heads, head_dim), jnp.dtype(dtype))
        integers = [struct(shape, np.int32) for shape in ((num_rows + 1,), (num_rows,), (num_rows, 8))]
        compiled = (
            jax.jit(attend, static_argnums=5).lower(queries, cache, *integers, AttentionSpec(head_dim**-0.5)).compile()
        )
        memory = compiled.memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    assert temporary_bytes(64) == temporary_bytes(4096)
