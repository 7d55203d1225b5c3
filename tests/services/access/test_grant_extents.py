"""What was granted before the rules of today held is held by them since a migration."""

from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.organisation.associations import Association, Mode
from tests.factories.access.grants import make_grant
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association
from tests.migrating import applied_again

_GRANTS = text("select subject, employer_linked, version, revoked_by, revoke_reason from grants")
_TAKEN: dict[str, Any] = {
    "revoked_at": clock.now(),
    "revoked_by": "officer-2",
    "revoke_reason": "误",
}
_YESTERDAY = clock.now() - timedelta(days=1)
_OVER: dict[str, Any] = {"starts_at": _YESTERDAY, "ends_at": clock.now()}


async def _granted(owner: Database) -> dict[str, tuple[Any, ...]]:
    """Give what stands in each grant after the migration, by subject."""
    async with applied_again(owner, "0028_earlier_grants") as connection:
        return {row[0]: tuple(row[1:]) for row in await connection.execute(_GRANTS)}


async def _village(session: AsyncSession) -> Association:
    """Store an association in a village where an enterprise houses its people."""
    association = await make_association(session, mode=Mode.COMMUNITY)
    kind = text("update host_organisations set kind = 'employee_village' where id = :id")
    await session.execute(kind, {"id": association.host_id})
    return association


async def test_secretaries_of_employee_villages_are_linked_from_now_on(
    session: AsyncSession, owner: Database
) -> None:
    housed, free = await _village(session), await make_association(session, mode=Mode.COMMUNITY)
    secretary = {"role": "association_secretary", "areas": []}
    both = {"association_ids": [free.id, housed.id]}
    for subject, facts in (
        ("housed", both),
        ("to come", both | {"starts_at": clock.now() + timedelta(days=9)}),
        ("known before", both | {"employer_linked": True}),
        ("free", {"association_ids": [free.id]}),
        ("taken", both | _TAKEN),
        ("over", both | _OVER),
    ):
        await make_grant(session, subject=subject, **secretary | facts)
    await make_grant(session, subject="an officer", association_ids=[housed.id])
    await session.commit()
    found = await _granted(owner)
    assert {each for each in found if found[each][0]} == {"housed", "to come", "known before"}
    assert {each for each in found if found[each][1] == 2} == {"housed", "to come"}
    assert {each for each in found if found[each][2] is not None} == {"taken"}


async def test_who_was_let_act_as_a_member_by_an_office_no_longer_is(
    session: AsyncSession, owner: Database
) -> None:
    member = await make_member(session, await make_association(session))
    herself = {"role": "member", "areas": [], "member_id": member.id}
    for subject, facts in (
        ("clerk", {}),
        ("to come", {"starts_at": clock.now() + timedelta(days=9)}),
        (f"member:{member.id}", {}),
        ("her account", {"granted_by": "shell"}),
        ("demo-member", {"granted_by": "demo"}),
        ("taken", _TAKEN),
        ("over", _OVER),
    ):
        await make_grant(session, subject=subject, **herself | facts)
    await make_grant(session, subject="an office")
    await session.commit()
    found = await _granted(owner)
    ended = {each: row for each, row in found.items() if row[2] == "shell"}
    assert ended == dict.fromkeys(("clerk", "to come"), (False, 2, "shell", "会员权限不得授予他人"))
    assert found["taken"] == (False, 1, "officer-2", "误")
    assert all(row[2] is None for each, row in found.items() if each not in {*ended, "taken"})
