"""The tree of areas, loaded from files of the statistical codes, and the areas' dated settings."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, TextIO
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements
from app.identifiers import AREA_CODE, area_lineage, area_prefix, area_range
from app.identity import Caller
from app.models.organisation.areas import (
    Area,
    AreaFilters,
    AreaRead,
    AreaSetting,
    AreaSettingFilters,
    AreaSettingRead,
    AreaSettingWrite,
    Level,
    SettingKey,
)
from app.paging import Key, Listing, Slice, Where
from app.problems import Invalid, NotFound, Problem
from app.roles import Role

_COLUMNS = ("code", "name", "level", "parent_code")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
_LENGTH_OF_LEVEL = {
    Level.PROVINCE: 2,
    Level.PREFECTURE: 4,
    Level.DISTRICT: 6,
    Level.TOWN: 9,
    Level.VILLAGE: 12,
}

LISTING = Listing(
    columns="a.code, a.name, a.level, a.parent_code",
    source="areas a",
    order=(Key("code", "a.code", "text"),),
)

_LOAD = (
    "insert into areas (code, name, level, parent_code) select * from unnest("
    "cast(:code as text[]), cast(:name as text[]), cast(:level as text[]),"
    " cast(:parent_code as text[]))"
    " on conflict (code) do update set name = excluded.name where areas.name <> excluded.name"
    " returning code"
)
_DISTRICTS = (
    f"select code from areas where level = '{Level.DISTRICT}'"
    " and (:code::text is null or code = :code) order by code limit :most::int"
)
_FIND = "select code, name, level, parent_code from areas where code = :code"
SETTINGS_IN_FORCE = (
    "select distinct on (key) area_code, key, value, effective_on, provenance, set_by"
    " from area_settings where district_code = :district_code and area_code = any(:codes)"
    " and effective_on <= :on and (cast(:key as text) is null or key = cast(:key as text))"
    " order by key, area_code desc, effective_on desc"
)
_OF_SETTINGS = "s.area_code, s.key, s.value, s.effective_on, s.provenance"
SETTINGS = Listing(
    columns=f"{_OF_SETTINGS}, s.set_by",
    source=f"({SETTINGS_IN_FORCE}) s",
    order=(Key("key", "s.key", "text"),),
)
# An officer's subject is for offices: members and platforms read the value.
_SETTINGS_ALONE = replace(SETTINGS, columns=f"{_OF_SETTINGS}, null as set_by")
_ASSUMED = {SettingKey.CORRECTION_DAYS: 15}
"""What holds where no area has set a value; nobody approved it."""


_KNOWN = text("select 1 from areas where code = :code")
_IN_AREA = text(
    "select 1 from associations where district_code = :district_code and id = :id"
    " and area_code between :low and :high"
)


class AreaFileInvalid(Problem):
    """The area file has a line that cannot be an area."""

    code, status = "area_file_invalid", 422


class AreaParentUnknown(Problem):
    """An area's parent is neither in the file nor stored."""

    code, status, constraint = "area_parent_unknown", 409, "fk_areas_parent"


class AreaSettingUnset(Problem):
    """Neither the area nor any above it has set this value."""

    code, status = "area_setting_unset", 409


@dataclass(frozen=True)
class AreaLine:
    """One line of an area file, checked."""

    code: str
    name: str
    level: Level
    parent_code: str | None


def read_file(lines: TextIO) -> list[AreaLine]:
    """Read an area file with the columns code, name, level and parent_code, from the top down.

    Raises AreaFileInvalid with the number of the first line that cannot be an area: the code's
    significant digits must fit the level and begin with the parent's.
    """
    reader = csv.DictReader(lines)
    areas: dict[str, AreaLine] = {}
    try:
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise AreaFileInvalid(line=1)
        for row in reader:
            line = _area_of(row)
            if line is None or line.code in areas:
                raise AreaFileInvalid(line=reader.line_num)
            areas[line.code] = line
    except csv.Error:
        raise AreaFileInvalid(line=reader.line_num + 1) from None
    return sorted(areas.values(), key=lambda area: _LENGTH_OF_LEVEL[area.level])


def _area_of(row: Mapping[str | None, Any]) -> AreaLine | None:
    if set(row) != set(_COLUMNS) or None in row.values() or row["level"] not in set(Level):
        return None
    level, parent = Level(row["level"]), row["parent_code"] or None
    area = AreaLine(row["code"], row["name"], level, parent)
    if not AREA_CODE.fullmatch(area.code) or not _NAME.fullmatch(area.name):
        return None
    if area.code[_LENGTH_OF_LEVEL[level] :].strip("0"):
        return None
    if parent is None:
        return area if level is Level.PROVINCE else None
    below = AREA_CODE.fullmatch(parent) and area.code.startswith(area_prefix(parent))
    return area if below and parent != area.code and level is not Level.PROVINCE else None


async def list_districts(
    statements: Statements, *, code: str | None = None, most: int | None = None
) -> list[str]:
    """Give the codes of the districts that this deployment knows, or of one, or only so many."""
    rows = await statements.fetch(_DISTRICTS, {"code": code, "most": most})
    return [row["code"] for row in rows]


async def load(session: AsyncSession, areas: Sequence[AreaLine]) -> int:
    """Store areas, renaming those that are there; give how many were new or renamed.

    A parent that is neither in the file nor stored violates the constraint of AreaParentUnknown.
    """
    params = {name: [getattr(area, name) for area in areas] for name in _COLUMNS}
    changed = await session.execute(text(_LOAD), params)
    return len(changed.all())


async def require_known(session: AsyncSession, code: str) -> None:
    """Raise Invalid at `/area_code` unless there is such an area."""
    if (await session.execute(_KNOWN, {"code": code})).first() is None:
        raise Invalid.at("/area_code", "unknown_reference")


async def require_scope(
    session: AsyncSession, *, district_code: str, area_code: str, association_id: UUID | None
) -> None:
    """Raise Invalid unless there is the area, and the association, if one is named, lies in it."""
    await require_known(session, area_code)
    if association_id is None:
        return
    low, high = area_range(area_code)
    params = {"district_code": district_code, "id": association_id, "low": low, "high": high}
    if (await session.execute(_IN_AREA, params)).first() is None:
        raise Invalid.at("/association_id", "unknown_reference")


async def find(statements: Statements, _caller: Caller, *, code: str) -> AreaRead:
    """Give one area, or refuse with NotFound; areas are public to every caller."""
    row = await statements.fetch_row(_FIND, {"code": code})
    if row is None:
        raise NotFound
    return AreaRead(**row)


async def list_areas(
    statements: Statements, _caller: Caller, keyring: Keyring, *, filters: AreaFilters
) -> Slice:
    """Give a page of areas by code, which is the order of the tree."""
    where = Where({})
    where.equal("a.level", "level", filters.level)
    where.equal("a.parent_code", "parent_code", filters.parent_code)
    where.in_area("a.code", filters.area)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def list_settings(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    code: str,
    filters: AreaSettingFilters,
    on: date,
) -> Slice:
    """Give a page of the values in force in an area on a date, its own or inherited, by key."""
    await find(statements, caller, code=code)
    params = {
        "district_code": caller.district_code,
        "codes": area_lineage(code),
        "on": on,
        "key": None,
    }
    where = Where(params)
    where.equal("s.key", "keys", filters.key)
    is_office = caller.role not in {Role.MEMBER, Role.DATA_PLATFORM}
    listing = SETTINGS if is_office else _SETTINGS_ALONE
    return await listing.page(statements, keyring, filters=filters, where=where)


async def setting_in_force(
    session: AsyncSession, *, district_code: str, code: str, key: SettingKey, on: date
) -> int:
    """Give the value that holds in an area on a date; the nearest area that sets it decides.

    Raises AreaSettingUnset when none does and none is assumed.
    """
    params = {
        "district_code": district_code,
        "codes": area_lineage(code),
        "on": on,
        "key": key.value,
    }
    row = (await session.execute(text(SETTINGS_IN_FORCE), params)).first()
    if row is not None:
        return int(row.value)
    if key not in _ASSUMED:
        raise AreaSettingUnset(key=key.value)
    return _ASSUMED[key]


async def answer_due_on(
    session: AsyncSession, *, district_code: str, code: str, now: datetime
) -> date:
    """Give the civil date by which an office of an area answers what a member says now."""
    today = civil_date(now)
    days = await setting_in_force(
        session, district_code=district_code, code=code, key=SettingKey.CORRECTION_DAYS, on=today
    )
    return today + timedelta(days=days)


async def put_setting(
    session: AsyncSession,
    caller: Caller,
    *,
    code: str,
    key: SettingKey,
    body: AreaSettingWrite,
    now: datetime,
) -> AreaSettingRead:
    """Put a value in force in an area from a date on; the same date again replaces it."""
    if await session.get(Area, code) is None:
        raise NotFound
    reach.require_area(caller, code)
    facts = {
        "value": body.value,
        "provenance": body.provenance.value,
        "set_by": caller.subject,
        "set_at": now,
    }
    await session.execute(
        insert(AreaSetting)
        .values(
            district_code=caller.district_code,
            area_code=code,
            key=key.value,
            effective_on=body.effective_on,
            **facts,
        )
        .on_conflict_do_update(constraint="pk_area_settings", set_=facts)
    )
    return AreaSettingRead(
        area_code=code,
        key=key,
        value=body.value,
        effective_on=body.effective_on,
        provenance=body.provenance,
        set_by=caller.subject,
    )
