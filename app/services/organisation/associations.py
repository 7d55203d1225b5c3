"""Associations: preparing, editing, activating, suspending and dissolving them."""

from dataclasses import replace
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, reach
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Database, Statements
from app.identity import Caller
from app.models.organisation.associations import (
    HOSTS_OF_MODE,
    ActivationRead,
    Association,
    AssociationCreate,
    AssociationFilters,
    AssociationRead,
    AssociationStatus,
    AssociationUpdate,
    ConditionRead,
    Mode,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Forbidden, Invalid, NotFound, Problem, Reason
from app.roles import Role
from app.services.organisation import activation, host_organisations
from app.wording import Language, say

_COLUMNS = (
    "a.id, a.version, a.name, a.mode, a.host_id, a.area_code, a.parent_id, a.status,"
    " a.status_reason, a.founded_on"
)
LISTING = Listing(
    columns=f"{_COLUMNS}, {instant('a.created_at')}, {instant('a.updated_at')}",
    source="associations a",
    order=(Key("id", "a.id", "uuid"),),
)
_FIND = (
    f"select {_COLUMNS}, a.created_at, a.updated_at from associations a"
    " where a.district_code = :district_code and a.id = :id"
)
_AFFILIATED = (
    "select id from associations where district_code = :district_code and parent_id = any(:own)"
)
_OPEN_TIES = text(
    "select (select count(*) from members m where m.district_code = :district_code"
    " and m.association_id = :id and m.status = 'active') as no_open_membership,"
    " (select count(*) from service_events e where e.district_code = :district_code"
    " and e.association_id = :id and e.status in ('draft', 'published', 'in_progress'))"
    " as no_open_event,"
    " (select count(*) from associations c where c.district_code = :district_code"
    " and c.parent_id = :id and c.status <> 'dissolved') as no_affiliated_association"
)


class HostTaken(Problem):
    """An association that is not dissolved lives in this host already."""

    code, status = "host_taken", 409
    constraint = "uq_associations_host"


class VillageTaken(Problem):
    """The village has an active village association already."""

    code, status = "village_taken", 409
    constraint = "uq_associations_active_village"


class StepNotPossible(Problem):
    """The association's status does not allow this step."""

    code, status = "association_step_not_possible", 409


class AssociationDissolved(Problem):
    """The association is dissolved; what it had stays as it was."""

    code, status = "association_dissolved", 409


class DissolutionConditionsUnmet(Problem):
    """Something is still open in the association; `unmet` lists each by code."""

    code, status = "dissolution_conditions_unmet", 409


async def within_reach(database: Database, caller: Caller) -> Caller:
    """Give a secretary the associations affiliated to her own, which she answers for too."""
    if caller.role is not Role.SECRETARY or not caller.association_ids:
        return caller
    statements = Statements(database.pool, caller.scope.district_wide())
    params = {"district_code": caller.district_code, "own": list(caller.association_ids)}
    rows = await statements.fetch(_AFFILIATED, params)
    return replace(caller, association_ids=(*caller.association_ids, *(row[0] for row in rows)))


async def list_associations(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: AssociationFilters
) -> Slice:
    """Give a page of associations in the order in which they were prepared."""
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    where = Where(params | {"district_code": caller.district_code})
    where.add("a.district_code = :district_code")
    where.add(condition)
    where.equal("a.mode", "mode", filters.mode)
    where.equal("a.status", "status", filters.status)
    where.equal("a.parent_id", "parent_id", filters.parent_id)
    where.equal("a.host_id", "host_id", filters.host_id)
    where.in_area("a.area_code", filters.area)
    if filters.updated_since is not None:
        where.add("a.updated_at >= :updated_since", updated_since=filters.updated_since)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(statements: Statements, caller: Caller, *, association_id: UUID) -> AssociationRead:
    """Give one association, or refuse with NotFound."""
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    params |= {"district_code": caller.district_code, "id": association_id}
    row = await statements.fetch_row(f"{_FIND} and {condition}", params)
    if row is None:
        raise NotFound
    return AssociationRead(**row)


async def find_activation(
    session: AsyncSession, caller: Caller, *, association_id: UUID, on: date, language: Language
) -> ActivationRead:
    """Give the conditions of an association's activation and which are met on a date."""
    association = (await session.execute(_in_reach(caller, association_id))).scalar_one_or_none()
    if association is None:
        raise NotFound
    found = [
        ConditionRead(
            code=each.code,
            met=each.is_met,
            detail=say(language, "reasons", each.code, **each.facts),
        )
        for each in await activation.conditions(session, association, on=on)
    ]
    is_ready = all(each.met for each in found)
    return ActivationRead(association_id=association_id, is_ready=is_ready, conditions=found)


async def prepare(
    session: AsyncSession, caller: Caller, *, body: AssociationCreate, now: datetime
) -> AssociationRead:
    """Store an association that is being prepared, in the area of its host."""
    host = await host_organisations.hold(session, caller, host_id=body.host_id)
    if host is None:
        raise Invalid.at("/host_id", "unknown_reference")
    if host.kind not in HOSTS_OF_MODE[body.mode]:
        raise Invalid.at("/mode", "mode_unfit_for_host")
    association = Association(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        area_code=host.area_code,
        status=AssociationStatus.PREPARING,
        status_reason=None,
        **body.model_dump(),
    )
    if body.parent_id is not None:
        await _require_parent(session, association, parent_id=body.parent_id)
    session.add(association)
    await session.flush()
    return AssociationRead.model_validate(association)


async def edit(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    body: AssociationUpdate,
    expected_version: int,
    now: datetime,
) -> AssociationRead:
    """Change an association; only officers give it another parent."""
    association = await hold(session, caller, association_id=association_id)
    concurrency.require_version(association.version, expected_version)
    changes = body.changes()
    has_new_parent = "parent_id" in changes and changes["parent_id"] != association.parent_id
    if has_new_parent and caller.role is Role.SECRETARY:
        raise Forbidden
    if has_new_parent and body.parent_id is not None:
        await _require_parent(session, association, parent_id=body.parent_id)
    association.change(now, **changes)
    await session.flush()
    if has_new_parent and association.status == AssociationStatus.ACTIVE:
        only = activation.ACTIVE_PARENT
        await activation.require(session, association, on=civil_date(now), only=only)
    return AssociationRead.model_validate(association)


async def activate(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    expected_version: int,
    now: datetime,
) -> AssociationRead:
    """Make an association active, for the first time or again, when all conditions are met."""
    association = await _hold_for_step(
        session,
        caller,
        association_id=association_id,
        expected_version=expected_version,
        possible_from={AssociationStatus.PREPARING, AssociationStatus.SUSPENDED},
    )
    await activation.require(session, association, on=civil_date(now))
    association.change(now, status=AssociationStatus.ACTIVE, status_reason=None)
    await session.flush()
    return AssociationRead.model_validate(association)


async def suspend(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    reason: str,
    expected_version: int,
    now: datetime,
) -> AssociationRead:
    """Suspend an active association, saying why."""
    association = await _hold_for_step(
        session,
        caller,
        association_id=association_id,
        expected_version=expected_version,
        possible_from={AssociationStatus.ACTIVE},
    )
    association.change(now, status=AssociationStatus.SUSPENDED, status_reason=reason)
    await session.flush()
    return AssociationRead.model_validate(association)


async def dissolve(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    reason: str,
    expected_version: int,
    now: datetime,
) -> AssociationRead:
    """Dissolve an association in which nothing is open any more, saying why."""
    association = await _hold_for_step(
        session,
        caller,
        association_id=association_id,
        expected_version=expected_version,
        possible_from=set(AssociationStatus) - {AssociationStatus.DISSOLVED},
    )
    params = {"district_code": caller.district_code, "id": association_id}
    ties = (await session.execute(_OPEN_TIES, params)).one()._asdict()
    unmet = [Reason(code, {"open": count}) for code, count in ties.items() if count]
    if unmet:
        raise DissolutionConditionsUnmet(extra={"unmet": unmet})
    association.change(now, status=AssociationStatus.DISSOLVED, status_reason=reason)
    await session.flush()
    return AssociationRead.model_validate(association)


async def hold(session: AsyncSession, caller: Caller, *, association_id: UUID) -> Association:
    """Lock an association in the caller's reach for changes to it or to what it has.

    Raises NotFound, or AssociationDissolved for one whose story has ended.
    """
    association = await _hold(session, caller, association_id=association_id)
    if association.status == AssociationStatus.DISSOLVED:
        raise AssociationDissolved
    return association


def _in_reach(caller: Caller, association_id: UUID) -> Select[Association]:
    return select(Association).where(
        col(Association.district_code) == caller.district_code,
        col(Association.id) == association_id,
        reach.clause(caller, area="associations.area_code", association="associations.id"),
    )


async def _hold(session: AsyncSession, caller: Caller, *, association_id: UUID) -> Association:
    statement = _in_reach(caller, association_id).with_for_update()
    association = (await session.execute(statement)).scalar_one_or_none()
    if association is None:
        raise NotFound
    return association


async def _hold_for_step(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    expected_version: int,
    possible_from: set[AssociationStatus],
) -> Association:
    association = await _hold(session, caller, association_id=association_id)
    concurrency.require_version(association.version, expected_version)
    if association.status not in possible_from:
        raise StepNotPossible
    return association


async def _require_parent(
    session: AsyncSession, association: Association, *, parent_id: UUID
) -> None:
    if association.mode != Mode.AFFILIATED:
        raise Invalid.at("/parent_id", "parent_only_for_affiliated")
    statement = select(Association).where(
        col(Association.district_code) == association.district_code,
        col(Association.id) == parent_id,
    )
    # A lock that others may share keeps the parent from being dissolved meanwhile.
    parent = (await session.execute(statement.with_for_update(read=True))).scalar_one_or_none()
    if (
        parent is None
        or parent.mode != Mode.VILLAGE
        or parent.area_code != association.area_code
        or parent.status == AssociationStatus.DISSOLVED
    ):
        raise Invalid.at("/parent_id", "parent_not_of_village")
