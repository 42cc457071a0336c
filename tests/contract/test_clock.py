"""What every Clock promises."""

import pytest
from tests.fakes import FakeClock

from aphrodite.adapters.outbound.telemetry.clock import SystemClock
from aphrodite.domain.ports import Clock


@pytest.mark.parametrize("clock", [FakeClock(), SystemClock()], ids=["fake", "system"])
def test_time_never_goes_back(clock: Clock) -> None:
    times = [clock.now_s() for _ in range(1000)]
    assert times == sorted(times)
