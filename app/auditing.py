"""The audit verified from the shell: every district, against the heads kept elsewhere if given."""

from datetime import timedelta
from pathlib import Path

from app import clock
from app.database import Database, Statements
from app.identity import SHELL
from app.scopes import Acting, Scope
from app.services.audit import audit_checks, audit_seals


class AuditBroken(Exception):
    """The audit is not what was sealed; the text is the line that says where it breaks."""


_NO_HEADS: audit_checks.Heads = {}


_WORTH_SAYING = timedelta(minutes=1)
_TOO_LONG = timedelta(hours=1)
"""A worker seals every second: for so long there was none, or it cannot seal."""


async def verify(database: Database, heads_file: Path | None) -> list[str]:
    """Give a line for each district that holds; raises AuditBroken with the breaks.

    What no seal covers is said too, and is a break once it waits for more than an hour.
    """
    heads = _NO_HEADS if heads_file is None else _read(heads_file)
    looking = Statements(database.pool, Scope(Acting.QUEUE))
    districts = {
        *heads,
        *await audit_seals.districts_sealed(looking),
        *await audit_seals.districts_to_seal(looking),
    }
    lines: list[str] = []
    breaks: list[str] = []
    for district_code in sorted(districts):
        statements = Statements(database.pool, Scope(Acting.DISTRICT, district_code, SHELL))
        verified = await audit_checks.verify(statements, district_code=district_code, heads=heads)
        breaks += map(str, verified.breaks)
        lines.append(f"{district_code}: {verified.seals} seals, {verified.entries} entries hold")
        count, age = await audit_seals.unsealed(
            statements, district_code=district_code, now=clock.now()
        )
        if age > _WORTH_SAYING:
            tail = f"{district_code}: {count} entries unsealed, the oldest for {_rounded(age)}"
            (breaks if age > _TOO_LONG else lines).append(tail)
    if breaks:
        raise AuditBroken(f"the audit is broken: {'; '.join(breaks)}")
    return lines or ["Nothing is sealed yet."]


def _rounded(age: timedelta) -> str:
    minutes = int(age.total_seconds()) // 60
    return f"{minutes // 60} h {minutes % 60} min"


def _read(file: Path) -> audit_checks.Heads:
    try:
        return audit_checks.read_heads(file)
    except ValueError as error:
        raise AuditBroken(str(error)) from None
