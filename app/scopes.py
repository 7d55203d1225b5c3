"""Who acts in a transaction and how far it sees: a database role and a scope, as literals."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

from app.identifiers import AREA_CODE, area_prefix, area_range

_MAX_SUBJECT = 255
_NOTHING = ("x", "")
"""A range of areas in which no code lies."""


LOGIN = "jixie_service"
"""The role that the service logs in as: it owns nothing, and enters another for each act."""


class Acting(StrEnum):
    """The database roles in which statements run; the login itself has no right to any table."""

    STAFF = "jixie_staff"
    """An office: rows of its areas, associations and events, and of members shown to it."""
    MEMBER = "jixie_member"
    """A member: what is public to members, and her own rows."""
    PLATFORM = "jixie_platform"
    """A data platform: organisations and events, no person."""
    DISTRICT = "jixie_district"
    """A rule that is the district's as a whole: streaks, runs, seats, uniqueness, imports."""
    QUEUE = "jixie_queue"
    """Work and callers' grants are looked for in every district: at these, and nothing else."""


@dataclass(frozen=True)
class Scope:
    """How far one transaction sees; what is empty reaches nothing."""

    acting: Acting
    district_code: str = ""
    subject: str = ""
    areas: tuple[str, ...] = ()
    associations: tuple[UUID, ...] = ()
    events: tuple[UUID, ...] = ()
    member: UUID | None = None
    shown: tuple[UUID, ...] = ()

    @property
    def entry(self) -> str:
        """Give the statements that enter the role and the scope until the transaction ends."""
        # Who is shown changes with each request, and all else with the caller.
        caller = replace(self, shown=()) if self.shown else self
        return f"{_entry(caller)}; set local jixie.shown = '{_array(map(str, self.shown))}'"

    def district_wide(self) -> "Scope":
        """Give the scope of a rule over the caller's whole district."""
        return Scope(Acting.DISTRICT, self.district_code, self.subject)

    def showing(self, *ids: UUID) -> "Scope":
        """Give a scope that also reaches what belongs to records that the caller was shown."""
        return replace(self, shown=(*self.shown, *ids))


def require_enterable(scope: Scope) -> None:
    """Raise ValueError when a code or the subject is of a form that no statement should hold."""
    codes = scope.areas if scope.acting is Acting.QUEUE else (*scope.areas, scope.district_code)
    if not all(AREA_CODE.fullmatch(code) for code in codes):
        raise ValueError("area code")
    subject = scope.subject
    # Where a server lets it, a backslash would escape the quote that ends the literal.
    if len(subject) > _MAX_SUBJECT or not subject.isprintable() or "\\" in subject:
        raise ValueError("subject")


@lru_cache(maxsize=4096)
def _entry(scope: Scope) -> str:
    """Write the entry but for who is shown, as literals.

    Bound values do not travel to the nodes of a cluster.
    """
    require_enterable(scope)
    low, high = _bounds(scope.areas)
    settings = {
        "district": scope.district_code,
        "subject": scope.subject.replace("'", "''"),
        "area_low": low,
        "area_high": high,
        "areas": _array(area_prefix(code) for code in scope.areas),
        "associations": _array(map(str, scope.associations)),
        "events": _array(map(str, scope.events)),
        "member": "" if scope.member is None else str(scope.member),
    }
    entered = "; ".join(f"set local jixie.{name} = '{value}'" for name, value in settings.items())
    return f"set local role {scope.acting}; {entered}"


def _bounds(areas: Iterable[str]) -> tuple[str, str]:
    ranges = [area_range(code) for code in areas]
    if not ranges:
        return _NOTHING
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _array(values: Iterable[str]) -> str:
    return f"{{{','.join(values)}}}"
