"""Where a stretch of tool calls ends. Each character is looked at once, however often a stretch is shown."""

import re


class ClosingTag:
    """Behind the first `tag` after `skip` characters; `in_json`: that stands in no string in double quotes."""

    def __init__(self, tag: str, skip: int, *, in_json: bool) -> None:
        self._tag = tag
        self._mark = re.compile('"|' + re.escape(tag) if in_json else re.escape(tag))
        self._at = skip
        self._string: _OpenString | None = None

    def find(self, stretch: str) -> int | None:
        while True:
            if self._string is not None:
                end = self._string.find(stretch)
                if end is None:
                    return None
                self._at, self._string = end, None
            found = self._mark.search(stretch, self._at)
            if found is None:
                self._at = max(self._at, len(stretch) - len(self._tag) + 1)
                return None
            if found[0] == self._tag:
                return found.end()
            self._string = _OpenString(found.end(), '"')


class ClosingBracket:
    """Behind the bracket that closes the first one, counted outside of strings.

    The first one is "[" where nothing but blanks stands before it, after `skip` characters; else it is "{".
    """

    def __init__(self, skip: int, quotes: str = '"') -> None:
        self._at = skip
        self._depth = 0
        self._mark = re.compile(f"[][(){{}}{quotes}]")
        self._string: _OpenString | None = None

    def find(self, stretch: str) -> int | None:
        if not self._depth and not self._begin(stretch):
            return None
        while True:
            if self._string is not None:
                end = self._string.find(stretch)
                if end is None:
                    return None
                self._at, self._string = end, None
            found = self._mark.search(stretch, self._at)
            if found is None:
                self._at = len(stretch)
                return None
            self._at = found.end()
            if found[0] in "([{":
                self._depth += 1
            elif found[0] in ")]}":
                self._depth -= 1
                if not self._depth:
                    return self._at
            else:
                self._string = _OpenString(self._at, found[0])

    def _begin(self, stretch: str) -> bool:
        first = re.compile(r"\s*\[").match(stretch, self._at)
        at = first.end() if first else stretch.find("{", self._at) + 1
        if at:
            self._at, self._depth = at, 1
        return bool(at)


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
