"""Published accounts cannot be solved for a few people, with prices public and by brute force."""

from collections import defaultdict
from functools import cache
from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.models.accounting.accounts import Figures, Received, ReceivedFrom, ReceivedOfKind
from app.models.events.service_events import TEN, EventKind
from app.models.finance.funds import FundSource
from app.services.accounting.told_accounts import fewest_of, is_near, repeated, told_of

_MOST = 14
_PRICES = ((1000, 500), (1000, 6000), (50_000, 300))
"""What one person receives for each of two kinds; everybody can read it in the policy."""


class World(NamedTuple):
    """How many received for the first kind only, for the second only, and for both."""

    first: int
    second: int
    both: int

    @property
    def total(self) -> int:
        return sum(self)

    @property
    def of_kinds(self) -> tuple[int, int]:
        return self.first + self.both, self.second + self.both


def _figures(world: World, prices: tuple[int, int]) -> Figures:
    kinds = zip((EventKind.HEALTH_EXAM, EventKind.LECTURE), world.of_kinds, prices, strict=True)
    cells = [(kind, people, people * price) for kind, people, price in kinds if people]
    amount_fen = sum(fen for *_, fen in cells)
    return Figures(
        event_count=2,
        total=Received(people=world.total, amount_fen=amount_fen),
        by_kind=[ReceivedOfKind(event_kind=k, people=n, amount_fen=fen) for k, n, fen in cells],
        by_source=[
            ReceivedFrom(source=FundSource.TOWN, people=world.total, amount_fen=amount_fen)
            for _ in cells[:1]
        ],
    )


def _amounts(world: World, prices: tuple[int, int]) -> dict[str, int]:
    """Give what whole tens received, by the names of the cells."""
    names = (f"kind {EventKind.HEALTH_EXAM}", f"kind {EventKind.LECTURE}")
    tens = [people // 10 * 10 * price for people, price in zip(world.of_kinds, prices, strict=True)]
    whole = {"total": sum(tens), f"source {FundSource.TOWN}": sum(tens)}
    return whole | dict(zip(names, tens, strict=True))


def _told(world: World, prices: tuple[int, int]) -> str:
    fewest = fewest_of(world.total, [*world.of_kinds, world.total])
    figures, amounts = _figures(world, prices), _amounts(world, prices)
    return told_of(figures, amounts, fewest=fewest, beside=TEN).model_dump_json()


@cache
def _solutions(prices: tuple[int, int]) -> dict[str, list[World]]:
    """Give every world that each told edition may be of."""
    found: dict[str, list[World]] = defaultdict(list)
    for numbers in product(range(_MOST + 1), repeat=3):
        found[_told(World(*numbers), prices)].append(World(*numbers))
    return found


_WORLDS = st.builds(World, *[st.integers(0, _MOST)] * 3)


@settings(deadline=None)
@given(world=_WORLDS, prices=st.sampled_from(_PRICES))
def test_a_group_of_fewer_than_ten_has_many_sizes_that_fit(
    world: World, prices: tuple[int, int]
) -> None:
    """The least and the most that fit what is told lie eight or more apart.

    That is so of each kind's people, and of those who received for the other kind alone, where
    they are one to nine.
    """
    fitting = _solutions(prices)[_told(world, prices)]
    for at, people in enumerate(world.of_kinds):
        if 0 < people < TEN:
            sizes = {other.of_kinds[at] for other in fitting}
            assert max(sizes) - min(sizes) >= 8, sorted(sizes)
        if people and 0 < world.total - people < TEN:
            sizes = {other.total - other.of_kinds[at] for other in fitting}
            assert max(sizes) - min(sizes) >= 8, sorted(sizes)


@settings(deadline=None)
@given(world=_WORLDS, prices=st.sampled_from(_PRICES))
def test_with_a_small_group_no_amount_and_no_part_is_told(
    world: World, prices: tuple[int, int]
) -> None:
    told = Figures.model_validate_json(_told(world, prices))
    parts = [size for people in world.of_kinds for size in (people, world.total - people)]
    if any(0 < size < TEN for size in (*parts, world.total)):
        cells = [*told.by_kind, *told.by_source]
        assert {cell.people for cell in cells} <= {None}
        assert {cell.amount_fen for cell in (*cells, told.total)} == {None}


@pytest.mark.parametrize("world", [World(1, 0, 0), World(0, 3, 0), World(2, 3, 4)])
def test_of_nobody_no_more_is_told_than_of_a_few(world: World) -> None:
    """For what they received says that somebody was at such an event."""
    assert _told(world, _PRICES[0]) == _told(World(0, 0, 0), _PRICES[0])


def test_what_was_told_before_by_kind_is_not_told_again_where_it_was_withheld() -> None:
    nothing = Received(people=None, amount_fen=None)
    of_exam = ReceivedOfKind(event_kind=EventKind.HEALTH_EXAM, people=None, amount_fen=None)
    told = Figures(event_count=1, total=nothing, by_kind=[of_exam], by_source=[])
    assert repeated(told).by_kind == []
    world, prices = World(30, 0, 0), (1000, 1)
    full = told_of(_figures(world, prices), _amounts(world, prices), fewest=30, beside=10)
    assert repeated(full) == full


def test_two_small_kinds_do_not_follow_from_the_third_and_the_total() -> None:
    """Of 26 people, 12 came to a lecture for 60 yuan in all: 1000a + 300b = 6300 is not told."""
    figures = Figures(
        event_count=3,
        total=Received(people=26, amount_fen=12_300),
        by_kind=[
            ReceivedOfKind(event_kind=EventKind.LECTURE, people=12, amount_fen=6000),
            ReceivedOfKind(event_kind=EventKind.HEALTH_EXAM, people=3, amount_fen=3000),
            ReceivedOfKind(event_kind=EventKind.FILM_SCREENING, people=11, amount_fen=3300),
        ],
        by_source=[ReceivedFrom(source=FundSource.TOWN, people=26, amount_fen=12_300)],
    )
    told = told_of(figures, {}, fewest=fewest_of(26, [12, 3, 11, 26]), beside=10)
    assert told.total == Received(people=20, amount_fen=None)
    assert told.by_kind == []


def test_a_few_with_a_dearer_rule_keep_the_amount_of_all() -> None:
    """Of 30 people two received 500 yuan more by a rule of their own: 30 and 2, not 30 and 0."""
    world, prices = World(30, 0, 0), (1000, 1)
    figures, amounts = _figures(world, prices), _amounts(world, prices)
    for parts, fen in (([30, 30], 30_000), ([30, 30, 2], None)):
        told = told_of(figures, amounts, fewest=fewest_of(30, parts), beside=10)
        assert told.total.amount_fen == fen


@pytest.mark.parametrize("beside", [0, 1, 9])
def test_of_almost_all_members_nothing_is_told(beside: int) -> None:
    """Ten of ten would say of each of them that she came."""
    world, prices = World(10, 0, 0), (1000, 1)
    figures, amounts = _figures(world, prices), _amounts(world, prices)
    told = told_of(figures, amounts, fewest=10, beside=beside)
    assert told.total == Received(people=None, amount_fen=None)
    assert [*told.by_kind, *told.by_source] == []
    assert repeated(told) == told


@given(people=st.integers(10, 60), price=st.sampled_from([500, 1000, 3000, 10_000, 50_000]))
def test_an_amount_tells_no_more_exactly_of_how_many_it_is_than_people_do(
    people: int, price: int
) -> None:
    """At a hundred yuan each, 1100 yuan would be of eleven."""
    prices = (price, 1)
    assert _told(World(people, 0, 0), prices) == _told(World(people // 10 * 10, 0, 0), prices)


@given(one=_WORLDS, other=_WORLDS, prices=st.sampled_from(_PRICES))
def test_editions_that_may_be_subtracted_differ_by_ten_in_each_figure(
    one: World, other: World, prices: tuple[int, int]
) -> None:
    former, later = _figures(one, prices), _figures(other, prices)
    if not is_near(former, later):
        pairs = zip((*one.of_kinds, one.total), (*other.of_kinds, other.total), strict=True)
        assert all(a == b or abs(a - b) >= TEN for a, b in pairs)
