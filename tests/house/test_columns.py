"""Each column has its entry, what is sensitive is sealed, and what is written goes with her."""

import re

from sqlalchemy import Column, LargeBinary, Text

from app.models.columns import Entry, Retention, Sensitivity, read
from app.models.membership.members import Member
from app.models.registry import metadata
from app.services.self_service import copied_rows

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


# Texts beside a member that say nothing of her, and why.
_OTHER_TEXTS = {
    "device_id": "which device noted it",
    "device_ref": "the device's own id of it",
    "last_answer": "a status or a fixed word of the gateway's",
    "receipt": "the gateway's number",
    "subject": "who may act, as her token names her",
}
_BOOKS = {"document_no", "note"}
"""Of a purchase or a grant of money; entries of payouts have neither."""


def _is_of_a_member(table: str) -> bool:
    return bool({"member_id", "line_no", "ticket"} & set(metadata.tables[table].columns.keys()))


def test_what_is_written_of_a_member_goes_with_her() -> None:
    """A free text in a row of a member is emptied by her erasure, which follows the register."""
    free = {
        (table, name)
        for (table, name), column in _COLUMNS.items()
        if _is_of_a_member(table)
        and isinstance(column.type, Text)
        and column.type.collation is None
        and not name.endswith("_by")
        and name not in _OTHER_TEXTS
        and (table not in {"transfers", "stock_movements"} or name not in _BOOKS)
    }
    written = {(entry.table, entry.column) for entry in _of(Sensitivity.WRITTEN)}
    assert free - written == set(), "call them `written` in app/data/columns.csv"
    assert written <= free
    kept = {entry.retention for entry in _of(Sensitivity.WRITTEN)}
    assert kept <= {Retention.ERASURE, Retention.LIMITED}


def _copied() -> set[tuple[str, str]]:
    """Give what a member's copy holds: columns as they are, and what is opened."""
    found = {
        (table.name, name)
        for table, source in copied_rows.sources()
        for column in (*copied_rows.shown(table), *copied_rows.names_beside(table, source))
        for name in [re.split(r"[ .]", column)[-1]]
    }
    entries = {("audit_entries", name) for table, name in found if table == "audit_sightings"}
    return found | entries | set(copied_rows.SEALED)


def _is_left_out(entry: Entry) -> bool:
    left_out = copied_rows.NOT_COPIED
    return (entry.table, entry.column) in left_out or (entry.table, "*") in left_out


def test_what_tells_of_a_member_is_in_her_copy_or_left_out_for_a_reason() -> None:
    copied = _copied()
    tables = {table.name for table, _ in copied_rows.sources()}
    forgotten = [
        (entry.table, entry.column)
        for told in (Sensitivity.PERSONAL, Sensitivity.SENSITIVE, Sensitivity.WRITTEN)
        for entry in _of(told)
        if (entry.table, entry.column) not in copied
        and not _is_left_out(entry)
        and (entry.table in tables or not entry.column.endswith("_by"))
    ]
    assert not forgotten, (
        f"lead to {forgotten} in app/services/self_service/copied_rows.py, or say why not"
    )


def test_what_is_left_out_of_copies_is_there_and_not_copied() -> None:
    known = _COLUMNS.keys() | {(table, "*") for table, _ in _COLUMNS}
    assert copied_rows.NOT_COPIED.keys() <= known
    assert copied_rows.SEALED.keys() <= _COLUMNS.keys()
    assert not copied_rows.NOT_COPIED.keys() & _copied()


def test_the_copy_knows_when_each_officer_acted() -> None:
    """Whoever acted is told by the role in which she did it, which a time tells."""
    for table, _ in copied_rows.sources():
        for column in table.columns:
            if column.name.endswith("_by"):
                acted_at = copied_rows.ACTED_AT.get(column.name, f"{column.name[:-3]}_at")
                assert acted_at in table.columns, f"{table.name}.{column.name}"
