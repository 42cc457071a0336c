"""How much of prompts a step runs, so that those who wait for its end do not wait long."""

_LONE_STEP_S = 0.5  # while nobody waits, but somebody may come
_SHARED_STEP_S = 0.1
_MIN_TOKENS = 128  # of less a device is not busy: a step takes nearly as long
_NEWS_WEIGHT = 0.2


class StepSize:
    """The prompt tokens of a step, by what tokens took lately: `most`, or a half, a quarter ... of it.

    By halves, because backends have programs of few sizes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._token_s = 0.0

    def note(self, num_tokens: int, duration_s: float) -> None:
        """A step of so many tokens took so long. Small steps tell nothing of what a token takes."""
        if num_tokens >= min(_MIN_TOKENS, self._most):
            token_s = duration_s / num_tokens
            self._token_s += (token_s - self._token_s) * (_NEWS_WEIGHT if self._token_s else 1.0)

    def num_tokens(self, *, is_shared: bool) -> int:
        """For a step that one owner, or several, wait for."""
        size, longest_s = self._most, _SHARED_STEP_S if is_shared else _LONE_STEP_S
        while size // 2 >= _MIN_TOKENS and size * self._token_s > longest_s:
            size //= 2
        return size
