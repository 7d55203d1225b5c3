"""Corrections that members ask for."""

from datetime import date
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.models.membership.corrections import Correction
from app.models.membership.members import Member
from app.services.privacy import correction_texts, data_keys
from app.services.privacy.correction_texts import Said


async def make_correction(
    session: AsyncSession,
    keyring: Keyring,
    member: Member,
    *,
    said: Said = Said("张小样", "错一字"),  # noqa: B008  (never changed)
    **facts: Any,
) -> Correction:
    """Store a correction of the member's name that waits; the caller commits."""
    key, correction_id, now = (
        await data_keys.find_or_make(session, keyring, member),
        clock.new_id(),
        clock.now(),
    )
    values: dict[str, Any] = {
        "district_code": member.district_code,
        "id": correction_id,
        "created_at": now,
        "updated_at": now,
        "member_id": member.id,
        "subject": "name",
        "event_id": None,
        "round_id": None,
        "said_sealed": correction_texts.seal_said(key, correction_id, said),
        "status": "open",
        "due_on": date(2100, 1, 1),
        "answer_sealed": None,
        "applied": False,
        "answered_by": None,
        "closed_at": None,
    }
    correction = Correction(**(values | facts))
    session.add(correction)
    await session.flush()
    return correction
