"""What a run's rules decide once more: by the same rules and facts as its calculation."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.disbursement.payout_runs import PayoutRun, RunRead
from app.services.incentives.bindings import Bindings
from app.services.incentives.decisions import TERMS, Decision, Occasion, Rule, rules_of
from app.services.incentives.knowledge import Known
from app.services.incentives.streaks import Rounds

_ROUND = (
    "select r.starts_on, r.ends_on, {decided_on} as decided_on,"
    " (select array_agg(sequence order by sequence) from exam_rounds"
    " where district_code = :district_code and sequence <= r.sequence and {known}) as sequences,"
    " (select array_agg(sequence) from exam_rounds where district_code = :district_code"
    " and sequence <> r.sequence and {known}"
    " and extract(year from ends_on) = extract(year from r.ends_on)) as year"
    " from exam_rounds r where r.district_code = :district_code and r.sequence = :sequence"
)


class Reader(Protocol):
    """Runs one reading statement: alone, or within a transaction."""

    async def fetch(self, sql: str, params: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Give all rows."""


class Within:
    """Reads within a transaction, as far as that sees."""

    def __init__(self, session: AsyncSession) -> None:
        """Take the transaction's session."""
        self._session = session

    async def fetch(self, sql: str, params: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Give all rows."""
        rows = await self._session.execute(text(sql), params)
        return [dict(row) for row in rows.mappings()]


async def occasion_of(
    reader: Reader,
    run: PayoutRun | RunRead,
    *,
    district_code: str,
    as_of: datetime | None,
    grants_by: datetime | None,
) -> Occasion:
    """Give a run's occasion from what was known; its own grants are not asked."""
    bind = Bindings({"district_code": district_code, "sequence": run.round_sequence})
    known = Known(bind, as_of)
    sql = _ROUND.format(known=known.entered("created_at"), decided_on=known.decided_on("r"))
    [found] = await reader.fetch(sql, bind.params)
    sequences = found["sequences"] or []
    return Occasion(
        rounds=Rounds(
            run.round_sequence,
            found["starts_on"],
            found["ends_on"],
            sequences if run.round_sequence in sequences else [*sequences, run.round_sequence],
        ),
        decided_on=found["decided_on"],
        year=found["year"] or [],
        area_code=run.area_code,
        as_of=as_of,
        grants_by=grants_by,
        apart_from=run.id,
    )


async def rules_used(
    reader: Reader, run: PayoutRun | RunRead, occasion: Occasion, *, district_code: str
) -> list[Rule]:
    """Give the rules of the version that the run used."""
    versions, number = " and v.number = :number", run.policy_number
    return await _rules(reader, run, occasion, district_code, versions, number=number)


async def rules_known(
    reader: Reader, run: PayoutRun | RunRead, occasion: Occasion, *, district_code: str
) -> list[Rule]:
    """Give the rules of the version that was known, at the occasion's instant, for the round."""
    bind = Bindings()
    versions = f" and {Known(bind, occasion.as_of).entered('v.created_at')}"
    return await _rules(reader, run, occasion, district_code, versions, **bind.params)


async def _rules(
    reader: Reader,
    run: PayoutRun | RunRead,
    occasion: Occasion,
    district_code: str,
    versions: str,
    **params: Any,
) -> list[Rule]:
    params |= {
        "district_code": district_code,
        "on": occasion.decided_on,
        "policy_id": run.policy_id,
    }
    sql = TERMS.format(policies="p.id = :policy_id", versions=versions)
    return rules_of(await reader.fetch(sql, params))


def each_rule(decision: Decision) -> str:
    """Write the relation of members and rules: what is decided of each, and what it would give.

    Members are those who came to what some rule is about; reason is null where a rule grants.
    """
    rules, kinds = decision.rules, decision.kinds
    facts = decision.facts()
    reasons = ", ".join(decision.reasons)
    came = ", ".join(f"attended_{kinds.index(rule.event_kind)}" for rule in rules)
    where = ", ".join(f"association_{kinds.index(rule.event_kind)}" for rule in rules)
    rule_ids = decision.value([rule.rule_id for rule in rules], "uuid[]")
    amounts = decision.value([rule.amount_fen or 0 for rule in rules], "bigint[]")
    quantities = decision.value([rule.quantity or 0 for rule in rules], "int[]")
    return (
        f"select d.member_id, ({rule_ids})[n] as rule_id, ({amounts})[n] as fen,"
        f" ({quantities})[n] as quantity, d.reasons[n] as refusal, d.came[n] as attended,"
        " d.places[n] as association_id from (select facts.member_id,"
        f" array[{reasons}]::text[] as reasons, array[{came}] as came, array[{where}] as places"
        f" from ({facts}) facts offset 0) d cross join generate_series(1, {len(rules)}) n"
    )
