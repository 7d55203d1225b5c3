"""Ids that are another's with a number in it, shown so that the number tells nothing.

Where numbers count what a reader does not see, two of them tell how much of it lies between. So
outside an id has another number in place of its own: a permutation under a key of the deployment,
the same each time, which only the service undoes.
"""

import re
from collections.abc import Iterator
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel

from app.crypto import Keyring

NUMBER_BITS = 40
"""How much of an id is its number; whatever it is a number of has an id that is zero there."""
IN_PATHS = ("payout_id", "voucher_id")
"""What a path's parts are called that are such ids."""
_HALF = NUMBER_BITS // 2
_NUMBER, _LOW = (1 << NUMBER_BITS) - 1, (1 << _HALF) - 1
# A Feistel network: any function makes a permutation of it, and six rounds of a keyed hash one that
# nobody tells from chance. A block cipher would leave no UUID of a known version.
_ROUNDS = range(6)
# Within a text PostgreSQL writes a quotation mark behind a backslash, which is none of these.
_PROPERTY = re.compile(r'(?<=[{,])"([a-z_]+)":"([0-9a-f-]{36})"')

Answer = TypeVar("Answer", bound=BaseModel)


def shown(keyring: Keyring, identity: UUID) -> UUID:
    """Give an id as it is known outside."""
    base, number = _split(identity)
    left, right = number >> _HALF, number & _LOW
    for step in _ROUNDS:
        left, right = right, left ^ _mixed(keyring, base, step, right)
    return UUID(int=base | left << _HALF | right)


def opened(keyring: Keyring, identity: UUID) -> UUID:
    """Give the id that is known outside as this; made up, it is one with a number beyond all."""
    base, number = _split(identity)
    left, right = number >> _HALF, number & _LOW
    for step in reversed(_ROUNDS):
        left, right = right ^ _mixed(keyring, base, step, left), left
    return UUID(int=base | left << _HALF | right)


def shown_in(keyring: Keyring, answer: Answer) -> Answer:
    """Give an answer with the ids that it and what it holds name in `numbered` as known outside."""
    return answer.model_copy(update=dict(_changes(keyring, answer)))


def shown_in_json(keyring: Keyring, item: str, name: str) -> str:
    """Write a property of an object that PostgreSQL wrote as it is known outside."""

    def known(found: re.Match[str]) -> str:
        if found[1] != name:
            return found[0]
        return f'"{name}":"{shown(keyring, UUID(found[2]))}"'

    return _PROPERTY.sub(known, item)


def _split(identity: UUID) -> tuple[int, int]:
    number = identity.int & _NUMBER
    return identity.int - number, number


def _mixed(keyring: Keyring, base: int, step: int, half: int) -> int:
    said = base.to_bytes(16) + bytes((step,)) + half.to_bytes(3)
    return int.from_bytes(keyring.sign(said, purpose="numbered-id")) & _LOW


def _changes(keyring: Keyring, answer: BaseModel) -> Iterator[tuple[str, object]]:
    for name, value in answer:
        if name in getattr(answer, "numbered", ()):
            if value is not None:
                yield name, shown(keyring, value)
        elif isinstance(value, BaseModel):
            yield name, shown_in(keyring, value)
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            yield name, [shown_in(keyring, each) for each in value]
