"""Aphrodite: a serving engine for vision-language models.

The names below are loaded when they are first used: `import aphrodite` loads neither torch nor jax. It says in the
environment how their threads are to wait and how much they may keep, which they read as they are loaded; see `cpus.py`
and `shape_caches.py`.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from aphrodite.cpus import share_cpus
from aphrodite.shape_caches import bound_shape_caches

if TYPE_CHECKING:
    from aphrodite.adapters.inbound.async_llm import AsyncLLM
    from aphrodite.adapters.inbound.llm import LLM
    from aphrodite.domain.generation.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput
    from aphrodite.domain.prompting.sampling_params import SamplingParams
    from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

__all__ = [
    "LLM",
    "AsyncLLM",
    "CompletionOutput",
    "Logprob",
    "RequestMetrics",
    "RequestOutput",
    "SamplingParams",
    "StructuredOutputs",
]

_HOMES = {
    "AsyncLLM": "aphrodite.adapters.inbound.async_llm",
    "LLM": "aphrodite.adapters.inbound.llm",
    "CompletionOutput": "aphrodite.domain.generation.outputs",
    "Logprob": "aphrodite.domain.generation.outputs",
    "RequestMetrics": "aphrodite.domain.generation.outputs",
    "RequestOutput": "aphrodite.domain.generation.outputs",
    "SamplingParams": "aphrodite.domain.prompting.sampling_params",
    "StructuredOutputs": "aphrodite.domain.prompting.structured_outputs",
}


share_cpus()
bound_shape_caches()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("aphrodite-vlm")
    if name not in _HOMES:
        raise AttributeError(f"module 'aphrodite' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
