"""Vouchers over HTTP: issued with a run, shown to their member, redeemed once, and ended."""

import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import RunStatus
from app.models.membership.members import Member
from app.roles import Role
from app.services.disbursement import voucher_codes, voucher_issuing
from app.services.disbursement.vouchers import MOST_WRONG
from tests.factories.callers import (
    DISTRICT,
    GUICHENG,
    SHISHAN,
    Client,
    idempotency_key,
    if_match,
    pointers,
)
from tests.factories.channels.service_stations import make_station
from tests.factories.disbursement.payout_disputes import hold_lines
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.disbursement.vouchers import Issued, make_issued
from tests.factories.events.attendances import make_attendance
from tests.factories.finance.funds import agree, make_fund
from tests.factories.incentives.incentive_policies import make_cash, make_voucher
from tests.factories.membership.logins import make_member_with_phone
from tests.factories.membership.members import make_phone

_REDEEM = "/v1/vouchers/redeem"
_WRITTEN = re.compile(r"(?:[0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}")


def _key() -> dict[str, str]:
    return idempotency_key(clock.new_id())


def _as(client: Callable[..., Client], member: Member) -> Client:
    return client(Role.MEMBER, member_id=str(member.id), subject=f"of-{member.id}")


@pytest.fixture
def desk(client: Callable[..., Client]) -> Client:
    """Who keeps the desk of the town's stations."""
    return client(Role.GUIDE, areas=[SHISHAN])


@pytest.fixture
def clerk(client: Callable[..., Client]) -> Client:
    return client(Role.FINANCE_CLERK)


@pytest_asyncio.fixture
async def issued(session: AsyncSession, keyring: Keyring) -> Issued:
    issued = await make_issued(session, keyring)
    await session.commit()
    return issued


async def test_a_voucher_goes_from_a_rule_to_a_station_and_its_run_is_settled(
    client: Callable[..., Client], officer: Client, session: AsyncSession, database: Database
) -> None:
    clerk, desk = client(Role.FINANCE_CLERK), client(Role.GUIDE, areas=[SHISHAN])
    thanks = await make_thanks(session, [make_voucher(district_bp=2500, town_bp=7500)], members=2)
    town = await make_fund(session, 20_000, source="town", area_code=SHISHAN, fiscal_year=2024)
    run = await make_granted_run(session, thanks, RunStatus.APPROVED)
    await session.commit()
    station = await officer.ok(
        "POST",
        "/v1/service-stations",
        json={"name": "狮山镇服务站", "area_code": SHISHAN},
        status=201,
    )
    path = f"/v1/payout-runs/{run.id}"
    shown = await clerk.ok("GET", path)
    await clerk.ok("POST", f"{path}/disburse", headers=if_match(shown))
    await agree(database)

    first, second = thanks.members
    (mine,) = (await _as(client, first).ok("GET", "/v1/me/vouchers"))["items"]
    assert _WRITTEN.fullmatch(mine["code"])
    assert (mine["amount_fen"], mine["status"], mine["statement"]) == (5000, "issued", "协会福利")
    until = clock.civil_date(clock.now()) + timedelta(days=30)
    assert mine["valid_until_on"] == until.isoformat()
    said = mine["code"].lower().replace("-", " ")
    body = {"code": f" {said} ", "station_id": station["id"]}
    redeemed = await desk.ok("POST", _REDEEM, json=body, headers=_key())
    assert redeemed["amount_fen"] == 5000
    assert redeemed["code_masked"] == f"****-****-****-{mine['code'][-4:]}"
    assert set(redeemed) == {"code_masked", "amount_fen", "station_id", "redeemed_at"}
    await agree(database)
    payout = await clerk.ok("GET", f"/v1/payouts/{mine['id']}")
    assert (payout["status"], payout["settled_at"]) == ("paid", redeemed["redeemed_at"])
    assert (await clerk.ok("GET", f"/v1/funds/{town.id}"))["spent_fen"] == 3750

    shown = await clerk.ok("GET", path)
    problem = await clerk.refused(
        "POST", f"{path}/settle", headers=if_match(shown), status=409, code="payouts_pending"
    )
    assert problem["pending_count"] == 1
    (hers,) = (await _as(client, second).ok("GET", "/v1/me/vouchers"))["items"]
    cancel = f"/v1/vouchers/{hers['id']}/cancel"
    await clerk.ok("POST", cancel, json={"reason": "重复发放"}, headers=_key(), status=204)
    await clerk.ok("POST", f"{path}/settle", headers=if_match(shown))
    fund = await clerk.ok("GET", f"/v1/funds/{town.id}")
    assert (fund["reserved_fen"], fund["spent_fen"], fund["available_fen"]) == (0, 3750, 16_250)
    await agree(database)


async def test_a_member_sees_the_code_for_as_long_as_it_is_worth_something(
    client: Callable[..., Client], desk: Client, issued: Issued
) -> None:
    hers = _as(client, issued.members[0])
    path = f"/v1/me/vouchers/{issued.id()}"
    voucher = await hers.ok("GET", path)
    assert voucher["code"] == voucher_codes.written(issued.codes[0])
    picture = await hers.get(path, params={"format": "svg"})
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/svg+xml")
    assert b"<svg" in picture.content
    await desk.ok("POST", _REDEEM, json=issued.body(), headers=_key())
    voucher = await hers.ok("GET", path)
    assert (voucher["code"], voucher["status"]) == (None, "redeemed")
    await hers.refused("GET", path, params={"format": "svg"}, status=409, code="voucher_closed")
    (listed,) = (await hers.ok("GET", "/v1/me/vouchers", params={"status": "redeemed"}))["items"]
    assert listed == voucher
    assert (await hers.ok("GET", "/v1/me/vouchers", params={"status": "issued"}))["items"] == []
    await hers.refused("GET", f"/v1/me/vouchers/{issued.id(2)}", status=404, code="not_found")


async def test_a_second_redemption_is_told_when_the_first_was_and_a_repeat_gets_its_answer(
    session: AsyncSession, desk: Client, issued: Issued
) -> None:
    other = await make_station(session)
    await session.commit()
    key = _key()
    first = await desk.ok("POST", _REDEEM, json=issued.body(), headers=key)
    again = await desk.post(_REDEEM, json=issued.body(), headers=key)
    assert again.json() == first
    assert again.headers["Idempotency-Replayed"] == "true"
    problem = await desk.refused(
        "POST", _REDEEM, json=issued.body(), headers=_key(), status=409, code="voucher_redeemed"
    )
    assert problem["redeemed_at"] == first["redeemed_at"]
    elsewhere = issued.body(station_id=str(other.id))
    await desk.refused(
        "POST", _REDEEM, json=elsewhere, headers=_key(), status=403, code="voucher_refused"
    )


async def test_what_cannot_be_redeemed_is_refused_in_the_same_words(
    desk: Client, issued: Issued, session: AsyncSession, database: Database
) -> None:
    await session.execute(
        text("update vouchers set valid_until_on = '2026-01-01' where line_no = 1")
    )
    await session.execute(text("update payouts set status = 'held' where line_no = 2"))
    foreign = voucher_codes.make()
    await session.commit()
    problems = []
    for body in (issued.body(1), issued.body(2), issued.body(code=foreign)):
        problem = await desk.refused(
            "POST", _REDEEM, json=body, headers=_key(), status=403, code="voucher_refused"
        )
        problems.append({k: v for k, v in problem.items() if k not in {"instance", "request_id"}})
    assert problems[0] == problems[1] == problems[2]
    assert not any(code in str(problems) for code in (*issued.codes, foreign))
    await session.execute(text("update payouts set status = 'pending' where line_no = 2"))
    await session.commit()
    await desk.ok("POST", _REDEEM, json=issued.body(2), headers=_key())
    await agree(database)


@pytest_asyncio.fixture
async def far_town(owner: Database) -> AsyncIterator[str]:
    """A town of another district, which is forgotten after the test."""
    code = "440606101000"
    await owner.pool.execute(
        "insert into areas (code, name, level, parent_code)"
        f" select '{code}', '外镇', level, parent_code from areas where code = '{SHISHAN}'"
    )
    yield code
    await owner.pool.execute("truncate service_stations cascade")
    await owner.pool.execute(f"delete from areas where code = '{code}'")


async def test_a_code_of_another_district_redeems_nothing(
    client: Callable[..., Client], session: AsyncSession, issued: Issued, far_town: str
) -> None:
    far = "440606000000"
    station = await make_station(session, district_code=far, area_code=far_town)
    await session.commit()
    desk = client(Role.GUIDE, district_code=far, areas=[far_town])
    body = issued.body(station_id=str(station.id))
    await desk.refused(
        "POST", _REDEEM, json=body, headers=_key(), status=403, code="voucher_refused"
    )


@pytest.mark.parametrize("slip", ["one symbol", "two changed places", "too short", "no code"])
async def test_a_slip_of_the_pen_is_told_and_counts_as_no_guess(
    desk: Client, issued: Issued, session: AsyncSession, slip: str
) -> None:
    code = issued.codes[0]
    at = next(n for n in range(15) if code[n] != code[n + 1])
    wrong = {
        "one symbol": ("1" if code[0] == "0" else "0") + code[1:],
        "two changed places": code[:at] + code[at + 1] + code[at] + code[at + 2 :],
        "too short": code[1:],
        "no code": "你好",
    }[slip]
    problem = await desk.refused(
        "POST", _REDEEM, json=issued.body(code=wrong), headers=_key(), status=422, code="invalid"
    )
    assert pointers(problem) == ["/code"]
    assert problem["errors"][0]["code"] == "voucher_code_mistyped"
    assert await session.scalar(text("select count(*) from code_limits")) == 0


async def test_guessing_ends_for_its_caller_alone(
    client: Callable[..., Client], desk: Client, issued: Issued, session: AsyncSession
) -> None:
    for _ in range(MOST_WRONG):
        guess = issued.body(code=voucher_codes.make())
        await desk.refused(
            "POST", _REDEEM, json=guess, headers=_key(), status=403, code="voucher_refused"
        )
    answer = await desk.post(_REDEEM, json=issued.body(), headers=_key())
    assert (answer.status_code, answer.json()["code"]) == (429, "voucher_guesses")
    assert 3500 < int(answer.headers["Retry-After"]) <= 3601
    counted = await session.scalar(text("select taken from code_limits where kind = 'voucher'"))
    assert counted == MOST_WRONG
    colleague = client(Role.GUIDE, areas=[SHISHAN], subject="another")
    await colleague.ok("POST", _REDEEM, json=issued.body(), headers=_key())
    await session.execute(
        text("update code_limits set window_started_at = window_started_at - interval '1 hour'")
    )
    await session.commit()
    await desk.ok("POST", _REDEEM, json=issued.body(2), headers=_key())


async def test_a_station_is_open_and_within_reach(
    client: Callable[..., Client], session: AsyncSession, desk: Client, issued: Issued
) -> None:
    neighbour = client(Role.GUIDE, areas=[GUICHENG], subject="neighbour")
    problem = await neighbour.refused(
        "POST", _REDEEM, json=issued.body(), headers=_key(), status=422, code="invalid"
    )
    assert problem["errors"][0]["code"] == "unknown_reference"
    closed = await make_station(session, status="closed")
    await session.commit()
    body = issued.body(station_id=str(closed.id))
    await desk.refused(
        "POST", _REDEEM, json=body, headers=_key(), status=409, code="station_closed"
    )


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.GUIDE, Role.MEMBER}))
async def test_only_the_desk_redeems(
    client: Callable[..., Client], issued: Issued, role: Role
) -> None:
    caller = client(role)
    await caller.refused(
        "POST", _REDEEM, json=issued.body(), headers=_key(), status=403, code="forbidden"
    )
    await client(Role.GUIDE, employer_linked=True, subject="linked").refused(
        "POST", _REDEEM, json=issued.body(), headers=_key(), status=403, code="forbidden"
    )


async def test_a_key_is_needed(desk: Client, issued: Issued) -> None:
    await desk.refused(
        "POST", _REDEEM, json=issued.body(), status=400, code="idempotency_key_required"
    )


async def test_cash_and_vouchers_of_one_run_go_their_own_ways(
    clerk: Client, session: AsyncSession, keyring: Keyring, desk: Client, database: Database
) -> None:
    issued = await make_issued(session, keyring, [make_cash(), make_voucher()], members=2)
    await session.commit()
    path = f"/v1/payout-runs/{issued.run.id}"
    sheet = (await clerk.get(f"{path}/cash-list", params={"format": "csv"})).text
    assert "合计笔数,2" in sheet
    assert "50.00" not in sheet
    found = await clerk.ok("GET", f"{path}/payouts")
    lines = {each["line_no"]: each["amount_fen"] for each in found["items"]}
    results = [{"line_no": line_no, "outcome": "paid"} for line_no in lines]
    answers = await clerk.ok("POST", f"{path}/results", json={"results": results})
    for answer in answers["items"]:
        if lines[answer["ref"]] == 5000:
            assert answer["problem"]["code"] == "payout_by_voucher"
        else:
            assert answer["status"] == "recorded"
    assert len(issued.codes) == 2
    await desk.ok("POST", _REDEEM, json=issued.body(), headers=_key())
    line_no = next(number for number, fen in lines.items() if fen == 5000)
    await clerk.refused(
        "POST",
        f"/v1/payouts/{issued.id(line_no)}/return",
        json={"reason": "误"},
        headers=_key(),
        status=409,
        code="payout_by_voucher",
    )
    await agree(database)


async def test_a_voucher_that_is_not_open_is_not_cancelled(
    clerk: Client, desk: Client, issued: Issued, session: AsyncSession, database: Database
) -> None:
    await desk.ok("POST", _REDEEM, json=issued.body(), headers=_key())
    await hold_lines(session, 2)
    await session.commit()
    options: dict[str, Any] = {"json": {"reason": "误"}}
    for line_no in (1, 2):
        path = f"/v1/vouchers/{issued.id(line_no)}/cancel"
        await clerk.refused(
            "POST", path, headers=_key(), status=409, code="voucher_closed", **options
        )
    unknown = f"/v1/vouchers/{issued.id(99)}/cancel"
    await clerk.refused("POST", unknown, headers=_key(), status=404, code="not_found", **options)
    path = f"/v1/vouchers/{issued.id(3)}/cancel"
    await clerk.ok("POST", path, headers=_key(), status=204, **options)
    payout = await clerk.ok("GET", f"/v1/payouts/{issued.id(3)}")
    assert (payout["status"], payout["failure_reason"]) == ("failed", "误")
    body = issued.body(3)
    await desk.refused(
        "POST", _REDEEM, json=body, headers=_key(), status=403, code="voucher_refused"
    )
    await agree(database)


async def test_the_voucher_of_an_erased_member_is_worth_nothing_and_its_money_is_free(
    client: Callable[..., Client], issued: Issued, session: AsyncSession, database: Database
) -> None:
    officer, clerk = client(Role.DISTRICT_OFFICER), client(Role.FINANCE_CLERK)
    desk = client(Role.GUIDE, areas=[SHISHAN])
    member = issued.members[0]
    path = f"/v1/members/{member.id}"
    shown = await officer.ok("GET", path)
    await officer.ok("POST", f"{path}/erase", headers=if_match(shown))
    await desk.refused(
        "POST", _REDEEM, json=issued.body(), headers=_key(), status=403, code="voucher_refused"
    )
    sealed = "select code_sealed is null and status = 'cancelled' from vouchers where line_no = 1"
    assert await session.scalar(text(sealed))
    await agree(database)
    for line_no in (2, 3):
        await desk.ok("POST", _REDEEM, json=issued.body(line_no), headers=_key())
    run = await clerk.ok("GET", f"/v1/payout-runs/{issued.run.id}")
    await clerk.ok("POST", f"/v1/payout-runs/{run['id']}/settle", headers=if_match(run))
    fund = await clerk.ok("GET", f"/v1/funds/{issued.thanks.fund.id}")
    assert (fund["reserved_fen"], fund["spent_fen"]) == (0, 10_000)
    await agree(database)
    run = await clerk.ok("GET", f"/v1/payout-runs/{run['id']}")
    approver = client(Role.FINANCE_APPROVER)
    closed = await approver.ok("POST", f"/v1/payout-runs/{run['id']}/close", headers=if_match(run))
    assert closed["status"] == "closed"
    await agree(database)


async def test_an_erasure_waits_for_a_voucher_that_is_held(
    officer: Client, issued: Issued, session: AsyncSession
) -> None:
    await session.execute(text("update payouts set status = 'held' where line_no = 1"))
    await session.commit()
    path = f"/v1/members/{issued.members[0].id}"
    shown = await officer.ok("GET", path)
    await officer.refused(
        "POST", f"{path}/erase", headers=if_match(shown), status=409, code="erasure_blocked"
    )
    assert await session.scalar(text("select count(*) from vouchers where status = 'issued'")) == 3


async def test_who_takes_her_consents_back_keeps_what_she_was_thanked_with(
    client: Callable[..., Client], session: AsyncSession, keyring: Keyring, desk: Client
) -> None:
    thanks = await make_thanks(session, [make_voucher()], members=1)
    known = await make_member_with_phone(session, keyring, thanks.association, make_phone(1))
    await make_attendance(session, thanks.event, known)
    run = await make_granted_run(session, thanks)
    await voucher_issuing.issue(session, keyring, run, now=clock.now())
    station = await make_station(session)
    await session.commit()
    hers = _as(client, known)
    for purpose in (await hers.ok("GET", "/v1/me"))["consents"]:
        await hers.ok("POST", "/v1/me/consents/withdraw", json={"purpose": purpose})
    (voucher,) = (await hers.ok("GET", "/v1/me/vouchers"))["items"]
    body = {"code": voucher["code"], "station_id": str(station.id)}
    await desk.ok("POST", _REDEEM, json=body, headers=_key())


async def test_what_a_redemption_did_is_in_the_audit_and_no_code_is(
    desk: Client, issued: Issued, owner: Database
) -> None:
    await desk.ok("POST", _REDEEM, json=issued.body(), headers=_key())
    entries = await owner.pool.fetch("select entry::text from audit_unsealed")
    told = [row["entry"] for row in entries if "redeem_voucher" in row["entry"]]
    assert len(told) == 1
    assert issued.codes[0] not in told[0]
    assert str(issued.members[0].id).replace("-", "") in told[0].replace("-", "")


async def test_the_database_alone_tells_no_code(issued: Issued, owner: Database) -> None:
    rows = await owner.pool.fetch("select v::text as row from vouchers v")
    held = " ".join(row["row"] for row in rows)
    for code in issued.codes:
        assert code not in held
        assert code.encode().hex() not in held
    assert DISTRICT in held
