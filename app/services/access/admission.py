"""Admission: from what a token says to what was granted, fresh enough to be taken back."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from app import clock
from app.database import Database, Statements
from app.identity import Caller
from app.problems import Problem, Unauthenticated
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.organisation import associations
from app.tokens import AccessToken

FRESH_SECONDS = 4
"""How long what was granted is remembered: revoking works within 5 seconds."""
_REMEMBERED = 4096
_Asked = tuple[str, UUID | None, str | None]
_Known = tuple[float, Caller, datetime | None]
_MOST_GRANTS = 100
# Whom she works for is a fact about her, not about one of her offices; her own record is hers.
LINKED = (
    "(employer_linked or role <> 'member'"
    " and bool_or(employer_linked) over (partition by district_code))"
)
"""Whether a grant is the employer's side, among all that are in force of its subject."""
_IN_FORCE = (
    "select id, district_code, role, areas, association_ids, event_ids, member_id,"
    f" {LINKED} as employer_linked, ends_at, tokens_from from grants"
    " where subject = :subject and revoked_at is null and starts_at <= :now"
    " and (ends_at is null or ends_at > :now) order by id"
    f" limit {_MOST_GRANTS}"
)


class GrantMissing(Problem):
    """Nothing is granted to the caller, or not what `Jixie-Grant` names."""

    code, status = "grant_missing", 403


class GrantAmbiguous(Problem):
    """Several grants are in force; `grants` lists the ids of which `Jixie-Grant` names one."""

    code, status = "grant_ambiguous", 403


class Admission:
    """Turns verified tokens into callers, by the grants that are in force."""

    def __init__(
        self, database: Database, *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """Read grants from a database; `seconds` is the clock by which they grow stale."""
        self._database = database
        self._seconds = seconds
        self._known: OrderedDict[_Asked, _Known] = OrderedDict()

    async def admit(self, token: AccessToken, chosen: str | None) -> Caller:
        """Give the caller under her grant, the `chosen` one if she has several.

        Raises GrantMissing and GrantAmbiguous, and Unauthenticated when she has signed out.
        """
        key = token.subject, token.member_id, chosen
        known = self._known.get(key)
        if known is None or known[0] <= self._seconds():
            known = self._known[key] = await self._read(token, chosen)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if not _is_after(token, known[2]):
            raise Unauthenticated("signed_out")
        return replace(known[1], token=token)

    async def _read(self, token: AccessToken, chosen: str | None) -> _Known:
        asked_at, now = self._seconds(), clock.now()
        statements = Statements(self._database.pool, Scope(Acting.QUEUE, subject=token.subject))
        rows = await statements.fetch(_IN_FORCE, {"subject": token.subject, "now": now})
        found = [row for row in rows if _is_meant(row, token, chosen)]
        if not found:
            raise GrantMissing
        if len(found) > 1:
            raise GrantAmbiguous(extra={"grants": [str(row["id"]) for row in found]})
        grant = dict(found[0])
        lasts = _remaining(grant.pop("ends_at"), now)
        tokens_from = grant.pop("tokens_from")
        caller = await associations.within_reach(self._database, _caller(token.subject, grant))
        return asked_at + lasts, caller, tokens_from


def _is_meant(row: Mapping[str, Any], token: AccessToken, chosen: str | None) -> bool:
    """Whoever logged in by phone is a member and nobody else, whatever her subject was granted."""
    if chosen is not None and str(row["id"]) != chosen.strip().lower():
        return False
    is_herself = row["role"] == Role.MEMBER and row["member_id"] == token.member_id
    return token.member_id is None or is_herself


def _is_after(token: AccessToken, tokens_from: datetime | None) -> bool:
    """Tell whether a token was signed after its holder last signed out."""
    if tokens_from is None:
        return True
    return token.issued_at is not None and token.issued_at > tokens_from.timestamp()


def _remaining(ends_at: datetime | None, now: datetime) -> float:
    return FRESH_SECONDS if ends_at is None else min(FRESH_SECONDS, (ends_at - now).total_seconds())


def _caller(subject: str, grant: dict[str, object]) -> Caller:
    facts = {
        name: tuple(value) if isinstance(value, list) else value for name, value in grant.items()
    }
    return Caller(subject, grant_id=facts.pop("id"), role=Role(facts.pop("role")), **facts)  # type: ignore[arg-type]  # the columns are the fields
