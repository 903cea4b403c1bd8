"""The scheduler's promises, under any order of arrivals, ends, cancellations and time."""

from __future__ import annotations

import pytest
from errand_common.errors import Overloaded
from errand_inference.domain.scheduler import Priority, Scheduler, Ticket
from hypothesis import given, settings
from hypothesis import strategies as st

NEVER = 1e9
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "finish", "cancel", "wait"]),
        st.sampled_from("abc"),
        st.sampled_from(list(Priority)),
        st.integers(0, 20),
    ),
    max_size=60,
)


def ticket(number: int, tenant: str = "a", priority: Priority = Priority.NORMAL, deadline: float = NEVER) -> Ticket:
    return Ticket(str(number), tenant, priority, deadline)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_bounds_deadlines_and_no_lost_ticket(events: list[tuple[str, str, Priority, int]]) -> None:
    scheduler = Scheduler(slots=2, capacity=4)
    now, number = 0.0, 0
    waiting: dict[str, Ticket] = {}
    running: list[str] = []
    for kind, tenant, priority, amount in events:
        now += amount if kind == "wait" else 0
        if kind == "submit":
            number += 1
            new = ticket(number, tenant, priority, now + amount)
            if len(waiting) >= 4:
                with pytest.raises(Overloaded):
                    scheduler.submit(new, now)
                continue
            scheduler.submit(new, now)
            waiting[new.id] = new
        elif kind == "finish" and running:
            scheduler.finish(running.pop(0), now)
        elif kind == "cancel" and waiting:
            gone = next(iter(waiting))
            assert scheduler.cancel(gone)
            del waiting[gone]
        plan = scheduler.plan(now)
        for started in plan.start:
            assert started.deadline > now
            del waiting[started.id]
            running.append(started.id)
        for late in plan.expired:
            assert late.deadline <= now
            del waiting[late.id]
        assert scheduler.running == len(running) <= 2
        assert scheduler.queued == len(waiting) <= 4
        assert len(running) == 2 or not waiting, "a slot is free while a ticket waits"


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.integers(20, 60), st.integers(0, 30))
def test_a_tenant_with_many_requests_delays_another_by_at_most_one_batch(slots: int, many: int, when: int) -> None:
    scheduler = Scheduler(slots, capacity=1000)
    for number in range(many):
        scheduler.submit(ticket(number, "greedy"), 0.0)
    running = [t.id for t in scheduler.plan(0.0).start]
    for _ in range(min(when, many - slots)):
        scheduler.finish(running.pop(0), 0.0)
        running += [t.id for t in scheduler.plan(0.0).start]
    scheduler.submit(ticket(9999, "modest"), 0.0)
    finished = 0
    while "9999" not in running:
        scheduler.finish(running.pop(0), 0.0)
        finished += 1
        running += [t.id for t in scheduler.plan(0.0).start]
    assert finished <= slots


def test_a_person_comes_before_a_batch_job_but_a_batch_job_does_not_starve() -> None:
    scheduler = Scheduler(slots=1, capacity=100, aging_seconds=5)
    scheduler.submit(ticket(0, "a", Priority.BATCH), 0.0)
    scheduler.submit(ticket(1, "a", Priority.INTERACTIVE), 0.0)
    assert [t.id for t in scheduler.plan(0.0).start] == ["1"]
    now = 0.0
    for number in range(2, 100):
        now += 1
        scheduler.submit(ticket(number, "a", Priority.INTERACTIVE), now)
        scheduler.finish(str(number - 1), now)
        started = scheduler.plan(now).start
        if started[0].id == "0":
            break
    assert now <= 15


def test_time_away_earns_no_credit() -> None:
    scheduler = Scheduler(slots=1, capacity=100)
    for number in range(20):
        scheduler.submit(ticket(number, "busy"), 0.0)
        scheduler.plan(0.0)
        scheduler.finish(str(number), 0.0)
    order = []
    for number in range(100, 104):
        scheduler.submit(ticket(number, "busy"), 1.0)
        scheduler.submit(ticket(number + 100, "new"), 1.0)
    for _ in range(8):
        (started,) = scheduler.plan(1.0).start
        order.append(started.tenant_id)
        scheduler.finish(started.id, 1.0)
    assert set(order[:4]) == {"busy", "new"}
    assert 1 <= order[:4].count("busy") <= 3


def test_retry_after_follows_the_measured_rate() -> None:
    scheduler = Scheduler(slots=1, capacity=2)
    for number in range(11):
        scheduler.submit(ticket(number), number * 0.5)
        scheduler.plan(number * 0.5)
        scheduler.finish(str(number), number * 0.5)
    for number in range(20, 23):
        scheduler.submit(ticket(number), 5.0)
        scheduler.plan(5.0)
    with pytest.raises(Overloaded) as refused:
        scheduler.submit(ticket(30), 5.0)
    assert refused.value.retry_after_seconds == pytest.approx(1.4, abs=0.3)


def test_the_table_of_tenants_does_not_grow_with_those_who_left() -> None:
    scheduler = Scheduler(slots=1, capacity=10)
    for number in range(1000):
        scheduler.submit(ticket(number, f"tenant-{number}"), float(number))
        scheduler.plan(float(number))
        scheduler.finish(str(number), float(number))
    assert len(scheduler._served) <= 2


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(Priority))), max_size=25))
def test_nobody_starves_while_others_keep_coming(slots: int, crowd: list[tuple[str, Priority]]) -> None:
    """Each second one is served and a new interactive request of another tenant comes."""
    scheduler = Scheduler(slots, capacity=1000, aging_seconds=5)
    for number, (tenant, priority) in enumerate(crowd):
        scheduler.submit(ticket(number, tenant, priority), 0.0)
    patient = ticket(9999, "patient", Priority.BATCH)
    scheduler.submit(patient, 0.0)
    now, running = 0.0, [t.id for t in scheduler.plan(0.0).start]
    while patient.id not in running:
        now += 1
        scheduler.submit(ticket(10_000 + int(now), f"new-{now}", Priority.INTERACTIVE), now)
        scheduler.finish(running.pop(0), now)
        running += [t.id for t in scheduler.plan(now).start]
        # Ten seconds make an interactive request of it; then those who came before it go first, once each.
        assert now <= 10 + len(crowd) + 15
