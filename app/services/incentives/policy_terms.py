"""The terms of a policy's version: what they must agree on, one by one and with each other."""

from collections.abc import Iterator, Mapping
from datetime import date
from types import MappingProxyType

from app.models.events.service_events import EventKind
from app.models.finance.funds import FULL_BP
from app.models.incentives.incentive_policies import (
    WORTH_MONEY,
    IncentiveRule,
    PolicyVersionCreate,
    Reward,
    RuleCreate,
)
from app.models.organisation.areas import Provenance
from app.models.shapes import MAX_FEN
from app.problems import FieldError, Invalid, field_error

_NONE: Mapping[str, IncentiveRule] = MappingProxyType({})


def require_sound(
    body: PolicyVersionCreate,
    *,
    earliest: date | None = None,
    known: Mapping[str, IncentiveRule] = _NONE,
) -> None:
    """Raise Invalid with every field of a version that breaks a rule.

    It holds from `earliest` on at the earliest, and each rule that is `known` by its code thanks
    for the events for which it always did: what it granted says at which events members were.
    """
    errors = [*_errors(body), *_kind_errors(body, known)]
    if earliest is not None and body.effective_on < earliest:
        errors.append(field_error("/effective_on", "version_in_the_past", earliest=earliest))
    if errors:
        raise Invalid(errors=errors)


def _errors(body: PolicyVersionCreate) -> Iterator[FieldError]:
    if body.ends_on is not None and body.ends_on <= body.effective_on:
        yield field_error("/ends_on", "ends_before_it_starts")
    if body.provenance is Provenance.APPROVED and body.provenance_note is None:
        yield field_error("/provenance_note", "approval_needs_note")
    codes: set[str] = set()
    ranks: set[tuple[str, int]] = set()
    of_checks = {rule.exclusive_group for rule in body.rules if rule.is_of_health_checks}
    for number, rule in enumerate(body.rules):
        at = f"/rules/{number}"
        if rule.code in codes:
            yield field_error(f"{at}/code", "rule_code_repeated")
        codes.add(rule.code)
        if rule.exclusive_group is not None:
            if (rule.exclusive_group, rule.priority) in ranks:
                yield field_error(f"{at}/priority", "rule_priority_repeated")
            ranks.add((rule.exclusive_group, rule.priority))
            if rule.exclusive_group in of_checks and not rule.is_of_health_checks:
                yield field_error(f"{at}/exclusive_group", "rule_group_mixes_checks")
        yield from _streak_errors(at, rule)
        yield from _reward_errors(at, rule)


def _kind_errors(
    body: PolicyVersionCreate, known: Mapping[str, IncentiveRule]
) -> Iterator[FieldError]:
    for number, rule in enumerate(body.rules):
        if rule.code in known and known[rule.code].event_kind != rule.event_kind:
            yield field_error(f"/rules/{number}/event_kind", "rule_kind_fixed")


def _streak_errors(at: str, rule: RuleCreate) -> Iterator[FieldError]:
    if rule.event_kind is EventKind.HEALTH_EXAM:
        return
    if rule.min_streak != 1:
        yield field_error(f"{at}/min_streak", "rule_streak_of_other_event")
    if rule.every is not None:
        yield field_error(f"{at}/every", "rule_streak_of_other_event")


def _reward_errors(at: str, rule: RuleCreate) -> Iterator[FieldError]:
    yield from _money_errors(at, rule) if rule.reward in WORTH_MONEY else _gift_errors(at, rule)
    if (rule.reward is Reward.SERVICE_VOUCHER) != (rule.valid_days is not None):
        yield field_error(f"{at}/valid_days", "rule_voucher_has_valid_days")


def _money_errors(at: str, rule: RuleCreate) -> Iterator[FieldError]:
    if rule.amount_fen is None:
        yield field_error(f"{at}/amount_fen", "rule_cash_needs_amount")
    for name in ("gift_code", "gift_item", "quantity"):
        if getattr(rule, name) is not None:
            yield field_error(f"{at}/{name}", "rule_cash_is_no_gift")
    if (rule.yearly_cap_fen or MAX_FEN) < (rule.amount_fen or 0):
        yield field_error(f"{at}/yearly_cap_fen", "rule_cap_below_amount")
    if rule.funding is not None and sum(rule.funding.model_dump().values()) != FULL_BP:
        yield field_error(f"{at}/funding", "rule_funding_is_no_whole")


def _gift_errors(at: str, rule: RuleCreate) -> Iterator[FieldError]:
    if rule.reward is Reward.GIFT and rule.gift_code is None:
        yield field_error(f"{at}/gift_code", "rule_gift_needs_item")
    for name in ("gift_code", "gift_item"):
        if rule.reward is Reward.DRAW_TICKET and getattr(rule, name) is not None:
            yield field_error(f"{at}/{name}", "rule_ticket_is_no_gift")
    if rule.amount_fen is not None:
        yield field_error(f"{at}/amount_fen", "rule_gift_is_no_cash")
    if rule.yearly_cap_fen is not None:
        yield field_error(f"{at}/yearly_cap_fen", "rule_gift_is_no_cash")
    if rule.funding is not None:
        yield field_error(f"{at}/funding", "rule_gift_is_no_cash")
