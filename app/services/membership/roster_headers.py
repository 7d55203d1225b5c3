"""The header of a roster: which column says what, however the personnel office calls it."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app import identifiers, sheets
from app.models.membership.rosters import RosterColumn as C
from app.problems import Problem
from app.sheets import Cell
from app.telling import tells

HEADER_WITHIN = 10
_MAX_SHOWN = 40
_SYNONYMS: Mapping[C, str] = {
    C.NAME: "姓名 会员姓名 员工姓名 名字 name",
    C.ID_NUMBER: (
        "身份证号 身份证号码 身份证 居民身份证号 居民身份证号码 公民身份号码 公民身份证号码"
        " 公民身份证号 证件号码 证件号 id_number"
    ),
    C.PHONE: "手机 手机号 手机号码 联系电话 电话 电话号码 联系方式 移动电话 phone",
    C.EMPLOYEE_NO: "工号 员工编号 员工号 员工工号 人员编号 职工编号 employee_no",
    C.JOINED_ON: "入会日期 加入日期 入会时间 加入时间 joined_on",
    C.CONSENTED_ON: (
        "知情同意日期 同意日期 授权日期 知情同意时间 同意时间 授权时间 知情同意 consented_on"
    ),
    C.CONSENTED_TO: "同意事项 授权事项 知情同意事项 同意内容 consented_to",
    C.ASSOCIATION: "协会 所属协会 协会名称 计生协会 所属计生协会 association",
}
_COLUMN_OF = {word: column for column, words in _SYNONYMS.items() for word in words.split()}
TITLE_OF = {column: words.split()[0] for column, words in _SYNONYMS.items()}
# The columns that a file of rejected rows has besides the roster's own.
MORE_TITLES = {"zh": ("行号", "原因"), "en": ("row_no", "reason")}
_BLANKS = re.compile(r"\s+")


class HeaderNotFound(Problem):
    """No row near the top of any sheet names a column for people's names."""

    code, status = "roster_header_not_found", 422


class ColumnTwice(Problem):
    """Two columns of the file say the same thing."""

    code, status = "roster_column_twice", 422


@dataclass(frozen=True)
class Header:
    """Where each column stands, and the titles that mean nothing here."""

    row_no: int
    places: Mapping[C, int]
    ignored: list[str]


def find_header(lines: Iterable[tuple[int, Sequence[Cell]]]) -> Header | None:
    """Find the line that names the columns among the first ones; raises ColumnTwice."""
    for row_no, cells in lines:
        titles = [sheets.text_of(cell) for cell in cells]
        columns = [_COLUMN_OF.get(_plain(title)) for title in titles]
        if C.NAME in columns:
            return _header(row_no, titles, columns)
        if row_no >= HEADER_WITHIN:
            break
    return None


def _header(row_no: int, titles: Sequence[str], columns: Sequence[C | None]) -> Header:
    places: dict[C, int] = {}
    ignored = []
    for index, (title, column) in enumerate(zip(titles, columns, strict=True)):
        if column is not None:
            if column in places:
                raise ColumnTwice(title=TITLE_OF[column])
            places[column] = index
        elif title and title not in sum(MORE_TITLES.values(), ()):
            ignored.append(_shown(title))
    return Header(row_no, places, ignored)


def _shown(title: str) -> str:
    """Give an unknown title as it may be kept and shown: what it holds is anybody's input."""
    printable = "".join(filter(str.isprintable, _BLANKS.sub(" ", title))).strip()
    is_telling = identifiers.holds_personal_number(printable) or tells(printable)
    return "…" if is_telling or not printable else printable[:_MAX_SHOWN]


def _plain(title: str) -> str:
    folded = unicodedata.normalize("NFKC", title).partition("(")[0]
    return re.sub(r"[\s*:]", "", folded).lower()


def known(header: Header, cells: Sequence[Cell]) -> list[Cell]:
    """Give the cells of the columns that mean something, in the header's order."""
    return [cells[index] if index < len(cells) else "" for index in header.places.values()]
