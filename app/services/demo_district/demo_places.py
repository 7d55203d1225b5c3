"""The demo's places: hosts and associations in the numbers of the source, ready for activation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from random import Random
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import uscc_check_digit
from app.identity import DEMO
from app.models.organisation.areas import AreaSetting, Level, Provenance, SettingKey
from app.models.organisation.associations import Association, AssociationStatus, Mode
from app.models.organisation.facilities import Facility, FacilityKind
from app.models.organisation.host_organisations import HostKind, HostOrganisation
from app.models.organisation.officers import Office, Officer
from app.models.organisation.regulations import Regulation, RegulationKind
from app.services.demo_district.demo_facts import (
    DISTRICT,
    FOUNDED_ON,
    Kind,
    at,
    copy,
    demo_id,
    generator,
    person_name,
    record,
)
from app.services.organisation.areas import AreaLine

HONDA = "本田（示范）计生协会"
_NAMED = (("本田（示范）", 150), ("奇美（示范）", 100))
_MIN_STAFF = 500
_SINCE = at(FOUNDED_ON, 9)
_INDEPENDENT_OF_TOWN = {
    "440605124": 24,
    "440605125": 12,
    "440605126": 9,
    "440605011": 8,
    "440605123": 7,
    "440605122": 5,
    "440605121": 3,
}
_AFFILIATED, _COMMUNITIES, _EMPLOYEE_VILLAGES, _PARKS = 341, 100, 13, 6
_MARKETS = (
    ("440605125", "大沥农产品市场", "5123"),
    ("440605122", "西樵纺织行业", "1713"),
    ("440605123", "丹灶五金行业", "3351"),
    ("440605125", "示范铝材市场", "3252"),
    ("440605125", "示范小商品市场", "5211"),
    ("440605126", "示范鞋业市场", "1954"),
    ("440605126", "示范花卉市场", "0143"),
    ("440605124", "示范汽配市场", "5263"),
    ("440605124", "示范机电市场", "5271"),
    ("440605121", "示范水产市场", "5123"),
    ("440605011", "示范家电市场", "5274"),
    ("440605011", "示范服装市场", "5232"),
)
_FIRST_WORDS = "云水晨星金山南风明月新泉松石春江白鹭红棉青禾紫荆"
_TRADES = ("五金", "铝材", "电器", "玩具", "纺织", "陶瓷", "家具", "塑料", "食品", "包装")
_TENANTS = 3
# How many members an association has beside the others of its kind.
_WEIGHT = {
    Mode.VILLAGE: (8, 16),
    Mode.INDEPENDENT: (30, 90),
    Mode.AFFILIATED: (3, 7),
    Mode.PARK: (40, 80),
    Mode.PROFESSIONAL: (25, 50),
    Mode.COMMUNITY: (15, 35),
}
_RULE_OF_MODE = {
    Mode.PARK: RegulationKind.PARK_REGULATION,
    Mode.PROFESSIONAL: RegulationKind.MARKET_REVIEW_RULE,
}
_TITLES = {
    RegulationKind.CHARTER: "章程",
    RegulationKind.PARK_REGULATION: "园区管理规定",
    RegulationKind.MARKET_REVIEW_RULE: "市场审核办法",
}


@dataclass(frozen=True)
class Place:
    """An association of the demo with its host, numbered from 1."""

    number: int
    mode: Mode
    kind: HostKind
    name: str
    area_code: str
    weight: int
    parent: int | None = None
    industry_code: str | None = None


def plan(area_lines: Sequence[AreaLine]) -> list[Place]:
    """Lay out the associations: the villages' first, then those of the five other modes."""
    random = generator("places")
    villages = [area for area in area_lines if area.level is Level.VILLAGE]
    parents = [area for index, area in enumerate(villages) if index % 8 in {0, 3, 6}]
    numbers = count(1)
    places = [
        _place(
            random,
            numbers,
            Mode.VILLAGE,
            HostKind.VILLAGE_COMMITTEE,
            name=area.name,
            area_code=area.code,
        )
        for area in parents
    ]
    places += _independent(random, numbers, villages)
    for parent in islice(cycle(places[: len(parents)]), _AFFILIATED):
        places.append(
            _place(
                random,
                numbers,
                Mode.AFFILIATED,
                HostKind.SMALL_BUSINESS,
                name=f"{_company(random)}店",
                area_code=parent.area_code,
                parent=parent.number,
            )
        )
    places += _markets_and_parks(random, numbers, villages)
    places += _communities(random, numbers, villages)
    return places


def _place(
    random: Random,
    numbers: Iterator[int],
    mode: Mode,
    kind: HostKind,
    *,
    name: str,
    area_code: str,
    **facts: Any,
) -> Place:
    weight = random.randint(*_WEIGHT[mode])
    return Place(next(numbers), mode, kind, name, area_code, weight, **facts)


def _company(random: Random) -> str:
    first = random.choice(_FIRST_WORDS) + random.choice(_FIRST_WORDS)
    return f"示范{first}{random.choice(_TRADES)}"


def _in_town(villages: Sequence[AreaLine], town: str) -> list[AreaLine]:
    return [area for area in villages if area.code.startswith(town)]


def _independent(
    random: Random, numbers: Iterator[int], villages: Sequence[AreaLine]
) -> Iterator[Place]:
    named = iter(_NAMED)
    for town, how_many in _INDEPENDENT_OF_TOWN.items():
        for area in random.choices(_in_town(villages, town), k=how_many):
            name, weight = next(named, (f"{_company(random)}有限公司", None))
            place = _place(
                random,
                numbers,
                Mode.INDEPENDENT,
                HostKind.ENTERPRISE,
                name=name,
                area_code=area.code,
            )
            yield place if weight is None else replace(place, weight=weight)


def _markets_and_parks(
    random: Random, numbers: Iterator[int], villages: Sequence[AreaLine]
) -> Iterator[Place]:
    for town, name, industry in _MARKETS:
        area = random.choice(_in_town(villages, town))
        yield _place(
            random,
            numbers,
            Mode.PROFESSIONAL,
            HostKind.MARKET,
            name=name,
            area_code=area.code,
            industry_code=industry,
        )
    for town in islice(_INDEPENDENT_OF_TOWN, _PARKS):
        area = random.choice(_in_town(villages, town))
        name = f"示范{random.choice(_FIRST_WORDS)}湖工业园"
        yield _place(
            random, numbers, Mode.PARK, HostKind.INDUSTRIAL_PARK, name=name, area_code=area.code
        )


def _communities(
    random: Random, numbers: Iterator[int], villages: Sequence[AreaLine]
) -> Iterator[Place]:
    kinds = [HostKind.RESIDENTIAL_COMMUNITY] * _COMMUNITIES
    kinds += [HostKind.EMPLOYEE_VILLAGE] * _EMPLOYEE_VILLAGES
    for index, kind in enumerate(kinds):
        area = villages[index * len(villages) // len(kinds)]
        suffix = "花园" if kind is HostKind.RESIDENTIAL_COMMUNITY else "员工村"
        first = random.choice(_FIRST_WORDS) + random.choice(_FIRST_WORDS)
        yield _place(
            random, numbers, Mode.COMMUNITY, kind, name=f"示范{first}{suffix}", area_code=area.code
        )


async def store(session: AsyncSession, places: Sequence[Place]) -> None:
    """Store the places with what each must have before it is activated."""
    random = generator("officers")
    await copy(session, AreaSetting, [_threshold()])
    await copy(session, HostOrganisation, [*map(_host, places), *_tenants(random, places)])
    await copy(session, Association, map(_association, places))
    await copy(session, Officer, _officers(random, places))
    await copy(session, Facility, _facilities(places))
    await copy(session, Regulation, _regulations(places))


def _threshold() -> dict[str, Any]:
    return {
        "district_code": DISTRICT,
        "area_code": DISTRICT,
        "key": SettingKey.INDEPENDENT_MIN_STAFF.value,
        "effective_on": FOUNDED_ON,
        "value": _MIN_STAFF,
        "provenance": Provenance.ASSUMED.value,
        "set_by": DEMO,
        "set_at": _SINCE,
    }


def _uscc(number: int) -> str:
    first17 = f"91440605DEM{number:06d}"
    return first17 + uscc_check_digit(first17)


def _host(place: Place) -> dict[str, Any]:
    is_enterprise = place.kind is HostKind.ENTERPRISE
    return record(
        Kind.HOST,
        place.number,
        since=_SINCE,
        kind=place.kind.value,
        name=place.name,
        area_code=place.area_code,
        uscc=_uscc(place.number) if is_enterprise else None,
        industry_code=place.industry_code,
        staff_count=_MIN_STAFF + place.weight * 40 if is_enterprise else None,
        park_id=None,
    )


def _tenants(random: Random, places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    numbers = count(len(places) + 1)
    for park in (place for place in places if place.mode is Mode.PARK):
        for number in islice(numbers, _TENANTS):
            yield record(
                Kind.HOST,
                number,
                since=_SINCE,
                kind=HostKind.ENTERPRISE.value,
                name=f"{_company(random)}有限公司",
                area_code=park.area_code,
                uscc=_uscc(number),
                industry_code=None,
                staff_count=random.randint(40, 400),
                park_id=demo_id(Kind.HOST, park.number),
            )


def _association(place: Place) -> dict[str, Any]:
    return record(
        Kind.ASSOCIATION,
        place.number,
        since=_SINCE,
        name=f"{place.name}计生协会",
        mode=place.mode.value,
        host_id=demo_id(Kind.HOST, place.number),
        area_code=place.area_code,
        parent_id=demo_id(Kind.ASSOCIATION, place.parent) if place.parent else None,
        status=AssociationStatus.ACTIVE.value,
        status_reason=None,
        founded_on=FOUNDED_ON,
    )


def _officers(random: Random, places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    numbers = count(1)
    for place in places:
        offices = [Office.PRESIDENT, Office.SECRETARY_GENERAL]
        if place.mode is not Mode.AFFILIATED:
            offices += [Office.VICE_PRESIDENT, Office.DIRECTOR]
        for office in offices:
            yield record(
                Kind.OFFICER,
                next(numbers),
                since=_SINCE,
                association_id=demo_id(Kind.ASSOCIATION, place.number),
                office=office.value,
                name=person_name(random),
                starts_on=FOUNDED_ON,
                ends_on=None,
            )


def _facilities(places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    numbers = count(1)
    for place in places:
        kinds = {FacilityKind.SERVICE_ROOM: "计生服务室", FacilityKind.BOOK_CORNER: "图书角"}
        for kind, name in kinds.items() if place.mode is not Mode.AFFILIATED else ():
            yield record(
                Kind.FACILITY,
                next(numbers),
                since=_SINCE,
                association_id=demo_id(Kind.ASSOCIATION, place.number),
                kind=kind.value,
                name=name,
                opened_on=FOUNDED_ON,
                closed_on=None,
            )


def _regulations(places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    numbers = count(1)
    for place in places:
        kinds = [RegulationKind.CHARTER]
        if place.mode in _RULE_OF_MODE:
            kinds.append(_RULE_OF_MODE[place.mode])
        for kind in kinds:
            yield record(
                Kind.REGULATION,
                next(numbers),
                since=_SINCE,
                association_id=demo_id(Kind.ASSOCIATION, place.number),
                kind=kind.value,
                edition=1,
                title=f"{place.name}{_TITLES[kind]}",
                body="自愿参加，民主管理；参加活动得到感谢，不参加不受任何影响。（演示文本）",
                adopted_on=FOUNDED_ON,
                published_on=FOUNDED_ON,
            )
