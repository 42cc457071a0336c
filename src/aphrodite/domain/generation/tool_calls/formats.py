"""The formats by name, and which one a chat template asks for."""

from collections.abc import Mapping
from types import MappingProxyType

from aphrodite.domain.errors import ConfigError
from aphrodite.domain.generation.tool_calls.call_format import CallFormat
from aphrodite.domain.generation.tool_calls.gemma import Gemma
from aphrodite.domain.generation.tool_calls.glm import Glm
from aphrodite.domain.generation.tool_calls.hermes import Hermes
from aphrodite.domain.generation.tool_calls.internlm import InternLm
from aphrodite.domain.generation.tool_calls.llama3 import Llama3
from aphrodite.domain.generation.tool_calls.mistral import Mistral
from aphrodite.domain.generation.tool_calls.pythonic import Pythonic
from aphrodite.domain.generation.tool_calls.qwen3_coder import Qwen3Coder

CALL_FORMATS: Mapping[str, CallFormat] = MappingProxyType(
    {
        "hermes": Hermes(),
        "qwen3_coder": Qwen3Coder(),
        "llama3_json": Llama3(),
        "mistral": Mistral(),
        "gemma": Gemma(),
        "glm": Glm(),
        "internlm": InternLm(),
        "pythonic": Pythonic(),
    }
)

# What a template holds that asks for a format: the first that is found decides.
_SIGNS = (
    ("<function=", "qwen3_coder"),
    ("<arg_key>", "glm"),
    ("<|tool_call>", "gemma"),
    ("<start_function_call>", "gemma"),
    ("tool_code", "gemma"),
    ("<|action_start|>", "internlm"),
    ("[TOOL_CALLS]", "mistral"),
    ("<tool_call>", "hermes"),
    ("<|python_start|>", "pythonic"),
    ("[func_name1(", "pythonic"),
    ("<|python_tag|>", "llama3_json"),
    ('{"name": function name, "parameters":', "llama3_json"),
)


def find_call_format(name: str | None, template: str) -> CallFormat | None:
    """The format of that name, or for None the one that a chat template's text asks for; "none" stands for no format.

    Raises ConfigError for an unknown name.
    """
    if name is None:
        name = next((found for sign, found in _SIGNS if sign in template), "none")
    if name != "none" and name not in CALL_FORMATS:
        raise ConfigError(f"--tool-call-parser must be one of {', '.join(CALL_FORMATS)}, or none; got {name!r}.")
    return CALL_FORMATS.get(name)
