"""What an import answered: row by row, and the rejected rows as a file to correct."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import sheets, wording
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.membership.rosters import RosterColumn, RowFilters
from app.paging import Key, Listing, Slice, Where
from app.problems import Forbidden, Problem
from app.services import operations
from app.services.membership.roster_headers import MORE_TITLES, TITLE_OF
from app.services.operations import Lease
from app.sheets import Format
from app.wording import Language

_COLUMN_OF = {title: column for column, title in TITLE_OF.items()}
LISTING = Listing(
    columns="r.row_no, r.outcome, r.member_id, r.notes",
    source="import_rows r",
    order=(Key("row_no", "r.row_no", "integer"),),
    about="member_id",
)
_FILE = (
    "select f.name, f.sealed, o.arguments->'caller'->>'grant_id' as grant_id"
    " from operation_files f join operations o"
    " on o.district_code = f.district_code and o.id = f.operation_id"
    " where f.district_code = :district_code and o.district_code = :district_code"
    " and f.operation_id = :id and o.result is not null"
)
_NOTES = (
    "select row_no, notes::text as notes, member_id from import_rows"
    " where district_code = :district_code and operation_id = :id and outcome = 'rejected'"
)


_MEMBERS = text(
    "select array_agg(cast(member_id as text) order by row_no) from import_rows"
    " where district_code = :district_code and operation_id = :id and member_id is not null"
)


class NoRejectedRows(Problem):
    """The import has not ended, or rejected no row."""

    code, status = "no_rejected_rows", 404


class CorrectionFile(NamedTuple):
    """The rejected rows as a file."""

    format: Format
    content: bytes


def place_of_file(operation_id: UUID) -> str:
    """Give the place that an operation's encrypted file is bound to."""
    return f"operation_files.sealed:{operation_id}"


async def members_of(session: AsyncSession, lease: Lease) -> Sequence[str]:
    """Give the members whom an import found, changed or enrolled, as texts."""
    return (await session.scalar(_MEMBERS, lease.key)) or ()


async def list_rows(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    operation_id: UUID,
    filters: RowFilters,
    language: Language,
) -> Slice:
    """Give a page of the answers to an import's rows, in the file's order."""
    await operations.find(statements, caller, operation_id=operation_id, language=language)
    where = Where({"district_code": caller.district_code, "operation_id": operation_id})
    where.add("r.district_code = :district_code and r.operation_id = :operation_id")
    where.equal("r.outcome", "outcome", filters.outcome)
    page = await LISTING.page(
        statements.showing(operation_id), keyring, filters=filters, where=where
    )
    return page._replace(items=[_said(item, language) for item in page.items])


def _said(item: str, language: Language) -> str:
    row = json.loads(item)
    row["notes"] = [
        {"column": note["column"], "code": note["code"], "detail": _detail(note, language)}
        for note in row["notes"]
    ]
    return json.dumps(row, ensure_ascii=False)


def _detail(note: dict[str, Any], language: Language) -> str:
    return wording.say(language, "fields", note["code"], **note["facts"])


async def rejected_rows(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    operation_id: UUID,
    language: Language,
) -> CorrectionFile:
    """Give the rejected rows in the upload's format, to correct and send again.

    Titles and reasons are in one language. The rows are in plain text, so only who sent them may
    have them, under the same grant. Raises NoRejectedRows or Forbidden.
    """
    operation = await operations.find(
        statements, caller, operation_id=operation_id, language=language
    )
    if operation.requested_by != caller.subject:
        raise Forbidden
    key = {"district_code": caller.district_code, "id": operation_id}
    statements = statements.showing(operation_id)
    file = await statements.fetch_row(_FILE, key)
    if file is None:
        raise NoRejectedRows
    if file["grant_id"] not in {None, str(caller.grant_id)}:
        # Another of her grants may reach less than the one under which she sent them.
        raise Forbidden
    kept = json.loads(keyring.decrypt_bytes(file["sealed"], place=place_of_file(operation_id)))
    reasons = {
        row["row_no"]: _reasons(json.loads(row["notes"]), language)
        for row in await statements.fetch(_NOTES, key, about="member_id")
    }
    rows = [[*cells, str(row_no), reasons.get(row_no, "")] for row_no, cells in kept["rows"]]
    titles = [_titled(_COLUMN_OF[title], language) for title in kept["titles"]]
    header = [*titles, *MORE_TITLES[language]]
    return CorrectionFile(file["name"], sheets.write(file["name"], [header, *rows]))


def _reasons(notes: list[dict[str, Any]], language: Language) -> str:
    after, between = (": ", "; ") if language == "en" else ("：", "；")
    return between.join(_column(note, language, after) + _detail(note, language) for note in notes)


def _column(note: dict[str, Any], language: Language, after: str) -> str:
    if not note["column"]:
        return ""
    return _titled(RosterColumn(note["column"]), language) + after


def _titled(column: RosterColumn, language: Language) -> str:
    """Name a column; an import reads it in either language."""
    return TITLE_OF[column] if language == "zh" else column.value
