"""What an association must have before it is activated, each condition by its name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import district_wide
from app.models.organisation.areas import Level, SettingKey
from app.models.organisation.associations import Association, Mode
from app.models.organisation.host_organisations import HostKind
from app.problems import Problem, Reason
from app.services.organisation import areas
from app.services.organisation.areas import AreaSettingUnset

ACTIVE_PARENT = "active_village_parent"
_MIN_TENANTS = 2

_OFFICE = (
    "exists(select 1 from officers o where o.district_code = :district_code"
    " and o.association_id = :id and o.office = '{office}' and o.starts_on <= :on"
    " and (o.ends_on is null or o.ends_on > :on))"
)
_REGULATION = (
    "exists(select 1 from regulations r where r.district_code = :district_code"
    " and r.association_id = :id and r.kind = '{kind}' and r.{day} <= :on)"
)
_FACTS = text(
    "select l.level, h.kind as host_kind, h.uscc, h.industry_code,"
    " coalesce(h.staff_count, 0) as staff_count,"
    f" {_OFFICE.format(office='president')} as has_president,"
    f" {_OFFICE.format(office='secretary_general')} as has_secretary_general,"
    f" {_REGULATION.format(kind='charter', day='adopted_on')} as has_charter,"
    f" {_REGULATION.format(kind='park_regulation', day='published_on')} as has_park_regulation,"
    f" {_REGULATION.format(kind='market_review_rule', day='published_on')} as has_review_rule,"
    " exists(select 1 from facilities f where f.district_code = :district_code"
    " and f.association_id = :id and f.kind = 'service_room' and f.opened_on <= :on"
    " and (f.closed_on is null or f.closed_on > :on)) as has_service_room,"
    " exists(select 1 from associations p where p.district_code = :district_code"
    " and p.id = a.parent_id and p.mode = 'village' and p.status = 'active'"
    " and p.area_code = a.area_code) as has_active_parent,"
    " exists(select 1 from associations v where v.district_code = :district_code"
    " and v.area_code = a.area_code and v.mode = 'village' and v.status = 'active'"
    " and v.id <> :id) as has_rival,"
    " (select count(*) from host_organisations t where t.district_code = :district_code"
    " and t.park_id = h.id and t.kind in ('enterprise', 'small_business')) as tenants"
    " from associations a join areas l on l.code = a.area_code"
    " join host_organisations h on h.district_code = :district_code and h.id = a.host_id"
    " where a.district_code = :district_code and a.id = :id"
)


class ActivationConditionsUnmet(Problem):
    """Something is missing that the association must have; `unmet` lists each by code."""

    code, status = "activation_conditions_unmet", 409


@dataclass(frozen=True)
class Condition:
    """One condition, whether it is met, and the facts that its text names."""

    code: str
    is_met: bool
    facts: Mapping[str, object] = field(default_factory=dict)


async def conditions(
    session: AsyncSession, association: Association, *, on: date
) -> list[Condition]:
    """Give every condition of an association's mode, met on a date or not."""
    district_code, mode = association.district_code, Mode(association.mode)
    params = {"district_code": district_code, "id": association.id, "on": on}
    # The parent and a rival may lie beyond the reach of who asks.
    async with district_wide(session):
        facts = (await session.execute(_FACTS, params)).one()
    found = [*_of_all(facts), *_OF_MODE[mode](facts)]
    if mode is Mode.INDEPENDENT:
        needed = await _staff_needed(session, association, on=on)
        found.append(_staff_condition(facts.staff_count, needed))
    return found


async def require(
    session: AsyncSession, association: Association, *, on: date, only: str | None = None
) -> None:
    """Raise ActivationConditionsUnmet unless every condition, or one alone, is met on a date."""
    unmet = [
        Reason(each.code, each.facts)
        for each in await conditions(session, association, on=on)
        if not each.is_met and only in {None, each.code}
    ]
    if unmet:
        raise ActivationConditionsUnmet(extra={"unmet": unmet})


async def _staff_needed(session: AsyncSession, association: Association, *, on: date) -> int | None:
    try:
        return await areas.setting_in_force(
            session,
            district_code=association.district_code,
            code=association.area_code,
            key=SettingKey.INDEPENDENT_MIN_STAFF,
            on=on,
        )
    except AreaSettingUnset:
        return None


def _staff_condition(staff_count: int, needed: int | None) -> Condition:
    if needed is None:
        return Condition("staff_threshold_set", is_met=False)
    facts = {"have": staff_count, "needed": needed}
    return Condition("staff_threshold_reached", staff_count >= needed, facts)


def _of_all(facts: Any) -> Iterator[Condition]:
    yield Condition("president_in_office", facts.has_president)
    yield Condition("secretary_general_in_office", facts.has_secretary_general)
    yield Condition("charter_adopted", facts.has_charter)


def _of_independent(facts: Any) -> Iterator[Condition]:
    yield Condition("uscc_known", facts.uscc is not None)
    yield Condition("service_room_open", facts.has_service_room)


def _of_affiliated(facts: Any) -> Iterator[Condition]:
    yield Condition(ACTIVE_PARENT, facts.has_active_parent)


def _of_park(facts: Any) -> Iterator[Condition]:
    yield Condition("park_regulation_published", facts.has_park_regulation)
    counts = {"have": facts.tenants, "needed": _MIN_TENANTS}
    yield Condition("tenant_enterprises", facts.tenants >= _MIN_TENANTS, counts)


def _of_professional(facts: Any) -> Iterator[Condition]:
    yield Condition("industry_code_known", facts.industry_code is not None)
    yield Condition("market_review_rule_published", facts.has_review_rule)


def _of_community(facts: Any) -> Iterator[Condition]:
    communities = {HostKind.RESIDENTIAL_COMMUNITY, HostKind.EMPLOYEE_VILLAGE}
    yield Condition("community_host", facts.host_kind in communities)


def _of_village(facts: Any) -> Iterator[Condition]:
    yield Condition("village_area", facts.level == Level.VILLAGE)
    yield Condition("only_active_in_village", not facts.has_rival)


_OF_MODE: Mapping[Mode, Callable[[Any], Iterator[Condition]]] = {
    Mode.INDEPENDENT: _of_independent,
    Mode.AFFILIATED: _of_affiliated,
    Mode.PARK: _of_park,
    Mode.PROFESSIONAL: _of_professional,
    Mode.COMMUNITY: _of_community,
    Mode.VILLAGE: _of_village,
}
