"""The forms of answers, checked and compiled beside the steps."""

from collections import OrderedDict, deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from copy import copy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aphrodite.domain.errors import AphroditeError, WorkerError
from aphrodite.domain.ports import Grammars, TokenMatcher
from aphrodite.domain.prompting.structured_outputs import CheckedForm, StructuredOutputs

T = TypeVar("T")

_NUM_AT_ONCE = 2  # that are checked, and as many that are compiled
_MAX_KEPT = 64  # forms that nobody uses
_MAX_KEPT_CHARS = 1 << 22  # of those together
_MAX_BYTES = 512 * 2**20  # of all that are compiled, in use or kept; one takes less
_WAIT_S = 1.0


@dataclass(slots=True, eq=False)
class _Entry:
    """A form on its way: it waits for its client's turn, is checked, waits for memory, is compiled."""

    form: StructuredOutputs
    num_users: int = 0  # sequences
    checking: Future[CheckedForm] | None = None
    compiling: Future[TokenMatcher] | None = None
    num_bytes: int = 0  # taken by what is compiled

    @property
    def last_future(self) -> "Future[Any] | None":
        return self.compiling or self.checking

    @property
    def outcome(self) -> TokenMatcher | AphroditeError | None:
        """None as long as there is none."""
        last = self.last_future
        if last is None or not last.done():
            return None
        error = last.exception()  # not raised: it is kept, and would keep whoever it passed by
        if isinstance(error, AphroditeError):
            return error
        if error is not None:
            raise error
        return None if self.compiling is None else self.compiling.result()


class Forms(Generic[T]):
    """Has forms compiled in threads of its own, for others who wait for them.

    Clients take turns. All that is compiled is bounded in memory: where that is short, a form waits until others are
    not used any more. Those that were used last are kept, failures among them. Called by the thread that drives the
    engine.
    """

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self._checkers = ThreadPoolExecutor(_NUM_AT_ONCE, thread_name_prefix="aphrodite-form-check")
        self._compilers = ThreadPoolExecutor(_NUM_AT_ONCE, thread_name_prefix="aphrodite-form")
        self._entries: dict[StructuredOutputs, _Entry] = {}
        self._unchecked: OrderedDict[str, deque[_Entry]] = OrderedDict()  # by client; whose turn it is first
        self._being_checked: list[_Entry] = []
        self._uncompiled: list[_Entry] = []  # for want of memory
        self._kept: OrderedDict[StructuredOutputs, _Entry] = OrderedDict()  # without users; the last used at the end
        self._num_bytes = 0
        self._waiting: list[tuple[T, _Entry]] = []

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def compile(self, form: StructuredOutputs) -> None:
        """Wait until a form is compiled, while nobody else waits. Raises FormError or WorkerError."""
        entry = self._use(form, "", 1)
        while entry.outcome is None:
            self._advance()
            wait([entry.last_future] if entry.last_future else [], _WAIT_S)
        self.leave(form)
        if isinstance(entry.outcome, AphroditeError):
            raise copy(entry.outcome)  # the kept one would keep whoever it passes by

    def wait_for(self, form: StructuredOutputs, who: T, client: str, num_users: int) -> None:
        """Have `ready` say when the form is there; every user is to `leave` it in the end."""
        self._waiting.append((who, self._use(form, client, num_users)))

    def leave(self, form: StructuredOutputs) -> None:
        """One of a form's users has ended, whether it was ready or not."""
        entry = self._entries[form]
        entry.num_users -= 1
        if not entry.num_users:
            self._waiting = [(who, other) for who, other in self._waiting if other is not entry]
            if entry.compiling is not None or entry.outcome is not None:
                self._keep(entry)

    def ready(self, timeout_s: float) -> list[tuple[T, TokenMatcher | AphroditeError]]:
        """Who waits no more, and for what it did; waits for a change so many seconds at most."""
        self._advance()
        futures = [entry.last_future for entry in (*self._being_checked, *(entry for _, entry in self._waiting))]
        wait({future for future in futures if future and not future.done()}, timeout_s, FIRST_COMPLETED)
        self._advance()
        outcomes = [(who, entry, entry.outcome) for who, entry in self._waiting]
        self._waiting = [(who, entry) for who, entry, outcome in outcomes if outcome is None]
        return [(who, outcome) for who, _, outcome in outcomes if outcome is not None]

    def close(self) -> None:
        self._grammars.close()
        self._checkers.shutdown(wait=False, cancel_futures=True)
        self._compilers.shutdown(wait=False, cancel_futures=True)

    def _use(self, form: StructuredOutputs, client: str, num_users: int) -> _Entry:
        entry = self._entries.get(form)
        if entry is None:
            entry = self._entries[form] = _Entry(form)
            self._unchecked.setdefault(client, deque()).append(entry)
        entry.num_users += num_users
        self._kept.pop(form, None)
        return entry

    def _advance(self) -> None:
        """Begin what can be begun."""
        for entry in [entry for entry in self._being_checked if entry.checking is not None and entry.checking.done()]:
            self._being_checked.remove(entry)
            if entry.outcome is None:
                self._uncompiled.append(entry)
            elif not entry.num_users:
                self._keep(entry)
        while len(self._being_checked) < _NUM_AT_ONCE and (next_entry := self._next_unchecked()) is not None:
            next_entry.checking = self._checkers.submit(self._grammars.check, next_entry.form)
            self._being_checked.append(next_entry)
        for entry in list(self._uncompiled):
            assert entry.checking is not None
            checked = entry.checking.result()
            if not entry.num_users:
                self._uncompiled.remove(entry)
                del self._entries[entry.form]
            elif self._take(checked.num_bytes):
                self._uncompiled.remove(entry)
                entry.num_bytes = checked.num_bytes
                entry.compiling = self._compilers.submit(self._grammars.compile, checked)

    def _next_unchecked(self) -> _Entry | None:
        """Of the client whose turn it is."""
        while self._unchecked:
            client, entries = self._unchecked.popitem(last=False)
            entry = entries.popleft()
            if entries:
                self._unchecked[client] = entries
            if entry.num_users:
                return entry
            del self._entries[entry.form]
        return None

    def _take(self, num_bytes: int) -> bool:
        """Whether there is that much memory, without what is kept if need be."""
        while self._kept and self._num_bytes + num_bytes > _MAX_BYTES:
            self._drop_oldest()
        is_there = self._num_bytes + num_bytes <= _MAX_BYTES
        self._num_bytes += num_bytes if is_there else 0
        return is_there

    def _keep(self, entry: _Entry) -> None:
        if isinstance(entry.outcome, WorkerError):  # the next time it may be found out
            del self._entries[entry.form]
            return
        self._kept[entry.form] = entry
        while len(self._kept) > _MAX_KEPT or sum(form.num_chars for form in self._kept) > _MAX_KEPT_CHARS:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        form, entry = self._kept.popitem(last=False)
        del self._entries[form]
        self._num_bytes -= entry.num_bytes
