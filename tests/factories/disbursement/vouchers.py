"""Runs that thank with vouchers, and the codes that their members hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.crypto import Keyring
from app.models.channels.service_stations import ServiceStation
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import Payout
from app.models.disbursement.vouchers import Voucher
from app.models.membership.members import Member
from app.services.disbursement import voucher_codes, voucher_issuing
from app.services.privacy import data_keys
from tests.factories.callers import DISTRICT
from tests.factories.channels.service_stations import make_station
from tests.factories.channels.station_settlements import make_settlement
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.disbursement.payouts import known_id
from tests.factories.incentives.incentive_policies import make_voucher


@dataclass(frozen=True)
class Issued:
    """A run that is handed out, with its members' codes in the order of its lines."""

    thanks: Thanks
    run: PayoutRun
    station: ServiceStation
    codes: Sequence[str]
    keyring: Keyring

    @property
    def members(self) -> list[Member]:
        """Give the members in the order of the lines."""
        return sorted(self.thanks.members, key=lambda member: member.id)

    def id(self, line_no: int = 1) -> str:
        """Give the public id of a voucher."""
        return str(known_id(self.keyring, self.run.id, line_no))

    def body(self, line_no: int = 1, **facts: Any) -> dict[str, Any]:
        """Give what redeems a voucher at the station."""
        return {"code": self.codes[line_no - 1], "station_id": str(self.station.id)} | facts


async def make_issued(
    session: AsyncSession,
    keyring: Keyring,
    rules: Sequence[dict[str, Any]] = (),
    *,
    members: int = 3,
    **facts: Any,
) -> Issued:
    """Store a station, and a run whose vouchers are issued; the caller commits."""
    thanks = await make_thanks(session, rules or [make_voucher()], members=members, **facts)
    run = await make_granted_run(session, thanks)
    await voucher_issuing.issue(session, keyring, run, now=clock.now())
    station, codes = await make_station(session), await codes_of(session, keyring, run)
    return Issued(thanks, run, station, codes, keyring)


async def codes_of(session: AsyncSession, keyring: Keyring, run: PayoutRun) -> list[str]:
    """Open the codes of a run's vouchers that are issued, in the order of its lines."""
    found = await session.scalars(
        select(Voucher)
        .where(col(Voucher.run_id) == run.id, col(Voucher.code_sealed).is_not(None))
        .order_by(col(Voucher.line_no))
    )
    vouchers = found.all()
    keys = await data_keys.find(
        session, keyring, district_code=DISTRICT, ids=[each.member_id for each in vouchers]
    )
    return [
        keys[each.member_id]
        .open(bytes(each.code_sealed or b""), place=voucher_issuing.place(run.id, each.line_no))
        .decode()
        for each in vouchers
    ]


async def make_voucher_of(
    session: AsyncSession, keyring: Keyring, run: PayoutRun, member: Member, **facts: Any
) -> str:
    """Store the open voucher of some line of a run, of a member with a key; give its code."""
    code, line_no = voucher_codes.make(), facts.get("line_no", 1)
    keys = await data_keys.find(session, keyring, district_code=DISTRICT, ids=[member.id])
    place = voucher_issuing.place(run.id, line_no)
    values: dict[str, Any] = {
        "district_code": run.district_code,
        "run_id": run.id,
        "line_no": line_no,
        "round_sequence": run.round_sequence,
        "member_id": member.id,
        "rule_id": clock.new_id(),
        "association_id": member.association_id,
        "amount_fen": 1000,
        "code_index": voucher_codes.index(keyring, code),
        "code_sealed": keys[member.id].seal(code.encode(), place=place),
        "status": "issued",
        "issued_at": clock.now(),
        "valid_until_on": clock.civil_date(clock.now()) + timedelta(days=30),
    }
    empty = dict.fromkeys(
        ("code_tail", "redeemed_at", "station_id", "redeemed_by", "settlement_id", "ended_at")
    )
    session.add(Voucher(**(values | empty | facts)))
    await session.flush()
    return code


def redeemed(station: ServiceStation, **facts: Any) -> dict[str, Any]:
    """Give the facts of a voucher that a station redeemed."""
    return {
        "status": "redeemed",
        "code_sealed": None,
        "code_tail": "XXXX",
        "redeemed_at": clock.now(),
        "redeemed_by": "desk-1",
        "station_id": station.id,
        **facts,
    }


async def make_vouchers(
    session: AsyncSession, keyring: Keyring, run: PayoutRun, member: Member, *, area_code: str
) -> dict[str, Any]:
    """Store a station of an area, an open voucher, one redeemed, and settlements of others.

    The open one is of the run's first line, whose payout is stored.
    """
    station = await make_station(session, area_code=area_code)
    made = await make_settlement(session, station)
    approved = await make_settlement(
        session, station, status="approved", approved_by="checker", approved_at=clock.now()
    )
    payout = await session.scalar(select(Payout).where(col(Payout.run_id) == run.id))
    assert payout is not None
    code = await make_voucher_of(session, keyring, run, member, rule_id=payout.rule_id)
    for line_no, settlement in enumerate((None, made, approved), 2):
        facts = redeemed(station, settlement_id=settlement and settlement.id)
        await make_voucher_of(session, keyring, run, member, line_no=line_no, **facts)
    return {
        "station_id": station.id,
        "voucher_id": known_id(keyring, run.id, 1),
        "voucher code": code,
        "settlement_id": made.id,
        "settlement_id approved": approved.id,
    }
