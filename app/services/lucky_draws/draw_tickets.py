"""Draw tickets: issued once by the lines of a run, frozen for the draw, and a member's own."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import locks
from app.crypto import Keyring, new_seed
from app.database import Statements
from app.identity import Caller
from app.models.disbursement.payout_runs import PayoutRun
from app.models.events.service_events import TEN
from app.models.lucky_draws.draw_tickets import MyTicketFilters
from app.models.lucky_draws.draws import Draw
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Problem
from app.services.events.told_counts import begins_at, is_over_at, known_open

TOLD = f"coalesce(d.fewest_count, d.people_count) >= {TEN}"
"""The condition on draws `d` that their lists are, or were, shown to all.

Before parts were counted, all its people decided of a draw.
"""

# A run over a million members outlasts a request's usual limit.
_PATIENCE = text("set local statement_timeout = '300s'")
# Of tables that were filled just now the planner knows nothing, and would join a million to a
# million one by one.
_WHOLESALE = text("set local enable_nestloop = off")
_TICKET_LINES = (
    "payouts p join incentive_rules i on i.district_code = :district_code"
    " and i.policy_id = :policy_id and i.number = :number and i.rule_id = p.rule_id"
    " and i.reward = 'draw_ticket' where p.district_code = :district_code"
    " and p.round_sequence = :sequence and p.run_id = :run_id and p.status = 'pending'"
)
_GRANTS_ANY = text(f"select exists (select from {_TICKET_LINES})")
# Closing waits for the runs that have found the draw open, and the next ones find it closed.
_OPEN = text(
    "select d.id from draws d join incentive_policies p on p.district_code = d.district_code"
    " and p.area_code = d.area_code where d.district_code = :district_code"
    " and p.district_code = :district_code and p.id = :policy_id"
    " and d.round_sequence = :sequence and d.status = 'open' and d.closes_at > :now"
    " for share of d"
)
# Nobody keeps the salt: what a number was made of can be found out by nobody.
_ISSUE = text(
    "insert into draw_tickets (district_code, ticket, draw_id, member_id, run_id, line_no,"
    " copy_no, issued_at) select :district_code, left(encode(sha256(cast(:salt as bytea)"
    " || cast(concat_ws('/', p.line_no, n) as bytea)), 'hex'), 32), cast(:draw_id as uuid),"
    " p.member_id, p.run_id, p.line_no, n, cast(:now as timestamptz) from (select p.member_id,"
    f" p.run_id, p.line_no, p.quantity from {_TICKET_LINES}) p"
    " cross join lateral generate_series(1, p.quantity) n"
)
_ISSUE_LINES = text(
    "insert into draw_tickets (district_code, ticket, draw_id, member_id, run_id, line_no,"
    " copy_no, issued_at) select :district_code, left(encode(sha256(cast(:salt as bytea)"
    " || cast(concat_ws('/', l.line_no, n) as bytea)), 'hex'), 32), cast(:draw_id as uuid),"
    " l.member_id, cast(:run_id as uuid), l.line_no, n, cast(:now as timestamptz)"
    " from unnest(cast(:lines as int[]), cast(:members as uuid[]), cast(:quantities as int[]))"
    " l(line_no, member_id, quantity) cross join lateral generate_series(1, l.quantity) n"
)
_TICKET_RULES = text(
    "select rule_id from incentive_rules where district_code = :district_code"
    " and policy_id = :policy_id and number = :number and reward = 'draw_ticket'"
)
_SETTLE = text(
    "update payouts p set status = 'paid', settled_at = :now from incentive_rules i"
    " where i.district_code = :district_code and i.policy_id = :policy_id and i.number = :number"
    " and i.rule_id = p.rule_id and i.reward = 'draw_ticket'"
    " and p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.run_id = :run_id and p.status = 'pending'"
)
_ISSUED = text(
    "select exists (select from draw_tickets where district_code = :district_code"
    " and run_id = :run_id and line_no = :line_no)"
)
_TAKE_OVER = text(
    "update draw_tickets set draw_id = :draw_id where district_code = :district_code"
    " and draw_id = :replaces_id"
)
_OF_DRAW = text(
    "select ticket from draw_tickets where district_code = :district_code and draw_id = :draw_id"
)
# Who knows how many tickets a rule gives each can tell the rules apart in a count of all, and who
# knows the list of the draw before can tell apart what is new. So whose each of these are is a
# part, and the rest of the people is another; and what subtracting other draws of the round leaves.
# Who knows the members of a rule's associations can tell who is beside it: where nobody is, all
# came, which counts as one. Beside it are those alone who could have been in it, as was known when
# the round began, and who were thanked for nothing of it. For each who was known to leave within
# it there is one less, whether she came or not, and nobody is beside where an office entered a
# consent when it was over: or by whom she chooses, a secretary would see who came.
_PEOPLE = text(
    "with held as materialized (select t.member_id, t.run_id, p.association_id, p.rule_id,"
    " p.quantity, e.ticket is null as is_new from draw_tickets t"
    " left join payouts p on p.district_code = :district_code"
    " and p.round_sequence = :sequence and p.run_id = t.run_id and p.line_no = t.line_no"
    " left join draw_entries e on e.district_code = :district_code"
    " and e.draw_id = cast(:told_id as uuid) and e.ticket = t.ticket"
    " where t.district_code = :district_code and t.draw_id = :draw_id),"
    " inside as materialized (select distinct member_id from held),"
    " whole as (select count(*) as people from inside),"
    " elsewhere as materialized (select distinct d.id as draw_id, t.member_id from draws d"
    " join draw_entries e on e.district_code = d.district_code and e.draw_id = d.id"
    " join draw_tickets t on t.district_code = d.district_code and t.ticket = e.ticket"
    " where d.district_code = :district_code and d.round_sequence = :sequence"
    f" and d.id <> :draw_id and {TOLD}),"
    " told as (select count(*) as people, count(i.member_id) as common from elsewhere o"
    " left join inside i on i.member_id = o.member_id group by o.draw_id),"
    " asked as (select coalesce(bool_or(v.consent_required), false) as for_consent"
    " from (select distinct run_id from held) h"
    " join payout_runs n on n.district_code = :district_code and n.id = h.run_id"
    " join policy_versions v on v.district_code = :district_code and v.policy_id = n.policy_id"
    " and v.number = n.policy_number),"
    f" during as (select {begins_at('r')} as begins_at, {is_over_at('r')} as is_over_at"
    " from exam_rounds r where r.district_code = :district_code and r.sequence = :sequence),"
    " agreed as (select distinct c.member_id from consents c"
    " where c.district_code = :district_code and c.purpose = 'thanks' and c.state = 'given'"
    " and c.recorded_at < (select begins_at from during)),"
    " asked_late as (select distinct c.member_id from consents c"
    " where c.district_code = :district_code and c.purpose = 'thanks' and c.state = 'given'"
    " and c.method <> 'app' and c.recorded_at >= (select is_over_at from during)"
    " and (select for_consent from asked)),"
    " thanked as (select distinct member_id from payouts where district_code = :district_code"
    " and round_sequence = :sequence union select member_id from inside"
    " union select member_id from elsewhere),"
    " known as materialized (select s.member_id, s.association_id, l.member_id is not null as late,"
    f" {known_open('(select is_over_at from during)')} as stayed,"
    " m.erased_at is null and m.thanks_withdrawn_on is null"
    " and (c.member_id is not null or not (select for_consent from asked)) as able"
    " from memberships s join members m"
    " on m.district_code = s.district_code and m.id = s.member_id"
    " left join agreed c on c.member_id = s.member_id"
    " left join asked_late l on l.member_id = s.member_id"
    " where s.district_code = :district_code"
    f" and {known_open('(select begins_at from during)')}),"
    " beside as (select case when bool_or(a.late) then 0 else"
    " count(distinct a.member_id) filter (where a.able and o.member_id is null)"
    " - count(distinct a.member_id) filter (where not a.stayed) end as people"
    " from (select distinct rule_id, association_id from held) h"
    " left join known a on a.association_id = h.association_id"
    " left join thanked o on o.member_id = a.member_id group by h.rule_id),"
    " parts as (select count(distinct member_id) as people from held"
    " group by rule_id, quantity, is_new"
    " union all select w.people - t.common from told t, whole w"
    " union all select t.people - t.common from told t"
    " union all select count(*) from inside i"
    " where not exists (select from elsewhere o where o.member_id = i.member_id))"
    " select w.people, least(w.people, min(x.people) filter (where x.people > 0),"
    " min(w.people - x.people) filter (where w.people > x.people),"
    " (select greatest(min(people), 1) from beside)) as fewest"
    " from whole w left join parts x on true group by w.people"
)
_FREEZE = text(
    "insert into draw_entries (district_code, draw_id, number, ticket_count, ticket)"
    " select :district_code, cast(:draw_id as uuid), row_number() over (order by ticket),"
    " cast(:count as int), ticket from draw_tickets where district_code = :district_code"
    " and draw_id = :draw_id"
)
MINE = Listing(
    columns=(
        f"t.ticket, {instant('t.issued_at')}, t.draw_id, d.name as draw_name,"
        " d.status as draw_status, w.rank, p.name as prize, w.status as winner_status,"
        " w.claim_until"
    ),
    source=(
        "draw_tickets t join draws d on d.district_code = t.district_code and d.id = t.draw_id"
        " left join draw_winners w on w.district_code = t.district_code"
        " and w.draw_id = t.draw_id and w.ticket = t.ticket"
        " left join draw_prizes p on p.district_code = t.district_code and p.draw_id = t.draw_id"
        " and w.unit between p.first_unit and p.first_unit + p.quantity - 1"
    ),
    order=(Key("issued_at", "t.issued_at", "timestamptz"), Key("ticket", "t.ticket", "text")),
    descending=True,
    about="",
)


class DrawNotOpen(Problem):
    """The run gives tickets, and no draw of its policy's area and its round takes any."""

    code, status = "draw_not_open", 409


class TicketsIssued(Problem):
    """What was given is a chance in a draw, which cannot come back."""

    code, status = "tickets_issued", 409


async def issue(session: AsyncSession, run: PayoutRun, *, now: datetime) -> None:
    """Put a run's tickets into the open draw of its policy's area and its round.

    Their lines are paid by it. A run that gives none needs no draw. Raises DrawNotOpen.
    """
    await session.execute(_PATIENCE)
    params = _terms(run) | {"now": now}
    if not await session.scalar(_GRANTS_ANY, params):
        return
    draw_id = await session.scalar(_OPEN, params)
    if draw_id is None:
        raise DrawNotOpen
    await session.execute(_ISSUE, params | {"draw_id": draw_id, "salt": new_seed(32)})
    await session.execute(_SETTLE, params)


async def issue_lines(
    session: AsyncSession, run: PayoutRun, *, lines: Sequence[Mapping[str, Any]], now: datetime
) -> None:
    """Put the tickets of lines that waited and are paid now into the draw; raises DrawNotOpen.

    Each has line_no, member_id, rule_id and quantity; of other rewards nothing is done.
    """
    params = _terms(run) | {"now": now}
    rules = set((await session.scalars(_TICKET_RULES, params)).all())
    given = [line for line in lines if line["rule_id"] in rules]
    if not given:
        return
    draw_id = await session.scalar(_OPEN, params)
    if draw_id is None:
        raise DrawNotOpen
    params |= {
        "draw_id": draw_id,
        "salt": new_seed(32),
        "lines": [line["line_no"] for line in given],
        "members": [line["member_id"] for line in given],
        "quantities": [line["quantity"] for line in given],
    }
    await session.execute(_ISSUE_LINES, params)


async def require_none(session: AsyncSession, run: PayoutRun, *, line_no: int) -> None:
    """Raise TicketsIssued when a line of a run was tickets."""
    if await session.scalar(_ISSUED, run.place | {"line_no": line_no}):
        raise TicketsIssued


def _terms(run: PayoutRun) -> dict[str, Any]:
    return run.place | {"policy_id": run.policy_id, "number": run.policy_number}


async def take_over(session: AsyncSession, draw: Draw) -> None:
    """Put the tickets of the cancelled draw that one replaces into it."""
    params = {
        "district_code": draw.district_code,
        "draw_id": draw.id,
        "replaces_id": draw.replaces_id,
    }
    await session.execute(_TAKE_OVER, params)


async def of_draw(session: AsyncSession, draw: Draw) -> Sequence[str]:
    """Give the numbers of all tickets of a draw."""
    await session.execute(_PATIENCE)
    params = {"district_code": draw.district_code, "draw_id": draw.id}
    return (await session.scalars(_OF_DRAW, params)).all()


async def count_people(session: AsyncSession, draw: Draw) -> tuple[int, int]:
    """Count whose the tickets of a draw are, and whose are fewest that can be told apart.

    Who holds many is one. Draws of a round are counted one after the other, each beside those
    that are told already.
    """
    await session.execute(_PATIENCE)
    await session.execute(_WHOLESALE)
    await locks.hold(session, f"draws/{draw.district_code}/{draw.round_sequence}")
    params = {
        "district_code": draw.district_code,
        "draw_id": draw.id,
        "told_id": await _told_before(session, draw),
        "sequence": draw.round_sequence,
    }
    found = (await session.execute(_PEOPLE, params)).one()
    return found.people, found.fewest


async def _told_before(session: AsyncSession, draw: Draw) -> UUID | None:
    """Give the last of the draws that one replaces whose list is, or was, shown to all."""
    former_id = draw.replaces_id
    while former_id is not None:
        former = await session.get_one(Draw, (draw.district_code, former_id))
        fewest = former.people_count if former.fewest_count is None else former.fewest_count
        if (fewest or 0) >= TEN:
            break
        former_id = former.replaces_id
    return former_id


async def freeze(session: AsyncSession, draw: Draw) -> None:
    """List the tickets of a draw that has just closed, without whose they are."""
    params = {
        "district_code": draw.district_code,
        "draw_id": draw.id,
        "count": draw.ticket_count,
    }
    await session.execute(_FREEZE, params)


async def list_mine(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: MyTicketFilters
) -> Slice:
    """Give a page of the calling member's tickets, the newest first, and whether they won."""
    where = Where({"district_code": caller.district_code, "member_id": caller.member_id})
    where.add("t.district_code = :district_code and t.member_id = :member_id")
    where.equal("t.draw_id", "draw_id", filters.draw_id)
    # Places are not hers to read; the statement keeps to her own tickets.
    return await MINE.page(statements.district_wide(), keyring, filters=filters, where=where)
