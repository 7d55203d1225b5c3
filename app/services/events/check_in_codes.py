"""The code that an event shows for members to check themselves in: signed and short-lived."""

import io
from datetime import UTC, datetime
from uuid import UUID

import segno

from app import crypto
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.events.attendances import CheckInCodeRead
from app.models.events.service_events import EventStatus
from app.problems import Problem
from app.services.events import service_events

WINDOW_SECONDS = 30
"""How long a code is shown; it is accepted for one window more."""

_WINDOW_BYTES = 5
_SIGNATURE_BYTES = 16
_PIXELS_PER_MODULE = 8


class EventNotOpen(Problem):
    """The event takes no check-ins now."""

    code, status = "event_not_open", 409


async def current(
    statements: Statements, caller: Caller, keyring: Keyring, *, event_id: UUID, now: datetime
) -> CheckInCodeRead:
    """Give the code of this moment of an event in progress."""
    status = await service_events.require_visible(statements, caller, event_id=event_id)
    if status is not EventStatus.IN_PROGRESS:
        raise EventNotOpen
    window = _window(now)
    return CheckInCodeRead(
        code=_code(keyring, caller.district_code, event_id, window),
        expires_at=datetime.fromtimestamp((window + 2) * WINDOW_SECONDS, UTC),
        rotates_every_seconds=WINDOW_SECONDS,
    )


def is_valid(
    keyring: Keyring, *, district_code: str, event_id: UUID, code: str, now: datetime
) -> bool:
    """Tell whether an event shows a code now, or showed it in the window before."""
    window = _window(now)
    expected = (_code(keyring, district_code, event_id, window - back) for back in (0, 1))
    # Both are compared, so that the time taken says nothing.
    return sum(crypto.same(code.encode(), each.encode()) for each in expected) > 0


def picture(code: str) -> bytes:
    """Draw a code as a QR picture (SVG) to scan from a screen."""
    drawn = io.BytesIO()
    segno.make(code, error="m", micro=False).save(drawn, kind="svg", scale=_PIXELS_PER_MODULE)
    return drawn.getvalue()


def _window(now: datetime) -> int:
    return int(now.timestamp()) // WINDOW_SECONDS


def _code(keyring: Keyring, district_code: str, event_id: UUID, window: int) -> str:
    message = f"{district_code}/{event_id}/{window}".encode()
    signature = keyring.sign(message, purpose="check-in", length=_SIGNATURE_BYTES)
    return crypto.encode(window.to_bytes(_WINDOW_BYTES, "big") + signature)
