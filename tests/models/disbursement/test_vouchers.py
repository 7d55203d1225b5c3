"""What the tables of vouchers, stations and settlements never hold, whoever writes."""

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database_errors import constraint_name
from tests.factories.channels.service_stations import make_station
from tests.factories.disbursement.vouchers import Issued, make_issued

_REDEEM = (
    "status = 'redeemed', redeemed_at = issued_at, station_id = '{station}', redeemed_by = 'x',"
    " code_sealed = null, code_tail = 'XXXX'"
)
_SETTLE = (
    "insert into station_settlements (district_code, id, version, created_at, updated_at,"
    " station_id, area_code, month_on, status, voucher_count, amount_fen, created_by)"
    " select district_code, '00000000-0000-0000-0000-000000000007', 1, created_at, created_at, id,"
    " area_code, '2026-11-01', 'submitted', 1, 5000, 'maker' from service_stations"
    " where id = '{station}'"
)
_SETTLED = ", settlement_id = '00000000-0000-0000-0000-000000000007'"


@pytest_asyncio.fixture
async def issued(session: AsyncSession, keyring: Keyring) -> Issued:
    return await make_issued(session, keyring, members=2)


async def _breaks(session: AsyncSession, constraint: str, sql: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(sql))
    assert constraint_name(caught.value) == constraint


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("status = 'lost', code_sealed = null", "ck_vouchers_status"),
        ("amount_fen = 0", "ck_vouchers_amount"),
        ("code_sealed = null", "ck_vouchers_code"),
        ("redeemed_at = issued_at", "ck_vouchers_redeemed"),
        ("station_id = '{station}'", "ck_vouchers_redeemed"),
        ("redeemed_by = 'x'", "ck_vouchers_redeemed"),
        ("code_tail = 'XXXX'", "ck_vouchers_redeemed"),
        (f"{_REDEEM}, ended_at = issued_at", "ck_vouchers_ended"),
        ("status = 'expired', code_sealed = null", "ck_vouchers_ended"),
        ("status = 'cancelled', ended_at = issued_at", "ck_vouchers_code"),
        (_SETTLED[2:], "ck_vouchers_settled"),
        (f"{_REDEEM}{_SETTLED}", "fk_vouchers_settlement"),
        (
            _REDEEM.replace("{station}", "00000000-0000-0000-0000-000000000001"),
            "fk_vouchers_station",
        ),
        ("member_id = '00000000-0000-0000-0000-000000000001'", "fk_vouchers_member"),
        ("code_index = (select max(code_index) from vouchers)", "uq_vouchers_code"),
        ("line_no = 2", "pk_vouchers"),
    ],
)
async def test_a_voucher_holds_only_what_can_be(
    session: AsyncSession, issued: Issued, change: str, constraint: str
) -> None:
    changed = change.replace("{station}", str(issued.station.id))
    line = "code_index = (select min(code_index) from vouchers)"
    if constraint == "pk_vouchers":
        line = "line_no = 1"
    await _breaks(session, constraint, f"update vouchers set {changed} where {line}")


async def test_a_voucher_is_settled_with_the_station_that_redeemed_it(
    session: AsyncSession, issued: Issued
) -> None:
    other = await make_station(session)
    await session.execute(text(_SETTLE.replace("{station}", str(other.id))))
    redeem = _REDEEM.replace("{station}", str(issued.station.id))
    await _breaks(session, "fk_vouchers_settlement", f"update vouchers set {redeem}{_SETTLED}")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("status = 'lost'", "ck_station_settlements_status"),
        ("month_on = '2026-11-02'", "ck_station_settlements_month"),
        ("voucher_count = 0", "ck_station_settlements_totals"),
        ("amount_fen = 0", "ck_station_settlements_totals"),
        (
            "status = 'approved', approved_by = 'maker', approved_at = created_at",
            "ck_station_settlements_maker_is_not_checker",
        ),
        ("status = 'approved'", "ck_station_settlements_approved"),
        ("approved_by = 'x', approved_at = created_at", "ck_station_settlements_approved"),
        ("status = 'rejected'", "ck_station_settlements_rejected"),
        ("status_reason = 'x'", "ck_station_settlements_rejected"),
        (
            "status = 'paid', approved_by = 'x', approved_at = created_at",
            "ck_station_settlements_paid",
        ),
        ("document_no = 'x'", "ck_station_settlements_paid"),
        (
            "station_id = '00000000-0000-0000-0000-000000000001'",
            "fk_station_settlements_station",
        ),
    ],
)
async def test_a_settlement_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    station = await make_station(session)
    await session.execute(text(_SETTLE.replace("{station}", str(station.id))))
    await _breaks(session, constraint, f"update station_settlements set {change}")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("status = 'lost'", "ck_service_stations_status"),
        ("area_code = '440606000000'", "ck_service_stations_area_range"),
        ("area_code = '440605999999'", "fk_service_stations_area"),
    ],
)
async def test_a_station_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await make_station(session)
    await _breaks(session, constraint, f"update service_stations set {change}")
