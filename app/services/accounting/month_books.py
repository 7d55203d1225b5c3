"""What the books check asks of closed months: whether ledger, totals and files still agree."""

from app.models.accounting.month_closes import TOTALS
from app.services.accounting import month_totals
from app.services.finance import transfers

# The ledger is read once, and summed by fund and month before it is laid beside the closes.
_BY_MONTH = (
    "select leg.fund_id, date_trunc('month', t.occurred_on)::date as occurred_on, t.kind,"
    " leg.account, leg.fen > 0 as is_gain, sum(leg.fen) as fen"
    f" from {transfers.LEGS} where t.district_code = :district_code group by 1, 2, 3, 4, 5"
)
_LEDGER = month_totals.ledger("c.month", row="k", leg="k")
_TOTALS = (
    "select m.close_id::text || '/' || m.fund_id as subject,"
    f" concat_ws('/', {', '.join(f'x.{name}' for name in TOTALS)}) as expected,"
    f" concat_ws('/', {', '.join(f'm.{name}' for name in TOTALS)}) as found"
    f" from (select c.id, f.fund_id, {_LEDGER} from month_closes c"
    " join month_fund_totals f on f.district_code = c.district_code and f.close_id = c.id"
    f" left join ({_BY_MONTH}) k on k.fund_id = f.fund_id and k.occurred_on <= c.month"
    " where c.district_code = :district_code and c.status = 'closed' group by c.id, f.fund_id) x"
    " join month_fund_totals m on m.district_code = :district_code and m.close_id = x.id"
    f" and m.fund_id = x.fund_id where ({', '.join(f'x.{name}' for name in TOTALS)})"
    f" is distinct from ({', '.join(f'm.{name}' for name in TOTALS)})"
)
_SAID = "convert_from(c.content, 'UTF8')::jsonb"
_FILES = (
    "select x.id::text as subject, x.expected, x.found from (select c.id,"
    " concat_ws('/', encode(sha256(c.content), 'hex'), p.sha256, (select"
    " sum(m.closing_available_fen + m.closing_reserved_fen) from month_fund_totals m"
    " where m.district_code = c.district_code and m.close_id = c.id)) as expected,"
    f" concat_ws('/', c.sha256, {_SAID} #>> '{{previous,sha256}}',"
    f" {_SAID} #>> '{{control,closing_fen}}') as found"
    " from month_closes c left join month_closes p on p.district_code = c.district_code"
    " and p.area_code = c.area_code and p.month = c.previous_month"
    " where c.district_code = :district_code and c.status = 'closed') x where expected <> found"
)
# The figures stay those of the ledger: of a closed month no payment comes or goes.
_RECEIVED = (
    "select p.association_id, date_trunc('month', t.occurred_on)::date as month,"
    " sum(t.amount_fen) as fen from transfers t"
    " join payout_runs r on r.district_code = t.district_code and r.id = t.run_id"
    " join payouts p on p.district_code = t.district_code and p.round_sequence = r.round_sequence"
    " and p.run_id = t.run_id and p.line_no = t.line_no"
    " where t.district_code = :district_code and t.kind = 'pay' and exists (select"
    " from published_accounts a where a.district_code = :district_code"
    " and a.association_id = p.association_id and a.month = date_trunc('month', t.occurred_on))"
    " and not exists (select from transfers b where b.district_code = t.district_code"
    " and b.run_id = t.run_id and b.line_no = t.line_no and b.kind = 'return'"
    " and date_trunc('month', b.occurred_on) = date_trunc('month', t.occurred_on)) group by 1, 2"
)
_FEN = "cast(a.figures::jsonb #>> '{total,amount_fen}' as bigint)"
_PUBLISHED = (
    "select a.association_id::text || '/' || a.month || '/' || a.number as subject,"
    f" coalesce(x.fen, 0)::text as expected, {_FEN}::text as found from published_accounts a"
    f" left join ({_RECEIVED}) x on x.association_id = a.association_id and x.month = a.month"
    f" where a.district_code = :district_code and coalesce(x.fen, 0) <> {_FEN}"
)
QUESTIONS = {
    "month_totals": _TOTALS,
    "month_files": _FILES,
    "published_accounts": _PUBLISHED,
}
