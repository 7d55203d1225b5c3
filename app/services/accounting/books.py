"""The books check: whether balances, entries, payouts, runs and stock say the same, exactly.

It is the one examiner of these: tests, the nightly errand and `jixie books check` run it. Every
question is one statement over a district; what it gives is what does not agree.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.disbursement.payout_decisions import PENDING as UNDECIDED
from app.models.disbursement.payouts import UNSETTLED
from app.models.finance.funds import BALANCES
from app.services.accounting import month_books
from app.services.disbursement import voucher_books
from app.services.disbursement.payout_holds import HELD_BY_DECISION, HELD_BY_DISPUTE
from app.services.finance import transfers
from app.services.finance.reservations import HELD, share_of
from app.services.goods import stock_books
from app.services.privacy.bank_discards import NEVER_SENT

_SHOWN = 100
# A year of a million members' payouts outlasts a request's usual limit.
_PATIENCE = text("set local statement_timeout = '300s'")
_KEPT = " or ".join(f"f.{name} is distinct from coalesce(c.{name}, 0)" for name in BALANCES)
_FUNDS = (
    "select f.id as subject, concat_ws('/', "
    + ", ".join(f"coalesce(c.{name}, 0)" for name in BALANCES)
    + ") as expected, concat_ws('/', "
    + ", ".join(f"f.{name}" for name in BALANCES)
    + ") as found from funds f left join (select leg.fund_id, "
    + transfers.BALANCES
    + f" from {transfers.LEGS} where t.district_code = :district_code group by leg.fund_id) c"
    f" on c.fund_id = f.id where f.district_code = :district_code and ({_KEPT})"
)
_NET = (
    "select t.run_id, t.line_no, sum(case t.kind when 'pay' then t.amount_fen"
    " when 'return' then -t.amount_fen end) as fen from transfers t"
    " where t.district_code = :district_code and t.line_no is not null group by 1, 2"
)
# A run from before there were funds has no shares, and no entries are asked of it.
_PAYOUTS = (
    "select coalesce(p.run_id, n.run_id)::text || '/' || coalesce(p.line_no, n.line_no) as subject,"
    " case when p.status = 'paid' then p.amount_fen else 0 end::text as expected,"
    " coalesce(n.fen, 0)::text as found"
    " from (select p.* from payouts p join (select distinct run_id from run_shares"
    " where district_code = :district_code) r on r.run_id = p.run_id"
    " where p.district_code = :district_code and p.amount_fen > 0) p"
    f" full join ({_NET}) n on n.run_id = p.run_id and n.line_no = p.line_no"
    " where (case when p.status = 'paid' then p.amount_fen else 0 end)"
    " is distinct from coalesce(n.fen, 0)"
)
_RUNS = (
    "select r.id as subject, concat_ws('/', r.payout_count, r.amount_fen) as expected,"
    " concat_ws('/', count(p.run_id), coalesce(sum(p.amount_fen), 0)) as found"
    " from payout_runs r left join payouts p on p.district_code = r.district_code"
    " and p.round_sequence = r.round_sequence and p.run_id = r.id"
    " where r.district_code = :district_code"
    " and r.status in ('calculated', 'submitted', 'approved', 'disbursing', 'settled', 'closed')"
    " group by r.id, r.payout_count, r.amount_fen"
    " having count(p.run_id) <> r.payout_count or coalesce(sum(p.amount_fen), 0) <> r.amount_fen"
)
_PENDING = (
    f"select s.run_id, s.fund_id, sum({share_of('p.amount_fen', 's')}) as fen from run_shares s"
    " join payout_runs r on r.district_code = s.district_code and r.id = s.run_id"
    " join payouts p on p.district_code = s.district_code and p.round_sequence = r.round_sequence"
    " and p.run_id = s.run_id and p.rule_id = s.rule_id and p.association_id = s.association_id"
    " where s.district_code = :district_code and r.status in ('approved', 'disbursing')"
    " and p.status <> 'paid' and p.status <> 'returned' group by 1, 2"
)
_HELD = (
    f"select t.run_id, t.fund_id, {HELD} as fen from transfers t"
    " where t.district_code = :district_code and t.run_id is not null group by 1, 2"
)
_RESERVED = (
    "select coalesce(h.run_id, p.run_id)::text || '/' || coalesce(h.fund_id, p.fund_id) as subject,"
    " coalesce(p.fen, 0)::text as expected, coalesce(h.fen, 0)::text as found"
    f" from ({_HELD}) h full join ({_PENDING}) p on p.run_id = h.run_id and p.fund_id = h.fund_id"
    " where coalesce(h.fen, 0) <> coalesce(p.fen, 0)"
)
_SHARES = (
    "select run_id::text || '/' || rule_id || '/' || association_id as subject,"
    " '10000' as expected, sum(to_bp - from_bp)::text as found from run_shares"
    " where district_code = :district_code group by run_id, rule_id, association_id"
    " having sum(to_bp - from_bp) <> 10000 or min(from_bp) <> 0 or max(to_bp) <> 10000"
)
# What came back was paid before, and is so still to the gateway.
_GATEWAY = (
    "select coalesce(p.run_id, g.run_id)::text || '/' || coalesce(p.line_no, g.line_no) as subject,"
    " concat_ws('/', coalesce(g.state, 'pending'), g.amount_fen) as expected,"
    " concat_ws('/', coalesce(p.status, 'nothing'), p.amount_fen) as found"
    " from (select p.* from payouts p join payout_runs r on r.district_code = p.district_code"
    " and r.id = p.run_id and r.channel = 'gateway' where p.district_code = :district_code"
    " and p.amount_fen > 0 and not exists (select from vouchers v"
    " where v.district_code = p.district_code and v.run_id = p.run_id"
    " and v.line_no = p.line_no)) p full join (select * from gateway_payments"
    " where district_code = :district_code) g on g.round_sequence = p.round_sequence"
    " and g.member_id = p.member_id and g.rule_id = p.rule_id and g.run_id = p.run_id"
    " and g.line_no = p.line_no where case when g.run_id is null"
    " then p.status in ('sending', 'unknown', 'paid', 'returned') else p.run_id is null"
    " or p.amount_fen <> g.amount_fen"
    " or replace(p.status, 'returned', 'paid') <> g.state end"
)
_TICKETS = (
    "select coalesce(p.run_id, t.run_id)::text || '/' || coalesce(p.line_no, t.line_no) as subject,"
    " coalesce(p.quantity, 0)::text as expected, coalesce(t.number, 0)::text as found"
    " from (select p.run_id, p.line_no, p.quantity from payout_runs r join incentive_rules i"
    " on i.district_code = r.district_code and i.policy_id = r.policy_id"
    " and i.number = r.policy_number and i.reward = 'draw_ticket' join payouts p"
    " on p.district_code = r.district_code and p.round_sequence = r.round_sequence"
    " and p.run_id = r.id and p.rule_id = i.rule_id and p.status = 'paid'"
    " where r.district_code = :district_code) p full join (select run_id, line_no,"
    " count(*) as number from draw_tickets where district_code = :district_code group by 1, 2) t"
    " on t.run_id = p.run_id and t.line_no = p.line_no"
    " where coalesce(p.quantity, 0) <> coalesce(t.number, 0)"
)
_LISTS = (
    "select d.id as subject, concat_ws('/', d.ticket_count, d.digest) as expected,"
    " concat_ws('/', count(e.ticket), encode(sha256(cast(coalesce(string_agg(e.ticket || chr(10),"
    " '' order by e.ticket), '') as bytea)), 'hex')) as found from draws d left join draw_entries e"
    " on e.district_code = d.district_code and e.draw_id = d.id"
    " where d.district_code = :district_code and d.closed_at is not null"
    " group by d.id, d.ticket_count, d.digest having count(e.ticket) <> d.ticket_count"
    " or encode(sha256(cast(coalesce(string_agg(e.ticket || chr(10), '' order by e.ticket), '')"
    " as bytea)), 'hex') <> d.digest"
)
# Places drawn; reserves passed over; prizes given up that no reserve got though there was one.
_PLACES = (
    "select c.subject, c.expected, c.found from (select d.id as subject, concat_ws('/',"
    " least(d.ticket_count, d.winner_count + d.reserve_count), 0, 0) as expected,"
    " concat_ws('/', count(w.rank), count(*) filter (where w.status = 'reserve' and w.rank <"
    " (select max(o.rank) from draw_winners o where o.district_code = d.district_code"
    " and o.draw_id = d.id and o.unit is not null)),"
    " count(*) filter (where w.status in ('declined', 'lapsed') and not exists (select"
    " from draw_winners o where o.district_code = d.district_code and o.draw_id = d.id"
    " and (o.unit = w.unit and o.rank > w.rank)) and exists (select from draw_winners o"
    " where o.district_code = d.district_code and o.draw_id = d.id and o.status = 'reserve')))"
    " as found from draws d left join draw_winners w on w.district_code = d.district_code"
    " and w.draw_id = d.id where d.district_code = :district_code and d.status = 'drawn'"
    " group by d.district_code, d.id) c where c.expected <> c.found"
)
# What is held, and what holds it, name each other.
_WAITING = (
    "select p.run_id::text || '/' || p.line_no as subject, 'an open case' as expected,"
    " 'none' as found from payouts p where p.district_code = :district_code"
    f" and p.status = 'held' and not ({HELD_BY_DISPUTE} or {HELD_BY_DECISION})"
)
_CASES = (
    "select district_code, run_id, line_no, round_sequence, member_id, rule_id, holds, status"
    " from {} where district_code = :district_code"
)
_ALL_CASES = (
    f"({_CASES.format('payout_disputes')} and status = 'open'"
    f" union all {_CASES.format('payout_decisions')}) c"
)
_OF_CASE = (
    "left join payouts p on p.district_code = c.district_code"
    " and p.round_sequence = c.round_sequence and p.member_id = c.member_id"
    " and p.rule_id = c.rule_id and p.run_id = c.run_id"
)
_HELD_CASES = (
    "select c.run_id::text || '/' || c.line_no as subject, 'held' as expected,"
    f" coalesce(p.status, 'none') as found from {_ALL_CASES} {_OF_CASE}"
    " where c.status = 'open' and c.holds and p.status is distinct from 'held'"
)
_DECIDED = (
    "select c.run_id::text || '/' || c.line_no as subject,"
    " case c.status when 'recovered' then 'returned' when 'cancelled' then 'failed or returned'"
    " else 'paid' end as expected, coalesce(p.status, 'none') as found"
    f" from {_ALL_CASES} {_OF_CASE}"
    " where c.status in ('recovering', 'written_off') and p.status is distinct from 'paid'"
    " or c.status = 'recovered' and p.status is distinct from 'returned'"
    " or c.status = 'cancelled' and (p.status in ('failed', 'returned')) is not true"
)
_CLOSED = (
    "select r.id as subject, '0' as expected, count(*)::text as found from payout_runs r"
    " join (select run_id from payout_disputes where district_code = :district_code"
    " and status = 'open' union all select run_id from payout_decisions"
    f" where district_code = :district_code and status in {UNDECIDED}"
    " union all select run_id from payouts where district_code = :district_code"
    f" and status in {UNSETTLED}) o on o.run_id = r.id"
    " where r.district_code = :district_code and r.status = 'closed' group by r.id"
)
_BANK_FILES = (
    "select f.id as subject, concat_ws('/', cardinality(f.lines), f.amount_fen) as expected,"
    " concat_ws('/', count(distinct p.line_no), coalesce(sum(p.amount_fen), 0)) as found"
    " from bank_files f cross join lateral unnest(f.lines) l(line_no)"
    " join payout_runs r on r.district_code = f.district_code and r.id = f.run_id"
    " left join payouts p on p.district_code = f.district_code and p.run_id = f.run_id"
    " and p.round_sequence = r.round_sequence and p.line_no = l.line_no"
    " where f.district_code = :district_code group by f.id, f.lines, f.amount_fen"
    " having count(distinct p.line_no) <> cardinality(f.lines)"
    " or coalesce(sum(p.amount_fen), 0) <> f.amount_fen"
)
# What a bank was given stands in one file that is not over, and nothing else is sending.
_BANK_SENDING = (
    "select p.run_id::text || '/' || p.line_no as subject, '1' as expected,"
    " count(l.line_no)::text as found from payouts p"
    " join payout_runs r on r.district_code = p.district_code and r.id = p.run_id"
    " and r.round_sequence = p.round_sequence and r.channel = 'bank_file'"
    " left join (select f.run_id, unnest(f.lines) as line_no from bank_files f"
    " where f.district_code = :district_code and f.rejected_at is null"
    f" and not {NEVER_SENT}) l"
    " on l.run_id = p.run_id and l.line_no = p.line_no"
    " where p.district_code = :district_code and p.status = 'sending'"
    " group by p.run_id, p.line_no having count(l.line_no) <> 1"
)
QUESTIONS = {
    "fund_balances": _FUNDS,
    "payout_entries": _PAYOUTS,
    "run_totals": _RUNS,
    "run_reservations": _RESERVED,
    "run_shares": _SHARES,
    "gateway_payments": _GATEWAY,
    "draw_tickets": _TICKETS,
    "draw_lists": _LISTS,
    "draw_places": _PLACES,
    "held_payouts": _WAITING,
    "holding_cases": _HELD_CASES,
    "decided_payouts": _DECIDED,
    "closed_runs": _CLOSED,
    "bank_file_totals": _BANK_FILES,
    "bank_file_lines": _BANK_SENDING,
    **voucher_books.QUESTIONS,
    **stock_books.QUESTIONS,
    **month_books.QUESTIONS,
}
"""What is asked, and the statement that gives what does not agree."""


@dataclass(frozen=True)
class Discrepancy:
    """Something of which two records tell different things; amounts in fen or pieces."""

    question: str
    subject: str
    expected: str
    found: str


async def check(session: AsyncSession, *, district_code: str) -> list[Discrepancy]:
    """Give what does not agree in a district's books, at most a hundred of each kind."""
    await session.execute(_PATIENCE)
    params: dict[str, Any] = {"district_code": district_code, "shown": _SHOWN}
    found = []
    for question, sql in QUESTIONS.items():
        rows = await session.execute(text(f"{sql} order by 1 limit :shown"), params)
        found += [
            Discrepancy(question, str(row["subject"]), row["expected"], row["found"])
            for row in rows.mappings()
        ]
    return found
