"""Vouchers: redeemed once at a station by their code, or cancelled by a person."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, metrics, reach
from app.crypto import Keyring
from app.database import Statements, district_wide, note
from app.identity import Caller
from app.models.channels.service_stations import StationStatus
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import run_and_line
from app.models.disbursement.vouchers import Redemption, RedemptionRead
from app.models.privacy.phone_codes import LimitKind
from app.models.shapes import rfc3339
from app.problems import Invalid, NotFound, Problem
from app.services.access.guesses import Guesses
from app.services.disbursement import payout_runs, voucher_codes
from app.services.finance import reservations

MOST_WRONG = 20
"""How many codes that redeem nothing one caller may try in an hour."""

SAME_PAYOUT = (
    "p.district_code = :district_code and p.round_sequence = v.round_sequence"
    " and p.member_id = v.member_id and p.rule_id = v.rule_id and p.run_id = v.run_id"
)
"""The payout `p` of a voucher `v`, found along the primary key."""
_STATION = (
    "select s.status from service_stations s where s.district_code = :district_code"
    " and s.id = :station_id and {}"
)
# All who come with one code stand in line at the voucher's row, and the second finds it redeemed.
# A payout that is held is not pending, and so holds its voucher too.
_REDEEM = text(
    "with found as materialized (select v.run_id, v.line_no, v.round_sequence, v.member_id,"
    " v.rule_id from vouchers v where v.district_code = :district_code"
    " and v.code_index = any(cast(:indexes as bytea[])) and v.status = 'issued'"
    " and v.valid_until_on >= :today for update),"
    " paid as (update payouts p set status = 'paid', settled_at = :now from found v"
    f" where {SAME_PAYOUT} and p.status = 'pending' returning p.run_id, p.line_no)"
    " update vouchers v set status = 'redeemed', redeemed_at = :now, station_id = :station_id,"
    " redeemed_by = :subject, code_sealed = null, code_tail = :tail from paid p"
    " where v.district_code = :district_code and v.run_id = p.run_id and v.line_no = p.line_no"
    " and v.status = 'issued'"
    " returning v.run_id, v.line_no, v.rule_id, v.association_id, v.amount_fen, v.member_id"
)
_REDEEMED_HERE = text(
    "select v.redeemed_at from vouchers v where v.district_code = :district_code"
    " and v.code_index = any(cast(:indexes as bytea[])) and v.station_id = :station_id"
)
_CANCEL = text(
    "with found as materialized (select v.run_id, v.line_no, v.round_sequence, v.member_id,"
    " v.rule_id from vouchers v where v.district_code = :district_code and v.run_id = :run_id"
    " and v.line_no = :line_no and v.status = 'issued' for update),"
    " failed as (update payouts p set status = 'failed', failure_reason = :reason,"
    f" settled_at = :now from found v where {SAME_PAYOUT} and p.status = 'pending'"
    " returning p.run_id, p.line_no)"
    " update vouchers v set status = 'cancelled', ended_at = :now, code_sealed = null from failed f"
    " where v.district_code = :district_code and v.run_id = f.run_id and v.line_no = f.line_no"
    " returning v.member_id"
)
_KNOWN = text(
    "select v.status from vouchers v where v.district_code = :district_code"
    " and v.run_id = :run_id and v.line_no = :line_no"
)


class StationClosed(Problem):
    """A closed station redeems no voucher."""

    code, status = "station_closed", 409


class VoucherRefused(Problem):
    """The code redeems nothing here and now; it is not said why."""

    code, status = "voucher_refused", 403


class VoucherRedeemed(Problem):
    """This station redeemed the voucher before; it is said when."""

    code, status = "voucher_redeemed", 409


class TooManyGuesses(Problem):
    """The caller tried too many codes that redeem nothing; `Retry-After` says until when."""

    code, status = "voucher_guesses", 429


class VoucherClosed(Problem):
    """The voucher is no longer open, or its payout waits for a person."""

    code, status = "voucher_closed", 409


async def redeem(
    session: AsyncSession,
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    body: Redemption,
    now: datetime,
) -> RedemptionRead:
    """Redeem a code at a station: its payout is paid, and its money spent, in one transaction.

    Raises Invalid for what cannot be a code, StationClosed, TooManyGuesses, VoucherRedeemed to
    the station that did it, and VoucherRefused in every other case.
    """
    code = voucher_codes.read(body.code)
    await _require_station(statements, caller, body.station_id)
    counting, guesses = statements.district_wide(), _guesses(caller, keyring)
    await guesses.require_calm(counting, now=now)
    facts = {
        "district_code": caller.district_code,
        "indexes": voucher_codes.indexes(keyring, code),
        "station_id": body.station_id,
    }
    tail = voucher_codes.tail(code)
    async with district_wide(session):
        voucher = await _redeem(session, caller, facts, tail=tail, now=now)
        redeemed_at = None if voucher else await session.scalar(_REDEEMED_HERE, facts)
    if voucher is None:
        await _refuse(counting, guesses, redeemed_at, now)
    note(session, [voucher["member_id"]])
    metrics.VOUCHERS.labels("redeemed").inc()
    return RedemptionRead(
        code_masked=voucher_codes.masked(tail),
        amount_fen=voucher["amount_fen"],
        station_id=body.station_id,
        redeemed_at=now,
    )


def _guesses(caller: Caller, keyring: Keyring) -> Guesses:
    key = keyring.blind_index(caller.subject, column="voucher_guesses")
    return Guesses(caller.district_code, LimitKind.VOUCHER, key, MOST_WRONG, TooManyGuesses)


async def _refuse(
    statements: Statements, guesses: Guesses, redeemed_at: datetime | None, now: datetime
) -> NoReturn:
    """Tell a station when it redeemed the code; of any other, say no more than that, and count."""
    if redeemed_at is not None:
        said = rfc3339(redeemed_at)
        raise VoucherRedeemed(redeemed_at=said, extra={"redeemed_at": said})
    await guesses.count(statements, now=now)
    metrics.VOUCHERS.labels("refused").inc()
    raise VoucherRefused


async def _require_station(statements: Statements, caller: Caller, station_id: UUID) -> None:
    condition, params = reach.within(caller, area="s.area_code")
    params |= {"district_code": caller.district_code, "station_id": station_id}
    status = await statements.fetch_value(_STATION.format(condition), params)
    if status is None:
        raise Invalid.at("/station_id", "unknown_reference")
    if status != StationStatus.OPEN:
        raise StationClosed


async def _redeem(
    session: AsyncSession,
    caller: Caller,
    facts: Mapping[str, Any],
    *,
    tail: str,
    now: datetime,
) -> Mapping[Any, Any] | None:
    params = {
        **facts,
        "today": clock.civil_date(now),
        "now": now,
        "subject": caller.subject,
        "tail": tail,
    }
    voucher = (await session.execute(_REDEEM, params)).mappings().one_or_none()
    if voucher is None:
        return None
    run = await session.get_one(PayoutRun, (caller.district_code, voucher["run_id"]))
    await reservations.pay(session, run, lines=[dict(voucher)], subject=caller.subject, now=now)
    return voucher


async def cancel(
    session: AsyncSession, caller: Caller, *, voucher_id: UUID, reason: str, now: datetime
) -> None:
    """Cancel an open voucher: its payout has failed, and its money goes back when the run settles.

    Raises NotFound or VoucherClosed.
    """
    run_id, line_no = run_and_line(voucher_id)
    if not 0 < line_no < 2**31:
        raise NotFound
    run, _ = await payout_runs.lock(session, caller, run_id=run_id)
    params = {"district_code": run.district_code, "run_id": run.id, "line_no": line_no}
    async with district_wide(session):
        member_id = await session.scalar(_CANCEL, params | {"reason": reason, "now": now})
        known = await session.scalar(_KNOWN, params)
    if known is None:
        raise NotFound
    if member_id is None:
        raise VoucherClosed
    note(session, [member_id])
