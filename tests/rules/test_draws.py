"""The draw's arithmetic: fair, blind to order, and by the beacon out of an insider's reach."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.lucky_draws import draw_protocol
from tests.factories.lucky_draws.draws import make_tickets

_DRAW = UUID("0195d5c1-6f00-7000-8000-00000000000d")
_TRIES = 500
_TICKETS = make_tickets(99)


def _seed(number: int) -> bytes:
    return hashlib.sha256(b"seed %d" % number).digest()


def _ranking(seed: bytes, beacon: str, tickets: list[str]) -> list[str]:
    key = draw_protocol.key(
        seed,
        draw_id=_DRAW,
        beacon=beacon,
        tickets_digest=draw_protocol.digest(tickets),
    )
    return list(draw_protocol.ranking(key, tickets))


def test_each_ticket_wins_as_often_as_chance_has_it() -> None:
    """χ² of 3 winners among 50 tickets: 49 degrees of freedom, 99.9 % lie below 85.4."""
    tickets, wins, draws = make_tickets(50), Counter[str](), 4_000
    listed = draw_protocol.digest(tickets)
    for number in range(draws):
        key = draw_protocol.key(
            _seed(number), draw_id=_DRAW, beacon=f"{number}", tickets_digest=listed
        )
        wins.update(draw_protocol.ranking(key, tickets)[:3])
    expected = draws * 3 / len(tickets)
    chi_squared = sum((wins[ticket] - expected) ** 2 / expected for ticket in tickets)
    # Three are drawn without being put back, which leaves a little less to chance.
    chi_squared *= (len(tickets) - 1) / (len(tickets) - 3)
    assert 20 < chi_squared < 85.4


def _best_of(seed: bytes, beacon: str) -> str | None:
    """Give the ticket that an insider who knows the seed adds: one by which she would win."""
    for number in range(_TRIES):
        candidate = f"{10**9 + number:032x}"
        if _ranking(seed, beacon, [*_TICKETS, candidate])[0] == candidate:
            return candidate
    return None


def _insider_wins(seed: bytes, *, foreseen: str, beacon: str) -> bool:
    candidate = _best_of(seed, foreseen)
    added = candidate or f"{10**9:032x}"
    return _ranking(seed, beacon, [*_TICKETS, added])[0] == added


def test_an_insider_without_a_beacon_nearly_always_wins() -> None:
    won = sum(_insider_wins(_seed(n), foreseen="", beacon="") for n in range(20))
    assert won >= 18


def test_a_beacon_leaves_an_insider_no_more_than_her_chance() -> None:
    won = sum(
        _insider_wins(_seed(n), foreseen="guessed", beacon=f"produced {n}") for n in range(60)
    )
    assert won <= 4, "of 60 draws of 100 tickets chance gives 0.6, and 4 or fewer in 99.96 %"


@given(st.permutations(_TICKETS), st.binary(min_size=32, max_size=32), st.text())
def test_the_order_of_tickets_does_not_matter(
    shuffled: list[str], seed: bytes, beacon: str
) -> None:
    beacon = beacon.encode("utf-8", "ignore").decode()
    assert _ranking(seed, beacon, shuffled) == _ranking(seed, beacon, _TICKETS)
    assert sorted(_ranking(seed, beacon, shuffled)) == _TICKETS


@pytest.mark.parametrize("change", ["seed", "beacon", "tickets"])
def test_everything_that_is_published_decides(change: str) -> None:
    base = {"seed": _seed(1), "beacon": "x", "tickets": _TICKETS}
    other = {"seed": _seed(2), "beacon": "y", "tickets": make_tickets(100)}
    before = _ranking(**base)  # type: ignore[arg-type]  # by name
    after = _ranking(**(base | {change: other[change]}))  # type: ignore[arg-type]  # by name
    assert [each for each in after if each in before] != before


def test_known_vectors() -> None:
    """As `examples/draw.json` has them, which both checkers repeat."""
    known = json.loads(Path("examples/draw.json").read_text("utf-8"))
    seed, listed = bytes.fromhex(known["seed"]), draw_protocol.digest(known["tickets"])
    assert known["steps"] == list(draw_protocol.STEPS)
    assert draw_protocol.commitment(_DRAW, seed) == (
        "970b40b8716e54bc4268863b9adeef8124f7484d35a28f1931be59f7d4cfcbe1"
    )
    assert listed == "635e72a42c7a7c74830ca9ba9bd23f08d52d8cf20ee3811d111599b4bc794d2a"
    key = draw_protocol.key(
        seed, draw_id=_DRAW, beacon=known["beacon_value"], tickets_digest=listed
    )
    assert key.hex() == "457212b826db05fa46d5cf14fda9161f6c2b5c6b87cf72478038064e4aec0bad"
    assert draw_protocol.ranking(key, known["tickets"])[0] == "91aca52b253769ea476fa79578bfd85c"
