"""A run of what failed in another: its round, policy, version and area are that one's."""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.identity import Caller
from app.models.disbursement.payout_runs import RunCreate, RunStatus
from app.problems import Invalid, field_error
from app.services.disbursement import payout_runs

_SETTLED = (RunStatus.SETTLED.value, RunStatus.CLOSED.value)


class Asked(NamedTuple):
    """What a run is asked for; only a run of the failed knows its policy's version at once."""

    exam_round_id: UUID
    policy_id: UUID
    area_code: str | None
    policy_number: int | None


async def asked(session: AsyncSession, caller: Caller, *, body: RunCreate) -> Asked:
    """Give what is to be calculated, named or taken over from the run whose failed it is of.

    Raises Invalid at what is missing, or is another than that run's.
    """
    if body.failed_of is not None:
        return await _of(session, caller, body, body.failed_of)
    if body.exam_round_id is None or body.policy_id is None:
        names = ("exam_round_id", "policy_id")
        missing = [name for name in names if getattr(body, name) is None]
        raise Invalid(errors=[field_error(f"/{name}", "missing") for name in missing])
    return Asked(body.exam_round_id, body.policy_id, body.area_code, None)


async def _of(session: AsyncSession, caller: Caller, body: RunCreate, failed_of: UUID) -> Asked:
    found = await session.execute(payout_runs.with_round(caller, run_id=failed_of))
    row = found.one_or_none()
    if row is None:
        raise Invalid.at("/failed_of", "unknown_reference")
    run, exam_round = row
    if run.status not in _SETTLED:
        raise Invalid.at("/failed_of", "run_not_settled")
    taken = Asked(exam_round.id, run.policy_id, run.area_code, run.policy_number)
    for name in ("exam_round_id", "policy_id", "area_code"):
        if getattr(body, name) not in {None, getattr(taken, name)}:
            raise Invalid.at(f"/{name}", "other_than_failed_of")
    return taken
