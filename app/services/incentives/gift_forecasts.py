"""Forecasts of gifts: what a round needs if everybody enrolled comes, by the rules of its runs.

It is an upper bound: who stays away needs nothing. Streaks and rules are decided by the same code
as for a run; only that each comes to the round is supposed. So a figure tells of streaks, and is
for offices that may read them member by member.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from app import reach
from app.database import Statements
from app.identity import Caller
from app.models.events.service_events import EventKind
from app.models.incentives.gift_forecasts import GiftForecast, GiftForecastsRead
from app.problems import Invalid
from app.roles import Right
from app.services.goods import depots
from app.services.incentives.bindings import Bindings
from app.services.incentives.decisions import TERMS, Decision, Occasion, Rule, rules_of
from app.services.incentives.knowledge import Known
from app.services.incentives.streaks import Rounds

_ROUND = (
    f"select r.sequence, r.starts_on, r.ends_on, {Known(Bindings()).decided_on('r')} as decided_on,"
    " (select array_agg(sequence order by sequence) from exam_rounds"
    " where district_code = :district_code and sequence <= r.sequence) as sequences"
    " from exam_rounds r where r.district_code = :district_code and r.id = :round_id"
)
_GIFTS = (
    "select g.id, g.code, g.name, g.unit, coalesce(array_agg(r.rule_id)"
    " filter (where r.rule_id is not null), '{}') as rule_ids from gifts g"
    " left join incentive_rules r on r.district_code = g.district_code and r.gift_code = g.code"
    " and r.rule_id = any(:rules) where g.district_code = :district_code"
    " group by g.id, g.code, g.name, g.unit"
)
_GIVING = f"v.in_force and r.reward = 'gift' and r.event_kind = '{EventKind.HEALTH_EXAM}'"
_EVERYBODY = (
    "select m.id as member_id, m.association_id from members m"
    " where m.district_code = :district_code and m.status = 'active'"
    " and m.association_id in (select a.id from associations a"
    " where a.district_code = :district_code and {})"
)
_TOWN = "left({}.area_code, 9) || '000'"
_AVAILABLE = (
    f"select k.gift_id, {_TOWN.format('d')} as area_code,"
    " cast(sum(k.available) as bigint) as available"
    " from stock k join depots d on d.district_code = :district_code and d.id = k.depot_id"
    " where k.district_code = :district_code and d.status = 'open' and {} group by 1, 2"
)
_NAMES = "select code, name from areas where code = any(:codes)"
_Cell = tuple[UUID, str]
"""A gift and a town."""


async def forecast(statements: Statements, caller: Caller, *, round_id: UUID) -> GiftForecastsRead:
    """Give what a round needs at most, gift by gift and town by town, without names.

    Raises Invalid for an unknown round.
    """
    # A streak follows a member through towns, and the depots of a town may serve many.
    statements = statements.district_wide()
    rules = await _rules(statements, caller, round_id=round_id)
    articles = await statements.fetch(
        _GIFTS,
        {"district_code": caller.district_code, "rules": [rule.rule_id for rule in rules[1]]},
    )
    needs = await _needs(statements, caller, rules[0], rules[1], articles)
    available = await _available(statements, caller) if caller.may(Right.READ_GIFTS) else None
    items = await _told(statements, articles, needs, available)
    return GiftForecastsRead(exam_round_id=round_id, items=items)


async def _rules(
    statements: Statements, caller: Caller, *, round_id: UUID
) -> tuple[Rounds, list[Rule]]:
    params = {"district_code": caller.district_code, "round_id": round_id}
    found = await statements.fetch_row(_ROUND, params)
    if found is None:
        raise Invalid.at("exam_round_id", "unknown_reference", within="query")
    facts = dict(found)
    terms = {"district_code": caller.district_code, "on": facts.pop("decided_on")}
    rows = await statements.fetch(TERMS.format(policies=_GIVING, versions=""), terms)
    return Rounds(**facts), rules_of(rows)


async def _needs(
    statements: Statements,
    caller: Caller,
    rounds: Rounds,
    rules: Sequence[Rule],
    articles: Sequence[Mapping[str, Any]],
) -> dict[_Cell, Mapping[str, Any]]:
    if not rules:
        return {}
    condition, reached = reach.within(caller, area="a.area_code", association="a.id")
    occasion = Occasion(
        rounds=rounds, year=[], payouts=False, everybody=_EVERYBODY.format(condition)
    )
    decision = Decision(caller.district_code, rules, occasion)
    sql = _counting(decision, articles)
    rows = await statements.fetch(sql, decision.params | reached)
    return {(row["gift_id"], row["area_code"]): row for row in rows}


def _counting(decision: Decision, articles: Sequence[Mapping[str, Any]]) -> str:
    """Write the count: whom which rule would give which gift, by town."""
    gift_of = {rule_id: row["id"] for row in articles for rule_id in row["rule_ids"]}
    rules = decision.rules
    ids = decision.value([gift_of[rule.rule_id] for rule in rules], "uuid[]")
    quantities = decision.value([rule.quantity or 0 for rule in rules], "int[]")
    return (
        f"select ({ids})[n] as gift_id, {_TOWN.format('a')} as area_code,"
        f" count(distinct f.member_id) as people, sum(({quantities})[n]) as needed"
        f" from ({decision.decided()}) f cross join generate_series(1, {len(rules)}) n"
        " join associations a on a.district_code = :district_code and a.id = f.association_0"
        " where f.granted >> (n - 1) & 1 = 1 group by 1, 2"
    )


async def _available(statements: Statements, caller: Caller) -> dict[_Cell, int]:
    condition, params = depots.within(caller, "d")
    rows = await statements.fetch(
        _AVAILABLE.format(condition), params | {"district_code": caller.district_code}
    )
    return {(row["gift_id"], row["area_code"]): row["available"] for row in rows}


async def _told(
    statements: Statements,
    articles: Sequence[Mapping[str, Any]],
    needs: Mapping[_Cell, Mapping[str, Any]],
    available: Mapping[_Cell, int] | None,
) -> list[GiftForecast]:
    stock = {} if available is None else available
    codes = sorted({area for _, area in {*needs, *stock}})
    rows = await statements.fetch(_NAMES, {"codes": codes})
    names = {row["code"]: row["name"] for row in rows}
    told = {row["id"]: row for row in articles}
    items = []
    for gift_id, area in {*needs, *stock}:
        need = needs.get((gift_id, area), {"people": 0, "needed": 0})
        article = told[gift_id]
        items.append(
            GiftForecast(
                gift_id=gift_id,
                gift_code=article["code"],
                gift_name=article["name"],
                unit=article["unit"],
                area_code=area,
                area_name=names[area],
                people=need["people"],
                needed=need["needed"],
                available=None if available is None else stock.get((gift_id, area), 0),
            )
        )
    return sorted(items, key=lambda item: (item.gift_code, item.area_code))
