"""Gifts: the district's catalogue, and which article a rule names."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, reach
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.goods.gifts import Gift, GiftCreate, GiftFilters, GiftRead, GiftStatus, GiftUpdate
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound, Problem

LISTING = Listing(
    columns=(
        f"g.id, g.version, {instant('g.created_at')}, {instant('g.updated_at')}, g.code, g.name,"
        " g.unit, g.status, g.created_by"
    ),
    source="gifts g",
    order=(Key("id", "g.id", "uuid"),),
)
_FIND = (
    f"select row_to_json(item)::text from (select {LISTING.columns} from gifts g"
    " where g.district_code = :district_code and g.id = :id) item"
)


class GiftCodeTaken(Problem):
    """The catalogue has an article of this code."""

    code, status = "gift_code_taken", 409
    constraint = "uq_gifts_code"


async def list_gifts(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: GiftFilters
) -> Slice:
    """Give a page of the catalogue, the oldest first."""
    where = Where({"district_code": caller.district_code})
    where.add("g.district_code = :district_code")
    where.equal("g.status", "status", filters.status)
    where.equal("g.code", "code", filters.code)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(statements: Statements, caller: Caller, *, gift_id: UUID) -> GiftRead:
    """Give one article, or refuse with NotFound."""
    params = {"district_code": caller.district_code, "id": gift_id}
    found = await statements.fetch_value(_FIND, params)
    if found is None:
        raise NotFound
    return GiftRead.model_validate_json(found)


async def create(
    session: AsyncSession, caller: Caller, *, body: GiftCreate, now: datetime
) -> GiftRead:
    """Add an article to the catalogue, which is the whole district's; raises GiftCodeTaken."""
    reach.require_area(caller, caller.district_code)
    gift = Gift(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        **body.model_dump(),
        status=GiftStatus.ACTIVE,
        created_by=caller.subject,
    )
    session.add(gift)
    await session.flush()
    return _shown(gift)


async def update(
    session: AsyncSession,
    caller: Caller,
    *,
    gift_id: UUID,
    body: GiftUpdate,
    expected: int,
    now: datetime,
) -> GiftRead:
    """Change an article's words, retire it, or take it up again."""
    changes = body.changes()
    reach.require_area(caller, caller.district_code)
    gift = await session.scalar(
        select(Gift)
        .where(col(Gift.district_code) == caller.district_code, col(Gift.id) == gift_id)
        .with_for_update(key_share=True)
    )
    if gift is None:
        raise NotFound
    concurrency.require_version(gift.version, expected)
    gift.change(now, **changes)
    await session.flush()
    return _shown(gift)


async def of_codes(
    session: AsyncSession, *, district_code: str, codes: Iterable[str]
) -> dict[str, Gift]:
    """Give the articles of these codes, as far as the catalogue has them."""
    wanted = sorted(set(codes))
    if not wanted:
        return {}
    found = await session.scalars(
        select(Gift).where(col(Gift.district_code) == district_code, col(Gift.code).in_(wanted))
    )
    return {gift.code: gift for gift in found}


def _shown(gift: Gift) -> GiftRead:
    return GiftRead(**gift.model_dump(exclude={"district_code"}))
