"""Chat templates: Jinja that turns messages into a prompt, as Hugging Face models carry it.

The options, helpers and extensions are those of transformers' `apply_chat_template`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError

from aphrodite.domain.errors import ConfigError, PromptError
from aphrodite.domain.prompting.content_format import ContentFormat, accepts_string, find_content_format
from aphrodite.domain.prompting.template_budget import Budget, BudgetExceededError
from aphrodite.domain.prompting.template_sandbox import RaisedByTemplateError, TemplateEnvironment

_MAX_MESSAGE_CHARS = 300  # of what a template's author says to the user


class ChatTemplate:
    """One compiled template; thread-safe.

    Raises ConfigError when `source` is not valid Jinja.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._environment = TemplateEnvironment()
        try:
            syntax_tree = self._environment.parse(source)
            self._template = self._environment.from_string(source)
        except (TemplateError, RecursionError) as error:
            line = f" (line {error.lineno})" if isinstance(error, TemplateSyntaxError) else ""
            raise ConfigError(f"The chat template is not valid Jinja{line}; correct it or pass another one.") from error
        self.content_format: ContentFormat = find_content_format(syntax_tree)
        names = syntax_tree.find_all(nodes.Name)
        self.takes_tools = any(name.name == "tools" and name.ctx == "load" for name in names)
        self.accepts_string = self.content_format == "string" or accepts_string(syntax_tree)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        now: datetime,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        special_tokens: Mapping[str, str] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The text for `messages` and `tools`, which hold plain JSON values.

        Templates know `special_tokens` by name ("bos_token"), further `variables`, and `now` as `strftime_now(format)`.

        Raises PromptError when the template refuses the messages, fails on them or does too much work, and ConfigError
        when it does what the sandbox forbids.
        """
        values = {
            "documents": None,
            **(special_tokens or {}),
            **(variables or {}),
            "messages": messages,
            "tools": tools or None,
            "add_generation_prompt": add_generation_prompt,
            "strftime_now": now.strftime,
        }
        try:
            budget = Budget(_num_chars(messages) + _num_chars(tools))
            return "".join(self._pieces(values, budget))
        except RaisedByTemplateError as error:
            message = (error.message or "").strip()[:_MAX_MESSAGE_CHARS]
            raise PromptError(f"The chat template refuses these messages: {message}") from error
        except (BudgetExceededError, MemoryError, OverflowError, RecursionError) as error:
            raise PromptError(
                "The chat template does too much work for these messages; look for an endless loop in it."
            ) from error
        except SecurityError as error:
            raise ConfigError("The chat template does what templates may not; pass another one.") from error
        except Exception as error:  # whatever Python raises for the template's operations
            raise PromptError(
                f"The chat template fails on these messages ({type(error).__name__}); "
                "check their roles and contents, or pass another template."
            ) from error

    def _pieces(self, values: Mapping[str, Any], budget: Budget) -> list[str]:
        pieces, size = [], 0
        for piece in self._environment.generate_text(self._template, values, budget):
            pieces.append(piece)
            size += len(piece)
            if size > budget.max_size:
                raise BudgetExceededError
        return pieces


def _num_chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_num_chars, value.values()))
    return sum(map(_num_chars, value)) if isinstance(value, list | tuple) else 1
