"""Audit seals: batches of entries bound by a Merkle root, each to the seal before it."""

from uuid import UUID

from sqlalchemy import CheckConstraint, Uuid
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from app.models.tables import Instant, Sealed, Tenant


class AuditSeal(Tenant, table=True):
    """The seal of a batch: which entries in which order, their hashes, their root, the new head."""

    __tablename__ = "audit_seals"
    __table_args__ = (CheckConstraint("sequence > 0 and count > 0", name="numbers"),)

    sequence: int = Field(primary_key=True)
    sealed_at: Instant
    count: int
    batch: int | None
    entry_ids: list[UUID] = Field(sa_type=ARRAY(Uuid))
    leaves: Sealed
    root: Sealed
    head: Sealed
