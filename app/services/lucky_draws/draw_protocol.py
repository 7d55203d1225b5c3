"""The lucky draw as arithmetic: what is promised beforehand, and what anyone works out from it."""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from uuid import UUID

PROTOCOL = "jixie-draw-v1"
SEED_BYTES = 32
STEPS = (
    "text is UTF-8; hex is lower case; seed is bytes, written in hex; draw_id and tickets are text",
    'commitment = hex(SHA-256("jixie-draw-v1" + draw_id + seed)), published before tickets close',
    "digest = hex(SHA-256(each ticket and a line feed, in the order of their bytes))",
    "the digest is published when tickets have closed and before the beacon is produced",
    "key = HMAC-SHA-256(seed, draw_id + beacon_value + digest)",
    "the ranking is the tickets in the order of HMAC-SHA-256(key, ticket), the lowest first",
    "the first winner_count tickets of the ranking win the prizes in their order",
    "the next reserve_count tickets are reserves: each moves up when a prize is given up",
)
"""What is done, as the verification document says it."""


def commitment(draw_id: UUID, seed: bytes) -> str:
    """Give what is published before tickets close: nobody can change the seed after it."""
    return hashlib.sha256(PROTOCOL.encode() + str(draw_id).encode() + seed).hexdigest()


def digest(tickets: Iterable[str]) -> str:
    """Give what is published once tickets have closed: no ticket comes or goes after it."""
    listed = "".join(f"{ticket}\n" for ticket in sorted(tickets))
    return hashlib.sha256(listed.encode()).hexdigest()


def key(seed: bytes, *, draw_id: UUID, beacon: str, tickets_digest: str) -> bytes:
    """Give the key of the ranking, which nobody knows before the beacon is produced."""
    message = f"{draw_id}{beacon}{tickets_digest}".encode()
    return hmac.digest(seed, message, "sha256")


def ranking(ranking_key: bytes, tickets: Iterable[str]) -> Sequence[str]:
    """Give all tickets, the best first; the order in which they come does not matter."""
    placed = [(hmac.digest(ranking_key, each.encode(), "sha256"), each) for each in tickets]
    return [ticket for _, ticket in sorted(placed)]
