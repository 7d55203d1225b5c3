"""The people of a roster: one row each, as far as it could be understood."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from app.models.membership.rosters import RosterColumn as C
from app.models.privacy.privacy_notices import ConsentPurpose


@dataclass(frozen=True)
class Place:
    """An association that a roster may name."""

    id: UUID
    area_code: str
    name: str


@dataclass(frozen=True, slots=True)
class Former:
    """What finds a person who was stored under the index key that is being replaced."""

    id_index: bytes | None
    phone_index: bytes | None
    identity: bytes | None


@dataclass(slots=True)
class Row:
    """One person of the roster, as far as the row could be understood."""

    row_no: int
    place: Place | None = None
    name: str = ""
    employee_no: str | None = None
    id_number: str | None = None
    phone: str | None = None
    joined_on: date | None = None
    consented_on: date | None = None
    consents: frozenset[ConsentPurpose] = frozenset()
    id_index: bytes | None = None
    phone_index: bytes | None = None
    identity: bytes | None = None
    former: Former | None = None
    waiting_phone: str | None = None
    notes: Sequence[dict[str, Any]] = ()
    rejected: bool = False
    member_id: UUID | None = None
    outcome: str = ""

    def given_on(self, purpose: ConsentPurpose) -> date | None:
        """Give the day on which the person consented to a purpose."""
        return self.consented_on if purpose in self.consents else None

    def leave_out(self, withdrawn: frozenset[ConsentPurpose]) -> None:
        """Take nothing that the person took back since, however often the file is sent."""
        if not withdrawn & self.consents:
            return
        self.consents -= withdrawn
        if ConsentPurpose.IDENTITY in withdrawn:
            self.id_number = self.id_index = self.identity = None
        if ConsentPurpose.CONTACT in withdrawn:
            self.phone = self.phone_index = self.waiting_phone = None
        self.note(C.CONSENTED_ON, "consent_withdrawn")

    def leave_phone(self, why: str) -> None:
        """Take no phone in place of the one that the person has."""
        if self.phone is not None:
            self.phone = self.phone_index = None
            self.note(C.PHONE, why)

    def hold_phone(self, why: str) -> None:
        """Let a phone wait before it is hers."""
        held = self.phone
        self.leave_phone(why)
        self.waiting_phone = held or self.waiting_phone

    def note(self, column: C | None, code: str, **facts: object) -> None:
        """Say something about the row."""
        note = {"column": column and column.value, "code": code, "facts": facts}
        self.notes = [*self.notes, note]

    def reject(self, column: C | None, code: str, **facts: object) -> None:
        """Refuse the row and say why; facts never hold what it says."""
        self.note(column, code, **facts)
        self.rejected = True
