"""Audit entries as they are read: by the auditor, and by a member who wants to know who looked."""

from typing import Any
from uuid import UUID

from app import reach
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.audit.audit_entries import AuditFilters, SightingFilters
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound
from app.roles import Role
from app.services.audit.audit_seals import COLUMNS, UNSEALED

OF_PLACES = "registrations"
"""The kind of what is done with places at events; whose each was, is told to herself alone.

Beside the attendances, which tell who came, it would be a list of who did not.
"""
_IS_OF_PLACES = f"e.object_kind = '{OF_PLACES}'"
_SUBJECT = f"case when {_IS_OF_PLACES} and e.role = '{Role.MEMBER}' then e.role else e.subject end"
_COLUMNS = (
    f"e.id, {instant('e.at')}, {_SUBJECT} as subject, e.role, e.act, e.object_kind, e.fields,"
    " e.purpose, e.area_code, e.refusal"
)
_ORDER = (Key("id", "e.id", "uuid"),)
# An entry is in one of the two: its seal moves it.
_ALL = f"select district_code, {COLUMNS} from audit_entries union all {UNSEALED}"
LISTING = Listing(
    columns=(
        f"{_COLUMNS}, case when {_IS_OF_PLACES} then e.object_ids[:1] else e.object_ids end"
        f" as object_ids, case when {_IS_OF_PLACES} then '{{}}' else e.person_ids end"
        " as person_ids, e.request_id"
    ),
    source=f"({_ALL}) e",
    order=_ORDER,
    descending=True,
    about="",
)
_OF_MEMBER = Listing(
    columns=_COLUMNS,
    source=(
        "audit_sightings s join audit_entries e"
        " on e.district_code = s.district_code and e.id = s.entry_id"
    ),
    order=(Key("id", "s.entry_id", "uuid"),),
    descending=True,
    about="",
)
_MEMBER = "select m.id from members m where m.district_code = :district_code and m.id = :member_id"


async def list_entries(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: AuditFilters
) -> Slice:
    """Give a page of the entries of callers within reach, the latest first.

    Of places at events it is told who did what with those of which event, and not whose they are.
    """
    condition, params = reach.within(caller, area="e.area_code")
    where = _where(caller, filters)
    where.add(condition, **params)
    where.equal(f"({_SUBJECT})", "subject", filters.subject)
    where.equal("e.role", "role", filters.role)
    where.equal("e.object_kind", "object_kind", filters.object_kind)
    where.equal("e.request_id", "request_id", filters.request_id)
    where.in_area("e.area_code", filters.area)
    if filters.person_id is not None:
        where.add(
            "e.id in (select s.entry_id from audit_sightings s"
            " where s.district_code = :district_code and s.person_id = :person_id)"
            f" and not {_IS_OF_PLACES}",
            person_id=filters.person_id,
        )
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


async def list_of_member(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    filters: SightingFilters,
) -> Slice:
    """Give a page of who did or read what about a member within reach, the latest first.

    What was done with her places at events is told to herself alone.
    """
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id"
    )
    params |= {"district_code": caller.district_code, "member_id": member_id}
    if await statements.fetch_row(f"{_MEMBER} and {condition}", params) is None:
        raise NotFound
    where = _where(caller, filters)
    where.add("s.district_code = :district_code and s.person_id = :member_id", member_id=member_id)
    where.add(f"not {_IS_OF_PLACES}")
    return await _OF_MEMBER.page(statements.district_wide(), keyring, filters=filters, where=where)


def _where(caller: Caller, filters: SightingFilters) -> Where:
    params: dict[str, Any] = {"district_code": caller.district_code}
    where = Where(params)
    where.add("e.district_code = :district_code")
    where.equal("e.act", "act", filters.act)
    where.span("e.at", "at", gte=filters.at_gte, lt=filters.at_lt)
    return where
