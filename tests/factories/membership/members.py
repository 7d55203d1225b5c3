"""Members with their membership, and the identifiers of people who do not exist."""

from datetime import date
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.identifiers import resident_check_digit
from app.models.membership.members import Member, Membership
from app.models.organisation.associations import Association
from tests.factories.membership.consents import consented, make_consents


def make_id_number(seed: int) -> str:
    """Give a valid resident ID number of nobody; different for each seed below 5 million."""
    day, order = divmod(seed, 999)
    born = date.fromordinal(date(1970, 1, 1).toordinal() + day)
    first17 = f"440605{born:%Y%m%d}{order + 1:03}"
    return first17 + resident_check_digit(first17)


def make_phone(seed: int) -> str:
    """Give a valid mobile number; different for each seed below 100 million."""
    return f"138{seed:08}"


async def make_member(session: AsyncSession, association: Association, **facts: Any) -> Member:
    """Store an active member with an open membership; the caller commits.

    With `consented_on` she consents to everything from that day on.
    """
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": association.district_code,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "association_id": association.id,
        "area_code": association.area_code,
        "status": "active",
        "name": "测试会员",
        "employee_no": None,
        "first_joined_on": date(2020, 1, 1),
        "id_number_sealed": None,
        "id_number_index": None,
        "phone_sealed": None,
        "phone_index": None,
    }
    values |= consented(facts.pop("consented_on", None))
    member = Member(**(values | facts))
    session.add(member)
    await session.flush()
    session.add(
        Membership(
            district_code=member.district_code,
            member_id=member.id,
            joined_on=member.first_joined_on,
            association_id=member.association_id,
            left_on=None,
            reason=None,
            recorded_at=member.created_at,
        )
    )
    await session.flush()
    await make_consents(session, member)
    return member
