"""Each column has its entry in the register, and what is sensitive is sealed."""

import re

from sqlalchemy import Column, LargeBinary

from app.models.columns import Entry, Retention, Sensitivity, read
from app.models.members import Member
from app.models.registry import metadata

_REGISTER = list(read())
_COLUMNS = {
    (name, column.name): column
    for name, table in metadata.tables.items()
    for column in table.columns
}
_SEALED = re.compile(r"(^|_)(sealed|index|hash)$")
_NAMES_A_RECORD = re.compile(r"_ids?$|^area_code$|^areas$")
_NAMES_A_PERSON = re.compile(r"_by$|(^|_)subject$|^member_id$|^person_id$")
_PLAIN_BYTES = {
    ("audit_seals", "leaves"): Sensitivity.NONE,
    ("audit_seals", "root"): Sensitivity.NONE,
    ("audit_seals", "head"): Sensitivity.NONE,
    ("code_limits", "key"): Sensitivity.PERSONAL,
    ("draws", "seed"): Sensitivity.ORGANISATIONAL,
    ("idempotency_keys", "fingerprint"): Sensitivity.PERSONAL,
    ("idempotency_keys", "body"): Sensitivity.PERSONAL,
    ("month_closes", "content"): Sensitivity.ORGANISATIONAL,
    ("month_closes", "signature"): Sensitivity.ORGANISATIONAL,
}
"""Bytes that are published, or that tell nothing by themselves."""


def _is_sealed(column: Column[object]) -> bool:
    return isinstance(column.type, LargeBinary) and _SEALED.search(column.name) is not None


def _of(sensitivity: Sensitivity) -> list[Entry]:
    return [entry for entry in _REGISTER if entry.sensitivity is sensitivity]


def test_each_column_has_one_entry_and_each_entry_its_column() -> None:
    entered = [(entry.table, entry.column) for entry in _REGISTER]
    missing = _COLUMNS.keys() - set(entered)
    assert not missing, f"say in app/data/columns.csv what {sorted(missing)} are for"
    left = set(entered) - _COLUMNS.keys()
    assert not left, f"take {sorted(left)} out of app/data/columns.csv"
    assert len(entered) == len(set(entered))


def test_the_register_has_the_order_of_the_tables() -> None:
    ordered = [
        (name, column.name)
        for name, table in sorted(metadata.tables.items())
        for column in table.columns
    ]
    assert [(entry.table, entry.column) for entry in _REGISTER] == ordered


def test_each_entry_says_what_for() -> None:
    vague = [entry for entry in _REGISTER if len(entry.purpose.split()) < 2]
    assert not vague


def test_what_is_sensitive_is_sealed_and_what_is_sealed_is_sensitive() -> None:
    sealed = {key for key, column in _COLUMNS.items() if _is_sealed(column)}
    assert {(entry.table, entry.column) for entry in _of(Sensitivity.SENSITIVE)} == sealed
    assert {"id_number_sealed", "id_number_index", "phone_sealed", "phone_index"} <= {
        column for table, column in sealed if table == Member.__tablename__
    }


def test_keys_and_what_is_sensitive_do_not_outlast_their_consent() -> None:
    # The seed of a draw is nobody's: it is sealed until it is revealed.
    seeds = {("draws", "wrapped_seed")}
    kept = _of(Sensitivity.SENSITIVE) + _of(Sensitivity.SECRET)
    kept = [entry for entry in kept if (entry.table, entry.column) not in seeds]
    allowed = {Retention.CONSENT, Retention.LIMITED}
    assert not [entry for entry in kept if entry.retention not in allowed]


def test_nothing_of_a_member_passes_for_an_organisations() -> None:
    """A row that is a member's own tells of her, but for which record of an office it is about."""
    wrong = [
        entry
        for entry in _REGISTER
        if "member_id" in metadata.tables[entry.table].columns
        and entry.sensitivity is Sensitivity.ORGANISATIONAL
        and not _NAMES_A_RECORD.search(entry.column)
    ]
    assert not wrong


def test_whoever_is_named_is_a_person_in_every_table() -> None:
    wrong = [
        entry
        for entry in _REGISTER
        if _NAMES_A_PERSON.search(entry.column) and entry.sensitivity is not Sensitivity.PERSONAL
    ]
    assert not wrong
    # Where a row is not hers by its member's id, a line of a run is what leads to her.
    lines = {
        entry.sensitivity
        for entry in _REGISTER
        if entry.column == "line_no" and "member_id" not in metadata.tables[entry.table].columns
    }
    assert lines == {Sensitivity.PERSONAL}


def test_what_is_bytes_is_secret_or_sealed_unless_it_is_said_here() -> None:
    plain = {
        (entry.table, entry.column): entry.sensitivity
        for entry in _REGISTER
        if isinstance(_COLUMNS[entry.table, entry.column].type, LargeBinary)
        and entry.sensitivity not in {Sensitivity.SENSITIVE, Sensitivity.SECRET}
    }
    assert plain == _PLAIN_BYTES
    secret = {(entry.table, entry.column) for entry in _of(Sensitivity.SECRET)}
    assert secret == {
        ("data_keys", "wrapped"),
        ("draws", "wrapped_seed"),
        ("phone_codes", "digest"),
    }
