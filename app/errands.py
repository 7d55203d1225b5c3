"""Errands of the clock: what is due in each district, whoever asks or does not."""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Any

import structlog

from app import clock, metrics, retaining
from app.calls import CallFailed
from app.clerk import as_clock
from app.crypto import Keyring
from app.database import Database, Door, named, note
from app.models.privacy.held_changes import HeldField
from app.services.accounting import books
from app.services.disbursement import voucher_endings
from app.services.events import attendance_flags
from app.services.lucky_draws import due_draws
from app.services.membership import corrections
from app.services.organisation import areas
from app.services.privacy import cleared_phones, held_changes
from app.settings import Settings
from app.sms import Message, Provider, provider_of

_EVERY_SECONDS = 30
_TOLD = {
    HeldField.PHONE: "tell_old_phone",
    HeldField.PAYOUT_ACCOUNT: "tell_of_new_payout_account",
    HeldField.CLEARED_PHONE: "tell_cleared_phone",
}
_IN_FORCE = {
    HeldField.PHONE: "put_phone_in_force",
    HeldField.PAYOUT_ACCOUNT: "put_payout_account_in_force",
}
_UNTOLD = {HeldField.PHONE: "put_untold_phone_in_force"}
_GIVEN_UP = {
    HeldField.PHONE: "give_up_untold_phone",
    HeldField.PAYOUT_ACCOUNT: "give_up_untold_payout_account",
    HeldField.CLEARED_PHONE: "give_up_telling_cleared_phone",
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
    """Do once, in each district, what is due; what fails in one keeps nothing else."""
    districts = await areas.list_districts(door.looking)
    for district_code in districts:
        await _try(district_code, _put_in_force(door, keyring, settings, provider, district_code))
        await _try(district_code, _settle_draws(door, district_code))
        await _try(district_code, _count_overdue(door, district_code))
    # What may take longer comes last, when no district waits for anything else.
    for district_code in districts:
        await _try(district_code, _do_nightly(door, district_code))


async def _try(district_code: str, errand: Coroutine[Any, Any, None]) -> None:
    try:
        await errand
    except Exception as error:  # noqa: BLE001  (each errand is tried again with the next round)
        _log.error(
            "errand_failed",
            errand=getattr(errand, "__name__", "").strip("_"),
            error=type(error).__name__,
            district=district_code,
        )


async def _settle_draws(door: Door, district_code: str) -> None:
    acting = as_clock(door, "settle_draws", district_code=district_code, kind="draws")
    async with acting.transaction(district_code) as session:
        settled = await due_draws.settle(session, district_code=district_code, now=clock.now())
        if settled.frozen:
            ids = tuple(map(str, settled.frozen))
            note(session, [], act=replace(named(acting.act), name="freeze_draws", object_ids=ids))
        if settled.late:
            note(session, settled.late)


async def _count_overdue(door: Door, district_code: str) -> None:
    overdue = await corrections.count_overdue(
        door.statements(district_code), district_code=district_code, now=clock.now()
    )
    metrics.CORRECTIONS_OVERDUE.labels(district_code).set(overdue)


async def _do_nightly(door: Door, district_code: str) -> None:
    if await retaining.nightly(door, district_code=district_code, now=clock.now()):
        await _try(district_code, _flag_late_lines(door, district_code))
        await _try(district_code, _expire_vouchers(door, district_code))
        await _try(district_code, _check_books(door, district_code))


async def _flag_late_lines(door: Door, district_code: str) -> None:
    """Look once a night at what devices sent after their events were closed and looked at."""
    async with door.transaction(district_code, name="flag_late_lines") as session:
        await attendance_flags.compute_late(session, district_code=district_code, now=clock.now())


async def _expire_vouchers(door: Door, district_code: str) -> None:
    """End the vouchers past their day, once a night, a batch a transaction."""
    ended = voucher_endings.BATCH
    while ended == voucher_endings.BATCH:
        acting = as_clock(door, "expire_vouchers", district_code=district_code, kind="vouchers")
        async with acting.transaction(district_code) as session:
            whose = await voucher_endings.expire_some(
                session, district_code=district_code, now=clock.now()
            )
            if whose:
                note(session, whose)
        ended = len(whose)
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
        # One that nobody can read waits for somebody, and keeps no other.
        if change["noticed_at"] is not None:
            await _try(district_code, _take_effect(door, keyring, district_code, change, now))
            continue
        errand = _tell(
            door,
            keyring=keyring,
            settings=settings,
            provider=provider,
            district_code=district_code,
            change=change,
            now=now,
        )
        await _try(district_code, errand)


async def _take_effect(
    door: Door,
    keyring: Keyring,
    district_code: str,
    change: Mapping[str, Any],
    now: datetime,
    *,
    untold: bool = False,
) -> None:
    acting = _acting(door, _UNTOLD if untold else _IN_FORCE, change, district_code)
    async with acting.transaction(district_code) as session:
        if await held_changes.put_in_force(
            session,
            keyring,
            district_code=district_code,
            change_id=change["id"],
            now=now,
            untold=untold,
        ):
            note(session, [change["member_id"]])


async def _tell(
    door: Door,
    *,
    keyring: Keyring,
    settings: Settings,
    provider: Provider | None,
    district_code: str,
    change: Mapping[str, Any],
    now: datetime,
) -> None:
    notice = held_changes.notice_of(change, keyring, settings, now=now)
    told = await _told(provider, notice, change, now)
    if told is None:
        return
    if change["field"] == HeldField.CLEARED_PHONE:
        await _end_clearing(door, keyring, district_code, change, is_told=told)
        return
    if not told:
        if notice is None or change["field"] not in _UNTOLD:
            await _give_up(door, district_code, change)
        else:
            await _take_effect(door, keyring, district_code, change, now, untold=True)
        return
    acting = _acting(door, _TOLD, change, district_code)
    await held_changes.note_notice(
        acting.statements(district_code),
        district_code=district_code,
        change_id=change["id"],
        member_id=change["member_id"],
        now=now,
    )


async def _told(
    provider: Provider | None, notice: Message | None, change: Mapping[str, Any], now: datetime
) -> bool | None:
    """Tell the phone on file; False when nobody can be told there, None when not yet."""
    if notice is None:
        return False
    if provider is None:
        # Where nothing is sent nobody logs in by phone, and an office may mend what it mistyped.
        return False if change["in_force_at"] <= now else None
    try:
        await provider.send(notice)
    except CallFailed as failure:
        _log.warning("notice_not_sent", why=failure.why, status=failure.status)
        if failure.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            return None
        # No provider takes the number on file: that is why she leaves it, and no way to be paid.
        return HeldField(change["field"]) is not HeldField.PAYOUT_ACCOUNT
    return True


async def _end_clearing(
    door: Door, keyring: Keyring, district_code: str, change: Mapping[str, Any], *, is_told: bool
) -> None:
    acting = _acting(door, _TOLD if is_told else _GIVEN_UP, change, district_code)
    async with acting.transaction(district_code) as session:
        ended = await cleared_phones.end(
            session,
            keyring,
            district_code=district_code,
            change_id=change["id"],
            is_told=is_told,
            now=clock.now(),
        )
        if ended is not None:
            note(session, [ended])


async def _give_up(door: Door, district_code: str, change: Mapping[str, Any]) -> None:
    acting = _acting(door, _GIVEN_UP, change, district_code)
    async with acting.transaction(district_code) as session:
        if await held_changes.give_up_untold(
            session, district_code=district_code, change_id=change["id"], now=clock.now()
        ):
            note(session, [change["member_id"]])


def _acting(
    door: Door, names: Mapping[HeldField, str], change: Mapping[str, Any], district_code: str
) -> Door:
    name = names[change["field"]]
    return as_clock(
        door, name, district_code=district_code, kind="held_changes", ids=[change["id"]]
    )
