"""Data keys: one for each person of whom anything is sealed, itself wrapped by the master key."""

from uuid import UUID

from sqlalchemy import ForeignKeyConstraint
from sqlmodel import Field

from app.models.tables import Sealed, Tenant


class DataKey(Tenant, table=True):
    """The key of what one member's row holds sealed: without this row nobody reads them again."""

    __tablename__ = "data_keys"
    __table_args__ = (
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
    )

    member_id: UUID = Field(primary_key=True)
    wrapped: Sealed
    master_version: int
