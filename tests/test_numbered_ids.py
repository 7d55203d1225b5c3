"""Ids with a number: known outside by another, which tells nothing of it."""

import json
from itertools import pairwise
from typing import ClassVar
from uuid import UUID

import pytest
from pydantic import BaseModel

from app import numbered_ids
from app.crypto import Keyring

_KEYRING = Keyring(b"k" * 32)
_RUN, _OTHER = (UUID(f"0195d5c1-6f00-7000-8000-0{digit}0000000000") for digit in "ab")


def _line(number: int, base: UUID = _RUN) -> UUID:
    return UUID(int=base.int + number)


class _Payout(BaseModel):
    numbered: ClassVar[tuple[str, ...]] = ("id",)

    id: UUID
    line_no: int


class _Answer(BaseModel):
    ref: UUID
    one: _Payout | None
    all: list[_Payout]


@pytest.mark.parametrize("number", [0, 1, 2, 1_315_927, 2**31 - 1, 2**40 - 1])
def test_what_is_shown_is_opened_again(number: int) -> None:
    shown = numbered_ids.shown(_KEYRING, _line(number))
    assert str(shown)[:26] == str(_RUN)[:26]
    assert numbered_ids.opened(_KEYRING, shown) == _line(number)


def test_no_two_are_shown_alike_and_neighbours_are_far_apart() -> None:
    shown = [numbered_ids.shown(_KEYRING, _line(number)).int for number in range(3000)]
    assert len(set(shown)) == 3000
    gaps = [abs(after - before) for before, after in pairwise(shown)]
    assert min(gaps) > 2**15
    up = sum(after > before for before, after in pairwise(shown))
    assert 1300 < up < 1700, "neither do they keep the order"


def test_it_differs_by_what_is_numbered_and_by_key() -> None:
    def end(keyring: Keyring, base: UUID) -> str:
        return str(numbered_ids.shown(keyring, _line(7, base)))[-10:]

    assert len({end(_KEYRING, _RUN), end(_KEYRING, _OTHER), end(Keyring(b"l" * 32), _RUN)}) == 3


def test_made_up_it_leads_to_no_line() -> None:
    opened = [numbered_ids.opened(_KEYRING, _line(number)) for number in range(1, 500)]
    assert not any(_RUN.int < each.int < _RUN.int + 10**6 for each in opened)


def test_an_answer_is_shown_with_all_that_it_holds() -> None:
    payout = _Payout(id=_line(1), line_no=1)
    answer = _Answer(ref=_line(2), one=payout, all=[payout])
    shown = numbered_ids.shown_in(_KEYRING, answer)
    known = numbered_ids.shown(_KEYRING, _line(1))
    assert (shown.ref, shown.one, shown.all) == (
        _line(2),
        _Payout(id=known, line_no=1),
        [_Payout(id=known, line_no=1)],
    )
    assert answer.all == [payout], "what was given stays as it is"
    assert numbered_ids.shown_in(_KEYRING, _Answer(ref=_line(2), one=None, all=[])).one is None


def test_in_json_the_property_alone_is_shown() -> None:
    plain = {"id": str(_line(1)), "run_id": str(_RUN), "note": f'"id":"{_line(3)}"'}
    item = json.dumps(plain, separators=(",", ":"))
    shown = json.loads(numbered_ids.shown_in_json(_KEYRING, item, "id"))
    assert shown == plain | {"id": str(numbered_ids.shown(_KEYRING, _line(1)))}
    assert numbered_ids.shown_in_json(_KEYRING, '{"id":null}', "id") == '{"id":null}'
