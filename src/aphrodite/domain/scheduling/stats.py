"""What the engine tells of itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine at one moment. The counters start at 0 with the engine, and never fall while it lives."""

    num_running: int = 0  # sequences that have KV blocks
    num_waiting: int = 0  # sequences that were added and have none
    kv_cache_usage: float = 0.0  # share of the KV cache's blocks that sequences hold, 0 to 1
    encoder_cache_usage: float = 0.0  # share of the image features' room that is taken, 0 to 1
    num_prefix_cache_queries: int = 0  # counter: prompt tokens looked up in the prefix cache
    num_prefix_cache_hits: int = 0  # counter: of these, tokens that were there
    num_preemptions: int = 0  # counter
    num_images_encoded: int = 0  # counter
