"""Grants: who holds which role, how far it reaches, from when until when."""

from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, Index, text

from app.models import shapes
from app.models.shapes import PLAIN, AreaCode, Id, Input, Line, Output, Version, YesNo
from app.models.tables import (
    Code,
    Codes,
    Ids,
    Instant,
    OptionalInstant,
    OptionalWords,
    Record,
    Words,
    one_of,
)
from app.paging import AnyOf, Filters, YesNoParam
from app.roles import Role

MAX_REACH = 50


class Grant(Record, table=True):
    """A role and its reach, given to a subject of the issuer's tokens for a time.

    `area_code` is the smallest area that holds all of its reach. What it reaches may end without
    it, so nothing here is a foreign key.
    """

    __tablename__ = "grants"
    __table_args__ = (
        one_of("role", Role),
        CheckConstraint("subject <> ''", name="subject"),
        CheckConstraint("subject <> granted_by", name="to_another"),
        CheckConstraint("ends_at > starts_at", name="term"),
        CheckConstraint("role <> 'member' or member_id is not null", name="member"),
        CheckConstraint("substr(area_code, 1, 6) = substr(district_code, 1, 6)", name="area"),
        CheckConstraint(
            f"cardinality(areas) <= {MAX_REACH} and cardinality(association_ids) <= {MAX_REACH}"
            f" and cardinality(event_ids) <= {MAX_REACH}",
            name="reach",
        ),
        CheckConstraint(
            "(revoked_at is null) = (revoked_by is null)"
            " and (revoked_at is null) = (revoke_reason is null)",
            name="revoked",
        ),
        Index("ix_grants_area", "district_code", "area_code"),
        Index(
            "ix_grants_member",
            "district_code",
            "member_id",
            postgresql_where=text("member_id is not null"),
        ),
        Index("ix_grants_subject", "subject", postgresql_where=text("revoked_at is null")),
    )

    subject: Words
    role: Code
    area_code: Code
    areas: Codes
    association_ids: Ids
    event_ids: Ids
    member_id: UUID | None
    employer_linked: bool
    starts_at: Instant
    ends_at: OptionalInstant
    granted_by: Words
    revoked_at: OptionalInstant
    revoked_by: OptionalWords
    revoke_reason: OptionalWords
    tokens_from: OptionalInstant


Subject = Annotated[
    str,
    Described(min_length=1, max_length=255, description="`sub` of the access tokens."),
    PLAIN,
]
EmployerLinked = Annotated[
    YesNo,
    Described(
        description="Works for a host of members: sees nobody's health checks. While one such grant"
        " is in force, its holder sees none under any office that she holds in the district."
    ),
]
EndsAt = Annotated[shapes.Instant, Described(description="From when it no longer holds.")]


class GrantFilters(Filters):
    """How a list of grants may be narrowed."""

    subject: Subject | None = None
    role: AnyOf[Role] | None = None
    area: AreaCode | None = Described(default=None, description="This area and all below it.")
    association_id: Id | None = None
    employer_linked: YesNoParam | None = None
    in_force: YesNoParam | None = Described(default=None, description="Those that hold right now.")


class GrantCreate(Input):
    """A role to give: with the one kind of reach that the role has, within the caller's own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "subject": "9f2c1c9e-staff",
                    "role": "town_officer",
                    "areas": ["440605124000"],
                    "employer_linked": False,
                }
            ]
        }
    )

    subject: Subject
    role: Role = Described(
        description="`member` only to give a login by phone again that was taken back: with"
        " `member:` and the member's id as `subject`."
    )
    areas: list[AreaCode] = Described(default=[], max_length=MAX_REACH)
    association_ids: list[Id] = Described(default=[], max_length=MAX_REACH)
    event_ids: list[Id] = Described(default=[], max_length=MAX_REACH)
    employer_linked: EmployerLinked = False
    starts_at: shapes.Instant | None = Described(
        default=None, description="Now, if left out; not before today in China."
    )
    ends_at: EndsAt | None = None


class GrantProvide(GrantCreate):
    """What a login by phone and the shell may give besides: to act as a member."""

    member_id: Id | None = None


class Revocation(Input):
    """Why a grant is taken back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "调离岗位"}]})

    reason: Line


class GrantRead(Output):
    """A role and its reach, given for a time."""

    person = "member_id"

    id: UUID
    version: Version
    subject: str
    role: Role
    area_code: AreaCode
    areas: list[AreaCode]
    association_ids: list[UUID]
    event_ids: list[UUID]
    member_id: UUID | None
    employer_linked: EmployerLinked
    starts_at: shapes.Instant
    ends_at: EndsAt | None
    granted_by: str
    granted_at: shapes.Instant
    revoked_by: str | None
    revoked_at: shapes.Instant | None
    revoke_reason: str | None
