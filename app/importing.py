"""What is taken in from the shell: areas, and a roster by the operation of the API."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from app import clock, worker
from app.acts import Act
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Database, Statements, note, transaction
from app.identity import SHELL, Caller
from app.models.membership.rosters import ImportRowRead, OnError, RowFilters
from app.models.operations import OperationRead, OperationStatus, RowOutcome
from app.models.organisation.areas import Level
from app.roles import Role
from app.scopes import Acting, Scope
from app.services import operations
from app.services.demo_district import demo
from app.services.demo_district.demo_facts import Progress
from app.services.membership import roster_answers, rosters
from app.services.organisation import areas
from app.services.organisation.areas import AreaLine
from app.services.privacy import privacy_notices
from app.settings import MOST_ELSEWHERE
from app.wording import Language

_DEMO_AREAS = Path(__file__).parent / "data" / "areas-nanhai.csv"
_LOOK_SECONDS = 0.2
_SHOWN_ROWS = 20
_LANGUAGE: Language = "en"


@dataclass(frozen=True)
class Order:
    """What is to be imported, and how."""

    content: bytes
    district_code: str
    association_id: UUID | None
    commit: bool
    on_error: OnError
    most_elsewhere: int = MOST_ELSEWHERE

    @property
    def caller(self) -> Caller:
        """Give who imports from the shell: somebody who answers for the whole district."""
        district = self.district_code
        return Caller(SHELL, Role.DISTRICT_OFFICER, district, areas=(district,))

    def act(self, name: str, *operation_ids: UUID) -> Act:
        """Begin an act of the shell on the operation that does the work."""
        return self.caller.act(name, kind="operations", ids=operation_ids, request_id=SHELL)


@dataclass(frozen=True)
class Answer:
    """What came of it: lines to read, the file of rejected rows, and why nothing was stored."""

    lines: list[str]
    rejected: bytes | None
    problem: str | None


async def load_demo(owner: Database, keyring: Keyring, *, members: int, progress: Progress) -> None:
    """Fill an empty database with the demo district; raises demo.DatabaseNotEmpty."""
    with _DEMO_AREAS.open(encoding="utf-8") as file:
        lines = areas.read_file(file)
    async with transaction(owner, demo.SCOPE) as session:
        await demo.load(session, keyring, members=members, area_lines=lines, progress=progress)
    await demo.tidy(owner)


async def load_areas(database: Database, lines: Sequence[AreaLine]) -> int:
    """Load or rename areas, and give each new district the privacy notices to begin with."""
    async with transaction(database, demo.SCOPE) as session:
        changed = await areas.load(session, lines)
    now = clock.now()
    for line in lines:
        if line.level is Level.DISTRICT:
            async with transaction(database, Scope(Acting.DISTRICT, line.code)) as session:
                await privacy_notices.provide(
                    session, district_code=line.code, effective_on=civil_date(now), now=now
                )
    return changed


async def import_members(
    database: Database, keyring: Keyring, order: Order, *, progress: Callable[[int, int], None]
) -> Answer:
    """Import a roster; a worker that is quicker may do the work, the answer is the same."""
    async with transaction(database, order.caller.scope, order.act("import_members")) as session:
        operation = await rosters.start(
            session,
            order.caller,
            keyring,
            content=order.content,
            association_id=order.association_id,
            dry_run=not order.commit,
            on_error=order.on_error,
            now=clock.now(),
            language=_LANGUAGE,
        )
        note(session, ())
    working = asyncio.create_task(
        worker.run_next(
            database, keyring, operation_id=operation.id, most_elsewhere=order.most_elsewhere
        )
    )
    act = order.act("import_members", operation.id)
    statements = Statements(database.pool, order.caller.scope, act)
    while operation.status in {OperationStatus.QUEUED, OperationStatus.RUNNING}:
        await asyncio.sleep(_LOOK_SECONDS)
        operation = await operations.find(
            statements, order.caller, operation_id=operation.id, language=_LANGUAGE
        )
        progress(operation.progress.done, operation.progress.total or 0)
    await working
    return await _answer(statements, keyring, order, operation)


async def _answer(
    statements: Statements, keyring: Keyring, order: Order, operation: OperationRead
) -> Answer:
    result = operation.result
    lines = [] if result is None else [_counts(result.model_dump(), stored=result.stored)]
    rejected = None
    if result is not None and result.rejected:
        page = await roster_answers.list_rows(
            statements,
            order.caller,
            keyring,
            operation_id=operation.id,
            filters=RowFilters(outcome=[RowOutcome.REJECTED], limit=_SHOWN_ROWS),
            language=_LANGUAGE,
        )
        lines += [_line(ImportRowRead.model_validate_json(item)) for item in page.items]
        file = await roster_answers.rejected_rows(
            statements, order.caller, keyring, operation_id=operation.id, language=_LANGUAGE
        )
        rejected = file.content
    problem = operation.problem
    return Answer(lines, rejected, None if problem is None else problem.detail)


def _counts(result: dict[str, object], *, stored: bool) -> str:
    counts = ", ".join(f"{result[outcome]} {outcome}" for outcome in RowOutcome)
    return f"{counts}; {'stored' if stored else 'nothing is stored'}"


def _line(row: ImportRowRead) -> str:
    notes = " ".join(f"{note.column or 'row'}: {note.detail}" for note in row.notes)
    return f"line {row.row_no}: {notes}"
