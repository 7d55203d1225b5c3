"""Operations: what is asked for, shown and cancelled by callers, and worked off under leases."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, reach, wording
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.operations import (
    Operation,
    OperationFilters,
    OperationKind,
    OperationRead,
    OperationStatus,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Forbidden, NotFound, Problem
from app.roles import Role
from app.wording import Language

MAX_ATTEMPTS = 3
_COLUMNS = (
    "o.id, o.kind, o.status, o.requested_by,"
    " json_build_object('done', o.done, 'total', o.total) as progress,"
    f" o.result, o.problem, o.cancel_requested, o.version, {instant('o.created_at')},"
    f" {instant('o.updated_at')}, {instant('o.finished_at')}"
)
LISTING = Listing(
    columns=_COLUMNS, source="operations o", order=(Key("id", "o.id", "uuid"),), descending=True
)
_FIND = (
    f"select row_to_json(item)::text from (select {_COLUMNS} from operations o"
    " where o.district_code = :district_code and o.id = :id and {visible}) item"
)
_CANCEL = (
    "update operations o set cancel_requested = true, version = version + 1, updated_at = :now,"
    " status = case when status = 'queued' then 'cancelled' else status end,"
    " finished_at = case when status = 'queued' then :now else finished_at end"
    " where o.district_code = :district_code and o.id = :id and {visible}"
    " and status in ('queued', 'running') and not cancel_requested"
)
# The districts with work, so that each claim stays within one of them.
_DISTRICTS = (
    "select distinct district_code from operations"
    " where status = 'queued' or (status = 'running' and lease_until < :now)"
)
_CLAIM = (
    "update operations set status = 'running', attempts = attempts + 1, lease_token = :token,"
    " lease_until = :until, version = version + 1, updated_at = :now"
    " where district_code = :district_code and id = ("
    "select id from operations where district_code = :district_code and attempts < :max_attempts"
    " and (status = 'queued' or (status = 'running' and lease_until < :now))"
    " and (:id::uuid is null or id = :id::uuid)"
    " order by created_at, id limit 1 for update skip locked)"
    " returning id, kind, arguments::text as arguments"
)
_FAIL = (
    "update operations set status = 'failed', lease_until = null, lease_token = null,"
    " finished_at = :now, updated_at = :now, version = version + 1,"
    " problem = cast(:problem as jsonb) where district_code = :district_code"
)
# What gave up has no rows to correct: its file goes in the same statement.
_BURY = (
    f"with buried as ({_FAIL} and attempts >= :max_attempts"
    " and (status = 'queued' or (status = 'running' and lease_until < :now)) returning id)"
    " delete from operation_files f using buried b"
    " where f.district_code = :district_code and f.operation_id = b.id"
)
_OVERDUE = text(
    f"{_FAIL} and (status = 'queued' and created_at < :before"
    " or status = 'running' and lease_until < :before)"
)
_DROP_FILE = text(
    "delete from operation_files where district_code = :district_code and operation_id = :id"
)
_MINE = " where district_code = :district_code and id = :id and lease_token = :token"
_RENEW = f"update operations set lease_until = :until{_MINE} returning id"
_REPORT = (
    "update operations set done = :done, total = :total, version = version + 1, updated_at = :now"
    f"{_MINE} returning cancel_requested"
)
_RELEASE = (
    "update operations set status = 'queued', lease_until = null, lease_token = null,"
    f" attempts = attempts - :refund, version = version + 1, updated_at = :now{_MINE}"
)
_END = (
    "update operations set status = cast(:status as text), result = cast(:result as jsonb),"
    " problem = cast(:problem as jsonb), lease_until = null,"
    " done = case cast(:status as text) when 'succeeded' then coalesce(total, done) else done end,"
    f" lease_token = null, finished_at = :now, updated_at = :now, version = version + 1{_MINE}"
    " returning id"
)


class OperationFinished(Problem):
    """The operation has ended and cannot be cancelled."""

    code, status = "operation_finished", 409


class OperationGaveUp(Problem):
    """The work was tried several times and failed each time."""

    code, status = "operation_gave_up", 500


class OperationOverdue(Problem):
    """No worker took the work up, or on, for a day."""

    code, status = "operation_overdue", 500


class LeaseLost(Exception):
    """Another worker has taken the operation over; nothing of this one's may be kept."""


class CancelRequested(Exception):
    """Whoever may asked for the operation to end."""


@dataclass(frozen=True)
class Lease:
    """An operation that one worker holds for a while."""

    district_code: str
    id: UUID
    kind: OperationKind
    arguments: dict[str, Any]
    token: UUID

    @property
    def key(self) -> dict[str, Any]:
        """Give the parameters that only the holder's statements match with."""
        return {"district_code": self.district_code, "id": self.id, "token": self.token}


def _visible(caller: Caller) -> tuple[str, dict[str, Any]]:
    """Keep to the caller's own operations, unless she answers for the whole district."""
    if sees_all(caller):
        return "true", {}
    return "o.requested_by = :subject", {"subject": caller.subject}


def sees_all(caller: Caller) -> bool:
    """Tell whether the caller may see what others asked for."""
    in_charge = caller.role in {Role.DISTRICT_OFFICER, Role.AUDITOR}
    return in_charge and reach.covers(caller, caller.district_code)


def _read(item: str, language: Language) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(item)
    if facts["problem"] is not None:
        facts["problem"] = _explained(facts["problem"], language)
    return facts


def _explained(stored: dict[str, Any], language: Language) -> dict[str, Any]:
    code, facts = stored["code"], stored.get("facts", {})
    return {
        "code": code,
        "status": stored["status"],
        "title": wording.texts(language)["problems"].get(code, {}).get("title", code),
        "detail": wording.say(language, "problems", code, **facts),
    }


async def list_operations(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: OperationFilters,
    language: Language,
) -> Slice:
    """Give a page of operations, the newest first."""
    condition, params = _visible(caller)
    where = Where(params | {"district_code": caller.district_code})
    where.add("o.district_code = :district_code")
    where.add(condition)
    where.equal("o.kind", "kind", filters.kind)
    where.equal("o.status", "status", filters.status)
    page = await LISTING.page(statements, keyring, filters=filters, where=where)
    items = [json.dumps(_read(item, language), ensure_ascii=False) for item in page.items]
    return page._replace(items=items)


async def find(
    statements: Statements, caller: Caller, *, operation_id: UUID, language: Language
) -> OperationRead:
    """Give one operation, or refuse with NotFound."""
    condition, params = _visible(caller)
    params |= {"district_code": caller.district_code, "id": operation_id}
    item = await statements.fetch_value(_FIND.format(visible=condition), params)
    if item is None:
        raise NotFound
    return OperationRead(**_read(item, language))


async def find_in(
    session: AsyncSession, caller: Caller, *, operation_id: UUID, language: Language
) -> OperationRead:
    """Give one operation as the transaction under way sees it, or refuse with NotFound."""
    condition, params = _visible(caller)
    params |= {"district_code": caller.district_code, "id": operation_id}
    item = (await session.execute(text(_FIND.format(visible=condition)), params)).scalar()
    if item is None:
        raise NotFound
    return OperationRead(**_read(item, language))


async def enqueue(
    session: AsyncSession,
    caller: Caller,
    *,
    kind: OperationKind,
    arguments: dict[str, Any],
    now: datetime,
) -> UUID:
    """Ask for work and give the operation's id; a worker sees it when the transaction commits."""
    operation = Operation(
        district_code=caller.district_code,
        id=clock.new_id(),
        created_at=now,
        updated_at=now,
        kind=kind.value,
        status=OperationStatus.QUEUED.value,
        requested_by=caller.subject,
        arguments=arguments,
        total=None,
        result=None,
        problem=None,
        lease_token=None,
        lease_until=None,
        finished_at=None,
    )
    session.add(operation)
    await session.flush()
    return operation.id


async def cancel(
    session: AsyncSession, caller: Caller, *, operation_id: UUID, now: datetime, language: Language
) -> OperationRead:
    """End what is queued at once and what is running soon; raises OperationFinished.

    An auditor reads what others asked for, and leaves it to them: raises Forbidden.
    """
    operation = await find_in(session, caller, operation_id=operation_id, language=language)
    if caller.role is Role.AUDITOR and operation.requested_by != caller.subject:
        raise Forbidden
    condition, params = _visible(caller)
    params |= {"district_code": caller.district_code, "id": operation_id}
    await session.execute(text(_CANCEL.format(visible=condition)), params | {"now": now})
    operation = await find_in(session, caller, operation_id=operation_id, language=language)
    if operation.status in {OperationStatus.SUCCEEDED, OperationStatus.FAILED}:
        raise OperationFinished
    if operation.status is OperationStatus.CANCELLED:
        async with district_wide(session):
            await _drop_file(session, caller.district_code, operation_id)
    return operation


async def _drop_file(session: AsyncSession, district_code: str, operation_id: UUID) -> None:
    await session.execute(_DROP_FILE, {"district_code": district_code, "id": operation_id})


async def districts_with_work(statements: Statements, *, now: datetime) -> list[str]:
    """Give the districts in which something waits for a worker."""
    return [row[0] for row in await statements.fetch(_DISTRICTS, {"now": now})]


async def claim(
    statements: Statements,
    *,
    district_code: str,
    now: datetime,
    until: datetime,
    operation_id: UUID | None = None,
) -> Lease | None:
    """Take the oldest operation that waits, or whose worker has gone silent; None if none does.

    What was tried too often is failed first.
    """
    token = clock.new_id()
    scope = {"district_code": district_code, "now": now, "max_attempts": MAX_ATTEMPTS}
    given_up = json.dumps(as_stored(OperationGaveUp()))
    await statements.fetch(_BURY, {**scope, "problem": given_up})
    params = {**scope, "token": token, "until": until, "id": operation_id}
    row = await statements.fetch_row(_CLAIM, params)
    if row is None:
        return None
    arguments = json.loads(row["arguments"])
    return Lease(district_code, row["id"], OperationKind(row["kind"]), arguments, token)


async def renew(statements: Statements, lease: Lease, *, until: datetime) -> None:
    """Hold an operation longer; raises LeaseLost."""
    if await statements.fetch_value(_RENEW, {**lease.key, "until": until}) is None:
        raise LeaseLost


async def report(
    statements: Statements, lease: Lease, *, done: int, total: int, now: datetime
) -> None:
    """Show how far the work is; raises LeaseLost or CancelRequested."""
    params = {**lease.key, "done": done, "total": total, "now": now}
    row = await statements.fetch_row(_REPORT, params)
    if row is None:
        raise LeaseLost
    if row["cancel_requested"]:
        raise CancelRequested


async def release(
    statements: Statements, lease: Lease, *, now: datetime, counts_as_attempt: bool
) -> None:
    """Give an operation back to the queue."""
    refund = 0 if counts_as_attempt else 1
    await statements.fetch(_RELEASE, {**lease.key, "now": now, "refund": refund})


async def end(
    session: AsyncSession,
    lease: Lease,
    *,
    status: OperationStatus,
    now: datetime,
    result: dict[str, Any] | None = None,
    problem: Problem | None = None,
) -> None:
    """End an operation in the transaction that keeps its effects; raises LeaseLost.

    Without a result there is nothing to correct, and the file that was sent goes with it.
    """
    params = {
        **lease.key,
        "status": status.value,
        "now": now,
        "result": result and json.dumps(result),
        "problem": problem and json.dumps(as_stored(problem)),
    }
    if (await session.execute(text(_END), params)).first() is None:
        raise LeaseLost
    if result is None:
        await _drop_file(session, lease.district_code, lease.id)


async def fail_overdue(
    session: AsyncSession, *, district_code: str, before: datetime, now: datetime
) -> None:
    """Fail what waits for a worker since before an instant; retention deletes its file."""
    params = {"district_code": district_code, "before": before, "now": now}
    problem = json.dumps(as_stored(OperationOverdue()))
    await session.execute(_OVERDUE, params | {"problem": problem})


def as_stored(problem: Problem) -> dict[str, Any]:
    """Give a refusal as it is kept: its text is chosen when somebody reads it."""
    return {"code": problem.code, "status": problem.status, "facts": problem.facts}
