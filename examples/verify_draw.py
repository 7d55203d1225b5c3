"""Repeat a lucky draw from its verification document: python verify_draw.py FILE.

It needs Python 3.11 or newer and nothing else, shares no code with the service, and exits with 0
when the draw is what it should be.
"""

import hashlib
import hmac
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any


def check(draw: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Give what must hold, and whether it does."""
    yield "protocol", draw["protocol"] == "jixie-draw-v1"
    yield "status is drawn", draw["status"] == "drawn"
    seed = bytes.fromhex(draw["seed"] or "")
    yield "seed has 32 bytes", len(seed) == 32
    promise = hashlib.sha256(b"jixie-draw-v1" + draw["draw_id"].encode() + seed).hexdigest()
    yield "commitment", draw["commitment"] == promise
    tickets = sorted(draw["tickets"], key=str.encode)
    yield "no ticket twice", len(set(tickets)) == len(tickets)
    yield "ticket count", len(tickets) == draw["ticket_count"]
    listed = b"".join(ticket.encode() + b"\n" for ticket in tickets)
    yield "digest", draw["digest"] == hashlib.sha256(listed).hexdigest()
    closes, closed, beacon = (
        datetime.fromisoformat(draw[name]) for name in ("closes_at", "closed_at", "beacon_at")
    )
    yield "closed before the beacon", closes <= closed < beacon
    yield from _check_winners(draw, seed, tickets)


def _check_winners(draw: dict[str, Any], seed: bytes, tickets: list[str]) -> Iterator[Any]:
    message = draw["draw_id"] + draw["beacon_value"] + draw["digest"]
    key = hmac.new(seed, message.encode(), hashlib.sha256).digest()
    tickets = sorted(
        tickets, key=lambda each: (hmac.new(key, each.encode(), hashlib.sha256).digest(), each)
    )
    winners, places = draw["winners"], tickets[: draw["winner_count"] + draw["reserve_count"]]
    yield "places", len(winners) == len(places)
    ranked = [(each["rank"], each["ticket"]) for each in winners]
    yield "ranking", ranked == list(enumerate(places, 1))
    units = [prize["number"] for prize in draw["prizes"] for _ in range(prize["quantity"])]
    first = [each["prize_number"] for each in winners[: len(units)]]
    yield "prizes", len(units) == draw["winner_count"] and first == units[: len(first)]
    # Reserves move up in their order, each for one prize that was given up.
    moved = [each["prize_number"] is not None for each in winners[len(units) :]]
    yield "reserves move up in turn", moved == sorted(moved, reverse=True)
    held = [e["prize_number"] for e in winners if e["status"] in {"winning", "handed_out"}]
    twice = [p for p in draw["prizes"] if held.count(p["number"]) > p["quantity"]]
    yield "no prize twice", not twice
    given_up = [each for each in winners if each["status"] in {"declined", "lapsed"}]
    yield "each moved up for one given up", sum(moved) <= len(given_up)


def main() -> int:
    """Print each point; give 0 when all hold."""
    failed = 0
    try:
        document = json.loads(Path(sys.argv[1]).read_text("utf-8"))
        for name, holds in check(document):
            print("ok  " if holds else "FAIL", name)
            failed += not holds
    except (LookupError, TypeError, ValueError, OSError) as error:
        print("FAIL this is no verification document:", type(error).__name__)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
