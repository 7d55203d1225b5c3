"""Bases of runs: what was known at an instant of that from which a run is worked out."""

from datetime import date
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described

from app.models.events.service_events import EventKind
from app.models.shapes import Fen, Input, Instant, Output


class BasisQuery(Input):
    """As of when."""

    as_of: Instant | None = Described(
        None,
        description="What was known at this instant; if left out, when the run was calculated.",
    )


class BasisRound(Output):
    """A round that a streak may reach back to."""

    sequence: int
    starts_on: date
    ends_on: date


class BasisAttendances(Output):
    """How many attendances at events of one kind counted, and how many were void."""

    event_kind: EventKind
    counted: int
    voided: int


class BasisExcuses(Output):
    """How many excuses held for these rounds, of members and of whole areas."""

    members: int
    areas: int


class BasisGrants(Output):
    """What the rules grant from all this, apart from what other runs had granted."""

    payout_count: int
    amount_fen: Fen


class BasisRead(Output):
    """What a run is worked out from, as it was known at an instant, in numbers."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": "0195d5c1-6f00-7000-8000-000000000000",
                    "as_of": "2026-04-07T00:00:00.000000Z",
                    "policy_number": 1,
                    "in_force": True,
                    "rounds": [{"sequence": 9, "starts_on": "2026-01-01", "ends_on": "2026-03-31"}],
                    "attendances": [{"event_kind": "health_exam", "counted": 812, "voided": 3}],
                    "excuses": {"members": 14, "areas": 1},
                    "grants": {"payout_count": 812, "amount_fen": 812000},
                }
            ]
        }
    )

    run_id: UUID
    as_of: Instant
    policy_number: int | None = Described(
        description="The version that holds for the round; null while none was known."
    )
    in_force: bool
    rounds: list[BasisRound]
    attendances: list[BasisAttendances] = Described(
        description="At events of the round, of each kind that some rule is about."
    )
    excuses: BasisExcuses
    grants: BasisGrants
