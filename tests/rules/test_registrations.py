"""Seats and the waiting list, over random histories, against a plain queue."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, Statements, transaction
from app.models.events.registrations import RegistrationCreate
from app.models.events.service_events import EventUpdate, ServiceEvent
from app.models.membership.members import Member
from app.problems import Invalid
from app.scopes import Acting, Scope
from app.services.events import event_drafts, registrations
from tests.factories.callers import DISTRICT, make_caller
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_PEOPLE = 6
_person = st.integers(0, _PEOPLE - 1)
_capacity = st.none() | st.integers(1, _PEOPLE)
_step = st.one_of(
    st.tuples(st.just("register"), _person),
    st.tuples(st.just("cancel"), _person),
    st.tuples(st.just("capacity"), _capacity),
)
Step = tuple[Literal["register", "cancel", "capacity"], int | None]


@dataclass
class Queue:
    """What a clerk with a list and a pencil would do."""

    capacity: int | None
    seated: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    def register(self, person: int) -> None:
        if person in self.seated or person in self.waiting:
            return
        is_full = self.capacity is not None and len(self.seated) >= self.capacity
        (self.waiting if is_full else self.seated).append(person)

    def cancel(self, person: int) -> None:
        for line in (self.seated, self.waiting):
            if person in line:
                line.remove(person)
        self.fill()

    def seat(self, capacity: int | None) -> None:
        if capacity is not None and capacity < len(self.seated):
            return
        self.capacity = capacity
        self.fill()

    def fill(self) -> None:
        while self.waiting and (self.capacity is None or len(self.seated) < self.capacity):
            self.seated.append(self.waiting.pop(0))


_SCOPE = Scope(Acting.DISTRICT, DISTRICT)


@dataclass
class Held:
    """The same event in the database."""

    database: Database
    event: ServiceEvent
    members: list[Member]
    version: int = 1

    async def take(self, step: Step) -> None:
        name, value = step
        facts: dict[str, Any] = {"event_id": self.event.id}
        async with transaction(self.database, _SCOPE) as session:
            if name == "capacity":
                body = EventUpdate(capacity=value)
                facts |= {"version": self.version, "body": body, "now": clock.now()}
                await event_drafts.update(session, make_caller(), **facts)
                self.version += 1
                return
            assert value is not None
            member_id = self.members[value].id
            if name == "register":
                facts |= {"body": RegistrationCreate(member_id=member_id), "now": clock.now()}
                await registrations.register(session, make_caller(), **facts)
            elif (version := await self._version(session, value)) is not None:
                facts |= {"member_id": member_id, "version": version, "now": clock.now()}
                await registrations.cancel(session, make_caller(), **facts)

    async def _version(self, session: AsyncSession, person: int) -> int | None:
        sql = "select version from registrations where event_id = :event_id and member_id = :id"
        params = {"event_id": self.event.id, "id": self.members[person].id}
        version: int | None = await session.scalar(text(sql), params)
        return version

    async def standing(self) -> tuple[set[int], list[int]]:
        rows = await Statements(self.database.pool, _SCOPE).fetch(
            "select member_id, status from registrations where event_id = :event_id"
            " order by position",
            {"event_id": self.event.id},
        )
        people = {member.id: number for number, member in enumerate(self.members)}
        lines: dict[str, list[int]] = {"registered": [], "waiting": [], "cancelled": []}
        for row in rows:
            lines[row["status"]].append(people[row["member_id"]])
        return set(lines["registered"]), lines["waiting"]


async def _hold(database: Database, capacity: int | None) -> Held:
    async with transaction(database, _SCOPE) as session:
        association = await make_association(session)
        members = [await make_member(session, association) for _ in range(_PEOPLE)]
        event = await make_event(session, status="published", capacity=capacity)
    return Held(database, event, members)


@given(capacity=_capacity, steps=st.lists(_step, max_size=25))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_seats_and_the_waiting_list_are_those_of_a_plain_queue(
    database: Database, capacity: int | None, steps: list[Step]
) -> None:
    queue, held = Queue(capacity), await _hold(database, capacity)
    acts: dict[str, Any] = {
        "register": queue.register,
        "cancel": queue.cancel,
        "capacity": queue.seat,
    }
    for step in steps:
        with suppress(Invalid):  # fewer seats than are taken
            await held.take(step)
        acts[step[0]](step[1])
        assert await held.standing() == (set(queue.seated), queue.waiting)
