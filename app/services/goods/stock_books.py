"""What the books check asks of gifts: counts, movements, payouts, reservations, by the piece."""

from app.models.goods.stock_movements import COUNTS
from app.services.goods.gift_reservations import HELD

_LEGS = (
    "stock_movements t cross join lateral (values (t.depot_id, t.debit, t.quantity),"
    " (t.credit_depot_id, t.credit, -t.quantity)) leg(depot_id, account, pieces)"
)
_SUMS = {
    "received": "sum(leg.pieces) filter (where t.kind = 'receive' and leg.account = 'available')",
    "transferred_in": "sum(leg.pieces) filter (where t.kind = 'transfer' and leg.pieces > 0)",
    "transferred_out": "-sum(leg.pieces) filter (where t.kind = 'transfer' and leg.pieces < 0)",
    "written_off": "sum(leg.pieces) filter (where t.kind = 'write_off'"
    " and leg.account = 'outside')",
    "adjusted": "-sum(leg.pieces) filter (where t.kind = 'adjust' and leg.account = 'outside')",
    "available": "sum(leg.pieces) filter (where leg.account = 'available')",
    "reserved": "sum(leg.pieces) filter (where leg.account = 'reserved')",
    "handed_out": "sum(leg.pieces) filter (where leg.account = 'handed_out')",
}
_STOCK = (
    "select k.depot_id::text || '/' || k.gift_id as subject, concat_ws('/', "
    + ", ".join(f"coalesce(c.{name}, 0)" for name in COUNTS)
    + ") as expected, concat_ws('/', "
    + ", ".join(f"k.{name}" for name in COUNTS)
    + ") as found from stock k left join (select leg.depot_id, t.gift_id, "
    + ", ".join(f"{total} as {name}" for name, total in _SUMS.items())
    + f" from {_LEGS} where t.district_code = :district_code group by 1, 2) c"
    " on c.depot_id = k.depot_id and c.gift_id = k.gift_id"
    " where k.district_code = :district_code and ("
    + " or ".join(f"k.{name} is distinct from coalesce(c.{name}, 0)" for name in COUNTS)
    + ")"
)
_NET = (
    "select t.run_id, t.line_no, sum(case t.kind when 'hand_out' then t.quantity"
    " when 'return' then -t.quantity end) as pieces from stock_movements t"
    " where t.district_code = :district_code and t.line_no is not null group by 1, 2"
)
# A run from before there was stock has fixed no depots, and no movements are asked of it.
_FIXED = (
    "payouts p join payout_runs r on r.district_code = p.district_code and r.id = p.run_id"
    " join run_gifts x on x.district_code = p.district_code and x.run_id = p.run_id"
    " and x.rule_id = p.rule_id and x.association_id = p.association_id"
    " where p.district_code = :district_code and r.district_code = :district_code"
)
_PAYOUTS = (
    "select coalesce(p.run_id, n.run_id)::text || '/' || coalesce(p.line_no, n.line_no) as subject,"
    " case when p.status = 'paid' then p.quantity else 0 end::text as expected,"
    " coalesce(n.pieces, 0)::text as found"
    " from (select p.* from payouts p join (select distinct run_id, rule_id from run_gifts"
    " where district_code = :district_code) x on x.run_id = p.run_id and x.rule_id = p.rule_id"
    " where p.district_code = :district_code and p.quantity > 0) p"
    f" full join ({_NET}) n on n.run_id = p.run_id and n.line_no = p.line_no"
    " where (case when p.status = 'paid' then p.quantity else 0 end)"
    " is distinct from coalesce(n.pieces, 0)"
)
_PENDING = (
    f"select p.run_id, x.depot_id, x.gift_id, sum(p.quantity) as pieces from {_FIXED}"
    " and r.status in ('approved', 'disbursing')"
    " and p.status <> 'paid' and p.status <> 'returned' group by 1, 2, 3"
)
_HELD = (
    f"select t.run_id, t.depot_id, t.gift_id, {HELD} as pieces from stock_movements t"
    " where t.district_code = :district_code and t.run_id is not null group by 1, 2, 3"
)
_RESERVED = (
    "select concat_ws('/', coalesce(h.run_id, p.run_id), coalesce(h.depot_id, p.depot_id),"
    " coalesce(h.gift_id, p.gift_id)) as subject, coalesce(p.pieces, 0)::text as expected,"
    f" coalesce(h.pieces, 0)::text as found from ({_HELD}) h full join ({_PENDING}) p"
    " on p.run_id = h.run_id and p.depot_id = h.depot_id and p.gift_id = h.gift_id"
    " where coalesce(h.pieces, 0) <> coalesce(p.pieces, 0)"
)
# Of a run that fixed its depots, each gift has one.
_DEPOTS = (
    "select p.run_id::text || '/' || p.line_no as subject, '1' as expected, '0' as found"
    " from payouts p join payout_runs r on r.district_code = p.district_code and r.id = p.run_id"
    " join incentive_rules i on i.district_code = r.district_code and i.policy_id = r.policy_id"
    " and i.number = r.policy_number and i.rule_id = p.rule_id and i.gift_code is not null"
    " left join run_gifts x on x.district_code = p.district_code and x.run_id = p.run_id"
    " and x.rule_id = p.rule_id and x.association_id = p.association_id"
    " where p.district_code = :district_code and r.district_code = :district_code"
    " and p.run_id in (select run_id from run_gifts where district_code = :district_code)"
    " and x.run_id is null"
)
_TAKES = (
    "select c.stock_take_id::text || '/' || c.gift_id as subject,"
    " (c.quantity - c.book_quantity)::text as expected,"
    " coalesce(case t.debit when 'available' then t.quantity else -t.quantity end, 0)::text"
    " as found from stock_counts c left join stock_movements t"
    " on t.district_code = c.district_code and t.stock_take_id = c.stock_take_id"
    " and t.gift_id = c.gift_id where c.district_code = :district_code"
    " and c.book_quantity is not null and c.quantity - c.book_quantity"
    " <> coalesce(case t.debit when 'available' then t.quantity else -t.quantity end, 0)"
)
QUESTIONS = {
    "stock_counts": _STOCK,
    "gift_movements": _PAYOUTS,
    "gift_reservations": _RESERVED,
    "gift_depots": _DEPOTS,
    "stock_take_adjustments": _TAKES,
}
"""What is asked, and the statement that gives what does not agree."""
