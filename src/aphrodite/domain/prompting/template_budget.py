"""What one rendering of a template may cost."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from aphrodite.domain.prompting.json_object import JsonObject

_CHARS_PER_UNIT = 256  # copying so many characters takes about as long as one step of a loop
_VISITS_PER_UNIT = 4  # looking at so many values in a list does, too
_MAX_WIDTH = 9999  # of what is padded or indented
_WIDER = re.compile(r"[0-9]{5}")
_WIDTH_FROM_VALUE = (re.compile(r"\{[^{}]*\{"), re.compile(r"%[^a-zA-Z%]*\*"))  # of str.format, of the operator %


class BudgetExceededError(Exception):
    """A template does more than it may."""


class Budget:
    """What a rendering may still spend: steps of work, and the size of any one value it makes.

    Both grow with the messages' `num_chars`, so that a long conversation is not taken for a runaway template.
    """

    def __init__(self, num_chars: int) -> None:
        self.max_size = 1_000_000 + 8 * num_chars  # characters and list items
        self._units = 200_000 + num_chars

    def spend(self, units: int) -> None:
        """Raises BudgetExceededError when nothing is left."""
        self._units -= units
        if self._units < 0:
            raise BudgetExceededError

    def pay_for(self, size: int) -> None:
        """Spend for a value of so many characters or items. Raises BudgetExceededError."""
        if size > self.max_size:
            raise BudgetExceededError
        self.spend(1 + max(size, 0) // _CHARS_PER_UNIT)

    def measured(self, *values: Any) -> int:
        """The size of values written out, to the bottom of lists and dictionaries. Raises BudgetExceededError.

        Ten lists, each of them twice in the next, are short and yet endless when written out: counting ends early.
        """
        size, num_visited, waiting = 0, 0, list(values)
        while waiting:
            value = waiting.pop()
            num_visited += 1
            size += 1 + shallow_size(value)
            if isinstance(value, Mapping):
                waiting += chain.from_iterable(value.items())
            elif isinstance(value, list | tuple):
                waiting += value
            if size > self.max_size:
                raise BudgetExceededError
        self.spend(num_visited // _VISITS_PER_UNIT)
        return size

    def pay_for_text_operation(self, name: str, text: str, arguments: Sequence[Any]) -> None:
        """Spend for what a string's method, or a filter, of this `name` makes of `text`. Raises BudgetExceededError."""
        if any(isinstance(value, int) and value > _MAX_WIDTH for value in arguments):
            raise BudgetExceededError
        size = len(text) + self.measured(*arguments)
        strings = [value for value in arguments if isinstance(value, str)]
        if name == "replace" and len(strings) > 1:
            size += text.count(strings[0]) * len(strings[1])
        elif name in ("rfind", "rindex", "rpartition", "rsplit", "strip", "lstrip", "rstrip", "trim"):
            size += len(text) * max(map(len, strings), default=0)  # each place is compared with all that is looked for
        elif name in ("format", "format_map", "%"):
            if _WIDER.search(text) or _WIDTH_FROM_VALUE[name == "%"].search(text.replace("{{", "")):
                raise BudgetExceededError
            size *= 1 + text.count("%" if name == "%" else "{")
        elif name in ("indent", "expandtabs", "translate"):
            width = max((v if isinstance(v, int) else shallow_size(v) for v in arguments), default=8)
            size += width * (len(text) if name == "translate" else 1 + text.count("\n") + text.count("\t"))
        elif name == "join":
            size += len(text) * sum(shallow_size(value) for value in arguments)
        self.pay_for(size)

    def paid_loop(self, iterator: Iterator[Any], units: int) -> Iterator[Any]:
        """The items of `iterator`, paid for one by one."""
        for item in iterator:
            self.spend(units)
            yield item


def shallow_size(value: Any) -> int:
    """Characters of a string, items of a list, digits of a number."""
    if isinstance(value, JsonObject):
        return len(str(value))
    if isinstance(value, int):
        return value.bit_length() // 3
    return len(value) if isinstance(value, str | bytes | list | tuple | Mapping) else 1
