"""A model's text, as it comes, to what it says and the tools it calls."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from aphrodite.domain.generation.message import CallArguments, CallStart, Content, Piece
from aphrodite.domain.generation.tool_calls.call_format import Call, CallFormat, End
from aphrodite.domain.generation.tool_calls.json_text import ObjectText
from aphrodite.domain.prompting.tools import Tool

_BLANKS = " \t\r\n"
_MAX_HEAD_CHARS = 1024  # so that looking for one again and again costs little


class CallReader(Protocol):
    """Finds calls in one message's text, however it was cut."""

    def push(self, text: str) -> list[Piece]:
        """Append text; the pieces that are certain now."""

    def finish(self) -> list[Piece]:
        """What is left once no more text comes."""


class FormattedCalls:
    """Calls in a family's format. A call shows once it is whole; what turns out to be none is content.

    Where arguments are JSON, a call of a known tool shows as soon as it has its name, and its arguments as they come.

    Blanks that only separate calls from each other and from what is said are dropped.
    """

    def __init__(
        self, call_format: CallFormat, tools: Mapping[str, Tool], new_id: Callable[[], str], *, only_one: bool
    ) -> None:
        """With `only_one`, calls behind the first are dropped."""
        self._format = call_format
        self._tools = tools
        self._new_id = new_id
        self._only_one = only_one
        self._openings = re.compile("|".join(map(re.escape, call_format.openings)))
        self._opening_here = re.compile(rf"[{_BLANKS}]*({self._openings.pattern})")
        at_start = "|".join(map(re.escape, call_format.openings_at_start)) or "(?!)"  # which nothing matches
        self._opening_at_start = re.compile(rf"[{_BLANKS}]*({at_start})")
        self._text = ""  # not told yet
        self._end: End | None = None  # in a stretch, which `_text` begins with
        self._opening, self._blanks = "", ""  # of the stretch, and in front of it
        self._arguments: ObjectText | None = None  # of the call that `_text` stands in
        self._rest: End | None = None  # of what is dropped behind them
        self._num_calls = 0
        self._may_begin = True  # nothing was said yet, or nothing since the last call

    def push(self, text: str) -> list[Piece]:
        self._text += text
        return list(self._read(is_whole=False))

    def finish(self) -> list[Piece]:
        pieces = list(self._read(is_whole=True))
        rest, self._text = self._text, ""
        if self._arguments is not None or self._rest is not None:  # the call was cut off
            return pieces
        if rest and (rest.strip(_BLANKS) or not self._num_calls):
            pieces.append(Content(rest))
        return pieces

    def _read(self, *, is_whole: bool) -> Iterator[Piece]:
        """Tell what is certain, and keep the rest."""
        while True:
            if self._arguments is not None:
                yield from self._argue(self._arguments)
            if self._arguments is not None or not self._drop_rest():
                return
            if self._end is None:
                yield from self._say()
                if not self._begin():
                    return
            if (head := self._head()) is not None:
                yield from self._start(head)
                continue
            assert self._end is not None
            size = self._end.find(self._text)
            if size is None and not is_whole:
                return
            yield from self._call(len(self._text) if size is None else size)

    def _begin(self) -> bool:
        """Enter the stretch whose opening the text begins with, blanks aside."""
        at_start = self._opening_at_start.match(self._text) if self._may_begin else None
        found = at_start or self._opening_here.match(self._text)
        if found is None:
            return False
        start = found.start(1)
        self._blanks, self._text, self._opening = self._text[:start], self._text[start:], found[1]
        self._end = self._format.end(self._opening)
        return True

    def _head(self) -> re.Match[str] | None:
        """What stands before a known tool's arguments, in the stretch that the text begins with."""
        head = None if self._format.head is None else self._format.head.match(self._text, 0, _MAX_HEAD_CHARS)
        return head if head is not None and head["name"] in self._tools else None

    def _start(self, head: re.Match[str]) -> Iterator[Piece]:
        """A call begins, of which there will be no doubt."""
        self._text, self._end = self._text[head.end() :], None
        self._arguments, self._rest = ObjectText(), self._format.rest()
        if self._is_wanted:
            yield CallStart(self._num_calls, head.groupdict().get("id") or self._new_id(), head["name"])

    def _argue(self, arguments: ObjectText) -> Iterator[Piece]:
        """Tell what there is of a call's arguments."""
        told, self._text = arguments.push(self._text)
        if told and self._is_wanted:
            yield CallArguments(self._num_calls, told)
        if arguments.is_whole:
            self._arguments, self._may_begin = None, True
            self._num_calls += 1

    def _drop_rest(self) -> bool:
        """Drop what stands between arguments and the end of their call. Returns False while that is to come."""
        if self._rest is None:
            return True
        size = self._rest.find(self._text)
        if size is not None:
            self._text, self._rest = self._text[size:], None
        return size is not None

    @property
    def _is_wanted(self) -> bool:
        """Whether the next call is to be told."""
        return self._num_calls == 0 or not self._only_one

    def _say(self) -> Iterator[Piece]:
        """Tell what stands before an opening, or before what may become one."""
        if self._may_begin and self._num_calls:
            self._text = self._text.lstrip(_BLANKS + self._format.separators)
        if self._may_begin and self._opening_at_start.match(self._text):
            return
        found = self._openings.search(self._text)
        end = found.start() if found else len(self._text) - self._num_open()
        end = len(self._text[:end].rstrip(_BLANKS))
        if end:
            yield Content(self._text[:end])
            self._text, self._may_begin = self._text[end:], False

    def _num_open(self) -> int:
        """Characters at the text's end that may be the beginning of an opening."""
        longest = max(map(len, self._format.openings))
        for size in range(min(longest - 1, len(self._text)), 0, -1):
            tail = self._text[-size:]
            if any(opening.startswith(tail) for opening in self._format.openings):
                return size
        return 0

    def _call(self, size: int) -> Iterator[Piece]:
        """Tell the calls of the stretch, which has so many characters."""
        stretch, self._end = self._text[:size], None
        try:
            calls = self._format.read(stretch, self._tools)
        except ValueError:
            calls = []
        if calls:
            self._text = self._text[size:]
            self._may_begin = True
            for call in calls:
                yield from self._pieces(call)
            return
        # No call: content, as far as the last opening in it, with which a true one may begin.
        inner = [found.start() for found in self._openings.finditer(stretch, 1)]
        end = len(stretch[: inner[-1]].rstrip(_BLANKS)) if inner else size
        yield Content(self._blanks + stretch[:end])
        self._text, self._may_begin = self._text[end:], False

    def _pieces(self, call: Call) -> Iterator[Piece]:
        if self._is_wanted:
            yield CallStart(self._num_calls, call.id or self._new_id(), call.name)
            yield CallArguments(self._num_calls, call.arguments)
        self._num_calls += 1
