"""Each decision explained: for a member and a round, every rule with its reason."""

from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from app import reach
from app.database import Statements
from app.identifiers import area_lineage
from app.identity import Caller
from app.models.events.service_events import EventKind
from app.models.incentives.eligibility import EligibilityRead, RefusalReason, RuleDecision, Standing
from app.models.incentives.incentive_policies import Reward
from app.problems import Invalid, NotFound
from app.services.incentives.bindings import Bindings
from app.services.incentives.decisions import TERMS, Decision, Occasion, Rule, rules_of
from app.services.incentives.knowledge import Known
from app.services.incentives.streaks import Rounds

_PERSON = (
    "select m.id as member_id, m.first_joined_on, m.here as association_id, r.sequence,"
    " r.starts_on, r.ends_on, {decided_on} as decided_on,"
    " (select array_agg(sequence order by sequence) from exam_rounds"
    " where district_code = :district_code and sequence <= r.sequence and {created}) as sequences,"
    " (select array_agg(sequence) from exam_rounds where district_code = :district_code"
    " and sequence <> r.sequence and {created}"
    " and extract(year from ends_on) = extract(year from r.ends_on)) as year,"
    " h.associations, h.areas from (select m.*, {here} as here from members m"
    " where m.district_code = :district_code and m.id = :member_id and {reach}) m"
    " left join exam_rounds r on r.district_code = m.district_code and r.id = :round_id"
    " and {created_round}"
    " cross join lateral (select array_agg(a.id) as associations, array_agg(a.area_code) as areas"
    " from associations a where a.district_code = :district_code and (a.id = m.here"
    " or a.id in (select association_id from {memberships} s where district_code = :district_code"
    " and member_id = :member_id and joined_on <= r.ends_on"
    " and (left_on is null or left_on >= r.starts_on)"
    " union all select association_id from attendances where district_code = :district_code"
    " and member_id = :member_id and round_sequence = r.sequence and {recorded}))) h"
)
_APPLICABLE = (
    "(p.association_id = any(:associations)"
    " or p.association_id is null and p.area_code = any(:areas))"
)

_SOMEBODY, _SOMEWHERE = UUID(int=1), UUID(int=2)
"""Whom and where a statement is written about, until it is filled in."""


async def explain(
    statements: Statements,
    caller: Caller,
    *,
    member_id: UUID,
    round_id: UUID,
    as_of: datetime | None = None,
) -> EligibilityRead:
    """Give the member's streak at a round and what each rule that could reach her decides.

    With an instant, from what was known then; the caller's reach is always that of now. Raises
    NotFound for a member out of reach and Invalid for an unknown round.
    """
    # The streak follows her through associations and towns that the caller may not reach.
    async with statements.district_wide().together() as several:
        person = await _person(several, caller, member_id=member_id, round_id=round_id, as_of=as_of)
        rules = await _applicable_rules(several, caller, person=person, as_of=as_of)
        occasion = _occasion(person, as_of)
        decision, sql = _explanation(caller.district_code, tuple(rules), occasion)
        hers = {_SOMEBODY: member_id, _SOMEWHERE: person["association_id"]}
        params = {name: _filled(value, hers) for name, value in decision.params.items()}
        (row,) = await several.fetch(sql, params, about=[member_id])
    return EligibilityRead(
        member_id=member_id,
        round_id=round_id,
        round_sequence=person["sequence"],
        standing=_standing(row, ends_on=person["ends_on"], joined_on=person["first_joined_on"]),
        streak=row["streak"],
        rules=[_told(decision, number, row) for number in range(len(rules))],
    )


def _occasion(person: Mapping[str, Any], as_of: datetime | None) -> Occasion:
    """Give the occasion with nobody in it, so that its statement serves many."""
    return Occasion(
        rounds=Rounds(
            person["sequence"], person["starts_on"], person["ends_on"], tuple(person["sequences"])
        ),
        year=tuple(person["year"] or ()),
        member_id=_SOMEBODY,
        current_association=None if person["association_id"] is None else _SOMEWHERE,
        as_of=as_of,
        grants_by=as_of,
    )


def _filled(value: object, hers: Mapping[UUID, object]) -> object:
    return hers.get(value, value) if isinstance(value, UUID) else value


async def rules_for(
    statements: Statements, caller: Caller, *, member_id: UUID, round_id: UUID
) -> list[Rule]:
    """Give the rules that could reach a member at a round; raises as `explain` does."""
    async with statements.district_wide().together() as several:
        person = await _person(several, caller, member_id=member_id, round_id=round_id, as_of=None)
        return await _applicable_rules(several, caller, person=person, as_of=None)


async def _person(
    statements: Statements,
    caller: Caller,
    *,
    member_id: UUID,
    round_id: UUID,
    as_of: datetime | None,
) -> Mapping[str, Any]:
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id"
    )
    params |= {"district_code": caller.district_code, "member_id": member_id, "round_id": round_id}
    known = Known(bind := Bindings(params), as_of)
    sql = _PERSON.format(
        reach=condition,
        here=known.association(),
        memberships=known.memberships(),
        decided_on=known.decided_on("r"),
        created=known.entered("created_at"),
        created_round=known.entered("r.created_at"),
        recorded=known.entered("recorded_at"),
    )
    person = await statements.fetch_row(sql, bind.params)
    if person is None:
        raise NotFound
    if person["sequence"] is None:
        raise Invalid.at("round_id", "unknown_reference", within="query")
    found: Mapping[str, Any] = person
    return found


async def _applicable_rules(
    statements: Statements,
    caller: Caller,
    *,
    person: Mapping[str, Any],
    as_of: datetime | None,
) -> list[Rule]:
    bind = Bindings()
    versions = f" and {Known(bind, as_of).entered('v.created_at')}"
    params = bind.params | {
        "district_code": caller.district_code,
        "on": person["decided_on"],
        "associations": person["associations"],
        "areas": sorted({code for area in person["areas"] for code in area_lineage(area)}),
    }
    return rules_of(
        await statements.fetch(TERMS.format(policies=_APPLICABLE, versions=versions), params)
    )


@lru_cache(maxsize=256)
def _explanation(
    district_code: str, rules: tuple[Rule, ...], occasion: Occasion
) -> tuple[Decision, str]:
    """Write the decision and its statement, the same for whoever asks under the same rules."""
    decision = Decision(district_code, rules, occasion)
    columns = []
    for number, reason in enumerate(decision.reasons):
        columns.append(f"{reason} as reason_{number}")
        if winner := decision.superseding(number):
            columns.append(f"{winner} as winner_{number}")
    return decision, f"select {', '.join(['facts.*', *columns])} from ({decision.facts()}) facts"


def _standing(row: Mapping[str, Any], *, ends_on: date, joined_on: date) -> Standing:
    if row["attended_0"]:
        return Standing.ATTENDED
    if ends_on < joined_on:
        return Standing.NOT_ENROLLED
    return Standing.EXCUSED if row["excused"] else Standing.MISSED


def _told(decision: Decision, number: int, row: Mapping[str, Any]) -> RuleDecision:
    rule, reason = decision.rules[number], row[f"reason_{number}"]
    have: int | None = None
    need: int | None = None
    superseded_by = None
    if reason == RefusalReason.STREAK_TOO_SHORT:
        have, need = row["streak"], rule.min_streak
    elif reason == RefusalReason.NOT_A_MULTIPLE:
        have, need = row["streak"], rule.every
    elif reason == RefusalReason.YEARLY_CAP_REACHED:
        have, need = int(row[f"used_{number}"]), rule.yearly_cap_fen
    elif reason == RefusalReason.SUPERSEDED:
        superseded_by = decision.rules[row[f"winner_{number}"]].code
    return RuleDecision(
        policy_id=rule.policy_id,
        policy_name=rule.policy_name,
        policy_number=rule.number,
        rule_id=rule.rule_id,
        code=rule.code,
        name=rule.name,
        event_kind=EventKind(rule.event_kind),
        granted=reason is None,
        reason=reason,
        have=have,
        need=need,
        superseded_by=superseded_by,
        reward=Reward(rule.reward),
        amount_fen=rule.amount_fen,
        gift_item=rule.gift_item,
        quantity=rule.quantity,
    )
