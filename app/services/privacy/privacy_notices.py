"""Privacy notices: published by the district, each version for good, in force from a day on."""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import FIRST_NOTICES, Caller
from app.models.privacy.privacy_notices import (
    DATA_OF,
    JURISDICTION,
    PROCESSING_OF,
    RETENTION,
    ConsentPurpose,
    PrivacyNotice,
    PrivacyNoticeCreate,
    PrivacyNoticeFilters,
    PrivacyNoticeRead,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, Problem

LISTING = Listing(
    columns=(
        "n.purpose, n.number, n.effective_on, n.controller, n.text_zh, n.text_en, n.digest,"
        " n.data_categories, n.processing, n.recipients, n.retention, n.jurisdiction,"
        f" {instant('n.published_at')}"
    ),
    source="privacy_notices n",
    order=(Key("purpose", "n.purpose", "text"), Key("number", "n.number", "int")),
)
IN_FORCE = (
    "(select max(o.number) from privacy_notices o where o.district_code = :district_code"
    " and o.purpose = {purpose} and o.effective_on <= {on})"
)
"""Which version for a purpose holds on a day: none begins before the one that it follows."""
_LAST = text(
    "select number, effective_on from privacy_notices where district_code = :district_code"
    " and purpose = :purpose order by number desc limit 1"
)
_NUMBERS = text(
    "select purpose, max(number) as number from privacy_notices"
    " where district_code = :district_code and effective_on <= :on group by purpose"
)
_PUBLISHED = text(
    "select purpose, number, effective_on from privacy_notices"
    " where district_code = :district_code order by purpose, number"
)
_FIRSTS = Path(__file__).parents[2] / "data" / "privacy_notices.toml"
_PROVIDE = text(
    "insert into privacy_notices (district_code, purpose, number, effective_on, controller,"
    " text_zh, text_en, digest, data_categories, processing, recipients, retention, jurisdiction,"
    " published_by, published_at) values (:district_code, :purpose, :number, :effective_on,"
    " :controller, :text_zh, :text_en, :digest, :data_categories, :processing, :recipients,"
    " :retention, :jurisdiction, :published_by, :published_at)"
    " on conflict (district_code, purpose, number) do nothing returning number"
)


class NoticePublishedMeanwhile(Problem):
    """Somebody else published the next version for this purpose at the same time."""

    code, status = "notice_published_meanwhile", 409


def digest_of(text_zh: str, text_en: str) -> str:
    """Give the SHA-256 of what members are told, in both languages."""
    return hashlib.sha256(f"{text_zh}\n{text_en}".encode()).hexdigest()


async def provide(
    session: AsyncSession, *, district_code: str, effective_on: date, now: datetime
) -> None:
    """Give a district that is new the notices to begin with, as a rule of it."""
    firsts = tomllib.loads(_FIRSTS.read_text("utf-8"))
    for purpose in ConsentPurpose:
        first = firsts[purpose]
        facts = _facts(
            purpose,
            controller=firsts["controller"],
            text_zh=first["text_zh"].strip(),
            text_en=first["text_en"].strip(),
            recipients=first["recipients"],
        )
        facts |= {"number": 1, "effective_on": effective_on, "published_by": FIRST_NOTICES}
        facts |= {"district_code": district_code, "published_at": now}
        await session.execute(_PROVIDE, facts)


def _facts(
    purpose: ConsentPurpose,
    *,
    controller: str,
    text_zh: str,
    text_en: str,
    recipients: Sequence[str],
) -> dict[str, Any]:
    """Give what a notice says, and what this service does with the data at that time."""
    return {
        "purpose": purpose.value,
        "controller": controller,
        "text_zh": text_zh,
        "text_en": text_en,
        "digest": digest_of(text_zh, text_en),
        "data_categories": [DATA_OF[purpose].value],
        "processing": [each.value for each in PROCESSING_OF[purpose]],
        "recipients": list(recipients),
        "retention": RETENTION,
        "jurisdiction": JURISDICTION,
    }


async def list_notices(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: PrivacyNoticeFilters
) -> Slice:
    """Give a page of the district's notices by purpose, the oldest version first."""
    where = Where({"district_code": caller.district_code})
    where.add("n.district_code = :district_code")
    where.equal("n.purpose", "purpose", filters.purpose)
    if filters.on is not None:
        in_force = IN_FORCE.format(purpose="n.purpose", on=":on")
        where.add(f"n.number = {in_force}", on=filters.on)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def publish(
    session: AsyncSession, caller: Caller, *, body: PrivacyNoticeCreate, now: datetime
) -> PrivacyNoticeRead:
    """Publish the next version for a purpose, as who answers for the whole district.

    Consents to a version before it stay what they are. Raises Forbidden, Invalid or
    NoticePublishedMeanwhile.
    """
    reach.require_area(caller, caller.district_code)
    async with district_wide(session):
        key = {"district_code": caller.district_code, "purpose": body.purpose.value}
        last = (await session.execute(_LAST, key)).one_or_none()
        earliest = civil_date(now) if last is None else max(last.effective_on, civil_date(now))
        if body.effective_on < earliest:
            raise Invalid.at("/effective_on", "notice_too_early", earliest=earliest.isoformat())
        facts = _facts(
            body.purpose,
            controller=body.controller,
            text_zh=body.text_zh,
            text_en=body.text_en,
            recipients=body.recipients,
        )
        facts |= {"number": 1 if last is None else last.number + 1} | key
        facts |= {"effective_on": body.effective_on, "published_by": caller.subject}
        facts |= {"published_at": now}
        if await session.scalar(_PROVIDE, facts) is None:
            raise NoticePublishedMeanwhile
    return PrivacyNoticeRead.model_validate(PrivacyNotice(**facts))


async def numbers_on(
    session: AsyncSession, *, district_code: str, on: date
) -> Mapping[ConsentPurpose, int]:
    """Give the version for each purpose that holds on a day, if there is one."""
    found = await session.execute(_NUMBERS, {"district_code": district_code, "on": on})
    return {ConsentPurpose(row.purpose): row.number for row in found}


async def published(
    session: AsyncSession, *, district_code: str
) -> Mapping[ConsentPurpose, Sequence[tuple[int, date]]]:
    """Give the number and the first day of each version, by purpose."""
    versions: dict[ConsentPurpose, list[tuple[int, date]]] = {}
    for row in await session.execute(_PUBLISHED, {"district_code": district_code}):
        versions.setdefault(ConsentPurpose(row.purpose), []).append((row.number, row.effective_on))
    return versions
