"""How many KV blocks and image features fit, and how long a sequence may be."""

from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import CapacityError, ConfigError

_FEATURE_BYTES = 512 << 20


def bytes_per_block(spec: DecoderSpec, block_size: int, bytes_per_number: int) -> int:
    """Keys and values of `block_size` tokens in all layers."""
    return 2 * spec.num_layers * block_size * spec.num_kv_heads * spec.head_dim * bytes_per_number


def longest_sequence(config: EngineConfig, spec: DecoderSpec) -> int:
    """Tokens of the longest sequence asked for. Raises ConfigError for more than the model's positions go."""
    if config.max_model_len is None:
        return spec.max_position
    if config.max_model_len > spec.max_position:
        raise ConfigError(
            f"max_model_len is {config.max_model_len} tokens, this model was made for {spec.max_position} at most."
        )
    return config.max_model_len


def num_kv_blocks(config: EngineConfig, block_size: int, block_bytes: int, max_model_len: int, free_bytes: int) -> int:
    """Blocks of the KV cache, the padding's included; never more than all slots could fill.

    Raises CapacityError when the memory does not hold one block beside the padding's.
    """
    budget = config.kv_cache_memory if config.kv_cache_memory is not None else free_bytes
    useful = config.max_num_seqs * -(-max_model_len // block_size) + 1
    num_blocks = min(budget // block_bytes, useful)
    if num_blocks < 2:
        raise CapacityError(
            f"The KV cache needs at least {2 * block_bytes:,} bytes for one block of {block_size} tokens, "
            f"{max(budget, 0):,} are available; raise kv_cache_memory or gpu_memory_utilization, or lower block_size."
        )
    return num_blocks


def num_feature_rows(config: EngineConfig, model: ModelSpec, max_model_len: int, bytes_per_number: int) -> int:
    """Rows of the feature array: as many as all sequences' images could need, within 512 MiB, and a sequence's always.

    0 for a model that sees nothing.
    """
    if model.vision is None:
        return 0
    affordable = _FEATURE_BYTES // (model.feature_size * bytes_per_number)
    return min(max(affordable, max_model_len), config.max_num_seqs * max_model_len)


def fitting_length(config: EngineConfig, max_model_len: int, capacity: int) -> int:
    """The longest sequence that a cache of `capacity` tokens holds.

    Raises CapacityError when the user asked for a longer one.
    """
    if config.max_model_len is not None and max_model_len > capacity:
        raise CapacityError(
            f"max_model_len is {max_model_len} tokens, the KV cache holds {capacity}; lower max_model_len, or raise "
            "kv_cache_memory or gpu_memory_utilization."
        )
    return min(max_model_len, capacity)
