"""Associations with their officers, facilities and regulations."""

from datetime import date
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text

from app.models.tables import Code, OptionalWords, Record, Words, one_of


class Mode(StrEnum):
    """How an association lives with its host."""

    INDEPENDENT = "independent"
    AFFILIATED = "affiliated"
    PARK = "park"
    PROFESSIONAL = "professional"
    COMMUNITY = "community"
    VILLAGE = "village"


class AssociationStatus(StrEnum):
    """The life of an association."""

    PREPARING = "preparing"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DISSOLVED = "dissolved"


class Office(StrEnum):
    """The offices of an association."""

    PRESIDENT = "president"
    VICE_PRESIDENT = "vice_president"
    SECRETARY_GENERAL = "secretary_general"
    DIRECTOR = "director"
    SUPERVISOR = "supervisor"


class FacilityKind(StrEnum):
    """The rooms and means that an association keeps for its members."""

    SERVICE_ROOM = "service_room"
    MEMBERS_CLUB = "members_club"
    BOOK_CORNER = "book_corner"
    CONSULTATION_ROOM = "consultation_room"
    AUDIO_VISUAL_ROOM = "audio_visual_room"
    BROADCAST = "broadcast"


class RegulationKind(StrEnum):
    """The texts by which an association is run."""

    CHARTER = "charter"
    PARK_REGULATION = "park_regulation"
    MARKET_REVIEW_RULE = "market_review_rule"


def _of_association() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["district_code", "association_id"],
        ["associations.district_code", "associations.id"],
        name="association",
    )


class Association(Record, table=True):
    """A members' organisation where migrants live or work."""

    __tablename__ = "associations"
    __table_args__ = (
        one_of("mode", Mode),
        one_of("status", AssociationStatus),
        CheckConstraint("mode = 'affiliated' or parent_id is null", name="parent_of_affiliated"),
        CheckConstraint("parent_id <> id", name="parent_is_another"),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        ForeignKeyConstraint(
            ["district_code", "host_id"],
            ["host_organisations.district_code", "host_organisations.id"],
            name="host",
        ),
        ForeignKeyConstraint(
            ["district_code", "parent_id"],
            ["associations.district_code", "associations.id"],
            name="parent",
        ),
        UniqueConstraint("district_code", "id", "area_code", name="area"),
        Index("ix_associations_area", "district_code", "area_code"),
        Index("ix_associations_parent", "district_code", "parent_id"),
        Index(
            "uq_associations_host",
            "district_code",
            "host_id",
            unique=True,
            postgresql_where=text("status <> 'dissolved'"),
        ),
        Index(
            "uq_associations_active_village",
            "district_code",
            "area_code",
            unique=True,
            postgresql_where=text("mode = 'village' and status = 'active'"),
        ),
    )

    name: Words
    mode: Code
    host_id: UUID
    area_code: Code
    parent_id: UUID | None
    status: Code
    status_reason: OptionalWords
    founded_on: date | None


class Officer(Record, table=True):
    """An office held for a term: from `starts_on`, until before `ends_on`."""

    __tablename__ = "officers"
    __table_args__ = (
        one_of("office", Office),
        CheckConstraint("ends_on > starts_on", name="term"),
        _of_association(),
        Index("ix_officers_association", "district_code", "association_id"),
    )

    association_id: UUID
    office: Code
    name: Words
    starts_on: date
    ends_on: date | None


class Facility(Record, table=True):
    """A room or means kept for the members, from `opened_on` until before `closed_on`."""

    __tablename__ = "facilities"
    __table_args__ = (
        one_of("kind", FacilityKind),
        CheckConstraint("closed_on >= opened_on", name="period"),
        _of_association(),
        Index("ix_facilities_association", "district_code", "association_id"),
    )

    association_id: UUID
    kind: Code
    name: Words
    opened_on: date
    closed_on: date | None


class Regulation(Record, table=True):
    """One edition of a text; it counts from the day it is adopted (a charter) or published."""

    __tablename__ = "regulations"
    __table_args__ = (
        one_of("kind", RegulationKind),
        CheckConstraint("edition >= 1", name="edition"),
        UniqueConstraint("district_code", "association_id", "kind", "edition", name="edition"),
        _of_association(),
    )

    association_id: UUID
    kind: Code
    edition: int
    title: Words
    body: Words
    adopted_on: date | None
    published_on: date | None
