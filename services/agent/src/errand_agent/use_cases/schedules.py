"""Keeping schedules, and beginning their runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter  # type: ignore[import-untyped]
from errand_common.db import Database, utc_now
from errand_common.errors import Conflict, ErrandError, InvalidArgument, NotFound, Unavailable
from errand_common.principal import Principal, acting_as, current_principal

from errand_agent.domain.schedules import MOST_SCHEDULES, Schedule
from errand_agent.storage.models import ScheduleRow
from errand_agent.storage.schedules import ScheduleRepository, to_schedule
from errand_agent.storage.timers import Timer, TimerRepository
from errand_agent.use_cases.access import visible_owner
from errand_agent.use_cases.agents import AgentUseCases
from errand_agent.use_cases.conversations import ConversationUseCases
from errand_agent.use_cases.runs import RunUseCases

KIND = "schedule"
_FIELDS = 5


class ScheduleUseCases:
    """Schedules of the caller."""

    def __init__(
        self, database: Database, runs: RunUseCases, agents: AgentUseCases, conversations: ConversationUseCases
    ) -> None:
        self._database, self._runs = database, runs
        self._agents, self._conversations = agents, conversations

    async def put(self, schedule: Schedule) -> Schedule:
        """Makes or replaces a schedule. Raises InvalidArgument, NotFound, Conflict."""
        following = next_time(schedule, utc_now())
        if not schedule.message.strip():
            raise InvalidArgument("schedule.message: say something.", field="schedule.message")
        await self._agents.get(schedule.agent)
        if schedule.conversation_id:
            await self._conversations.get(schedule.conversation_id)
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            schedules, timers = ScheduleRepository(session, principal.tenant_id), TimerRepository(session)
            if await self._found(schedules, schedule.name) is None and await schedules.count() >= MOST_SCHEDULES:
                raise Conflict(
                    f"There are {MOST_SCHEDULES} schedules already; delete one.", resource="schedule", id=schedule.name
                )
            next_at = None if schedule.paused else following
            row = await schedules.put(replace(schedule, next_at=next_at), principal)
            if next_at is None:
                await timers.remove(KIND, principal.tenant_id, row.name)
            else:
                await timers.put(Timer(KIND, principal.tenant_id, row.name, next_at))
            return to_schedule(row)

    async def _found(self, schedules: ScheduleRepository, name: str) -> ScheduleRow | None:
        """The row, if there is one; raises Conflict when the name is another person's."""
        row = await schedules.row(name)
        if row is not None and visible_owner(current_principal()) not in (None, row.principal_id):
            raise Conflict(
                "name: somebody else has a schedule of that name; choose another.", resource="schedule", id=name
            )
        return row

    async def get(self, name: str) -> Schedule:
        """Raises NotFound."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            return to_schedule(await self._visible(ScheduleRepository(session, principal.tenant_id), name))

    async def _visible(self, schedules: ScheduleRepository, name: str) -> ScheduleRow:
        row = await schedules.row(name)
        if row is None or visible_owner(current_principal()) not in (None, row.principal_id):
            raise NotFound("schedule", name)
        return row

    async def all(self) -> list[Schedule]:
        """The caller's, for an admin the tenant's, by name."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            return await ScheduleRepository(session, principal.tenant_id).all(visible_owner(principal))

    async def delete(self, name: str) -> None:
        """Raises NotFound."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            schedules = ScheduleRepository(session, principal.tenant_id)
            await schedules.delete(await self._visible(schedules, name))
            await TimerRepository(session).remove(KIND, principal.tenant_id, name)

    async def fire(self, timer: Timer) -> datetime | None:
        """Begins the run of this time, once; what was missed meanwhile is not made up for."""
        async with self._database.transaction(timer.tenant, read_only=True) as session:
            row = await session.get(ScheduleRow, (timer.tenant, timer.thing))
        if row is None or row.next_at is None:
            return None
        if row.next_at > utc_now():
            # Its run was begun, and then the process died before the timer was set anew.
            return row.next_at
        run_id, error = await self._begin(row, row.next_at)
        following = next_time(to_schedule(row), utc_now())
        async with self._database.transaction(timer.tenant) as session:
            stored = await ScheduleRepository(session, timer.tenant).row(timer.thing)
            if stored is not None:
                stored.last_run_id, stored.last_error = run_id or stored.last_run_id, error
                stored.next_at = following if stored.next_at is not None else None
        return following

    async def _begin(self, row: ScheduleRow, due_at: datetime) -> tuple[str, str]:
        """The run's id, or why there is none. Raises Unavailable: that is tried again."""
        schedule = to_schedule(row)
        principal = Principal(row.tenant_id, row.principal_id, frozenset(row.roles), frozenset(row.scopes))
        try:
            with acting_as(principal):
                run_id = await self._runs.start(
                    agent=schedule.agent,
                    conversation_id=schedule.conversation_id,
                    message=schedule.message,
                    idempotency_key=f"schedule:{row.name}:{due_at.isoformat()}",
                    priority=schedule.priority,
                    queues=True,
                )
        except Unavailable:
            raise
        except ErrandError as error:
            return "", error.message
        return run_id, ""


def next_time(schedule: Schedule, after: datetime) -> datetime:
    """When it is next. Raises InvalidArgument for times that cannot be read or never come."""
    if len(schedule.cron.split()) != _FIELDS or not croniter.is_valid(schedule.cron):
        raise InvalidArgument(
            "schedule.cron: give minute, hour, day of month, month and day of week, such as '0 7 * * mon-fri'.",
            field="schedule.cron",
        )
    try:
        zone = ZoneInfo(schedule.time_zone or "UTC")
    except (LookupError, ValueError, OSError) as error:
        raise InvalidArgument(
            "schedule.time_zone: give a zone's name, such as Europe/Berlin.", field="schedule.time_zone"
        ) from error
    try:
        following: datetime = croniter(schedule.cron, after.astimezone(zone)).get_next(datetime)
    except CroniterError as error:
        raise InvalidArgument("schedule.cron: this time never comes.", field="schedule.cron") from error
    return following.astimezone(UTC)
