"""What the books check asks of vouchers and of the settlements with their stations."""

from app.services.disbursement.voucher_lines import BY_VOUCHER

_EXPECTED = (
    "case p.status when 'paid' then 'redeemed' when 'failed' then 'ended'"
    " when 'returned' then 'ended' else 'issued' end"
)
_FOUND = "case v.status when 'expired' then 'ended' when 'cancelled' then 'ended' else v.status end"
# What had failed before the run was handed out was given no voucher.
_LINES = (
    "select coalesce(p.run_id, v.run_id)::text || '/' || coalesce(p.line_no, v.line_no) as subject,"
    f" coalesce(concat_ws('/', {_EXPECTED}, p.member_id, p.amount_fen), 'none') as expected,"
    f" coalesce(concat_ws('/', {_FOUND}, v.member_id, v.amount_fen), 'none') as found"
    " from (select p.* from payouts p join payout_runs r on r.district_code = p.district_code"
    " and r.id = p.run_id join incentive_rules i on i.district_code = r.district_code"
    " and i.policy_id = r.policy_id and i.number = r.policy_number and i.rule_id = p.rule_id"
    f" where p.district_code = :district_code and {BY_VOUCHER}"
    " and r.status in ('disbursing', 'settled', 'closed')) p"
    " full join (select * from vouchers where district_code = :district_code) v"
    " on v.run_id = p.run_id and v.line_no = p.line_no"
    " where "
)
_UNLIKE = (
    f"({_EXPECTED}, p.member_id, p.rule_id, p.round_sequence, p.amount_fen) is distinct from"
    f" ({_FOUND}, v.member_id, v.rule_id, v.round_sequence, v.amount_fen)"
    " and not (v.run_id is null and p.status in ('failed', 'returned'))"
)
LINES = _LINES + _UNLIKE
"""Whether each voucher line of a run has its voucher and back, redeemed where it is paid."""
SETTLEMENTS = (
    "select s.id as subject, concat_ws('/', coalesce(v.number, 0), coalesce(v.fen, 0)) as expected,"
    " case when s.status = 'rejected' then '0/0'"
    " else concat_ws('/', s.voucher_count, s.amount_fen) end as found"
    " from station_settlements s left join (select settlement_id, count(*) as number,"
    " sum(amount_fen) as fen from vouchers where district_code = :district_code"
    " and settlement_id is not null group by settlement_id) v on v.settlement_id = s.id"
    " where s.district_code = :district_code"
    " and concat_ws('/', coalesce(v.number, 0), coalesce(v.fen, 0)) <>"
    " case when s.status = 'rejected' then '0/0'"
    " else concat_ws('/', s.voucher_count, s.amount_fen) end"
)
"""Whether each settlement is the sum of its vouchers; a rejected one has none."""
QUESTIONS = {"voucher_lines": LINES, "station_settlements": SETTLEMENTS}
