"""Rosters: personnel files imported as operations, with an answer to every row."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, reach, sheets
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, driver_connection, show
from app.identity import Caller
from app.models.membership.rosters import OnError, RosterColumn
from app.models.operations import (
    MAX_IGNORED,
    ImportResult,
    OperationFile,
    OperationKind,
    OperationRead,
    OperationStatus,
    RowOutcome,
)
from app.problems import Invalid, Problem
from app.roles import Role
from app.services import operations
from app.services.access import grant_history
from app.services.membership import (
    open_associations,
    roster_answers,
    roster_headers,
    roster_matching,
    roster_rows,
    roster_storing,
)
from app.services.membership.roster_enrolling import Enrolment
from app.services.membership.roster_headers import TITLE_OF, Header, HeaderNotFound
from app.services.membership.roster_persons import Place, Row
from app.services.membership.roster_rows import Reader
from app.services.membership.roster_storing import Stage
from app.services.operations import Lease
from app.services.privacy import privacy_notices
from app.services.privacy.enrolled_elsewhere import Allowance
from app.sheets import Cell, Table
from app.wording import Language

_PART = 5_000
_PLACES = (
    "select a.id, a.area_code, a.name from associations a"
    " where a.district_code = :district_code and a.status <> 'dissolved' and {reach}"
)
_FILE = text(
    "select sealed from operation_files where district_code = :district_code and operation_id = :id"
)
_KEEP_REJECTED = text(
    "update operation_files set sealed = :sealed"
    " where district_code = :district_code and operation_id = :id"
)
_DROP_FILE = text(
    "delete from operation_files where district_code = :district_code and operation_id = :id"
)
# An import may wait for other imports and outlast what a request may take.
_PATIENCE = (
    "set local statement_timeout = '10min'",
    "set local lock_timeout = '5min'",
    "set local idle_in_transaction_session_timeout = '10min'",
)


class AssociationMissing(Problem):
    """Neither the request nor a column of the file says which association the people join."""

    code, status = "roster_association_missing", 422


class RowsRejected(Problem):
    """Some rows are wrong, and the import was to store all or nothing."""

    code, status = "roster_rows_rejected", 422


async def start(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    content: bytes,
    association_id: UUID | None,
    dry_run: bool,
    on_error: OnError,
    now: datetime,
    language: Language,
    name: str | None = None,
) -> OperationRead:
    """Take a file in and give the operation that will import it."""
    try:
        file_format = sheets.format_of(content, name)
    except sheets.FileUnreadable:
        raise Invalid.at("/file", "file_format") from None
    if association_id is not None:
        await open_associations.area_of(session, caller, association_id)
    arguments = {
        "association_id": association_id and str(association_id),
        "dry_run": dry_run,
        "on_error": on_error.value,
        "caller": _remembered(caller),
    }
    operation_id = await operations.enqueue(
        session, caller, kind=OperationKind.IMPORT_MEMBERS, arguments=arguments, now=now
    )
    await show(session, operation_id)
    session.add(
        OperationFile(
            district_code=caller.district_code,
            operation_id=operation_id,
            name=file_format,
            sealed=keyring.encrypt_bytes(content, place=roster_answers.place_of_file(operation_id)),
        )
    )
    await session.flush()
    return await operations.find_in(session, caller, operation_id=operation_id, language=language)


def _remembered(caller: Caller) -> dict[str, Any]:
    """Keep how far the caller reaches, for the work that is done in her name."""
    return {
        "subject": caller.subject,
        "grant_id": caller.grant_id and str(caller.grant_id),
        "role": caller.role.value,
        "employer_linked": caller.employer_linked,
        "areas": list(caller.areas),
        "association_ids": [str(association_id) for association_id in caller.association_ids],
    }


def caller_of(lease: Lease) -> Caller:
    """Give who asked for an import, as she was then."""
    stored = lease.arguments["caller"]
    return Caller(
        subject=stored["subject"],
        role=Role(stored["role"]),
        district_code=lease.district_code,
        areas=tuple(stored["areas"]),
        association_ids=tuple(UUID(value) for value in stored["association_ids"]),
        employer_linked=stored.get("employer_linked", True),
        grant_id=stored.get("grant_id") and UUID(stored["grant_id"]),
    )


async def run_import(
    session: AsyncSession,
    statements: Statements,
    keyring: Keyring,
    *,
    lease: Lease,
    told: Allowance,
    now: datetime,
) -> None:
    """Import the file of an operation; its effect and its end are one transaction.

    Raises LeaseLost, CancelRequested, GrantMissing, TooManyElsewhere, and the problems of a file
    that cannot be read.
    """
    for setting in _PATIENCE:
        await session.execute(text(setting))
    caller = await grant_history.current(session, caller_of(lease), now=clock.now())
    work = _Import(session, statements, keyring, lease=lease, caller=caller, told=told, now=now)
    header = await work.go_through()
    stored = await work.settle()
    await work.keep_rejected(header)
    # Nothing is stored before this transaction ends.
    await grant_history.current(session, caller, now=clock.now())
    dry_run, counts = work.dry_run, work.counts
    result = ImportResult(
        dry_run=dry_run,
        stored=stored,
        ignored_columns=header.ignored[:MAX_IGNORED],
        ignored_column_count=len(header.ignored),
        **{outcome.value: counts[outcome] for outcome in RowOutcome},
    )
    problem = None if dry_run or stored else RowsRejected(count=counts[RowOutcome.REJECTED])
    status = OperationStatus.FAILED if problem else OperationStatus.SUCCEEDED
    facts = result.model_dump()
    await operations.end(session, lease, status=status, now=now, result=facts, problem=problem)


class _Import:
    """One import under way."""

    def __init__(
        self,
        session: AsyncSession,
        statements: Statements,
        keyring: Keyring,
        *,
        lease: Lease,
        caller: Caller,
        told: Allowance,
        now: datetime,
    ) -> None:
        self._session = session
        self._statements = statements
        self._keyring = keyring
        self._lease = lease
        self._caller = caller
        self._told = told
        self._now = now
        self._key = {"district_code": lease.district_code, "id": lease.id}
        self._is_all_or_nothing = lease.arguments["on_error"] == OnError.ABORT
        self.dry_run: bool = lease.arguments["dry_run"]
        self.counts: Counter[str] = Counter()
        self._rejected: set[int] = set()
        self._done = 0
        # What waits until all is read: who may be a member, and new ones if all depends on all.
        self._met: list[Row] = []
        self._new: list[Row] = []

    async def go_through(self) -> Header:
        """Read and check the file part by part, and enrol of whom nobody has anything yet.

        The next part is read while the last is stored.
        """
        header, checked, expected = await self._open()
        reading = _reading(checked)
        try:
            while part := await reading:
                reading = _reading(checked)
                await self._take(part)
                self._done += len(part)
                await self._report(max(expected, self._done))
        finally:
            reading.cancel()
        await self._report(self._done)
        return header

    async def _open(self) -> tuple[Header, Iterator[Row], int]:
        """Find the rows, and keep others from enrolling where they belong."""
        today = civil_date(self._now)
        notices = await privacy_notices.published(
            self._session, district_code=self._lease.district_code
        )
        connection = await driver_connection(self._session)
        district_code = self._lease.district_code
        self._stage = Stage(connection, district_code, self._now, today, self._caller, notices)
        self._enrolment = Enrolment(self._stage, self._keyring, self._lease.id)
        places = await self._places()
        chosen = self._chosen(places)
        sealed = (await self._session.execute(_FILE, self._key)).scalar_one()
        place = roster_answers.place_of_file(self._lease.id)
        self._content = self._keyring.decrypt_bytes(sealed, place=place)
        header, table, lines = await asyncio.to_thread(_opened, self._content)
        if chosen is None and RosterColumn.ASSOCIATION not in header.places:
            raise AssociationMissing
        reader = Reader(header, keyring=self._keyring, today=today, places=places, chosen=chosen)
        named = [chosen] if chosen else await asyncio.to_thread(reader.named, table.again())
        await roster_matching.begin(self._stage, [place.id for place in named])
        await self._enrolment.begin()
        return header, reader.read(lines), max(table.height - header.row_no, 1)

    async def _places(self) -> list[Place]:
        condition, params = reach.within(self._caller, area="a.area_code", association="a.id")
        found = await self._stage.run(_PLACES.format(reach=condition), **params)
        return [Place(row["id"], row["area_code"], row["name"]) for row in found]

    def _chosen(self, places: Sequence[Place]) -> Place | None:
        wanted = self._lease.arguments["association_id"]
        if wanted is None:
            return None
        for place in places:
            if str(place.id) == wanted:
                return place
        raise open_associations.AssociationTakesNoMembers

    async def _report(self, total: int) -> None:
        """Say how far it is; raises CancelRequested and LeaseLost."""
        await operations.report(
            self._statements, self._lease, done=self._done, total=total, now=self._now
        )

    async def _take(self, part: Sequence[Row]) -> None:
        """Tell who is new; who may be a member is matched in the end, as two rows may meet one."""
        good = [row for row in part if not row.rejected]
        if any(row.id_index for row in good):
            await self._told.require()
        suspects = await roster_matching.suspects(self._stage, good)
        self._met += [row for row in good if row.row_no in suspects]
        new = [row for row in good if row.row_no not in suspects]
        for row in part:
            row.outcome = RowOutcome.REJECTED if row.rejected else RowOutcome.CREATED
        await self._answer([row for row in part if row.rejected])
        if self.dry_run:
            await self._answer(new)
        elif self._is_all_or_nothing:
            self._new += new
        else:
            await self._enrol(new)

    async def settle(self) -> bool:
        """Decide and store what had to wait; False when nothing of the file is to be stored."""
        if self._met:
            elsewhere = await roster_matching.match(self._stage, self._caller, self._met)
            if elsewhere:
                await self._told.spend(elsewhere)
        new = [row for row in self._met if row.outcome == RowOutcome.CREATED]
        others = [row for row in self._met if row.outcome != RowOutcome.CREATED]
        is_refused = self._is_all_or_nothing and (
            bool(self._rejected) or any(row.rejected for row in others)
        )
        if self.dry_run or is_refused:
            await self._answer([*self._new, *new, *others])
            return False
        await roster_storing.store_changes(self._session, self._stage, self._keyring, others)
        await self._answer(others)
        waiting = iter([*self._new, *new])
        while part := list(islice(waiting, _PART)):
            await self._enrol(part)
            await self._report(self._done)
        await self._enrolment.finish()
        return True

    async def _enrol(self, rows: Sequence[Row]) -> None:
        self.counts[RowOutcome.CREATED] += len(rows)
        await self._enrolment.add(rows)

    async def _answer(self, rows: Sequence[Row]) -> None:
        """Say what becomes of rows of whom nobody is enrolled."""
        self.counts.update(row.outcome for row in rows)
        self._rejected.update(row.row_no for row in rows if row.rejected)
        await roster_storing.store_answers(self._stage, self._lease.id, rows)

    async def keep_rejected(self, header: Header) -> None:
        """Keep of the file only what its sender has to correct, and nothing when all is well."""
        if not self._rejected:
            await self._session.execute(_DROP_FILE, self._key)
            return
        cells = await asyncio.to_thread(_cells_of, self._content, header, self._rejected)
        kept = json.dumps({"titles": list(map(TITLE_OF.get, header.places)), "rows": cells})
        place = roster_answers.place_of_file(self._lease.id)
        sealed = self._keyring.encrypt_bytes(kept.encode(), place=place)
        await self._session.execute(_KEEP_REJECTED, {**self._key, "sealed": sealed})


def _reading(checked: Iterator[Row]) -> asyncio.Task[list[Row]]:
    """Read the next part beside the event loop."""
    return asyncio.create_task(asyncio.to_thread(lambda: list(islice(checked, _PART))))


def _opened(content: bytes) -> tuple[Header, Table, Iterator[tuple[int, Sequence[Cell]]]]:
    """Find the first sheet with a header; raises HeaderNotFound or what the file lacks."""
    limit = roster_rows.MAX_ROWS + roster_headers.HEADER_WITHIN
    for table in sheets.read(content, max_rows=limit):
        lines = iter(enumerate(table.rows, 1))
        header = roster_headers.find_header(lines)
        if header is not None:
            return header, table, lines
    raise HeaderNotFound


def _cells_of(content: bytes, header: Header, wanted: set[int]) -> list[tuple[int, list[str]]]:
    """Read the known columns of some rows again, as texts."""
    _, _, lines = _opened(content)
    return [
        (row_no, [sheets.text_of(cell) for cell in roster_headers.known(header, cells)])
        for row_no, cells in lines
        if row_no in wanted
    ]
