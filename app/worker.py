"""Door 3, the queue: takes operations one after the other and sees each to its end."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import asyncpg
import structlog

from app import clock, metrics
from app.crypto import Keyring
from app.database import Database, Statements, note, transaction
from app.identity import WORKER
from app.models.operations import OperationKind, OperationStatus
from app.problems import Problem
from app.scopes import Acting, Scope
from app.services import operations
from app.services.audit import audit_seals
from app.services.audit.audit_seals import Heads
from app.services.membership import roster_answers, rosters
from app.services.operations import CancelRequested, Lease, LeaseLost
from app.services.privacy import enrolled_elsewhere
from app.settings import MOST_ELSEWHERE

LEASE = timedelta(seconds=30)
_IDLE_SECONDS = 0.5
_SEAL_SECONDS = 1
_TROUBLE_SECONDS = 5
_GRACE_SECONDS = 10
_log = structlog.get_logger()


@dataclass(frozen=True)
class Job:
    """An operation at work, with what its handler needs."""

    database: Database
    keyring: Keyring
    lease: Lease
    most_elsewhere: int = MOST_ELSEWHERE

    @property
    def statements(self) -> Statements:
        """Run statements beside the handler's transaction, as progress must be seen."""
        return Statements(self.database.pool, self.scope, name="keep_operation")

    @property
    def scope(self) -> Scope:
        """Work as a rule of the whole district; the handler keeps to its asker's reach."""
        return _scope(self.lease.district_code)


def _scope(district_code: str) -> Scope:
    return Scope(Acting.DISTRICT, district_code, WORKER)


async def _import_members(job: Job) -> None:
    lease, caller = job.lease, rosters.caller_of(job.lease)
    request_id = f"operation:{lease.id}"
    acting = partial(caller.act, kind="operations", ids=[lease.id], request_id=request_id)
    act = acting("run_import_members")
    now = act.at  # Her list finds by it which consents came with the file.
    counting = Statements(job.database.pool, job.scope, acting("tell_enrolled_elsewhere"))
    told = enrolled_elsewhere.allowance(
        counting, caller, job.keyring, most=job.most_elsewhere, now=now
    )
    async with transaction(job.database, job.scope, act) as session:
        await rosters.run_import(
            session, job.statements, job.keyring, lease=lease, told=told, now=now
        )
        note(session, await roster_answers.members_of(session, lease))


HANDLERS: Mapping[OperationKind, Callable[[Job], Awaitable[None]]] = {
    OperationKind.IMPORT_MEMBERS: _import_members,
}


async def work(
    database: Database,
    keyring: Keyring,
    stop: asyncio.Event,
    wake: asyncio.Event | None = None,
    *,
    heads_file: Path,
    most_elsewhere: int = MOST_ELSEWHERE,
) -> None:
    """Work the queue and seal the audit until `stop`; `wake` says that something was enqueued here.

    On stopping, the operation at work has a few seconds to end and then goes back to the queue.
    """
    sealing = asyncio.create_task(_keep_sealing(database, heads_file, stop))
    await _work_queue(database, keyring, stop, wake or asyncio.Event(), most_elsewhere)
    await sealing


async def _work_queue(
    database: Database,
    keyring: Keyring,
    stop: asyncio.Event,
    wake: asyncio.Event,
    most_elsewhere: int,
) -> None:
    while not stop.is_set():
        wake.clear()
        pause = _IDLE_SECONDS
        try:
            lease = await _next(database)
            if lease is not None:
                await _run_until(stop, Job(database, keyring, lease, most_elsewhere))
                continue
        except Exception as error:  # noqa: BLE001  (a database that is away must not end the loop)
            _log.warning("queue_unavailable", error=type(error).__name__)
            pause = _TROUBLE_SECONDS
        await _wait(stop, wake, seconds=pause)


async def _keep_sealing(database: Database, heads_file: Path, stop: asyncio.Event) -> None:
    """Seal every second what no seal covers, beside the queue whose work may take long."""
    heads, has_caught_up = Heads(heads_file), False
    while not stop.is_set():
        try:
            if not has_caught_up:
                # What was sealed and not published, as at the last error or stop.
                looking = Statements(database.pool, Scope(Acting.QUEUE))
                for district_code in await audit_seals.districts_sealed(looking):
                    await _publish(database, heads, district_code)
            has_caught_up = await seal_all(database, heads)
        except Exception as error:  # noqa: BLE001  (what keeps one seal must not end the sealing)
            _log.error("audit_not_sealed", error=type(error).__name__)
            has_caught_up = False
        await _wait(stop, stop, seconds=_SEAL_SECONDS if has_caught_up else _TROUBLE_SECONDS)


async def seal_all(database: Database, heads: Heads) -> bool:
    """Seal all entries whose transactions are over, and publish the new heads.

    What fails in one district is said in the log and keeps no other; tell whether nothing did.
    """
    looking = Statements(database.pool, Scope(Acting.QUEUE))
    were_sealed = True
    for district_code in await audit_seals.districts_to_seal(looking):
        try:
            await _seal(database, heads, district_code)
        except Exception as error:  # noqa: BLE001  (what it is, this district's keepers must see)
            _log.error("audit_not_sealed", error=type(error).__name__, district=district_code)
            were_sealed = False
    return were_sealed


async def _seal(database: Database, heads: Heads, district_code: str) -> None:
    sealed = audit_seals.BATCH
    while sealed == audit_seals.BATCH:
        async with transaction(database, _scope(district_code), name="seal_audit") as session:
            sealed = await audit_seals.seal(session, district_code=district_code, now=clock.now())
    await _publish(database, heads, district_code)


async def _publish(database: Database, heads: Heads, district_code: str) -> None:
    statements = Statements(database.pool, _scope(district_code))
    await heads.publish(statements, district_code=district_code)


async def run_next(
    database: Database,
    keyring: Keyring,
    *,
    operation_id: UUID | None = None,
    most_elsewhere: int = MOST_ELSEWHERE,
) -> bool:
    """Work off one operation, a given one or the oldest; False when none waits."""
    lease = await _next(database, operation_id)
    if lease is None:
        return False
    await run(Job(database, keyring, lease, most_elsewhere))
    return True


async def _next(database: Database, operation_id: UUID | None = None) -> Lease | None:
    now = clock.now()
    looking = Statements(database.pool, Scope(Acting.QUEUE))
    for district_code in await operations.districts_with_work(looking, now=now):
        lease = await operations.claim(
            Statements(database.pool, _scope(district_code), name="claim_operation"),
            district_code=district_code,
            now=now,
            until=now + LEASE,
            operation_id=operation_id,
        )
        if lease is not None:
            return lease
    return None


async def run(job: Job) -> None:
    """Run one operation to its end under its lease, whatever happens in it."""
    lease = job.lease
    renewing = asyncio.create_task(_keep(job))
    status = "retried"
    try:
        await HANDLERS[lease.kind](job)
        status = "ended"
    except CancelRequested:
        await _end(job, OperationStatus.CANCELLED)
        status = "cancelled"
    except Problem as problem:
        await _end(job, OperationStatus.FAILED, problem)
        status = "failed"
    except LeaseLost:
        status = "lost"
    except asyncio.CancelledError:
        await _release(job, counts_as_attempt=False)
        raise
    except Exception as error:  # noqa: BLE001  (the queue outlives any one operation)
        _log.error("operation_failed", kind=lease.kind, error=type(error).__name__)
        await _release(job, counts_as_attempt=True)
    finally:
        renewing.cancel()
        metrics.OPERATIONS.labels(lease.kind, status).inc()


async def _keep(job: Job) -> None:
    pause = LEASE / 3
    while True:
        await asyncio.sleep(pause.total_seconds())
        try:
            await operations.renew(job.statements, job.lease, until=clock.now() + LEASE)
        except LeaseLost:
            return
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _log.warning("lease_not_renewed", error=type(error).__name__)


async def _end(job: Job, status: OperationStatus, problem: Problem | None = None) -> None:
    with suppress(LeaseLost):
        async with transaction(job.database, job.scope, name="end_operation") as session:
            await operations.end(
                session, job.lease, status=status, problem=problem, now=clock.now()
            )


async def _release(job: Job, *, counts_as_attempt: bool) -> None:
    await operations.release(
        job.statements, job.lease, now=clock.now(), counts_as_attempt=counts_as_attempt
    )


async def _run_until(stop: asyncio.Event, job: Job) -> None:
    running = asyncio.create_task(run(job))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await asyncio.wait({running}, timeout=_GRACE_SECONDS)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def _wait(stop: asyncio.Event, wake: asyncio.Event, *, seconds: float) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in (stop, wake)]
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
