"""When a process that died is started again."""

from aphrodite.engine.restarts import DeathRecord, RestartPolicy

POLICY = RestartPolicy(max_deaths=5, window_s=100.0, first_delay_s=0.5, max_delay_s=3.0)


def test_delays_double_up_to_a_bound_until_it_is_given_up() -> None:
    record = DeathRecord(POLICY)
    assert [record.add(now_s) for now_s in (0.0, 1.0, 2.0, 3.0, 4.0)] == [0.5, 1.0, 2.0, 3.0, None]


def test_old_deaths_are_forgiven() -> None:
    record = DeathRecord(POLICY)
    assert [record.add(100.0 * day) for day in range(20)] == [0.5] * 20


def test_deaths_within_the_window_count() -> None:
    record = DeathRecord(POLICY)
    assert [record.add(40.0 * time) for time in range(5)] == [0.5, 1.0, 2.0, 2.0, 2.0]
