"""Grants of roles to the subjects of tokens."""

from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.access.grants import Grant
from app.roles import Role
from tests.factories.callers import DISTRICT


async def make_grant(session: AsyncSession, **facts: Any) -> Grant:
    """Store a grant in force, of a district officer unless told; the caller commits."""
    grant = Grant(**_values(facts))
    session.add(grant)
    await session.flush()
    return grant


async def store_grant(pool: asyncpg.Pool, **facts: Any) -> None:
    """Store a grant likewise, in one statement and for all to see: each caller has hers stored."""
    values = _values(facts)
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await pool.execute(
        f"insert into grants ({', '.join(values)}) values ({places})", *values.values()
    )


def _values(facts: dict[str, Any]) -> dict[str, Any]:
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "subject": "somebody",
        "role": Role.DISTRICT_OFFICER.value,
        "area_code": facts.get("district_code", DISTRICT),
        "areas": [facts.get("district_code", DISTRICT)],
        "association_ids": [],
        "event_ids": [],
        "member_id": None,
        "employer_linked": False,
        "starts_at": now,
        "ends_at": None,
        "granted_by": "founder",
        "revoked_at": None,
        "revoked_by": None,
        "revoke_reason": None,
    }
    return values | facts
