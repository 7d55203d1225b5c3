"""What proves that a payout reached the member: a function for each channel, as SQL."""

from app.models.payout_runs import Channel


def proof_of(channel: Channel) -> str:
    """Write the lateral relation of what a channel knows of a payout `p`: outcome, time, by whom.

    `n` are the payout's entries. It has no row for a payout of which the channel knows nothing.
    """
    return _PROOFS[channel]


def _entered() -> str:
    """Write what a clerk entered from the signed list; who did, the entries that it caused say."""
    return (
        "(select p.status as outcome, p.settled_at as proved_at, n.recorded_by as proved_by"
        " where p.status in ('paid', 'failed', 'returned'))"
    )


_PROOFS = {
    Channel.CASH_LIST: _entered(),
    Channel.BANK_FILE: _entered(),
    Channel.GATEWAY: _entered(),
}
