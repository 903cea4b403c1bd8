"""What a replica may tell, judge and do, by the clock."""

from errand_agent.domain.pulse import DEAD_AFTER_SECONDS, STALLED_AFTER_SECONDS, STARTING_SECONDS, Pulse


def _started(at: float = 0.0) -> Pulse:
    pulse = Pulse(at, is_started=True)
    pulse.beaten(at)
    return pulse


def test_a_busy_loop_is_alive_and_one_that_stands_still_is_not() -> None:
    pulse = _started()
    assert pulse.may_beat(STALLED_AFTER_SECONDS)
    assert not pulse.may_beat(STALLED_AFTER_SECONDS + 1)


def test_a_replica_that_starts_has_longer() -> None:
    pulse = Pulse(0.0)
    assert pulse.may_beat(STARTING_SECONDS)
    assert not pulse.may_beat(STARTING_SECONDS + 1)
    pulse.is_started = True
    assert not pulse.may_beat(STARTING_SECONDS)


def test_runs_stand_still_from_the_moment_others_may_take_them() -> None:
    pulse = _started()
    assert pulse.holds(DEAD_AFTER_SECONDS - 0.1)
    assert not pulse.holds(DEAD_AFTER_SECONDS)
    pulse.beaten(DEAD_AFTER_SECONDS)
    assert pulse.holds(DEAD_AFTER_SECONDS)


def test_nothing_is_held_before_the_first_beat() -> None:
    assert not Pulse(0.0).holds(0.0)


def test_who_was_silent_judges_nobody_until_the_others_had_time_to_beat() -> None:
    pulse = _started()
    for second in range(2, 12, 2):
        pulse.beaten(second)
    assert pulse.may_judge(10.5)
    # The database was away for a minute.
    pulse.beaten(70.0)
    assert not pulse.may_judge(70.5)
    for second in range(72, 80, 2):
        pulse.beaten(second)
    assert pulse.may_judge(78.5)


def test_who_still_starts_judges_nobody() -> None:
    pulse = Pulse(0.0)
    for second in range(0, 22, 2):
        pulse.beaten(second)
    assert not pulse.may_judge(20.0)
