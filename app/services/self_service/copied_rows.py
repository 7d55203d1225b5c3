"""What a copy of a member's data is read from: what leads to her rows, and what names them."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import DateTime, LargeBinary, Table, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.registry import metadata
from app.paging import instant
from app.roles import Role
from app.tokens import subject_of

OFFICE = "office"
"""Stands for whoever acted under a grant that is not kept any more."""
SEALED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("members", "id_number_sealed"): (),
    ("members", "phone_sealed"): (),
    ("members", "payout_account_sealed"): (),
    ("held_changes", "value_sealed"): ("value",),
    ("vouchers", "code_sealed"): ("code",),
    ("corrections", "said_sealed"): ("value", "note"),
    ("corrections", "answer_sealed"): ("answer",),
}
"""As what the copy gives each value that is sealed; her three numbers stand beside the tables."""
COUNTED: Mapping[str, tuple[str, ...]] = {
    "line_no": ("payout_id",),
    "number": (),
    "position": (),
}
"""As what it gives columns that count her among others."""
NOT_COPIED: Mapping[tuple[str, str], str] = {
    ("members", "id_number_index"): "a hash of what is copied",
    ("members", "phone_index"): "a hash of what is copied",
    ("members", "payout_account_index"): "a hash of what is copied",
    ("person_keys", "identity_hash"): "a hash of what is copied",
    ("vouchers", "code_index"): "a hash of what is copied",
    ("phone_codes", "phone_index"): "a hash of a phone for a day and a night",
    ("phone_codes", "former_index"): "a hash of a phone for a day and a night",
    ("code_limits", "key"): "a hash that leads back to nobody",
    ("code_limits", "last_at"): "stands beside a hash that leads back to nobody",
    ("audit_entries", "subject"): "who the officer is; the copy says in which office",
    ("audit_entries", "object_ids"): "may name others beside her",
    ("audit_entries", "person_ids"): "may name others beside her",
    ("audit_entries", "malformed"): "nobody can tell what it says, or of whom",
    ("audit_unsealed", "subject"): "an entry is copied once it is sealed, a second later",
    ("audit_unsealed", "entry"): "an entry is copied once it is sealed, a second later",
    ("bank_files", "content_sealed"): "holds her copied account among others', for 30 days",
    ("operation_files", "sealed"): "a roster, hers only once it is taken in",
    ("operations", "arguments"): "what an officer asked for",
    ("idempotency_keys", "subject"): "a request's answer, for a day, to be repeated",
    ("idempotency_keys", "fingerprint"): "a request's answer, for a day, to be repeated",
    ("idempotency_keys", "body"): "a request's answer, for a day, to be repeated",
    ("idempotency_keys", "created_at"): "a request's answer, for a day, to be repeated",
    ("idempotency_keys", "persons"): "may name others beside her",
    ("reveal_counts", "subject"): "counts a caller's looks, whose ever record it was",
    ("reveal_counts", "on_day"): "counts a caller's looks, whose ever record it was",
    ("reveal_counts", "shown"): "counts a caller's looks, whose ever record it was",
    ("officers", "*"): "an office held; no member is behind it in the records",
}
"""What tells of somebody and is in no copy, and why; whoever `*_by` names is an officer."""
ACTED_AT = {"answered_by": "closed_at", "caused_by": "created_at", "granted_by": "created_at"}
"""When somebody acted, where it is not `<act>_at` beside `<act>_by`."""


class Source(NamedTuple):
    """How her rows `t` of a table are found, and what else is read beside them."""

    joined: str
    hers: str
    beside: tuple[str, ...] = ()


# Payouts are found by round, and all that hangs on a line by its payout.
_ROUNDS = (
    " and {}.round_sequence in"
    " (select sequence from exam_rounds where district_code = :district_code)"
)
_BY_LINE = Source(
    " join payouts p on p.district_code = t.district_code and p.run_id = t.run_id"
    " and p.line_no = t.line_no",
    "p.district_code = :district_code and p.member_id = :id and t.line_no is not null"
    + _ROUNDS.format("p"),
)
_PRIZE = (
    "(select p.name from draw_prizes p where p.district_code = t.district_code"
    " and p.draw_id = t.draw_id"
    " and t.unit between p.first_unit and p.first_unit + p.quantity - 1) as prize_name"
)
_SOURCES = {
    "members": Source("", "t.id = :id"),
    "payouts": Source("", "t.member_id = :id" + _ROUNDS.format("t")),
    "person_keys": Source("", "t.member_id = :id and t.identity_hash = any(:identities)"),
    # An entry may name others besides her: what it says of itself stands beside where she is named.
    "audit_sightings": Source(
        " join audit_entries e on e.district_code = t.district_code and e.id = t.entry_id",
        "t.person_id = :id",
        (instant("e.at"), "e.role", "e.act", "e.object_kind", "e.fields", "e.purpose", "e.refusal"),
    ),
    "transfers": _BY_LINE,
    "stock_movements": _BY_LINE,
    "draw_winners": Source(
        " join draw_tickets k on k.district_code = t.district_code and k.ticket = t.ticket",
        "k.district_code = :district_code and k.member_id = :id",
        (_PRIZE,),
    ),
}
_RULE = (
    "(select {} from payout_runs r join incentive_rules i on i.district_code = r.district_code"
    " and i.policy_id = r.policy_id and i.number = r.policy_number and i.rule_id = t.rule_id"
    " where r.district_code = t.district_code and r.id = t.run_id limit 1) as {}"
)
_NAMED = (
    ("association_id", "associations", "id", "name", "association_name"),
    ("event_id", "service_events", "id", "title", "event_title"),
    ("round_sequence", "exam_rounds", "sequence", "name", "round_name"),
    ("round_id", "exam_rounds", "id", "name", "round_name"),
    ("station_id", "service_stations", "id", "name", "station_name"),
    ("draw_id", "draws", "id", "name", "draw_name"),
    ("gift_id", "gifts", "id", "name", "gift_name"),
    ("depot_id", "depots", "id", "name", "depot_name"),
    ("credit_depot_id", "depots", "id", "name", "credit_depot_name"),
    ("fund_id", "funds", "id", "name", "fund_name"),
    ("credit_fund_id", "funds", "id", "name", "credit_fund_name"),
)
_GRANTED = text(
    f"select subject, role, {instant('starts_at')}, {instant('ends_at')}, {instant('revoked_at')}"
    " from grants where district_code = :district_code and subject = any(:subjects)"
    f" and (role <> '{Role.MEMBER}' or member_id = :id) order by starts_at desc, id desc"
)


def sources() -> Iterator[tuple[Table, Source]]:
    """Give each table that holds rows of members, and what leads to them."""
    for name, table in sorted(metadata.tables.items()):
        column = next((each for each in ("member_id", "person_id") if each in table.columns), None)
        if name in _SOURCES:
            yield table, _SOURCES[name]
        elif column is not None:
            yield table, Source("", f"t.{column} = :id")


def names_beside(table: Table, source: Source) -> tuple[str, ...]:
    """Give what a table's rows are read with: names of what their ids lead to."""
    named = tuple(
        f"(select n.{name} from {other} n where n.district_code = t.district_code"
        f" and n.{key} = t.{column}) as {shown}"
        for column, other, key, name, shown in _NAMED
        if column in table.columns
    )
    if {"rule_id", "run_id"} <= set(table.columns.keys()):
        named += (_RULE.format("i.name", "rule_name"), _RULE.format("i.gift_item", "gift_name"))
    return (*named, *source.beside)


def shown(table: Table) -> Iterator[str]:
    """Give the columns that say something: no keys and hashes; what is sealed in hexadecimal."""
    for column in table.columns:
        if isinstance(column.type, DateTime):
            yield instant(f"t.{column.name}")
        elif not isinstance(column.type, LargeBinary):
            yield f"t.{column.name}"
        elif (table.name, column.name) in {
            ("held_changes", "value_sealed"),
            ("vouchers", "code_sealed"),
        }:
            yield f"encode(t.{column.name}, 'hex') as {column.name}"


async def read(
    session: AsyncSession, *, params: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Read her rows of each table, district-wide, with offices in place of officers."""
    rows = {table.name: await _hers(session, table, source, params) for table, source in sources()}
    await _name_offices(session, rows, district_code=params["district_code"], id=params["id"])
    return rows


async def _hers(
    session: AsyncSession, table: Table, source: Source, params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    keys = ", ".join(f"t.{key.name}" for key in table.primary_key.columns)
    columns = ", ".join((*shown(table), *names_beside(table, source)))
    sql = (
        f"select row_to_json(item) from (select {columns} from {table.name} t{source.joined}"
        f" where t.district_code = :district_code and {source.hers} order by {keys}) item"
    )
    wanted = {name: value for name, value in params.items() if f":{name}" in sql}
    return list((await session.execute(text(sql), wanted)).scalars())


async def _name_offices(
    session: AsyncSession,
    rows: Mapping[str, list[dict[str, Any]]],
    *,
    district_code: str,
    id: UUID,  # noqa: A002  (the statement's word for the member)
) -> None:
    """Put in place of each officer's subject the role in which she acted."""
    acts = [
        (row, column)
        for found in rows.values()
        for row in found
        for column, subject in row.items()
        if column.endswith("_by") and subject is not None
    ]
    params = {
        "district_code": district_code,
        "id": id,
        "subjects": sorted({row[column] for row, column in acts}),
    }
    granted = (await session.execute(_GRANTED, params)).mappings().all()
    for row, column in acts:
        row[column] = _role(row[column], _acted_at(row, column), granted, member_id=id)


def _acted_at(row: Mapping[str, Any], column: str) -> str:
    return str(row[ACTED_AT.get(column, f"{column.removesuffix('by')}at")])


def _role(subject: str, at: str, granted: Any, *, member_id: UUID) -> str:
    if subject == subject_of(member_id):
        return Role.MEMBER.value
    return next(
        (
            str(grant["role"])
            for grant in granted
            if grant["subject"] == subject
            and grant["starts_at"] <= at
            and all(end is None or at < end for end in (grant["ends_at"], grant["revoked_at"]))
        ),
        OFFICE,
    )
