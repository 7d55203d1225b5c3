"""The table of corrections refuses what cannot be."""

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.membership.corrections import make_correction
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association


@pytest.fixture
async def stored(session: AsyncSession, keyring: Keyring) -> None:
    """A correction that waits, an event and a round."""
    member = await make_member(session, await make_association(session))
    await make_event(session, await make_round(session))
    await make_correction(session, keyring, member)
    await session.commit()


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    "facts",
    [
        "status = 'accepted'",
        "status = 'refused', closed_at = created_at",
        "status = 'withdrawn', closed_at = created_at, answered_by = 'o'",
        "closed_at = created_at",
        "answered_by = 'o'",
        "applied = true",
        "status = 'refused', closed_at = created_at, answered_by = 'o', applied = true",
        "said_sealed = null",
        "answer_sealed = 'x'",
        "subject = 'phone'",
        "event_id = (select id from service_events)",
        "round_id = (select id from exam_rounds)",
        "subject = 'attendance', round_id = (select id from exam_rounds)",
    ],
)
async def test_it_refuses_what_cannot_be(owner: Database, facts: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.pool.execute(f"update corrections set {facts}")


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("column", ["event_id", "round_id", "member_id"])
async def test_it_points_only_at_what_is_there(owner: Database, column: str) -> None:
    subject = {"event_id": "attendance", "round_id": "excuse", "member_id": "name"}[column]
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await owner.pool.execute(
            f"update corrections set {column} = $1, subject = $2", clock.new_id(), subject
        )


@pytest.mark.usefixtures("stored")
async def test_of_one_thing_one_correction_is_open(owner: Database) -> None:
    again = (
        "insert into corrections select (jsonb_populate_record(null::corrections,"
        " to_jsonb(c) || jsonb_build_object('id', $1::text))).* from corrections c"
    )
    with pytest.raises(asyncpg.UniqueViolationError, match="uq_corrections_open"):
        await owner.pool.execute(again, str(clock.new_id()))
    await owner.pool.execute("update corrections set status = 'withdrawn', closed_at = created_at")
    for _ in "ab":
        await owner.pool.execute(f"{again} limit 1", str(clock.new_id()))
