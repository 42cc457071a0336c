"""Where a stretch of tool calls ends. Each character is looked at once, however often a stretch is shown."""

import re

_BRACKETS = "[][(){}]"


class ClosingTag:
    """Behind the first `tag` after `skip` characters; `in_json`: that stands in no string in double quotes."""

    def __init__(self, tag: str, skip: int, *, in_json: bool) -> None:
        self._tags = _Outside(re.escape(tag), '"' if in_json else "", skip, max_chars=len(tag))

    def find(self, stretch: str) -> int | None:
        found = self._tags.next(stretch)
        return None if found is None else found.end()


class ClosingBracket:
    """Behind the bracket that closes the first one, counted outside of strings.

    The first one is "[" where nothing but blanks stands before it, after `skip` characters; else it is "{". With
    `num_open` so many were opened before.
    """

    def __init__(self, skip: int, quotes: str = '"', num_open: int = 0) -> None:
        self._skip = skip
        self._quotes = quotes
        self._depth = num_open
        self._brackets: _Outside | None = None  # behind the first one
        if num_open:
            self._brackets = _Outside(_BRACKETS, quotes, skip, max_chars=1)

    def find(self, stretch: str) -> int | None:
        if self._brackets is None:
            start = self._start(stretch)
            if start is None:
                return None
            self._brackets, self._depth = _Outside(_BRACKETS, self._quotes, start, max_chars=1), 1
        while self._depth:
            found = self._brackets.next(stretch)
            if found is None:
                return None
            self._depth += 1 if found[0] in "([{" else -1
        return self._brackets.at

    def _start(self, stretch: str) -> int | None:
        """Behind the first one."""
        first = re.compile(r"\s*\[").match(stretch, self._skip)
        return first.end() if first else stretch.find("{", self._skip) + 1 or None


class _Outside:
    """What matches a pattern outside of strings, one after the other, from `at` on."""

    def __init__(self, pattern: str, quotes: str, at: int, *, max_chars: int) -> None:
        """Strings stand in any of `quotes`; a match has `max_chars` characters at most."""
        self.at = at
        self._quotes = quotes
        self._mark = re.compile(f"[{quotes}]|{pattern}" if quotes else pattern)
        self._max_chars = max_chars
        self._string: _OpenString | None = None

    def next(self, stretch: str) -> re.Match[str] | None:
        while True:
            if self._string is not None:
                end = self._string.find(stretch)
                if end is None:
                    return None
                self.at, self._string = end, None
            found = self._mark.search(stretch, self.at)
            if found is None:
                self.at = max(self.at, len(stretch) - self._max_chars + 1)
                return None
            self.at = found.end()
            if found[0] not in self._quotes:
                return found
            self._string = _OpenString(self.at, found[0])


class _OpenString:
    """Behind the quote that closes a string, whose contents begin at `start`."""

    def __init__(self, start: int, quote: str) -> None:
        self._at = start
        self._mark = re.compile(rf"[\\{quote}]")

    def find(self, stretch: str) -> int | None:
        while True:
            found = self._mark.search(stretch, self._at)
            if found is None:
                self._at = len(stretch)
                return None
            if found[0] != "\\":
                return found.end()
            if found.end() == len(stretch):  # what is escaped is still to come
                self._at = found.start()
                return None
            self._at = found.end() + 1
