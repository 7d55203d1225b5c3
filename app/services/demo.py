"""The demo district: Nanhai with the associations of the source, and people who do not exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Database, Statements
from app.problems import Problem
from app.scopes import Acting, Scope
from app.services import (
    areas,
    demo_calendar,
    demo_facts,
    demo_history,
    demo_people,
    demo_places,
    demo_thanks,
)
from app.services.areas import AreaLine
from app.services.demo_facts import CLOSED, CURRENT, Kind, Progress, demo_id

DISTRICT = demo_facts.DISTRICT
SCOPE = Scope(Acting.DISTRICT, DISTRICT, "demo")
TOWN = "440605124000"
"""狮山, where the showcase lies."""

_SHOWCASE = (
    "select e.association_id, e.id as event_id, m.id as member_id, r.id as round_id,"
    " p.id as policy_id"
    " from service_events e, exam_rounds r, incentive_policies p, members m"
    " where e.district_code = :district_code and e.round_sequence = :current"
    " and e.status = 'in_progress'"
    " and r.district_code = :district_code and r.sequence = :last"
    " and p.district_code = :district_code and p.id = :policy_id"
    " and m.district_code = :district_code and m.association_id = e.association_id"
    " and m.status = 'active'"
    " order by (select count(*) from attendances a where a.district_code = :district_code"
    " and a.member_id = m.id and a.round_sequence > :last - 4 and a.voided_at is null) desc, m.id"
    " limit 1"
)
# Two services that start together on a new database load it once.
_ALONE = "select pg_advisory_xact_lock(7305812)"
_GROWN = ("members", "memberships", "attendances", "excuses", "registrations", "payouts")


class DatabaseNotEmpty(Problem):
    """The demo is only loaded into a database that holds nothing yet."""

    code, status = "database_not_empty", 409


@dataclass(frozen=True)
class Showcase:
    """What there is to try in the demo."""

    association_id: UUID
    event_id: UUID
    member_id: UUID
    round_id: UUID
    policy_id: UUID


async def is_new(session: AsyncSession) -> bool:
    """Tell whether nothing was ever loaded."""
    return (await session.execute(text("select 1 from areas limit 1"))).first() is None


async def load(
    session: AsyncSession,
    keyring: Keyring,
    *,
    members: int,
    area_lines: Sequence[AreaLine],
    progress: Progress,
) -> None:
    """Fill an empty database; the same number of members gives the same district anywhere.

    Raises DatabaseNotEmpty.
    """
    await session.execute(text(_ALONE))
    if not await is_new(session):
        raise DatabaseNotEmpty
    await areas.load(session, area_lines)
    places = demo_places.plan(area_lines)
    await demo_places.store(session, places)
    await demo_calendar.store(session, places)
    await demo_people.store(session, keyring, places, total=members, progress=progress)
    await demo_history.store(session, progress=progress)
    await demo_thanks.store(session)
    progress("payout runs", 1, 1)


async def tidy(owner: Database) -> None:
    """Let the planner know what was loaded; outside any transaction, and the owner's to do."""
    for table in _GROWN:
        await owner.pool.execute(f"vacuum (analyze) {table}")


async def showcase(statements: Statements) -> Showcase | None:
    """Give what there is to try; None when the database is not the demo."""
    row = await statements.fetch_row(
        _SHOWCASE,
        {
            "district_code": DISTRICT,
            "current": CURRENT.sequence,
            "last": CLOSED[-1].sequence,
            "policy_id": demo_id(Kind.POLICY, 1),
        },
    )
    return None if row is None else Showcase(**row)
