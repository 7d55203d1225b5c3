"""Who calls in the authorisation matrix: each role in each relation to a place of the scene."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app import clock
from app.roles import Role
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, VILLAGE

ELSEWHERE = "440606000000"
_NEXT_VILLAGE = "440605124202"
_FAR_VILLAGE = "440606101201"
_FAR_TOWN = "440606101000"
Ids = dict[str, str]


@dataclass(frozen=True)
class Attempt:
    """Who calls: the column of the table, the relation, and her grant; None for nobody."""

    column: str
    relation: str
    place: str
    role: Role | None = None
    reach: dict[str, Any] = field(default_factory=dict, hash=False)
    district_code: str = DISTRICT
    employer_linked: bool = False

    def __str__(self) -> str:
        """Say who she is, for a message."""
        linked = ", employer-linked" if self.employer_linked else ""
        return f"{self.column}/{self.relation}{linked}"

    @property
    def subject(self) -> str:
        """Give whom her token names: one subject a role, who acts under many grants.

        The employer's side is another, as one linked grant counts for all of a subject's.
        """
        return f"{self.column}-of-the-{'employer' if self.employer_linked else 'matrix'}"


def attempts_on(village: Ids) -> Iterator[Attempt]:
    """Give every caller, by the records of the village that some of them are."""
    yield Attempt("public", "nobody", "village")
    yield Attempt("public", "expired", "village")
    yield Attempt("public", "forged", "village")
    yield Attempt("public", "unsigned", "village")
    yield Attempt("public", "another's audience", "village")
    yield from _members(village)
    yield from _of_records(village)
    for column, role, places in _OFFICES:
        for relation, (place, areas) in places.items():
            yield from _linked(column, relation, place, role, areas=areas)
    yield Attempt("operations", "own", "town", Role.OPERATIONS, {"areas": [SHISHAN]})
    yield Attempt("operations", "none", "town", Role.OPERATIONS)


def _members(village: Ids) -> Iterator[Attempt]:
    self, fellow = UUID(village["member_id"]), UUID(village["member_id fellow"])
    for relation, member_id, district in (
        ("self", self, DISTRICT),
        ("fellow", fellow, DISTRICT),
        ("far", clock.new_id(), ELSEWHERE),
    ):
        reach = {"member_id": member_id}
        yield Attempt("member", relation, "village", Role.MEMBER, reach, district)


def _of_records(village: Ids) -> Iterator[Attempt]:
    """Give those whose reach is events or associations."""
    events = [UUID(value) for name, value in village.items() if name.startswith("event_id")]
    neighbour = UUID(village["event_id neighbour"])
    for relation, chosen in (
        ("own", [event for event in events if event != neighbour]),
        ("sibling", [neighbour]),
        ("far", [clock.new_id()]),
        ("none", []),
    ):
        yield from _linked("staff", relation, "village", Role.EVENT_STAFF, event_ids=chosen)
    for relation, name in (
        ("own", "association_id"),
        ("below", "association_id above"),
        ("above", "association_id below"),
        ("sibling", "association_id idle"),
        ("far", ""),
        ("none", None),
    ):
        own = [] if name is None else [UUID(village[name]) if name else clock.new_id()]
        yield from _linked("secretary", relation, "village", Role.SECRETARY, association_ids=own)


def _linked(column: str, relation: str, place: str, role: Role, **reach: Any) -> Iterator[Attempt]:
    district = ELSEWHERE if relation == "far" else DISTRICT
    for employer_linked in (False, True):
        yield Attempt(column, relation, place, role, reach, district, employer_linked)


_TOWN = {
    "own": ("town", [SHISHAN]),
    "below": ("village", [SHISHAN]),
    "above": ("district", [SHISHAN]),
    "sibling": ("town", [GUICHENG]),
    "far": ("town", [_FAR_TOWN]),
    "none": ("town", []),
}
_AUDITED = _TOWN | {"whole": ("town", [DISTRICT])}
_WITHOUT_LEVELS = {name: _TOWN[name] for name in ("own", "sibling", "far", "none")}
_OFFICES: tuple[tuple[str, Role, dict[str, tuple[str, list[str]]]], ...] = (
    ("guide", Role.GUIDE, _WITHOUT_LEVELS),
    (
        "village",
        Role.TOWN_OFFICER,
        {
            "own": ("village", [VILLAGE]),
            "above": ("town", [VILLAGE]),
            "sibling": ("village", [_NEXT_VILLAGE]),
            "far": ("village", [_FAR_VILLAGE]),
            "none": ("village", []),
        },
    ),
    ("town", Role.TOWN_OFFICER, _TOWN),
    (
        "district",
        Role.DISTRICT_OFFICER,
        {
            "own": ("district", [DISTRICT]),
            "below": ("village", [DISTRICT]),
            "far": ("district", [ELSEWHERE]),
            "none": ("district", []),
        },
    ),
    ("clerk", Role.FINANCE_CLERK, _TOWN),
    ("approver", Role.FINANCE_APPROVER, _TOWN),
    ("auditor", Role.AUDITOR, _AUDITED),
    ("platform", Role.DATA_PLATFORM, _WITHOUT_LEVELS),
)
