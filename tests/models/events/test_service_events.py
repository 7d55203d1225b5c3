"""What the tables of events, registrations and attendances never hold."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database_errors import constraint_name
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_NOBODY = "'00000000-0000-7000-8000-000000000007'"


async def _breaks(session: AsyncSession, constraint: str, sql: str, **params: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(sql), params)
    assert constraint_name(caught.value) == constraint


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("kind = 'haircut'", "ck_service_events_kind"),
        ("status = 'over'", "ck_service_events_status"),
        ("status = 'cancelled'", "ck_service_events_reason"),
        ("ends_at = starts_at", "ck_service_events_period"),
        ("capacity = 0", "ck_service_events_capacity"),
        (
            "registration_opens_at = starts_at, registration_closes_at = starts_at",
            "ck_service_events_registration",
        ),
        ("kind = 'lecture'", "ck_service_events_round_of_health_exam"),
        ("round_sequence = null", "ck_service_events_round_of_health_exam"),
        ("round_sequence = 2", "fk_service_events_round"),
        ("area_code = '999999999999'", "fk_service_events_area"),
        (f"association_id = {_NOBODY}", "fk_service_events_association"),
        ("district_code = '440604000000'", "fk_service_events_round"),
    ],
)
async def test_an_event_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await make_event(session, await make_round(session))
    await _breaks(session, constraint, f"update service_events set {change}")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("status = 'perhaps'", "ck_registrations_status"),
        ("position = 1", "uq_registrations_position"),
        (f"event_id = {_NOBODY}", "fk_registrations_event"),
        (f"member_id = {_NOBODY}", "fk_registrations_member"),
    ],
)
async def test_a_registration_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    association, event = await make_association(session), await make_event(session)
    for _ in range(2):
        await make_registration(session, event, await make_member(session, association))
    sql = f"update registrations set {change} where position = 2"
    await _breaks(session, constraint, sql)


async def test_a_member_has_one_place_at_an_event(session: AsyncSession) -> None:
    association, event = await make_association(session), await make_event(session)
    first, second = (
        await make_member(session, association),
        await make_member(session, association),
    )
    await make_registration(session, event, first)
    await make_registration(session, event, second)
    sql = "update registrations set member_id = :member_id"
    await _breaks(session, "pk_registrations", sql, member_id=first.id)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("method = 'hearsay'", "ck_attendances_method"),
        ("voided_at = recorded_at", "ck_attendances_void"),
        ("voided_at = recorded_at, voided_by = 'officer-1'", "ck_attendances_void"),
        ("void_reason = '误扫'", "ck_attendances_void"),
        (f"event_id = {_NOBODY}", "fk_attendances_event"),
        (f"member_id = {_NOBODY}", "fk_attendances_member"),
        ("district_code = '440604000000'", "fk_attendances_event"),
    ],
)
async def test_an_attendance_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    member = await make_member(session, await make_association(session))
    await make_attendance(session, await make_event(session), member)
    await _breaks(session, constraint, f"update attendances set {change}")


async def test_a_member_is_at_an_event_once(session: AsyncSession) -> None:
    association, event = await make_association(session), await make_event(session)
    first, second = (
        await make_member(session, association),
        await make_member(session, association),
    )
    await make_attendance(session, event, first)
    await make_attendance(session, event, second)
    sql = "update attendances set member_id = :member_id"
    await _breaks(session, "pk_attendances", sql, member_id=first.id)


async def test_a_member_attends_a_round_once_unless_voided(session: AsyncSession) -> None:
    member = await make_member(session, await make_association(session))
    held = await make_round(session)
    void = {"voided_at": clock.now(), "voided_by": "officer-1", "void_reason": "误扫"}
    await make_attendance(session, await make_event(session, held), member)
    for _ in range(2):
        await make_attendance(session, await make_event(session, held), member, **void)
    for _ in range(2):
        await make_attendance(session, await make_event(session), member)
    sql = "update attendances set voided_at = null, voided_by = null, void_reason = null"
    await _breaks(session, "uq_attendances_round", sql)
