"""Published accounts over HTTP: from a closed month, in tens, and never changed."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, transaction
from app.models.disbursement.payout_runs import RunStatus
from app.models.disbursement.payouts import PayoutOutcome, ResultLine
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.accounting import books
from app.services.disbursement import payouts
from tests.factories.callers import (
    DISTRICT,
    SHISHAN,
    Client,
    idempotency_key,
    if_match,
    make_caller,
)
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.events.service_events import make_event
from tests.factories.finance.funds import TODAY, agree, make_fund
from tests.factories.incentives.incentive_policies import make_cash
from tests.factories.membership.members import make_member

_LAST = (TODAY.replace(day=1) - timedelta(days=1)).replace(day=1)
_MONTH = f"{_LAST:%Y-%m}"
_RULES = (
    make_cash("exam", amount_fen=1000, town_bp=5000, district_bp=5000),
    make_cash("lecture", event_kind="lecture", amount_fen=500),
)


class Association:
    """An association: some of its members came to a check, and a few of them to a lecture too."""

    def __init__(self, thanks: Thanks, client: Callable[..., Client]) -> None:
        self.thanks = thanks
        self.clerk = client(Role.FINANCE_CLERK)
        self.approver = client(Role.FINANCE_APPROVER)
        self.path = f"/v1/associations/{thanks.association.id}/accounts"

    async def close(self) -> None:
        body = {"area_code": DISTRICT, "month": _MONTH}
        month = await self.clerk.ok(
            "POST", "/v1/month-closes", status=201, json=body, headers=idempotency_key("m")
        )
        path = f"/v1/month-closes/{month['id']}/close"
        await self.approver.ok("POST", path, headers=if_match(month))

    async def publish(self, **facts: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.clerk.ok(
            "POST",
            self.path,
            status=201,
            json={"month": _MONTH} | facts,
            headers=idempotency_key(clock.new_id()),
        )
        return made


@pytest_asyncio.fixture
async def paid(session: AsyncSession, client: Callable[..., Client]) -> Association:
    """Give an association of which twelve came to a check and three of them to a lecture."""
    return await _paid(session, client, _RULES, members=12, lectures=3)


async def _paid(
    session: AsyncSession,
    client: Callable[..., Client],
    rules: Sequence[dict[str, Any]],
    *,
    members: int,
    lectures: int,
    beside: int = 10,
) -> Association:
    """Pay by rules those who came to a check, of whom some were at a lecture; others did not."""
    thanks = await make_thanks(session, rules, members=members)
    for _ in range(beside):
        await make_member(session, thanks.association, created_at=_known(thanks))
    await make_fund(session, 10**6, source="town", area_code=SHISHAN, fiscal_year=2024)
    lecture = await make_event(session, starts_at=thanks.event.starts_at, status="closed")
    for member in thanks.members[:lectures]:
        await make_attendance(session, lecture, member)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING, calculated_at=clock.now())
    lines = await payouts.lines_of(session, run, range(1, run.payout_count + 1))
    results = [ResultLine(line_no=n, outcome=PayoutOutcome.PAID, reason=None) for n in lines]
    await payouts.record(session, make_caller(), run, lines=lines, results=results, now=clock.now())
    await session.commit()
    # What happened today is moved into the month before, which is over.
    await session.execute(text("update transfers set occurred_on = :day"), {"day": _LAST})
    await session.commit()
    return Association(thanks, client)


def _known(thanks: Thanks) -> datetime:
    """Give when a member was entered who was known as the round began."""
    return thanks.event.starts_at - timedelta(days=1)


async def test_accounts_say_what_was_received_for_what_and_from_whom(
    paid: Association, database: Database
) -> None:
    await paid.close()
    told = await paid.publish()
    assert told["total"] == {"people": 12, "amount_fen": 13500}
    assert told["by_kind"] == [
        {"people": 12, "amount_fen": 12000, "event_kind": "health_exam"},
        {"people": 3, "amount_fen": 1500, "event_kind": "lecture"},
    ]
    assert told["by_source"] == [
        {"people": 12, "amount_fen": 7500, "source": "district"},
        {"people": 12, "amount_fen": 6000, "source": "town"},
    ]
    page = await paid.clerk.ok("GET", paid.path)
    assert page["items"] == [told]
    await agree(database)


@pytest.mark.parametrize(
    "role", [Role.MEMBER, Role.SECRETARY, Role.TOWN_OFFICER, Role.GUIDE, Role.DATA_PLATFORM]
)
async def test_who_may_not_read_the_records_is_told_in_tens(
    paid: Association, client: Callable[..., Client], role: Role
) -> None:
    await paid.close()
    await paid.publish()
    association, member = paid.thanks.association, paid.thanks.members[0]
    reader = client(
        role,
        employer_linked=role is Role.TOWN_OFFICER,
        **({"associations": [association.id], "areas": []} if role is Role.SECRETARY else {}),
        **({"member_id": member.id, "areas": []} if role is Role.MEMBER else {}),
    )
    [told] = (await reader.ok("GET", paid.path))["items"]
    assert told["total"] == {"people": 10, "amount_fen": None}
    # What three received for the lecture would follow from the other kind.
    assert told["by_kind"] == told["by_source"] == []
    if role is Role.MEMBER:
        assert await reader.ok("GET", "/v1/me/accounts", params={"month": told["month"]}) == {
            "items": [told],
            "next_cursor": None,
            "total": None,
        }


async def _pay_later(session: AsyncSession, lectures: int) -> None:
    """Move what some received for the lecture into the month that goes on."""
    await session.execute(
        text(
            "update transfers set occurred_on = :day where kind = 'pay' and line_no in (select"
            " line_no from transfers where kind = 'pay' group by line_no"
            " having sum(amount_fen) = 500 order by line_no limit :lectures)"
        ),
        {"day": TODAY, "lectures": lectures},
    )
    await session.commit()


async def test_what_ten_received_is_told_in_round_figures(
    paid: Association, client: Callable[..., Client], session: AsyncSession
) -> None:
    await _pay_later(session, 3)
    await paid.close()
    published = await paid.publish()
    of_exam = {"event_kind": "health_exam"}
    assert published["by_kind"] == [{"people": 12, "amount_fen": 12000, **of_exam}]
    [told] = (await client(Role.GUIDE).ok("GET", paid.path))["items"]
    assert told["total"] == {"people": 10, "amount_fen": 10000}
    assert told["by_kind"] == [{"people": 10, "amount_fen": 10000, **of_exam}]


@pytest.mark.parametrize(("members", "beside"), [(10, 0), (12, 1), (20, 9), (20, 10)])
async def test_of_almost_all_members_nothing_is_told(
    client: Callable[..., Client], session: AsyncSession, members: int, beside: int
) -> None:
    """The secretary of ten would know of each of them, had ten received for a check."""
    rules = [make_cash("exam", amount_fen=1000)]
    paid = await _paid(session, client, rules, members=members, lectures=0, beside=beside)
    known = {"created_at": _known(paid.thanks)}
    for _ in range(10):
        # Who could not have received anything, as everybody knows.
        for facts in (
            {"created_at": paid.thanks.event.starts_at},  # entered when the round had begun
            known | {"thanks_withdrawn_on": TODAY},
        ):
            await make_member(session, paid.thanks.association, **facts)
    await session.commit()
    await paid.close()
    await paid.publish()
    secretary = client(Role.SECRETARY, associations=[paid.thanks.association.id], areas=[])
    [told] = (await secretary.ok("GET", paid.path))["items"]
    people = None if beside < 10 else members
    assert told["total"] == {"people": people, "amount_fen": people and people * 1000}
    assert (told["by_kind"] == []) == (beside < 10)
    [exact] = (await paid.clerk.ok("GET", paid.path))["items"]
    assert exact["total"] == {"people": members, "amount_fen": members * 1000}


async def test_who_is_made_to_leave_or_consents_after_the_round_changes_nothing_of_what_is_told(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    rules = [make_cash("exam", amount_fen=1000)]
    paid = await _paid(session, client, rules, members=20, lectures=0, beside=10)
    left = "update memberships set left_on = joined_on, left_recorded_at = now()"
    await session.execute(text(left))
    await session.commit()
    await paid.close()
    await paid.publish()
    [told] = (await client(Role.GUIDE).ok("GET", paid.path))["items"]
    assert told["total"] == {"people": 20, "amount_fen": 20_000}
    await session.execute(text("delete from published_accounts"))
    await session.execute(text("update policy_versions set consent_required = true"))
    await session.execute(text("update consents set recorded_at = now()"))
    await session.commit()
    await paid.publish()
    [told] = (await client(Role.GUIDE).ok("GET", paid.path))["items"]
    assert told["total"] == {"people": None, "amount_fen": None}


async def test_two_months_that_pay_a_round_do_not_add_up_to_all(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    rules = [make_cash("exam", amount_fen=1000)]
    paid = await _paid(session, client, rules, members=40, lectures=0, beside=0)
    await session.execute(
        text("update transfers set occurred_on = :day where kind = 'pay' and line_no > 20"),
        {"day": TODAY},
    )
    await session.commit()
    await paid.close()
    await paid.publish()
    [told] = (await client(Role.GUIDE).ok("GET", paid.path))["items"]
    assert told["total"] == {"people": None, "amount_fen": None}


async def test_what_was_not_told_is_not_told_by_a_correction_of_the_same_figures(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    rules = [make_cash("exam", amount_fen=1000)]
    paid = await _paid(session, client, rules, members=20, lectures=0, beside=0)
    await paid.close()
    await paid.publish()
    for _ in range(10):
        known = {"created_at": _known(paid.thanks)}
        await make_member(session, paid.thanks.association, **known)
    await session.commit()
    await paid.publish(correction="来源写错")
    editions = (await client(Role.GUIDE).ok("GET", paid.path))["items"]
    assert [each["total"]["people"] for each in editions] == [None, None]


@pytest.mark.parametrize("price", [10_000, 33_300])
async def test_amounts_are_of_whole_tens_of_people_whatever_each_received(
    client: Callable[..., Client], session: AsyncSession, price: int
) -> None:
    """Eleven came to a check, and each got more than a figure could be rounded by."""
    half = {"town_bp": 5000, "district_bp": 5000}
    rules = [make_cash("exam", amount_fen=price, **half), make_cash("more", amount_fen=100, **half)]
    paid = await _paid(session, client, rules, members=11, lectures=0)
    await paid.close()
    exact = await paid.publish()
    assert exact["total"] == {"people": 11, "amount_fen": 11 * (price + 100)}
    [told] = (await client(Role.GUIDE).ok("GET", paid.path))["items"]
    in_tens = {"people": 10, "amount_fen": 10 * (price + 100)}
    assert told["total"] == in_tens
    assert told["by_kind"] == [in_tens | {"event_kind": "health_exam"}]
    halves = {"people": 10, "amount_fen": 5 * (price + 100)}
    assert told["by_source"] == [halves | {"source": each} for each in ("district", "town")]


async def test_an_edition_that_differs_by_few_tells_what_the_former_told(
    paid: Association, client: Callable[..., Client], session: AsyncSession
) -> None:
    await _pay_later(session, 3)
    await paid.close()
    await paid.publish()
    # As if one lecture had been in the month after all: a rule of one person, nothing is told.
    await session.execute(
        text(
            "update transfers set occurred_on = :day where kind = 'pay' and line_no ="
            " (select max(line_no) from transfers where occurred_on = :today and kind = 'pay')"
        ),
        {"day": _LAST, "today": TODAY},
    )
    await session.commit()
    await paid.publish(correction="补记一人")
    exact = (await paid.clerk.ok("GET", paid.path))["items"]
    assert [len(each["by_kind"]) for each in exact] == [2, 1]
    later, former = (await client(Role.GUIDE).ok("GET", paid.path))["items"]
    assert later["total"] == former["total"] == {"people": 10, "amount_fen": 10000}
    assert later["by_kind"] == former["by_kind"]


async def test_accounts_are_published_from_a_closed_month(paid: Association) -> None:
    await paid.clerk.refused(
        "POST",
        paid.path,
        status=409,
        code="month_not_closed",
        json={"month": _MONTH},
        headers=idempotency_key("p"),
    )


async def test_a_correction_is_another_edition_with_a_reason(paid: Association) -> None:
    await paid.close()
    first = await paid.publish()
    for body in ({"month": _MONTH}, {"month": "2020-01", "correction": "x"}):
        await paid.clerk.refused(
            "POST",
            paid.path,
            status=422 if body["month"] == _MONTH else 409,
            code="invalid" if body["month"] == _MONTH else "month_not_closed",
            json=body,
            headers=idempotency_key(body["month"]),
        )
    second = await paid.publish(correction="来源写错")
    page = await paid.clerk.ok("GET", paid.path, params={"month": _MONTH})
    assert page["items"] == [second, first]
    assert (second["number"], second["correction"]) == (2, "来源写错")


async def test_the_books_tell_of_figures_that_are_not_the_ledgers(
    paid: Association, session: AsyncSession, database: Database
) -> None:
    await paid.close()
    await paid.publish()
    await session.execute(
        text("update published_accounts set figures = replace(figures, '13500', '13400')")
    )
    await session.commit()
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as checking:
        found = await books.check(checking, district_code=DISTRICT)
    assert {each.question for each in found} == {"published_accounts"}
