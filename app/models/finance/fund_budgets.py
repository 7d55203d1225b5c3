"""Budgets: what a fund is planned to spend in each month of its year, in versions."""

from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Strict
from pydantic import Field as Described
from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKeyConstraint
from sqlmodel import Field

from app.models import shapes
from app.models.shapes import Fen, Input, Output
from app.models.tables import Instant, Tenant, Words


class FundBudget(Tenant, table=True):
    """One version of a fund's budget; the newest holds, the others stay."""

    __tablename__ = "fund_budgets"
    __table_args__ = (
        CheckConstraint("number >= 1", name="number"),
        CheckConstraint("cardinality(planned_fen) = 12 and 0 <= all (planned_fen)", name="planned"),
        ForeignKeyConstraint(
            ["district_code", "fund_id"], ["funds.district_code", "funds.id"], name="fund"
        ),
    )

    fund_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    planned_fen: Annotated[list[int], Field(sa_type=ARRAY(BigInteger))]
    set_by: Words
    set_at: Instant


_MONTHS = [100_000] * 12
# What is shown may be a sum, which PostgreSQL gives as a decimal; what is sent is whole.
_Planned = Annotated[Fen, Strict()]


class BudgetWrite(Input):
    """What is planned for each month."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"planned_fen": list(_MONTHS)}]})

    planned_fen: list[_Planned] = Described(
        min_length=12, max_length=12, description="From January to December of the fund's year."
    )


class BudgetRead(Output):
    """What a fund is planned to spend."""

    fund_id: UUID
    number: int = Described(description="The version; it rises with each change.")
    planned_fen: list[Fen] = Described(description="From January to December.")
    set_by: str
    set_at: shapes.Instant
