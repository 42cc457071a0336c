"""The forms of answers, compiled beside the steps."""

from collections import OrderedDict
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from aphrodite.domain.errors import FormError
from aphrodite.domain.ports import Grammars, TokenMatcher
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

T = TypeVar("T")

_NUM_THREADS = 2
_MAX_KEPT = 64  # forms
_MAX_KEPT_CHARS = 1 << 22  # of all of them together


class Forms(Generic[T]):
    """Has forms compiled in threads of its own, for others who wait for them.

    Those that were asked for last are kept, failures among them. Called by the thread that drives the engine.
    """

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="aphrodite-grammar")
        self._kept: OrderedDict[StructuredOutputs, Future[TokenMatcher]] = OrderedDict()
        self._num_chars = 0
        self._waiting: list[tuple[T, Future[TokenMatcher]]] = []

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def compile(self, form: StructuredOutputs) -> Future[TokenMatcher]:
        """A matcher to be copied, or a FormError."""
        future = self._kept.get(form)
        if future is None:
            future = self._kept[form] = self._threads.submit(self._grammars.compile, form)
            self._num_chars += form.num_chars
            while len(self._kept) > _MAX_KEPT or (self._num_chars > _MAX_KEPT_CHARS and len(self._kept) > 1):
                dropped, _ = self._kept.popitem(last=False)
                self._num_chars -= dropped.num_chars
        self._kept.move_to_end(form)
        return future

    def wait_for(self, form: StructuredOutputs, who: T) -> None:
        self._waiting.append((who, self.compile(form)))

    def ready(self, timeout_s: float) -> list[tuple[T, TokenMatcher | FormError]]:
        """Who waits no more, and for what it did; waits for the first so many seconds at most."""
        wait([future for _, future in self._waiting], timeout_s, FIRST_COMPLETED)
        done = [(who, _outcome(future)) for who, future in self._waiting if future.done()]
        self._waiting = [(who, future) for who, future in self._waiting if not future.done()]
        return done

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _outcome(future: Future[TokenMatcher]) -> TokenMatcher | FormError:
    try:
        return future.result()
    except FormError as error:
        return error
