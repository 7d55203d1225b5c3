"""Consents of members, each with the event that it came from."""

from datetime import date

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.membership.consents import Consent
from app.models.membership.members import Member
from app.models.privacy.privacy_notices import ConsentPurpose

NOTICED_ON = date(2025, 1, 1)
"""Since when the notices of the tests hold."""


async def make_consents(session: AsyncSession, member: Member) -> None:
    """Store the event of each consent that a member's row tells of."""
    for purpose in ConsentPurpose:
        on = getattr(member, f"{purpose}_consented_on")
        if on is None:
            continue
        session.add(
            Consent(
                district_code=member.district_code,
                member_id=member.id,
                purpose=purpose.value,
                id=clock.new_id(),
                state="given",
                notice_number=1 if on >= NOTICED_ON else None,
                language="zh",
                method="paper",
                acted_on=on,
                recorded_at=clock.now(),
                recorded_by="officer-1",
                withdraws=None,
            )
        )
    await session.flush()


def consented(on: date | None) -> dict[str, date | None]:
    """Give the columns of a member who consents to everything from a day on."""
    return {f"{purpose}_consented_on": on for purpose in ConsentPurpose}


async def a_day_after(owner: Database) -> None:
    """Have all withdrawals be of the day before, so that offices may enter what is given again."""
    await owner.pool.execute(
        "update consents set acted_on = acted_on - 1 where withdraws is not null"
    )
