"""The first answers to requests with a key: kept for a day, together with whom they tell of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.problems import Problem

FORGOTTEN = 410
"""The status of an answer that is kept no more, as it told of who took a consent back or went."""

FOUND_ANEW = 205
"""The status of what a repeat is answered as things are then: only that it was done is kept."""

_FIND = text(
    "select fingerprint, status, headers, body, persons from idempotency_keys"
    " where district_code = :district_code and subject = :subject and key = :key"
)
_REMEMBER = text(
    "insert into idempotency_keys"
    " (district_code, subject, key, fingerprint, status, headers, body, created_at, persons)"
    " values (:district_code, :subject, :key, :fingerprint, :status, :headers, :body, :now,"
    " cast(:persons as uuid[]))"
)


class AnswerForgotten(Problem):
    """It was done; it told of somebody who withdrew a consent since, moved, left or was erased."""

    code, status = "answer_forgotten", 409


@dataclass(frozen=True)
class Place:
    """Where an answer is kept: whose key it is, and what the key is."""

    district_code: str
    subject: str
    key: str

    @property
    def lock(self) -> str:
        """Name the lock that a request with the key holds until its transaction ends."""
        return f"idempotency/{self.district_code}/{self.subject}/{self.key}"


@dataclass(frozen=True)
class Kept:
    """A first answer, by whom it was asked for, and of whom it told though it may not name them."""

    fingerprint: bytes
    status: int
    headers: str
    body: bytes
    persons: Sequence[UUID | str]

    def emptied(self) -> "Kept":
        """Give what is kept of it where a repeat is answered anew: that it was done."""
        return Kept(self.fingerprint, FOUND_ANEW, headers="", body=b"", persons=())


async def find(session: AsyncSession, place: Place) -> Kept | None:
    """Give the answer that is kept, if one is; what was forgotten has the status FORGOTTEN."""
    row = (await session.execute(_FIND, vars(place))).mappings().one_or_none()
    return None if row is None else Kept(**row)


def is_repeat(session: AsyncSession) -> bool:
    """Tell whether the request under way came before, and is answered anew: it changes nothing."""
    return bool(session.info.get("is_repeat"))


async def remember(session: AsyncSession, place: Place, kept: Kept) -> None:
    """Keep an answer in the transaction that it tells of."""
    params: dict[str, Any] = vars(place) | vars(kept)
    await session.execute(_REMEMBER, params | {"now": clock.now()})
