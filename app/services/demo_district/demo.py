"""The demo district: Nanhai with the associations of the source, and people who do not exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.identity import DEMO
from app.models.access.grants import GrantProvide
from app.problems import Problem
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.access import grants
from app.services.demo_district import (
    demo_calendar,
    demo_facts,
    demo_gifts,
    demo_history,
    demo_people,
    demo_places,
    demo_thanks,
)
from app.services.demo_district.demo_facts import (
    CLOSED,
    CURRENT,
    FOUNDED_ON,
    PRESENT,
    Kind,
    Progress,
    demo_id,
)
from app.services.organisation import areas
from app.services.organisation.areas import AreaLine
from app.services.privacy import privacy_notices

DISTRICT = demo_facts.DISTRICT
SCOPE = Scope(Acting.DISTRICT, DISTRICT, DEMO)
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
AREAS_OF_ROLE = {
    Role.GUIDE: TOWN,
    Role.TOWN_OFFICER: TOWN,
    Role.DISTRICT_OFFICER: DISTRICT,
    Role.FINANCE_CLERK: DISTRICT,
    Role.FINANCE_APPROVER: DISTRICT,
    Role.AUDITOR: DISTRICT,
    Role.DATA_PLATFORM: DISTRICT,
}
_WITHDRAW = text(
    "update grants set version = version + 1, updated_at = :now, revoked_at = :now,"
    f" revoked_by = '{DEMO}', revoke_reason = 'another to try' where district_code = :district_code"
    f" and subject = :subject and granted_by = '{DEMO}' and id <> :kept and revoked_at is null"
)
_GROWN = (
    "members", "memberships", "attendances", "excuses", "registrations", "payouts",
    "run_gifts", "stock_movements",
)  # fmt: skip


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
    await privacy_notices.provide(
        session, district_code=DISTRICT, effective_on=FOUNDED_ON, now=PRESENT
    )
    places = demo_places.plan(area_lines)
    await demo_places.store(session, places)
    await demo_gifts.store_catalogue(session)
    await demo_calendar.store(session, places)
    await demo_people.store(session, keyring, places, total=members, progress=progress)
    await demo_history.store(session, progress=progress)
    await demo_thanks.store(session)
    progress("payout runs", 1, 1)
    await provide_grants(session)


async def tidy(owner: Database) -> None:
    """Let the planner know what was loaded; outside any transaction, and the owner's to do."""
    for table in _GROWN:
        await owner.pool.execute(f"vacuum (analyze) {table}")


async def showcase(session: AsyncSession) -> Showcase | None:
    """Give what there is to try; None when the database is not the demo."""
    params = {
        "district_code": DISTRICT,
        "current": CURRENT.sequence,
        "last": CLOSED[-1].sequence,
        "policy_id": demo_id(Kind.POLICY, 1),
    }
    row = (await session.execute(text(_SHOWCASE), params)).mappings().first()
    return None if row is None else Showcase(**row)


def subject_of(role: Role) -> str:
    """Name who tries a role."""
    return f"demo-{role}"


async def provide_grants(session: AsyncSession) -> None:
    """Make sure that each role can be tried, with what the showcase has."""
    now = clock.now()
    for body in _grants_to_try(await showcase(session)):
        kept = await grants.provide(
            session, district_code=DISTRICT, body=body, granted_by=SCOPE.subject, now=now
        )
        params = {"district_code": DISTRICT, "subject": body.subject, "kept": kept, "now": now}
        await session.execute(_WITHDRAW, params)


def roles_to_try(shown: Showcase | None) -> list[Role]:
    """Give the roles that there is something to try in."""
    return [body.role for body in _grants_to_try(shown)]


def _grants_to_try(shown: Showcase | None) -> list[GrantProvide]:
    bodies = [
        GrantProvide(subject=subject_of(role), role=role, areas=[code])
        for role, code in AREAS_OF_ROLE.items()
    ]
    bodies.append(GrantProvide(subject=subject_of(Role.OPERATIONS), role=Role.OPERATIONS))
    if shown is None:
        return bodies
    reaches: dict[Role, dict[str, Any]] = {
        Role.SECRETARY: {"association_ids": [shown.association_id]},
        Role.EVENT_STAFF: {"event_ids": [shown.event_id]},
        Role.MEMBER: {"member_id": shown.member_id},
    }
    return bodies + [
        GrantProvide(subject=subject_of(role), role=role, **reach)
        for role, reach in reaches.items()
    ]
