"""A grant made from the shell, by those who run the service: there is nobody above them to ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from app import clock
from app.crypto import digest
from app.database import Database, note, transaction
from app.identifiers import AREA_CODE, district_of
from app.identity import SHELL, Caller
from app.models.access.grants import GrantProvide
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.access import grant_extents, grants
from app.services.demo_district import demo


class NoSuchReach(Exception):
    """The codes reach nothing; the text is the line that says why."""


@dataclass(frozen=True)
class Order:
    """Who is to hold which role, and how far; a role that needs areas has those of the demo."""

    role: Role
    subject: str | None = None
    areas: Sequence[str] = ()
    association_ids: Sequence[UUID] = ()
    event_ids: Sequence[UUID] = ()
    member_id: UUID | None = None
    employer_linked: bool = False
    days: int | None = None
    district: str = demo.DISTRICT

    @property
    def named(self) -> str:
        """Give the subject; without one, a name that goes with the reach and with no other."""
        if self.subject is not None:
            return self.subject
        asked = (self.areas, self.association_ids, self.event_ids, self.member_id)
        if not any(asked) and not self.employer_linked:
            return demo.subject_of(self.role)
        facts = repr((*asked, self.employer_linked)).encode()
        return f"{demo.subject_of(self.role)}-{digest(facts)[:8]}"

    @property
    def body(self) -> GrantProvide:
        """Give what to grant."""
        usual = grant_extents.kind_of_reach(self.role) == "areas"
        fallback = [demo.AREAS_OF_ROLE.get(self.role, self.district)] if usual else []
        return GrantProvide(
            subject=self.named,
            role=self.role,
            areas=list(self.areas) or fallback,
            association_ids=list(self.association_ids),
            event_ids=list(self.event_ids),
            member_id=self.member_id,
            employer_linked=self.employer_linked,
            ends_at=None if self.days is None else clock.now() + timedelta(days=self.days),
        )


async def provide(database: Database, order: Order) -> UUID:
    """Make sure that the grant is in force, and give its id; raises NoSuchReach."""
    if not all(AREA_CODE.fullmatch(code) for code in (*order.areas, order.district)):
        raise NoSuchReach("--area and --district take 12-digit codes")
    body = order.body
    district = district_of(body.areas[0]) if body.areas else order.district
    if any(district_of(code) != district for code in body.areas):
        raise NoSuchReach("--area takes codes of one district")
    shell = Caller(SHELL, Role.DISTRICT_OFFICER, district, areas=(district,))
    act = shell.act("provide_grant", kind="grants", request_id=SHELL)
    async with transaction(database, Scope(Acting.DISTRICT, district, SHELL), act) as session:
        grant_id = await grants.provide(
            session, district_code=district, body=body, granted_by=SHELL, now=clock.now()
        )
        act.object_ids = (str(grant_id),)
        note(session, [body.member_id])
    return grant_id
