"""The act that a posting records, in the ledger of money and in that of pieces."""

from datetime import datetime
from typing import Any

from app import clock


def act(subject: str, now: datetime) -> dict[str, Any]:
    """Give one posting's id, when it is made and by whom, as its entries name them."""
    return {
        "posting_id": clock.new_id(),
        "today": clock.civil_date(now),
        "now": now,
        "subject": subject,
    }
