"""What is kept of an act: who did or read what, on whom and why; names only, never a value."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring as _text
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

# Committed is committed for everybody who looks; only a crash of the server itself may lose what
# was read in its last moments. Writes wait for the disk, and so does each seal.
_PROMPTLY = "set local synchronous_commit = off; "
# One row, whose text is taken apart when it is sealed: few columns are soon read and planned.
_INTO = "insert into audit_unsealed (district_code, id, subject, entry)"
_STORE = f"{_INTO} values "
# Whom an entry names stands last in it, as an array that is written without hyphens.
_PERSONS, _END = '"person_ids":"', '"}'
_NOTING = (
    "with item as materialized ({sql}),"
    f" noted as ({_INTO} select :noted_district, cast(:noted_id as uuid), :noted_subject,"
    " :noted_said || replace(array(select cast({about} as uuid) from item"
    " limit cast(:noted_rows as bigint))::text, '-', '') || '{end}'{when})"
    " select {output} from item"
)


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
    refusal: str | None = None
    """The code of the problem by which it was refused."""
    is_prompt: bool = False
    """Whether its commit waits for no disk, as nothing but the entry is written."""
    is_noted: bool = False
    """Whether an entry of it was stored, or is in a transaction that ends before the answer."""
    told: set[str] = field(default_factory=set)
    """The ids of the persons whom its entries name, in hexadecimal digits."""

    def entry(self, persons: Persons) -> str:
        """Write the row of an entry, as literals."""
        known = dict.fromkeys(_digits((*self.persons, *persons)))
        self.told.update(known)
        said = f"{self._said()}{_PERSONS}{_array(known)}{_END}"
        values = (self.district_code, self.new_id(), self.subject, said)
        return f"({', '.join(map(_literal, values))})"

    def within(self, *, rows: int | None = None) -> dict[str, object]:
        """Give the parameters of a statement that `noting` wrote.

        Of its rows only the first ones are shown to the caller; None shows all. Whom the path
        names goes apart from whom the rows do: put together by the seal, not while she waits.
        """
        return {
            "noted_district": self.district_code,
            "noted_id": self.new_id(),
            "noted_subject": self.subject,
            "noted_said": f'{self._said()}"named":"{_array(_digits(self.persons))}",{_PERSONS}',
            "noted_rows": rows,
        }

    def _said(self) -> str:
        """Write an entry up to where it names whom it is about."""
        refused = "" if self.refusal is None else f'"refusal":{_text(self.refusal)},'
        return (
            f'{{{refused}"at":"{self.at.isoformat()}","role":{_text(self.role)},"act":{_text(self.name)},'
            f'"object_kind":{_text(self.object_kind)},"object_ids":{_texts(self.object_ids)},'
            f'"fields":{_texts(self.fields)},'
            f'"purpose":{"null" if self.purpose is None else _text(self.purpose)},'
            f'"area_code":{_text(self.area_code)},"request_id":{_text(self.request_id)},'
        )

    def reach(self, persons: Iterable[UUID]) -> None:
        """Have the entry name whom the act changes though its answer does not show them."""
        self.persons = tuple(dict.fromkeys((*self.persons, *persons)))

    def remember(self, persons: Persons) -> None:
        """Keep whom an entry names that a statement stores itself."""
        self.told.update(_digits(persons))

    def whom(self) -> list[str]:
        """Give the ids of all whom it names or reaches, in hexadecimal digits, in order."""
        return sorted(self.told.union(_digits(self.persons)))

    def forget(self) -> None:
        """Take back what was noted in a transaction that was rolled back."""
        self.is_noted = False
        self.told.clear()

    def tells_of(self, persons: Persons) -> bool:
        """Tell whether an entry of the act that was stored names these persons already."""
        return self.is_noted and self.told.issuperset(_digits(persons))


Reached = Callable[[Sequence[Mapping[str, Any]]], Iterable[tuple[Act, Persons]]]
"""Tells from a statement's rows which of several acts reached whom."""


class Shown(NamedTuple):
    """A query's column of persons' ids, what is given of its rows, as `item`, and of how many."""

    person: str
    output: str = "*"
    rows: int | None = None


About = str | Sequence[UUID] | Shown | Reached | None
"""Whom a statement is about: the column of her id, ids of persons, or which act reached whom."""


def storing(rows: Iterable[str], *, promptly: bool) -> str:
    """Write the one statement that stores the entries of a transaction, to go before its commit.

    It travels with the commit, and so costs no round trip of its own.
    """
    stored = ", ".join(row for row in rows if row)
    return f"{_PROMPTLY if promptly else ''}{f'{_STORE}{stored}; ' if stored else ''}"


@lru_cache(maxsize=1024)
def noting(sql: str, *, about: str, output: str = "*", even_nobody: bool = True) -> str:
    """Make a query one that stores the entry of the persons whom it gives, in the same statement.

    `about` is its column of their ids, `output` what is selected from the query, as `item`.
    Without rows an entry is stored unless not `even_nobody`.
    """
    when = "" if even_nobody else " where exists (select from item)"
    return _NOTING.format(sql=sql, about=about, output=output, when=when, end=_END)


def _literal(value: str) -> str:
    if "\x00" in value:
        raise ValueError("no text for an entry")
    return "'" + value.replace("'", "''") + "'"


def _digits(persons: Persons) -> list[str]:
    """Give the hexadecimal digits of ids, which of a page of them are a quarter shorter."""
    return [
        each.replace("-", "") if isinstance(each, str) else f"{each.int:032x}"
        for each in persons
        if each
    ]


def _array(digits: Iterable[str]) -> str:
    return f"{{{','.join(digits)}}}"


def _texts(values: Iterable[str]) -> str:
    return f"[{','.join(map(_text, values))}]"
