"""The register of columns: what each is for, whom it tells of, and until when it is kept."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

REGISTER = Path(__file__).parent.parent / "data" / "columns.csv"


class Sensitivity(StrEnum):
    """Whom a column tells of, and how much harm is done when it gets out."""

    NONE = "none"
    """Order and workings: tells of nobody."""
    ORGANISATIONAL = "organisational"
    """Of an organisation, an event, a rule or a total."""
    PERSONAL = "personal"
    """Of a member, an officer or a caller; walls and reach say who sees it."""
    WRITTEN = "written"
    """What somebody wrote of a member in a free text: her erasure empties it."""
    SENSITIVE = "sensitive"
    """Of whom the law asks a consent of its own: held sealed or hashed, never plain."""
    SECRET = "secret"  # noqa: S105  (the name of a class of columns)
    """A key: no answer, copy or log ever holds it."""


class Retention(StrEnum):
    """What ends the keeping of a value."""

    LASTING = "lasting"
    """Nothing: it is the memory of an office."""
    ACCOUNTS = "accounts"
    """Nothing, so that totals hold; of who was erased it tells under an id without a name."""
    ERASURE = "erasure"
    """The erasure of the member whom it names."""
    CONSENT = "consent"
    """The end of her consent, or her erasure."""
    REPLACED = "replaced"
    """The next value."""
    LIMITED = "limited"
    """The days that `app/data/retention.csv` gives its row or column after an event."""


@dataclass(frozen=True)
class Entry:
    """What is said of one column."""

    table: str
    column: str
    purpose: str
    sensitivity: Sensitivity
    retention: Retention


def read() -> Iterator[Entry]:
    """Read the register; raises ValueError at a class or a retention that there is not."""
    with REGISTER.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            yield Entry(
                table=row["table"],
                column=row["column"],
                purpose=row["purpose"],
                sensitivity=Sensitivity(row["class"]),
                retention=Retention(row["retention"]),
            )
