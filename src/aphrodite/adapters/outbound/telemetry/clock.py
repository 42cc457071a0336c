"""The system's clock."""

import time


class SystemClock:
    """The monotonic clock of the machine; implements the Clock port."""

    def now_s(self) -> float:
        """Seconds since an unknown moment; never goes back."""
        return time.monotonic()
