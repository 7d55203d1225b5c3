"""The only place that reads the time or makes an id, so that rules can be given both."""

from datetime import UTC, date, datetime
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

import uuid_utils
from fastapi import Depends
from uuid_utils.compat import uuid7

CIVIL_ZONE = ZoneInfo("Asia/Shanghai")


def now() -> datetime:
    """Give the present instant in UTC."""
    return datetime.now(UTC)  # noqa: TID251  (the one place that may)


def civil_date(instant: datetime) -> date:
    """Give the date that a calendar in China shows at an instant."""
    return instant.astimezone(CIVIL_ZONE).date()


def new_id() -> UUID:
    """Make a UUIDv7: unique, and in order of creation."""
    return uuid7()


def new_name() -> str:
    """Make a UUIDv7 as text, in a tenth of the time."""
    return str(uuid_utils.uuid7())


async def _request_time() -> datetime:
    return now()


Now = Annotated[datetime, Depends(_request_time)]
