"""How often, and how soon, a process that dies is started again."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """The delay doubles with every death within the window; `max_deaths` of them are one too many."""

    max_deaths: int = 5
    window_s: float = 600.0
    first_delay_s: float = 0.5
    max_delay_s: float = 30.0


class DeathRecord:
    """Counts the deaths of the last `window_s` seconds."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._times_s: deque[float] = deque()

    def add(self, now_s: float) -> float | None:
        """Book a death; returns the seconds to wait before the next start, None when there is to be none."""
        policy, times_s = self._policy, self._times_s
        times_s.append(now_s)
        while times_s[0] <= now_s - policy.window_s:
            times_s.popleft()
        if len(times_s) >= policy.max_deaths:
            return None
        return min(policy.max_delay_s, policy.first_delay_s * 2.0 ** (len(times_s) - 1))
