"""Memory for the log-probabilities of all answers that are kept until they are whole."""

from types import TracebackType

from starlette.types import ASGIApp, Receive, Scope, Send

from aphrodite.adapters.inbound.http.errors import LogprobMemoryError

_MAX_KEPT = 1 << 20  # candidates; some 250 bytes each, and as much again while they are written


class LogprobShare:
    """What one answer keeps, until it was sent."""

    def __init__(self, budget: "LogprobBudget") -> None:
        self._budget = budget
        self.num_kept = 0
        self.is_lost = False  # to others

    def take(self, count: int) -> None:
        """Keep so many more. Raises LogprobMemoryError where others need the memory, and this answer has most of it."""
        if count and not self.is_lost:
            self._budget._take(self, count)
        if self.is_lost:
            raise LogprobMemoryError(
                "The log-probabilities of all answers take more memory than there is for them, and this answer has the "
                "most of them; ask for less, or for a stream."
            )

    def __enter__(self) -> "LogprobShare":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget._give_back(self)


class LogprobBudget:
    """At most `max_kept` log-probabilities at once. Where there is no room, the answer that keeps the most is ended: so
    those who ask for little lose nothing to those who ask for much.
    """

    def __init__(self, max_kept: int = _MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._num_kept = 0
        self._shares: set[LogprobShare] = set()  # that keep some

    def share(self) -> LogprobShare:
        """For one answer; nothing is taken yet."""
        return LogprobShare(self)

    def _take(self, share: LogprobShare, count: int) -> None:
        share.num_kept += count
        self._num_kept += count
        self._shares.add(share)
        while self._num_kept > self._max_kept:
            largest = max(self._shares, key=lambda other: other.num_kept)
            largest.is_lost = True
            self._give_back(largest)  # it ends with its next token

    def _give_back(self, share: LogprobShare) -> None:
        if share in self._shares:
            self._shares.remove(share)
            self._num_kept -= share.num_kept


class KeptLogprobsLayer:
    """ASGI middleware: `state.kept_logprobs` is a request's share, given back once its answer was sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._budget = LogprobBudget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._budget.share() as share:
            scope["state"]["kept_logprobs"] = share
            await self._app(scope, receive, send)
