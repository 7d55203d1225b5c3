"""The audit verified from the shell: every district, against the heads kept elsewhere if given."""

from pathlib import Path

from app.database import Database, Statements
from app.scopes import Acting, Scope
from app.services import audit_checks, audit_seals


class AuditBroken(Exception):
    """The audit is not what was sealed; the text is the line that says where it breaks."""


_NO_HEADS: audit_checks.Heads = {}


async def verify(database: Database, heads_file: Path | None) -> list[str]:
    """Give a line for each district that holds; raises AuditBroken with the breaks."""
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
        statements = Statements(database.pool, Scope(Acting.DISTRICT, district_code, "shell"))
        verified = await audit_checks.verify(statements, district_code=district_code, heads=heads)
        breaks += map(str, verified.breaks)
        lines.append(f"{district_code}: {verified.seals} seals, {verified.entries} entries hold")
    if breaks:
        raise AuditBroken(f"the audit is broken: {'; '.join(breaks)}")
    return lines or ["Nothing is sealed yet."]


def _read(file: Path) -> audit_checks.Heads:
    try:
        return audit_checks.read_heads(file)
    except ValueError as error:
        raise AuditBroken(str(error)) from None
