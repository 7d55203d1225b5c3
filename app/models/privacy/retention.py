"""The rules of retention: after which event, and how many days, rows go or columns are cleared."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

RULES = Path(__file__).parents[2] / "data" / "retention.csv"


class Act(StrEnum):
    """What is done when a row's time is over."""

    KEEP = "keep"
    """Nothing: it never is."""
    DELETE = "delete"
    """The row goes."""
    CLEAR = "clear"
    """The row stays without some of its columns."""


@dataclass(frozen=True)
class Rule:
    """What becomes of a table's rows `days` after an event, and why not sooner or later."""

    table: str
    act: Act
    columns: tuple[str, ...]
    event: str
    days: int
    why: str


def read() -> Iterator[Rule]:
    """Read the rules; raises ValueError at an act or a number that is none."""
    with RULES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            yield Rule(
                table=row["table"],
                act=Act(row["act"]),
                columns=tuple(row["columns"].split()),
                event=row["event"],
                days=int(row["days"] or 0),
                why=row["why"],
            )
