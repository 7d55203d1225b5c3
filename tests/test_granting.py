"""From the shell a role is granted once, however often it is asked for."""

from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, granting
from app.database import Database
from app.granting import NoSuchReach, Order
from app.problems import Invalid
from app.roles import Role
from app.services.access.admission import Admission
from app.tokens import AccessToken
from tests.factories.callers import DISTRICT, SHISHAN, VILLAGE
from tests.factories.organisation.associations import make_association

pytestmark = pytest.mark.usefixtures("app")


def _newcomer() -> str:
    return f"new-{clock.new_id()}"


async def test_the_first_officer_is_granted_from_the_shell(
    owner: Database, database: Database
) -> None:
    order = Order(Role.DISTRICT_OFFICER, _newcomer())
    granted = await granting.provide(owner, order)
    assert await granting.provide(owner, order) == granted
    assert await granting.provide(owner, replace(order, areas=[SHISHAN])) != granted
    admission = Admission(database)
    caller = await admission.admit(AccessToken(order.named), str(granted))
    assert (caller.role, caller.areas) == (Role.DISTRICT_OFFICER, (DISTRICT,))


async def test_it_ends_when_it_was_said_to(owner: Database) -> None:
    order = Order(Role.AUDITOR, _newcomer(), days=3)
    granted = await granting.provide(owner, order)
    lasts = await owner.pool.fetchval(
        "select ends_at - starts_at from grants where id = $1", granted
    )
    assert lasts.days in {2, 3}


async def test_an_association_inside_an_enterprise_makes_it_the_employers_side(
    owner: Database, session: AsyncSession
) -> None:
    association = await make_association(session, area_code=VILLAGE, mode="independent")
    await session.commit()
    order = Order(Role.SECRETARY, _newcomer(), association_ids=[association.id])
    granted = await granting.provide(owner, order)
    assert await granting.provide(owner, order) == granted
    linked = "select employer_linked from grants where id = $1"
    assert await owner.pool.fetchval(linked, granted) is True


@pytest.mark.parametrize("areas", [["12"], [SHISHAN, "440606000000"], ["' or true"]])
async def test_codes_that_reach_nothing_are_refused(owner: Database, areas: list[str]) -> None:
    with pytest.raises(NoSuchReach):
        await granting.provide(owner, Order(Role.GUIDE, "guide-9", areas))


async def test_a_role_needs_its_reach_from_the_shell_too(owner: Database) -> None:
    with pytest.raises(Invalid):
        await granting.provide(owner, Order(Role.MEMBER, "member-9"))


def test_a_subject_is_named_after_its_reach_so_that_each_has_one_grant() -> None:
    usual = Order(Role.TOWN_OFFICER)
    there = Order(Role.TOWN_OFFICER, areas=[SHISHAN])
    linked = Order(Role.TOWN_OFFICER, employer_linked=True)
    assert usual.named == "demo-town_officer"
    assert len({usual.named, there.named, linked.named}) == 3
    assert there.named == Order(Role.TOWN_OFFICER, areas=[SHISHAN]).named
