"""What is the calling member's own: herself, her events, places, attendances and payouts."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.crypto import Keyring
from app.database import Statements
from app.identifiers import area_lineage
from app.identity import Caller
from app.models.disbursement.payout_runs import PROMISED
from app.models.disbursement.payouts import payout_id_sql
from app.models.events.attendances import MemberAttendanceFilters
from app.models.events.service_events import EventStatus
from app.models.self_service.me import (
    MeRead,
    MyAssociation,
    MyEventFilters,
    MyMembershipFilters,
    MyPayoutFilters,
    MyRegistrationFilters,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound
from app.services.disbursement.payouts import STATEMENT
from app.services.events import attendances, registrations, service_events
from app.services.membership import memberships
from app.services.privacy import consenting, data_keys, person_data

_ME = (
    "select m.id, m.name, m.status, m.association_id, a.name as association_name,"
    " a.area_code as association_area, c.name as area_name, a.parent_id, m.area_code,"
    f" m.first_joined_on, {consenting.held_sql('m')} as consents, m.id_number_sealed,"
    " m.phone_sealed, m.version,"
    f" m.id as member_id, {data_keys.COLUMNS} from members m {data_keys.JOIN.format('m.id')}"
    " join associations a on a.district_code = m.district_code and a.id = m.association_id"
    " join areas c on c.code = a.area_code"
    " where m.district_code = :district_code and m.id = :member_id"
)
MEMBERSHIPS = Listing(
    columns="s.association_id, a.name as association_name, s.joined_on, s.left_on",
    source=(
        "memberships s join associations a"
        " on a.district_code = s.district_code and a.id = s.association_id"
    ),
    order=memberships.ORDER,
    about="",
)
EVENTS = Listing(
    columns=f"{service_events.LISTING.columns}, g.status as registration_status",
    source=(
        f"{service_events.LISTING.source} left join registrations g"
        " on g.district_code = :district_code and g.event_id = e.id and g.member_id = :member_id"
    ),
    order=service_events.LISTING.order,
    about="",
)
REGISTRATIONS = Listing(
    columns=(
        "g.event_id, e.kind as event_kind, e.title as event_title, e.venue,"
        f" {instant('e.starts_at')}, {instant('e.ends_at')}, e.status as event_status,"
        f" e.status_reason as event_status_reason, {registrations.PLACE} as position, g.status,"
        f" {instant('g.registered_at')}, g.version"
    ),
    source=(
        "registrations g join service_events e"
        " on e.district_code = g.district_code and e.id = g.event_id"
    ),
    order=(Key("starts_at", "e.starts_at", "timestamptz"), Key("event_id", "g.event_id", "uuid")),
    descending=True,
    about="",
)
PAYOUTS = Listing(
    columns=(
        f"{payout_id_sql('p')} as id,"
        " p.round_sequence, p.rule_id, i.reward, p.amount_fen, i.gift_item, p.quantity, p.status,"
        f" p.failure_reason, {instant('p.settled_at')}, '{STATEMENT}' as statement"
    ),
    source=(
        "payouts p"
        " join payout_runs r on r.district_code = p.district_code and r.id = p.run_id"
        " join incentive_rules i on i.district_code = r.district_code"
        " and i.policy_id = r.policy_id and i.number = r.policy_number and i.rule_id = p.rule_id"
    ),
    order=(
        Key("round_sequence", "p.round_sequence", "int"),
        Key("rule_id", "p.rule_id", "uuid"),
    ),
    descending=True,
    about="",
    numbered="id",
)
_COMING = [EventStatus.PUBLISHED.value, EventStatus.IN_PROGRESS.value]


def _key(caller: Caller) -> dict[str, Any]:
    return {"district_code": caller.district_code, "member_id": caller.member_id}


async def find(statements: Statements, caller: Caller, keyring: Keyring) -> MeRead:
    """Give the calling member, or refuse with NotFound."""
    row = await statements.fetch_row(_ME, _key(caller), about="member_id")
    if row is None:
        raise NotFound
    key = data_keys.opened_or_none(keyring, row)
    data = person_data.opened(key, row["id"], row["id_number_sealed"], row["phone_sealed"])
    return MeRead(
        member_id=row["id"],
        association=_association(row),
        **{name: row[name] for name in ("name", "status", "first_joined_on", "consents")},
        **person_data.masked(data),
        version=row["version"],
    )


def _association(row: Mapping[Any, Any]) -> MyAssociation:
    return MyAssociation(
        id=row["association_id"],
        name=row["association_name"],
        area_code=row["association_area"],
        area_name=row["area_name"],
    )


async def list_memberships(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: MyMembershipFilters
) -> Slice:
    """Give a page of the member's ties to associations, the oldest first."""
    where = Where(_key(caller))
    where.add("s.district_code = :district_code and s.member_id = :member_id")
    return await MEMBERSHIPS.page(statements, keyring, filters=filters, where=where)


async def list_events(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: MyEventFilters,
    now: datetime,
) -> Slice:
    """Give a page of the coming events of her village, town and district, the soonest first.

    Of an association's own events there are those of hers and of the one that looks after it.
    """
    around, associations = await _home(statements, caller)
    where = Where(_key(caller))
    where.add("e.district_code = :district_code")
    where.add("e.area_code = any(:around)", around=around)
    where.add(
        "(e.association_id is null or e.association_id = any(:associations))",
        associations=associations,
    )
    where.add("e.status = any(:coming)", coming=_COMING)
    where.add(
        "e.ends_at > :now and e.starts_at < :until",
        now=now,
        until=now + timedelta(weeks=filters.weeks),
    )
    where.equal("e.kind", "kind", filters.kind)
    return await EVENTS.page(statements, keyring, filters=filters, where=where)


async def _home(statements: Statements, caller: Caller) -> tuple[list[str], list[UUID]]:
    """Give the areas around the member and the associations that invite her."""
    row = await statements.fetch_row(_ME, _key(caller))
    if row is None:
        return [], []
    inviting = (row["association_id"], row["parent_id"])
    return area_lineage(row["area_code"]), [each for each in inviting if each is not None]


async def list_registrations(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: MyRegistrationFilters
) -> Slice:
    """Give a page of the member's places at events, the latest event first."""
    where = Where(_key(caller))
    where.add("g.district_code = :district_code and g.member_id = :member_id")
    where.equal("g.status", "status", filters.status)
    # Her place is among all who wait; the statement keeps to her own registrations.
    wide = statements.district_wide()
    return await REGISTRATIONS.page(wide, keyring, filters=filters, where=where)


async def list_attendances(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: MemberAttendanceFilters
) -> Slice:
    """Give a page of what the member attended, the latest first."""
    where = Where(_key(caller))
    where.add("t.district_code = :district_code and t.member_id = :member_id")
    where.equal("e.kind", "kind", filters.kind)
    where.equal("(t.voided_at is not null)", "voided", filters.voided)
    return await attendances.OF_MEMBER.page(statements, keyring, filters=filters, where=where)


async def list_payouts(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: MyPayoutFilters
) -> Slice:
    """Give a page of what the member gets, from its approval on, the latest round first."""
    where = Where(_key(caller))
    where.add("p.district_code = :district_code and p.member_id = :member_id")
    # Named rounds let each payout be found along the primary key.
    where.add(
        "p.round_sequence in (select sequence from exam_rounds"
        " where district_code = :district_code)"
    )
    where.add("r.status = any(:promised)", promised=[status.value for status in PROMISED])
    where.equal("p.status", "status", filters.status)
    # Runs and rules are not hers to read; the statement keeps to her own payouts.
    return await PAYOUTS.page(statements.district_wide(), keyring, filters=filters, where=where)
