"""The rows of a roster: each checked, also against earlier ones."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from app import identifiers, sheets
from app.crypto import Keyring
from app.models.membership.rosters import RosterColumn as C
from app.models.privacy.privacy_notices import ConsentPurpose
from app.problems import Problem
from app.services.membership.roster_headers import Header
from app.services.membership.roster_persons import Former, Place, Row
from app.services.privacy import person_data
from app.sheets import Cell
from app.telling import tells

MAX_ROWS = 200_000
_PURPOSES: Mapping[ConsentPurpose, str] = {
    ConsentPurpose.IDENTITY: "身份证号 身份证 身份证号码 身份 identity",
    ConsentPurpose.CONTACT: "手机号 手机 手机号码 电话 联系 contact",
    ConsentPurpose.PAYMENT: "收款账户 银行卡 账户 payment",
    ConsentPurpose.THANKS: "奖励 参加奖励 补贴 签到 thanks",
}
_PURPOSE_OF = {word: purpose for purpose, words in _PURPOSES.items() for word in words.split()}
_BETWEEN_PURPOSES = re.compile(r"[\s,;/|、，；和及]+")
_DATE = re.compile(
    r"(\d{4})(?:[-/.年])(\d{1,2})(?:[-/.月])(\d{1,2})日?(?:[ T]00?:00(?::00(?:\.0+)?)?)?"
)
_COMPACT_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})")
_SCIENTIFIC = re.compile(r"\d(?:\.(\d+))?E\+?\d+", re.IGNORECASE)
_BLANKS = re.compile(r"\s+")
# What is no blank either: a reader of telephone numbers passes over it.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_CHINESE_GAP = re.compile(r"(?<=[\u3400-\u9fff])\s+(?=[\u3400-\u9fff])")
_EXCEL_EPOCH = date(1899, 12, 30)
_EXCEL_SERIALS = range(7_306, 73_051)  # 1920 to 2099
_PHONE_DIGITS = 11
_NO_PHONE = 1e16
_CHECKED = (
    C.ASSOCIATION, C.NAME, C.EMPLOYEE_NO, C.JOINED_ON, C.CONSENTED_ON, C.CONSENTED_TO, C.ID_NUMBER,
    C.PHONE,
)  # fmt: skip
# What a date alone stands for, by whether there is an ID number and whether there is a phone.
_IDENTITY, _CONTACT = ConsentPurpose.IDENTITY, ConsentPurpose.CONTACT
_HELD = {
    (number, phone): frozenset(
        purpose for purpose, is_held in ((_IDENTITY, number), (_CONTACT, phone)) if is_held
    )
    for number in (False, True)
    for phone in (False, True)
}


class RosterTooLong(Problem):
    """The roster has more rows than one import takes."""

    code, status = "roster_too_long", 422


class Reader:
    """Checks rows one by one, remembering what earlier rows of the file said."""

    def __init__(
        self,
        header: Header,
        *,
        keyring: Keyring,
        today: date,
        places: Sequence[Place],
        chosen: Place | None,
    ) -> None:
        """Take the associations within reach and the one chosen for the whole file, if any."""
        self._header = header
        self._keyring = keyring
        self._has_former = len(keyring.index_versions) > 1
        self._today = today
        self._chosen = chosen
        self._by_id = {str(place.id): place for place in places}
        self._by_name: dict[str, list[Place]] = {}
        for place in places:
            self._by_name.setdefault(place.name, []).append(place)
        self._columns = [header.places.get(column) for column in _CHECKED]
        # By index, by association and number, by association and name: a key each, for many rows.
        self._indexes: dict[object, int] = {}
        self._numbers: dict[UUID, dict[object, int]] = {}
        self._names: dict[UUID, dict[object, int]] = {}

    def read(self, lines: Iterable[tuple[int, Sequence[Cell]]]) -> Iterator[Row]:
        """Give a checked row for each line that is not blank; raises RosterTooLong."""
        count = 0
        for row_no, cells in lines:
            if not any(cell not in {"", None} and str(cell).strip() for cell in cells):
                continue
            count += 1
            if count > MAX_ROWS:
                raise RosterTooLong(limit=MAX_ROWS)
            yield self._check(row_no, cells)

    def named(self, rows: Iterable[Sequence[Cell]]) -> list[Place]:
        """Give the associations that the column of a file names."""
        column = self._header.places[C.ASSOCIATION]
        texts = {sheets.text_of(cells[column]) for cells in rows if column < len(cells)}
        found = (self._found(named) for named in texts)
        return [place for place in found if place is not None]

    def _found(self, named: str) -> Place | None:
        found = self._by_name.get(named, [])
        return self._by_id.get(named.lower()) or (found[0] if len(found) == 1 else None)

    def _check(self, row_no: int, cells: Sequence[Cell]) -> Row:
        row = Row(row_no)
        width = len(cells)
        association, name, employee_no, joined_on, consented_on, consented_to, id_number, phone = [
            cells[index] if index is not None and index < width else None for index in self._columns
        ]
        row.place = self._place(row, sheets.text_of(association))
        row.name = _name(row, sheets.text_of(name))
        row.employee_no = _employee_no(row, sheets.text_of(employee_no))
        row.joined_on = self._date(row, C.JOINED_ON, joined_on)
        row.consented_on = self._date(row, C.CONSENTED_ON, consented_on)
        purposes = _purposes(row, sheets.text_of(consented_to))
        self._person_data(row, id_number, phone, purposes)
        if not row.rejected:
            self._compare(row)
        return row

    def _place(self, row: Row, named: str) -> Place | None:
        if not named and self._chosen is not None:
            return self._chosen
        place = self._found(named)
        if self._chosen is not None:
            if place is not None and place != self._chosen:
                row.reject(C.ASSOCIATION, "association_differs")
            return self._chosen
        if place is None:
            is_ambiguous = named in self._by_name
            code = "association_ambiguous" if is_ambiguous else "association_unknown"
            row.reject(C.ASSOCIATION, code if named else "missing")
        return place

    def _date(self, row: Row, column: C, cell: Cell) -> date | None:
        if cell is None or cell == "":
            return None
        value = date_of(cell)
        if value is None:
            row.reject(column, "date_form")
        elif value > self._today:
            row.reject(column, "date_in_future")
        return value

    def _person_data(
        self, row: Row, id_number: Cell, phone: Cell, purposes: frozenset[ConsentPurpose] | None
    ) -> None:
        """Keep ID number and phone of who consented; of others only what finds them again.

        A date alone stands for the consents to what the row holds.
        """
        consented = row.consented_on is not None
        if not consented:
            row.note(C.CONSENTED_ON, "enrolled_without_sensitive_fields")
        to_identity = consented and (purposes is None or _IDENTITY in purposes)
        number = self._id_number(row, id_number, strict=to_identity)
        if number is not None:
            row.id_index = person_data.id_number_index(self._keyring, number)
            row.identity = person_data.identity_hash(self._keyring, number)
        row.id_number = number if to_identity else None
        if consented and (purposes is None or _CONTACT in purposes):
            row.phone = _phone(row, phone)
        if row.phone is not None:
            row.phone_index = person_data.phone_index(self._keyring, row.phone)
        if consented:
            row.consents = purposes or _HELD[row.id_number is not None, row.phone is not None]
            if purposes is not None:
                _say_what_is_left_out(row, number, sheets.text_of(phone))
        if self._has_former:
            row.former = self._former(number, row.phone)

    def _former(self, number: str | None, phone: str | None) -> Former:
        find = self._keyring.former_index
        return Former(
            None if number is None else find(number, column=person_data.ID_NUMBER),
            None if phone is None else find(phone, column=person_data.PHONE),
            None if number is None else find(number, column=person_data.PERSON),
        )

    def _id_number(self, row: Row, cell: Cell, *, strict: bool) -> str | None:
        text = sheets.text_of(cell)
        if not text:
            return None
        if _CONTROL.search(text):
            row.reject(C.ID_NUMBER, "control_character")
            return None
        is_rounded = isinstance(cell, int | float) or _SCIENTIFIC.fullmatch(text)
        try:
            if is_rounded:
                raise ValueError("id_number_rounded")  # noqa: TRY301  (joined with the others)
            return identifiers.resident_id(text, today=self._today)
        except ValueError as error:
            if strict:
                row.reject(C.ID_NUMBER, str(error))
            return None

    def _compare(self, row: Row) -> None:
        """Reject a row that says again what an earlier one said."""
        if row.place is None:
            return
        keys: list[tuple[C, str, dict[object, int], object]] = []
        if row.id_index is not None:
            keys.append((C.ID_NUMBER, "duplicate_id_number", self._indexes, row.id_index))
        if row.employee_no is not None:
            numbers = self._numbers.setdefault(row.place.id, {})
            keys.append((C.EMPLOYEE_NO, "duplicate_employee_no", numbers, row.employee_no))
        elif row.id_number is None:
            names = self._names.setdefault(row.place.id, {})
            keys.append((C.NAME, "duplicate_name", names, row.name))
        for column, code, seen, key in keys:
            if key in seen:
                row.reject(column, code, row=seen[key])
                return
        for _, _, seen, key in keys:
            seen[key] = row.row_no


def _say_what_is_left_out(row: Row, number: str | None, phone: str) -> None:
    is_left_out = (number and not row.id_number) or (phone and not row.phone)
    if is_left_out and not row.rejected:
        row.note(C.CONSENTED_TO, "stored_only_as_consented")


def _name(row: Row, text: str) -> str:
    name = unicodedata.normalize("NFC", text)
    if not name.isalnum():
        name = _BLANKS.sub(" ", _CHINESE_GAP.sub("", name))
    if not name:
        row.reject(C.NAME, "missing")
    elif len(name) > 100:
        row.reject(C.NAME, "string_too_long", max_length=100)
        return ""
    elif not name.isprintable():
        row.reject(C.NAME, "control_character")
    elif identifiers.holds_personal_number(name):
        row.reject(C.NAME, "personal_number")
    return name


def _employee_no(row: Row, text: str) -> str | None:
    if len(text) > 40:
        row.reject(C.EMPLOYEE_NO, "string_too_long", max_length=40)
        return None
    if not text.isprintable():
        row.reject(C.EMPLOYEE_NO, "control_character")
    elif identifiers.holds_personal_number(text):
        row.reject(C.EMPLOYEE_NO, "personal_number")
    elif tells(text):
        row.reject(C.EMPLOYEE_NO, "telling_words")
    return text or None


def _purposes(row: Row, text: str) -> frozenset[ConsentPurpose] | None:
    """Read what the person consented to, item by item; None where the file does not say it."""
    if not text:
        return None
    words = [word for word in _BETWEEN_PURPOSES.split(text.lower()) if word]
    found = [_PURPOSE_OF.get(word) for word in words]
    if None in found:
        row.reject(C.CONSENTED_TO, "consent_purpose_unknown")
    return frozenset(purpose for purpose in found if purpose is not None)


def _phone(row: Row, cell: Cell) -> str | None:
    text = sheets.text_of(cell)
    if not text:
        return None
    if _CONTROL.search(text):
        row.reject(C.PHONE, "control_character")
        return None
    if match := _SCIENTIFIC.fullmatch(text):
        # Written with fewer digits than a number has, the rest is lost.
        if len(match[1] or "") < _PHONE_DIGITS - 1:
            row.reject(C.PHONE, "phone_rounded")
            return None
        number = float(text)
        # Larger than any number that is dialled, and perhaps than any that can be written out.
        text = str(int(number)) if number < _NO_PHONE else ""
    try:
        return identifiers.phone(text)
    except ValueError as error:
        row.reject(C.PHONE, str(error))
        return None


def date_of(cell: Cell) -> date | None:
    """Read a date cell, or 2026-01-31, 2026/1/31, 2026年1月31日 or 20260131; None if it is none."""
    if type(cell) is str:
        return _date_of_text(cell)
    if isinstance(cell, datetime):
        return cell.date()
    if isinstance(cell, date):
        return cell
    if isinstance(cell, float) and cell.is_integer() and int(cell) in _EXCEL_SERIALS:
        return _EXCEL_EPOCH + timedelta(days=int(cell))
    return _date_of_text(sheets.text_of(cell))


# A column of dates says the same days again and again.
@lru_cache(maxsize=4096)
def _date_of_text(cell: str) -> date | None:
    text = unicodedata.normalize("NFKC", sheets.text_of(cell))
    match = _DATE.fullmatch(text) or _COMPACT_DATE.fullmatch(text)
    try:
        value = match and date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None
    return value if value is not None and value.year >= 1900 else None
