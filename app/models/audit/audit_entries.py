"""Audit entries: who did or read what, on whom and why; appended, never changed or deleted."""

from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described
from sqlalchemy import Index, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from app.models import shapes
from app.models.privacy.privacy_notices import ConsentPurpose
from app.models.privacy.reveals import RevealField, RevealPurpose
from app.models.shapes import AnyLine, AreaCode, Id, Output
from app.models.tables import Code, Instant, OptionalCode, OptionalWords, Tenant, Words
from app.paging import AnyOf, Filters
from app.roles import Role


class AuditUnsealed(Tenant, table=True):
    """An entry that no seal covers yet: stored with its act, taken apart and moved by its seal.

    Every request that reaches a person writes one row here. So it is narrow, `entry` being a JSON
    object of what the entry will hold, and has no index but its key.
    """

    __tablename__ = "audit_unsealed"
    # A page of fifty names makes a row of three kilobytes, for a second: it is not worth packing.
    __table_args__ = {"postgresql_with": {"toast_tuple_target": 8160}}

    id: UUID = Field(primary_key=True)
    subject: Words
    entry: Words


class AuditEntry(Tenant, table=True):
    """A sealed act of a caller; it holds names of fields and ids, and none of their values.

    `person_ids` are the members, or officers of associations, whom the answer was about.
    `malformed` is the text, as it stood, of what could not be taken apart when it was sealed.
    """

    __tablename__ = "audit_entries"

    id: UUID = Field(primary_key=True)
    at: Instant
    subject: Words
    role: Code
    act: Code
    object_kind: Code
    object_ids: list[str] = Field(sa_type=ARRAY(Text))
    person_ids: list[UUID] = Field(sa_type=ARRAY(Uuid))
    fields: list[str] = Field(sa_type=ARRAY(Text))
    purpose: OptionalWords
    area_code: Code
    request_id: Words
    refusal: OptionalCode
    malformed: OptionalWords


class AuditSighting(Tenant, table=True):
    """Where a person is named by a sealed entry, so that she can see who looked at her record."""

    __tablename__ = "audit_sightings"
    __table_args__ = (Index("ix_audit_sightings_entry", "district_code", "entry_id"),)

    person_id: UUID = Field(primary_key=True)
    entry_id: UUID = Field(primary_key=True)


class Use(StrEnum):
    """What somebody did with a member's record, in words that she knows."""

    SIGN_IN_REFUSED = "sign_in_refused"
    REFUSED = "refused"
    SIGNED_IN = "signed_in"
    REVEALED = "revealed"
    COPIED = "copied"
    SEARCHED = "searched"
    LISTED = "listed"
    VIEWED = "viewed"
    REGISTERED = "registered"
    CHECKED_IN = "checked_in"
    PAID = "paid"
    DRAWN = "drawn"
    PHONE_NOTICED = "phone_noticed"
    PHONE_PUT_IN_FORCE = "phone_put_in_force"
    PHONE_GIVEN_UP = "phone_given_up"
    ACCOUNT_NOTICED = "account_noticed"
    ACCOUNT_PUT_IN_FORCE = "account_put_in_force"
    ACCOUNT_GIVEN_UP = "account_given_up"
    DISCARDED = "discarded"
    CORRECTED = "corrected"
    GRANTED = "granted"
    CONSENT_ENTERED = "consent_entered"
    CONSENT_WITHDRAWN = "consent_withdrawn"
    CHANGED = "changed"


class LookupFilters(Filters):
    """How the list of who looked may be narrowed."""

    use: AnyOf[Use] | None = None
    at_gte: shapes.Instant | None = None
    at_lt: shapes.Instant | None = None


class LookupRead(Output):
    """Which office looked at the calling member's record, how and what for; never which person."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0e7",
                    "at": "2026-02-10T01:12:00.000000Z",
                    "office": "town_officer",
                    "area_code": "440605124000",
                    "area_name": "狮山镇",
                    "association_name": None,
                    "use": "revealed",
                    "fields": ["phone"],
                    "purpose": "contact",
                    "consents": [],
                    "words": "镇街干部（狮山镇）查看了完整号码：手机号。用途：联系本人。",
                }
            ]
        }
    )
    person = ""

    id: UUID
    at: shapes.Instant
    office: Role
    area_code: AreaCode
    area_name: str
    association_name: str | None = Described(
        description="Of a secretary; null for another office, and once no grant of hers is kept."
    )
    use: Use
    fields: list[RevealField] = Described(description="Which values were shown in full.")
    purpose: RevealPurpose | None = Described(description="What they were shown for.")
    consents: list[ConsentPurpose] = Described(
        description="Which consents of hers were entered or withdrawn."
    )
    words: str = Described(description="All of it in a sentence.")


class SightingFilters(Filters):
    """How the entries about one member may be narrowed."""

    act: AnyOf[AnyLine] | None = Described(None, description="Names of operations.")
    at_gte: shapes.Instant | None = None
    at_lt: shapes.Instant | None = None


class AuditFilters(SightingFilters):
    """How a list of audit entries may be narrowed."""

    subject: AnyLine | None = None
    role: AnyOf[Role] | None = None
    object_kind: AnyOf[AnyLine] | None = None
    request_id: AnyLine | None = None
    area: AreaCode | None = Described(None, description="The area and all below it.")
    person_id: Id | None = Described(
        None, description="About this person; from the moment its entry is sealed."
    )


_SIGHTING: dict[str, JsonValue] = {
    "id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0e7",
    "at": "2026-02-10T01:12:00.000000Z",
    "subject": "town_officer-1",
    "role": "town_officer",
    "act": "get_member",
    "object_kind": "members",
    "fields": [],
    "purpose": None,
    "area_code": "440605124000",
    "refusal": None,
}
_MEMBER = "01993a2f-7c10-7c4e-9d55-2f1a60b3c001"


class SightingRead(Output):
    """Who did or read what about a member, and when; of other members it tells nothing."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SIGHTING]})
    person = ""

    id: UUID
    at: shapes.Instant
    subject: str
    role: str
    act: str
    object_kind: str
    fields: list[str]
    purpose: str | None
    area_code: AreaCode
    refusal: str | None = Described(
        description="The code of the problem by which it was refused; null for what was done."
    )


class AuditEntryRead(SightingRead):
    """Who did or read what, on whom, through which request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_SIGHTING,
                    "object_ids": [_MEMBER],
                    "person_ids": [_MEMBER],
                    "request_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0e8",
                }
            ]
        }
    )

    object_ids: list[str]
    person_ids: list[UUID]
    request_id: str
