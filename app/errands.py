"""Errands of the clock: what is due in each district, whoever asks or does not."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from uuid import UUID

import structlog

from app import clock, metrics, retaining
from app.calls import CallFailed
from app.crypto import Keyring
from app.database import Database, Door, note
from app.identity import Caller
from app.models.held_changes import HeldField
from app.roles import Role
from app.services import areas, books, corrections, due_draws, held_changes, voucher_endings
from app.settings import Settings
from app.sms import Message, Provider, provider_of

_EVERY_SECONDS = 30
_CLOCK = "clock"
_TOLD = {
    HeldField.PHONE: "tell_old_phone",
    HeldField.PAYOUT_ACCOUNT: "tell_of_new_payout_account",
}
_IN_FORCE = {
    HeldField.PHONE: "put_phone_in_force",
    HeldField.PAYOUT_ACCOUNT: "put_payout_account_in_force",
}
_GIVEN_UP = {
    HeldField.PHONE: "give_up_untold_phone",
    HeldField.PAYOUT_ACCOUNT: "give_up_untold_payout_account",
}
_log = structlog.get_logger()


async def keep(
    database: Database, keyring: Keyring, settings: Settings, stop: asyncio.Event
) -> None:
    """Run the errands every half a minute until `stop`."""
    async with provider_of(settings) as provider:
        while not stop.is_set():
            try:
                await run(Door(database), keyring, settings, provider)
            except Exception as error:  # noqa: BLE001  (a database that is away must not end it)
                _log.warning("errands_failed", error=type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _EVERY_SECONDS)


async def run(door: Door, keyring: Keyring, settings: Settings, provider: Provider | None) -> None:
    """Do once, in each district, what is due."""
    districts = await areas.list_districts(door.looking)
    for district_code in districts:
        await _put_in_force(door, keyring, settings, provider, district_code)
        async with door.transaction(district_code) as session:
            await due_draws.settle(session, district_code=district_code, now=clock.now())
        overdue = await corrections.count_overdue(
            door.statements(district_code), district_code=district_code, now=clock.now()
        )
        metrics.CORRECTIONS_OVERDUE.labels(district_code).set(overdue)
    # What may take longer comes last, when no district waits for anything else.
    for district_code in districts:
        if await retaining.nightly(door, district_code=district_code, now=clock.now()):
            await _expire_vouchers(door, district_code)
            await _check_books(door, district_code)


async def _expire_vouchers(door: Door, district_code: str) -> None:
    """End the vouchers past their day, once a night, a batch a transaction."""
    ended = voucher_endings.BATCH
    while ended == voucher_endings.BATCH:
        async with door.transaction(district_code) as session:
            ended = await voucher_endings.expire_some(
                session, district_code=district_code, now=clock.now()
            )
        metrics.VOUCHERS.labels("ended").inc(ended)


async def _check_books(door: Door, district_code: str) -> None:
    """Count what does not agree in a district's books, once a night."""
    async with door.transaction(district_code, name="check_books") as session:
        found = len(await books.check(session, district_code=district_code))
    metrics.BOOKS_DISAGREEING.labels(district_code).set(found)
    if found:
        _log.error("books_disagree", count=found)


async def _put_in_force(
    door: Door,
    keyring: Keyring,
    settings: Settings,
    provider: Provider | None,
    district_code: str,
) -> None:
    statements, now = door.statements(district_code), clock.now()
    for change in await held_changes.open_changes(statements, district_code=district_code, now=now):
        if change["noticed_at"] is not None:
            acting = _acting(door, _IN_FORCE[change["field"]], district_code, change["id"])
            async with acting.transaction(district_code) as session:
                if await held_changes.put_in_force(
                    session, keyring, district_code=district_code, change_id=change["id"], now=now
                ):
                    note(session, [change["member_id"]])
            continue
        notice = held_changes.notice_of(change, keyring, settings, now=now)
        told = await _told(provider, notice, change["field"])
        if told is None:
            continue
        if not told:
            await _give_up(door, district_code, change)
            continue
        acting = _acting(door, _TOLD[change["field"]], district_code, change["id"])
        await held_changes.note_notice(
            acting.statements(district_code),
            district_code=district_code,
            change_id=change["id"],
            member_id=change["member_id"],
            now=now,
        )


async def _told(provider: Provider | None, notice: Message | None, field: str) -> bool | None:
    """Tell the phone on file; False when nobody can be told there, None when not yet."""
    if notice is None:
        return False
    if provider is None:
        return None
    try:
        await provider.send(notice)
    except CallFailed as failure:
        _log.warning("notice_not_sent", why=failure.why, status=failure.status)
        if failure.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            return None
        # No provider takes the number on file: that is why she leaves it, and no way to be paid.
        return field == HeldField.PHONE
    return True


async def _give_up(door: Door, district_code: str, change: Mapping[str, Any]) -> None:
    acting = _acting(door, _GIVEN_UP[change["field"]], district_code, change["id"])
    async with acting.transaction(district_code) as session:
        if await held_changes.give_up_untold(
            session, district_code=district_code, change_id=change["id"], now=clock.now()
        ):
            note(session, [change["member_id"]])


def _acting(door: Door, name: str, district_code: str, change_id: UUID) -> Door:
    clerk = Caller(_CLOCK, Role.OPERATIONS, district_code)
    act = clerk.act(
        name, kind="held_changes", ids=[change_id], request_id=f"held_change:{change_id}"
    )
    return Door(door.database, act)
