"""Incentive policies: who is thanked with what; a change is a new version, never an edit."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, reach
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide, show
from app.identifiers import area_prefix
from app.identity import Caller
from app.models.finance.funds import FULL_BP, FundSource
from app.models.goods.gifts import Gift, GiftStatus
from app.models.incentives.incentive_policies import (
    MONEY,
    WORTH_MONEY,
    Funding,
    FundingRead,
    IncentivePolicy,
    IncentiveRule,
    PolicyCreate,
    PolicyFilters,
    PolicyRead,
    PolicyVersion,
    PolicyVersionCreate,
    RuleCreate,
    RuleRead,
    VersionFilters,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem, field_error
from app.services.goods import gifts
from app.services.incentives import policy_terms
from app.services.organisation import areas

_RULES = (
    "(select json_agg(json_build_object("
    + ", ".join(f"'{name}', r.{name}" for name in RuleRead.model_fields if name != "funding")
    + f", 'funding', case when r.reward in {MONEY} then json_build_object("
    + ", ".join(f"'{name}', r.{name}" for name in FundingRead.model_fields)
    + ") end"
    + ") order by r.priority desc, r.code) from incentive_rules r"
    " where r.district_code = v.district_code and r.policy_id = v.policy_id"
    " and r.number = v.number)"
)
_VERSION = (
    "v.number, v.effective_on, v.ends_on, v.consent_required, v.provenance, v.provenance_note,"
    f" v.created_by, {instant('v.created_at')}, {_RULES} as rules"
)
_CLOSED_TODAY = text(
    "select exists (select from exam_rounds where district_code = :district_code"
    " and ends_on >= :today and cast(closed_at at time zone 'Asia/Shanghai' as date) = :today)"
)
_POLICY = (
    f"p.id, p.name, p.area_code, p.association_id, p.version, {instant('p.created_at')},"
    f" {instant('p.updated_at')}, (select row_to_json(current) from (select {_VERSION}"
    " from policy_versions v where v.district_code = p.district_code and v.policy_id = p.id"
    " order by (v.effective_on <= :today and (v.ends_on is null or v.ends_on > :today)) desc,"
    " v.number desc limit 1) current) as current_version"
)
LISTING = Listing(
    columns=_POLICY, source="incentive_policies p", order=(Key("id", "p.id", "uuid"),)
)
VERSIONS = Listing(
    columns=_VERSION,
    source="policy_versions v",
    order=(Key("number", "v.number", "int"),),
    descending=True,
)
_FIND = (
    f"select row_to_json(item)::text from (select {_POLICY} from incentive_policies p"
    " where p.district_code = :district_code and p.id = :id and {}) item"
)


class PolicyElsewhere(Problem):
    """A policy set from above is read here and changed there."""

    code, status = "policy_elsewhere", 403


class PolicyNameTaken(Problem):
    """A policy of this name is set for the same area or association; a change is a version."""

    code, status = "policy_name_taken", 409
    constraint = "uq_incentive_policies_name"


async def list_policies(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: PolicyFilters,
    now: datetime,
) -> Slice:
    """Give a page of the policies that hold within the caller's reach."""
    condition, params = reach.concerning(caller, area="p.area_code", association="p.association_id")
    where = Where({"district_code": caller.district_code, "today": civil_date(now)})
    where.add("p.district_code = :district_code")
    where.add(condition, **params)
    where.equal("p.association_id", "association_id", filters.association_id)
    where.in_area("p.area_code", filters.area)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(
    statements: Statements, caller: Caller, *, policy_id: UUID, now: datetime
) -> PolicyRead:
    """Give one policy with its current version, or refuse with NotFound."""
    condition, params = reach.concerning(caller, area="p.area_code", association="p.association_id")
    params |= {"district_code": caller.district_code, "id": policy_id, "today": civil_date(now)}
    found = await statements.fetch_value(_FIND.format(condition), params)
    if found is None:
        raise NotFound
    return PolicyRead.model_validate_json(found)


async def list_versions(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    policy_id: UUID,
    filters: VersionFilters,
    now: datetime,
) -> Slice:
    """Give a page of a policy's versions, the newest first."""
    await find(statements, caller, policy_id=policy_id, now=now)
    where = Where({"district_code": caller.district_code, "policy_id": policy_id})
    where.add("v.district_code = :district_code and v.policy_id = :policy_id")
    return await VERSIONS.page(statements, keyring, filters=filters, where=where)


async def create(
    session: AsyncSession, caller: Caller, *, body: PolicyCreate, now: datetime
) -> PolicyRead:
    """Set up a policy of an area or of one association in it, with its first version."""
    policy_terms.require_sound(body)
    reach.require_area(caller, body.area_code)
    await areas.require_scope(
        session,
        district_code=caller.district_code,
        area_code=body.area_code,
        association_id=body.association_id,
    )
    policy = IncentivePolicy(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        name=body.name,
        area_code=body.area_code,
        association_id=body.association_id,
        current_number=1,
    )
    session.add(policy)
    await session.flush()
    await _add_version(session, caller, policy=policy, body=body, known={}, now=now)
    return await _read(session, policy, now)


async def add_version(
    session: AsyncSession,
    caller: Caller,
    *,
    policy_id: UUID,
    body: PolicyVersionCreate,
    expected: int,
    now: datetime,
) -> PolicyRead:
    """Put a new version beside the earlier ones; it wins for rounds that it covers.

    It holds from today on or later, or from tomorrow if a round was closed early today, so that
    it takes back nothing of rounds that are over: what members were shown of them stays. A rule
    keeps its `rule_id` by its code, so that a grant of an earlier version still counts.
    """
    policy = await _lock(session, caller, policy_id=policy_id)
    concurrency.require_version(policy.version, expected)
    known = await _known_rules(session, policy)
    policy_terms.require_sound(body, earliest=await _earliest(session, caller, now), known=known)
    policy.current_number += 1
    policy.version += 1
    policy.updated_at = now
    await _add_version(session, caller, policy=policy, body=body, known=known, now=now)
    return await _read(session, policy, now)


async def _earliest(session: AsyncSession, caller: Caller, now: datetime) -> date:
    """Give from when a new version may hold: what decides a round that was closed today stays."""
    today = civil_date(now)
    params = {"district_code": caller.district_code, "today": today}
    is_closed_today = await session.scalar(_CLOSED_TODAY, params)
    return today + timedelta(days=1) if is_closed_today else today


async def _lock(session: AsyncSession, caller: Caller, *, policy_id: UUID) -> IncentivePolicy:
    condition, params = reach.concerning(
        caller, area="incentive_policies.area_code", association="incentive_policies.association_id"
    )
    async with district_wide(session):
        policy = await session.scalar(
            select(IncentivePolicy)
            .where(
                col(IncentivePolicy.district_code) == caller.district_code,
                col(IncentivePolicy.id) == policy_id,
                text(condition).bindparams(**params),
            )
            .with_for_update()
        )
    if policy is None:
        raise NotFound
    if not reach.covers(caller, policy.area_code):
        raise PolicyElsewhere
    return policy


async def _known_rules(session: AsyncSession, policy: IncentivePolicy) -> dict[str, IncentiveRule]:
    """Give the rules of all versions by their codes, of each the latest."""
    rules = await session.scalars(
        select(IncentiveRule)
        .where(
            col(IncentiveRule.district_code) == policy.district_code,
            col(IncentiveRule.policy_id) == policy.id,
        )
        .order_by(col(IncentiveRule.number))
    )
    return {rule.code: rule for rule in rules}


async def _add_version(
    session: AsyncSession,
    caller: Caller,
    *,
    policy: IncentivePolicy,
    body: PolicyVersionCreate,
    known: Mapping[str, IncentiveRule],
    now: datetime,
) -> None:
    place: dict[str, Any] = {
        "district_code": policy.district_code,
        "policy_id": policy.id,
        "number": policy.current_number,
    }
    facts = body.model_dump(
        include={"effective_on", "ends_on", "consent_required", "provenance", "provenance_note"}
    )
    articles = await _articles(session, policy, body)
    await show(session, policy.id)
    version = PolicyVersion(**place, **facts, created_by=caller.subject, created_at=now)
    session.add(version)
    await session.flush()
    session.add_all(
        IncentiveRule(
            **place,
            **_stored(policy, rule, articles),
            rule_id=known[rule.code].rule_id if rule.code in known else clock.new_id(),
        )
        for rule in body.rules
    )
    await session.flush()


async def _articles(
    session: AsyncSession, policy: IncentivePolicy, body: PolicyVersionCreate
) -> dict[str, Gift]:
    """Give the articles that the rules name; raises Invalid for those that none may give."""
    codes = [rule.gift_code for rule in body.rules]
    found = await gifts.of_codes(
        session, district_code=policy.district_code, codes=[code for code in codes if code]
    )
    errors = [
        field_error(
            f"/rules/{number}/gift_code",
            "gift_retired" if code in found else "unknown_reference",
        )
        for number, code in enumerate(codes)
        if code is not None and (code not in found or found[code].status == GiftStatus.RETIRED)
    ]
    if errors:
        raise Invalid(errors=errors)
    return found


def _stored(
    policy: IncentivePolicy, rule: RuleCreate, articles: Mapping[str, Gift]
) -> dict[str, Any]:
    facts = rule.model_dump(exclude={"funding"})
    if rule.reward not in WORTH_MONEY and rule.quantity is None:
        facts["quantity"] = 1
    if rule.gift_code is not None and rule.gift_item is None:
        facts["gift_item"] = articles[rule.gift_code].name
    funding = Funding()
    if rule.reward in WORTH_MONEY:
        funding = rule.funding or Funding(**{f"{own_source(policy)}_bp": FULL_BP})
    return facts | funding.model_dump()


def own_source(policy: IncentivePolicy) -> FundSource:
    """Give the source that pays a policy's rules when they name none: its own level's.

    What is set for one association is paid by its enterprise.
    """
    if policy.association_id is not None:
        return FundSource.ENTERPRISE
    levels = {6: FundSource.DISTRICT, 9: FundSource.TOWN, 12: FundSource.VILLAGE}
    return levels[max(6, len(area_prefix(policy.area_code)))]


async def _read(session: AsyncSession, policy: IncentivePolicy, now: datetime) -> PolicyRead:
    """Give a policy as it stands within this transaction."""
    params = {
        "district_code": policy.district_code,
        "id": policy.id,
        "today": civil_date(now),
    }
    found = await session.scalar(text(_FIND.format("true")), params)
    return PolicyRead.model_validate_json(found)
