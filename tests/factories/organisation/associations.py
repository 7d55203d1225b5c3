"""Associations with the hosts in which they live."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.identifiers import uscc_check_digit
from app.models.organisation.associations import Association, AssociationStatus, Mode
from app.models.organisation.host_organisations import HostKind, HostOrganisation
from tests.factories.callers import DISTRICT, VILLAGE

_HOST_OF_MODE = {
    Mode.INDEPENDENT: HostKind.ENTERPRISE,
    Mode.AFFILIATED: HostKind.SMALL_BUSINESS,
    Mode.PARK: HostKind.INDUSTRIAL_PARK,
    Mode.PROFESSIONAL: HostKind.MARKET,
    Mode.COMMUNITY: HostKind.RESIDENTIAL_COMMUNITY,
    Mode.VILLAGE: HostKind.VILLAGE_COMMITTEE,
}
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def make_uscc(seed: int) -> str:
    """Give the valid USCC of an enterprise that does not exist."""
    digits = ""
    for _ in range(9):
        seed, rest = divmod(seed, 31)
        digits = _USCC_ALPHABET[rest] + digits
    first17 = f"91440605{digits}"
    return first17 + uscc_check_digit(first17)


async def make_host(
    session: AsyncSession, *, kind: HostKind = HostKind.ENTERPRISE, **facts: Any
) -> HostOrganisation:
    """Store a host organisation; the caller commits."""
    now = clock.now()
    host_id: UUID = facts.pop("id", None) or clock.new_id()
    facts.setdefault(
        "uscc", make_uscc(host_id.int % 31**9) if kind is HostKind.ENTERPRISE else None
    )
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "id": host_id,
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "kind": kind.value,
        "name": "测试企业",
        "area_code": VILLAGE,
        "industry_code": None,
        "staff_count": 800,
        "park_id": None,
    }
    host = HostOrganisation(**(values | facts))
    session.add(host)
    await session.flush()
    return host


async def make_association(
    session: AsyncSession,
    mode: Mode | str = Mode.INDEPENDENT,
    *,
    area_code: str = VILLAGE,
    host_id: UUID | None = None,
    **facts: Any,
) -> Association:
    """Store an active association, with a host of its own unless given; the caller commits."""
    mode = Mode(mode)
    district_code = facts.setdefault("district_code", DISTRICT)
    if host_id is None:
        host = await make_host(
            session, kind=_HOST_OF_MODE[mode], area_code=area_code, district_code=district_code
        )
        host_id = host.id
    now = clock.now()
    values: dict[str, Any] = {
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "name": "测试计生协会",
        "mode": mode.value,
        "host_id": host_id,
        "area_code": area_code,
        "parent_id": None,
        "status": AssociationStatus.ACTIVE.value,
        "status_reason": None,
        "founded_on": None,
    }
    association = Association(**(values | facts))
    session.add(association)
    await session.flush()
    return association
