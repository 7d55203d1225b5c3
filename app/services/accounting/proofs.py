"""What proves that a payout reached the member: a function for each channel, as SQL."""

from app.models.disbursement.payout_runs import Channel


def proof_of(channel: Channel) -> str:
    """Write the lateral relation of what a channel knows of a payout `p`: outcome, time, by whom.

    `n` are the payout's entries. It has no row for a payout of which the channel knows nothing.
    """
    return _PROOFS[channel]


def _entered(*, of: str = "true") -> str:
    """Write what a clerk entered from the signed list; who did, the entries that it caused say."""
    return (
        "select p.status as outcome, p.settled_at as proved_at, n.recorded_by as proved_by"
        f" where p.status in ('paid', 'failed', 'returned') and {of}"
    )


def _given() -> str:
    """Write what was handed to her in person, whatever the channel of the run's money."""
    redeemed = (
        "select 'paid', v.redeemed_at, v.redeemed_by from vouchers v"
        " where v.district_code = :district_code and v.run_id = p.run_id and v.line_no = p.line_no"
        " and v.redeemed_at is not null"
    )
    return f"{_entered(of='p.amount_fen = 0')} union all {redeemed}"


def _answered_by_bank() -> str:
    """Write that a file which the bank answered and did not reject holds the payout."""
    return (
        "select p.status, p.settled_at, f.created_by from bank_files f"
        " where f.district_code = :district_code and f.run_id = p.run_id"
        " and f.answered_at is not null and f.rejected_at is null and p.line_no = any(f.lines)"
    )


def _told_by_gateway() -> str:
    """Write what the gateway said of the payment, which it names by its receipt."""
    return (
        "select g.state, p.settled_at, coalesce(g.receipt, g.last_answer) from gateway_payments g"
        " where g.district_code = :district_code and g.run_id = p.run_id and g.line_no = p.line_no"
        " and g.state in ('paid', 'failed')"
    )


_PROOFS = {
    Channel.CASH_LIST: f"({_entered()})",
    Channel.BANK_FILE: f"({_given()} union all {_answered_by_bank()})",
    Channel.GATEWAY: f"({_given()} union all {_told_by_gateway()})",
}
