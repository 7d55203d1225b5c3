"""What is kept of an act: who did or read what, on whom and why; names only, never a value."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from json.encoder import encode_basestring as _text
from typing import TypeAlias
from uuid import UUID

# Committed is committed for everybody who looks; only a crash of the server itself may lose what
# was read in its last moments. Writes wait for the disk, and so does each seal.
_PROMPTLY = "set local synchronous_commit = off; "
# One row, whose text is taken apart when it is sealed: few columns are soon read and planned.
_STORE = "insert into audit_unsealed (district_code, id, subject, entry) values "


Persons: TypeAlias = Sequence[UUID | str | None]
"""Ids of persons, as ids or as their texts."""


@dataclass
class Act:
    """One act of a caller, before it is known whom it reaches.

    `fields` are the names of what was sent or asked by; `object_ids` and `persons` are those
    whom the path names.
    """

    district_code: str
    subject: str
    role: str
    area_code: str
    name: str
    object_kind: str
    object_ids: tuple[str, ...]
    request_id: str
    at: datetime
    new_id: Callable[[], str]
    persons: tuple[UUID, ...] = ()
    fields: tuple[str, ...] = ()
    purpose: str | None = None
    is_prompt: bool = False
    """Whether its commit waits for no disk, as nothing but the entry is written."""
    is_noted: bool = False
    """Whether an entry of it was stored, or is in a transaction that ends before the answer."""
    told: set[str] = field(default_factory=set)
    """The ids of the persons whom its entries name."""

    def entry(self, persons: Persons) -> str:
        """Write the row of an entry, as literals."""
        known = dict.fromkeys([str(each) for each in (*self.persons, *persons) if each])
        self.told.update(known)
        said = (
            f'{{"at":"{self.at.isoformat()}","role":{_text(self.role)},"act":{_text(self.name)},'
            f'"object_kind":{_text(self.object_kind)},"object_ids":{_texts(self.object_ids)},'
            f'"person_ids":{_text(_array(known))},"fields":{_texts(self.fields)},'
            f'"purpose":{"null" if self.purpose is None else _text(self.purpose)},'
            f'"area_code":{_text(self.area_code)},"request_id":{_text(self.request_id)}}}'
        )
        values = (self.district_code, self.new_id(), self.subject, said)
        return f"({', '.join(map(_literal, values))})"

    def tells_of(self, persons: Persons) -> bool:
        """Tell whether an entry of the act that was stored names these persons already."""
        return self.is_noted and all(str(each) in self.told for each in persons if each)


def storing(rows: Iterable[str], *, promptly: bool) -> str:
    """Write the one statement that stores the entries of a transaction, to go before its commit.

    It travels with the commit, and so costs no round trip of its own.
    """
    stored = ", ".join(row for row in rows if row)
    if not stored:
        return ""
    return f"{_PROMPTLY if promptly else ''}{_STORE}{stored}; "


def _literal(value: str) -> str:
    if "\x00" in value:
        raise ValueError("no text for an entry")
    return "'" + value.replace("'", "''") + "'"


def _array(ids: Iterable[str]) -> str:
    """Write ids as an array of PostgreSQL's, which a page of them makes a quarter shorter."""
    return "{" + ",".join(ids).replace("-", "") + "}"


def _texts(values: Iterable[str]) -> str:
    return f"[{','.join(map(_text, values))}]"
