"""How far a member's streak has come, and which rules she meets next."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from app.clock import civil_date
from app.database import Statements
from app.identity import Caller
from app.models.events.exam_rounds import RoundStatus
from app.models.events.service_events import EventKind
from app.models.incentives.eligibility import Standing
from app.models.incentives.incentive_policies import Reward
from app.models.membership.members import MemberStatus
from app.models.self_service.me import NextStep, StreakRead, StreakRound
from app.problems import NotFound
from app.services.incentives import eligibility
from app.services.incentives.decisions import Rule

_MEMBER = (
    "select id, status, thanks_consented_on, thanks_withdrawn_on from members"
    " where district_code = :district_code and id = :member_id"
)
_ROUNDS = (
    "select id, sequence, name, starts_on, ends_on, status from exam_rounds"
    " where district_code = :district_code and starts_on <= :today order by sequence desc"
)


async def find(statements: Statements, caller: Caller, *, now: datetime) -> StreakRead:
    """Give the calling member's streak and next steps, or refuse with NotFound."""
    key = {"district_code": caller.district_code, "member_id": caller.member_id}
    member = await statements.fetch_row(_MEMBER, key, about="id")
    if member is None:
        raise NotFound
    today = civil_date(now)
    rounds = await statements.fetch(
        _ROUNDS, {"district_code": caller.district_code, "today": today}
    )
    if not rounds:
        return StreakRead(streak=0, round=None, next_steps=[])
    streak, standing = await _walk(statements, caller, member["id"], rounds, today)
    steps = []
    if member["status"] == MemberStatus.ACTIVE:
        rules = await eligibility.rules_for(
            statements, caller, member_id=member["id"], round_id=rounds[0]["id"]
        )
        has_consent = member["thanks_consented_on"] is not None
        if member["thanks_withdrawn_on"] is None:
            steps = next_steps(rules, streak, has_consent=has_consent)
    latest = {name: value for name, value in rounds[0].items() if name != "status"}
    shown = StreakRound(**latest, standing=standing)
    return StreakRead(streak=streak, round=shown, next_steps=steps)


async def _walk(
    statements: Statements,
    caller: Caller,
    member_id: UUID,
    rounds: Sequence[Mapping[str, Any]],
    today: date,
) -> tuple[int, Standing | None]:
    """Walk back over rounds that do not break a streak to one that she attended.

    The round under way breaks nothing before it is over, by its last day or by being closed.
    """
    latest: Standing | None = None
    for number, each in enumerate(rounds):
        told = await eligibility.explain(
            statements, caller, member_id=member_id, round_id=each["id"]
        )
        is_under_way = each["status"] == RoundStatus.OPEN and each["ends_on"] >= today
        is_open = number == 0 and told.standing is Standing.MISSED and is_under_way
        if number == 0 and not is_open:
            latest = told.standing
        if told.standing is Standing.ATTENDED:
            return told.streak, latest
        if told.standing is not Standing.EXCUSED and not is_open:
            break
    return 0, latest


def next_steps(rules: Sequence[Rule], streak: int, *, has_consent: bool) -> list[NextStep]:
    """Give for each rule on attended rounds the next streak at which it grants, nearest first.

    Left out are rules that another of their group outranks then, or that lack her consent.
    """
    ahead = {
        rule.rule_id: _next_at(rule, streak)
        for rule in rules
        if rule.in_force
        and rule.event_kind == EventKind.HEALTH_EXAM
        and (has_consent or not rule.consent_required)
    }
    found = [
        _step(rule, ahead[rule.rule_id], streak)
        for rule in rules
        if rule.rule_id in ahead and not _is_outranked(rule, rules, ahead)
    ]
    return sorted(found, key=lambda step: (step.rounds_missing, step.rule_code))


def _next_at(rule: Rule, streak: int) -> int:
    """Give the lowest streak above the present one that the rule asks for."""
    at = max(streak + 1, rule.min_streak)
    return at if rule.every is None else -(-at // rule.every) * rule.every


def _is_outranked(rule: Rule, rules: Sequence[Rule], ahead: Mapping[UUID, int]) -> bool:
    at = ahead[rule.rule_id]
    return any(
        other.rule_id in ahead and other.outranks(rule) and _next_at(other, at - 1) == at
        for other in rules
    )


def _step(rule: Rule, at: int, streak: int) -> NextStep:
    return NextStep(
        rule_code=rule.code,
        rule_name=rule.name,
        reward=Reward(rule.reward),
        amount_fen=rule.amount_fen,
        gift_item=rule.gift_item,
        quantity=rule.quantity,
        at_streak=at,
        rounds_missing=at - streak,
    )
