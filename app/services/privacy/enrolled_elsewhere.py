"""Who is enrolled where the caller does not see: told so often a day, and each time on record."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.crypto import Keyring
from app.database import Statements, named
from app.identity import Caller
from app.models.privacy.phone_codes import LimitKind
from app.problems import Problem
from app.services.access.guesses import Guesses

_DAY = timedelta(days=1)


class TooManyElsewhere(Problem):
    """No ID number is looked up any more for the caller; `Retry-After` says until when."""

    code, status = "enrolled_elsewhere_limit", 429


@dataclass(frozen=True)
class Allowance:
    """How often a caller may still be told that an ID number is enrolled beyond her reach.

    Whether the number is enrolled decides whether she is told so, and so whoever has been told
    often enough has none looked up: neither answer is given then.
    """

    statements: Statements
    guesses: Guesses
    now: datetime

    async def require(self) -> None:
        """Raise TooManyElsewhere once she was told as often as a day allows."""
        await self.guesses.require_calm(self.statements, now=self.now)

    async def spend(self, times: int = 1) -> None:
        """Count and note what she is about to be told, whatever becomes of its transaction.

        Raises TooManyElsewhere when that is more than the day still allows: nothing is left then.
        """
        # An act of its own, about nobody here: of the one under way it is not known yet that it is
        # refused, and its entry would say that it was done.
        counting = self.statements.district_wide()
        counting.act = replace(
            named(self.statements.act),
            name="tell_enrolled_elsewhere",
            persons=(),
            purpose=f"{times} enrolled elsewhere",
            told=set(),
            is_noted=False,
        )
        taken = await self.guesses.count(counting, now=self.now, times=times, about=())
        if taken > self.guesses.most:
            await self.require()


def allowance(
    statements: Statements, caller: Caller, keyring: Keyring, *, most: int, now: datetime
) -> Allowance:
    """Give what a caller may still be told, of `most` a day; counted beside her transaction."""
    key = keyring.blind_index(caller.subject, column="enrolled_elsewhere")
    guesses = Guesses(
        caller.district_code, LimitKind.ENROLLED, key, most, TooManyElsewhere, window=_DAY
    )
    return Allowance(statements.district_wide(), guesses, now)
