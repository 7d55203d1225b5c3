"""Forecasts of gifts: how many a round will need at most, beside what depots have."""

from uuid import UUID

from pydantic import Field as Described

from app.models.goods.stock_movements import Pieces
from app.models.shapes import Id, Input, Output


class ForecastQuery(Input):
    """For which round."""

    exam_round_id: Id


class GiftForecast(Output):
    """One gift in one town; in the district's own line, what lies in depots above the towns."""

    gift_id: UUID
    gift_code: str
    gift_name: str
    unit: str
    area_code: str
    area_name: str
    people: int = Described(description="How many would be given it.")
    needed: Pieces = Described(description="How many pieces that takes at most.")
    available: Pieces | None = Described(
        description="In open depots of the town and of what is in it; null to whoever may not read"
        " stock."
    )


class GiftForecastsRead(Output):
    """What a round will need if everybody who is enrolled comes to it."""

    exam_round_id: UUID
    items: list[GiftForecast]
