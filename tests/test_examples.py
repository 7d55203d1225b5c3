"""The checkers in `examples/` agree with what is true, and with nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.examples import FOLDER, checkers, said

_KNOWN = (FOLDER / "draw.json").read_text("utf-8")
Draw = dict[str, Any]


def _given_up(draw: Draw) -> None:
    draw["winners"][0]["status"] = "declined"


def _moved_up(draw: Draw) -> None:
    _given_up(draw)
    first_reserve = draw["winners"][draw["winner_count"]]
    first_reserve |= {"status": "winning", "prize_number": draw["winners"][0]["prize_number"]}


def _swap(draw: Draw) -> None:
    one, two = draw["winners"][:2]
    one["ticket"], two["ticket"] = two["ticket"], one["ticket"]


def _pass_over(draw: Draw) -> None:
    _given_up(draw)
    draw["winners"][-1] |= {"status": "winning", "prize_number": 1}


def _hand_out_twice(draw: Draw) -> None:
    _moved_up(draw)
    draw["winners"][0]["status"] = "handed_out"


_WRONG: dict[str, Callable[[Draw], None]] = {
    "another seed": lambda draw: draw.update(seed="00" * 32),
    "no seed": lambda draw: draw.update(seed=None),
    "another beacon": lambda draw: draw.update(beacon_value="01 02 03 04 05 06"),
    "a ticket more": lambda draw: draw["tickets"].append("f" * 32),
    "a ticket less": lambda draw: draw["tickets"].pop(),
    "a ticket twice": lambda draw: draw["tickets"].append(draw["tickets"][0]),
    "another digest": lambda draw: draw.update(digest="0" * 64),
    "another promise": lambda draw: draw.update(commitment="0" * 64),
    "frozen too late": lambda draw: draw.update(closed_at=draw["drawn_at"]),
    "winners swapped": _swap,
    "a winner left out": lambda draw: draw["winners"].pop(0),
    "a prize for the wrong one": lambda draw: draw["winners"][0].update(prize_number=2),
    "a reserve passed over": _pass_over,
    "a prize twice": _hand_out_twice,
    "more prizes": lambda draw: draw["prizes"][0].update(quantity=3),
    "not drawn": lambda draw: draw.update(status="closed"),
}
_RIGHT: dict[str, Callable[[Draw], None]] = {
    "as it is": lambda _draw: None,
    "in another order": lambda draw: draw["tickets"].reverse(),
    "given up": _given_up,
    "moved up": _moved_up,
}
_COMMANDS = pytest.mark.parametrize("command", checkers(), ids=lambda each: Path(each[1]).name)


@_COMMANDS
@pytest.mark.parametrize("change", _RIGHT.values(), ids=_RIGHT)
def test_a_checker_agrees_with_what_is_true(
    command: list[str], change: Callable[[Draw], None]
) -> None:
    draw = json.loads(_KNOWN)
    change(draw)
    code, words = said(command, draw)
    assert code == 0, words


@_COMMANDS
@pytest.mark.parametrize("change", _WRONG.values(), ids=_WRONG)
def test_a_checker_sees_what_is_not(command: list[str], change: Callable[[Draw], None]) -> None:
    draw = json.loads(_KNOWN)
    change(draw)
    code, words = said(command, draw)
    assert code == 1, words
    assert "FAIL" in words


@_COMMANDS
@pytest.mark.parametrize("written", ["", "{}", "[]", "null", '{"protocol": 1}'])
def test_a_checker_says_what_is_no_document(command: list[str], written: str) -> None:
    code, words = said(command, written)
    assert code == 1
    assert "FAIL" in words


def test_there_is_always_a_checker_and_node_where_it_is_installed() -> None:
    assert len(checkers()) == 1 + (shutil.which("node") is not None)
