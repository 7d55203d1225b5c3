"""Guesses counted: how often somebody tried what was wrong, and until when she tries no more."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.acts import About
from app.database import Statements
from app.models.privacy.phone_codes import LimitKind
from app.models.shapes import rfc3339
from app.problems import Problem

_STANDING = (
    "select window_started_at, taken from code_limits"
    " where district_code = :district_code and kind = :kind and key = :key"
)
_WRONG = (
    "insert into code_limits as l (district_code, kind, key, window_started_at, last_at, taken)"
    " values (:district_code, :kind, :key, :now, :now, :times)"
    " on conflict (district_code, kind, key) do update set last_at = excluded.last_at,"
    " window_started_at = case when l.window_started_at <= :window_from"
    " then excluded.window_started_at else l.window_started_at end,"
    " taken = excluded.taken"
    " + case when l.window_started_at <= :window_from then 0 else l.taken end"
    " returning taken"
)


@dataclass(frozen=True)
class Guesses:
    """Whose wrong tries are counted, how many there may be in a window, and what she is told."""

    district_code: str
    kind: LimitKind
    key: bytes
    most: int
    refusal: type[Problem]
    window: timedelta = timedelta(hours=1)

    async def require_calm(self, statements: Statements, *, now: datetime) -> None:
        """Raise the refusal, with `Retry-After`, while there were too many wrong tries."""
        standing = await statements.fetch_row(_STANDING, self._row)
        if standing is None or standing["taken"] < self.most:
            return
        wait: timedelta = standing["window_started_at"] + self.window - now
        if wait > timedelta(0):
            raise self.refusal(headers=retry_after(wait), until=rfc3339(now + wait))

    async def count(
        self, statements: Statements, *, now: datetime, times: int = 1, about: About = None
    ) -> int:
        """Count wrong tries in a transaction of its own, so that their refusal leaves them counted.

        Gives how many there are by now, of all who count at once.
        """
        facts = {"now": now, "window_from": now - self.window, "times": times}
        return int(await statements.fetch_value(_WRONG, self._row | facts, about=about))

    @property
    def _row(self) -> dict[str, Any]:
        return {"district_code": self.district_code, "kind": self.kind.value, "key": self.key}


def retry_after(wait: timedelta) -> dict[str, str]:
    """Give the header that says in how many seconds to come again."""
    return {"Retry-After": str(max(1, int(wait.total_seconds()) + 1))}
