"""Payouts over HTTP: listed and read by those who pay, out of everybody else's sight."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import payout_id, run_and_line
from app.roles import Role
from app.services.audit.audit_seals import UNSEALED
from tests.factories.callers import GUICHENG, SHISHAN, Client, idempotency_key
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.disbursement.payouts import known_id
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_PAYOUTS = "/v1/payouts"


@pytest_asyncio.fixture
async def thanks(session: AsyncSession) -> Thanks:
    return await make_thanks(session, [make_cash(), make_gift(quantity=2)])


@pytest_asyncio.fixture
async def run(session: AsyncSession, thanks: Thanks) -> PayoutRun:
    run = await make_granted_run(session, thanks)
    await session.commit()
    return run


@pytest.fixture
def clerk(client: Callable[..., Client]) -> Client:
    return client(Role.FINANCE_CLERK)


async def _listed(caller: Client, **params: str) -> list[dict[str, Any]]:
    """Give all pages of a list."""
    items: list[dict[str, Any]] = []
    while True:
        page = await caller.ok("GET", _PAYOUTS, params=params)
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        params["cursor"] = page["next_cursor"]


async def test_a_payout_is_read_by_the_id_of_its_line(clerk: Client, run: PayoutRun) -> None:
    listed = await _listed(clerk)
    assert [item["line_no"] for item in listed] == [1, 2, 3, 4]
    for item in listed:
        assert await clerk.ok("GET", f"{_PAYOUTS}/{item['id']}") == item
    assert {item["run_id"] for item in listed} == {str(run.id)}


async def test_the_audit_names_a_payout_by_an_id_that_outlasts_the_key(
    clerk: Client, owner: Database, run: PayoutRun
) -> None:
    (item, *_) = await _listed(clerk, run_id=str(run.id))
    path, inside = f"{_PAYOUTS}/{item['id']}", str(payout_id(run.id, item["line_no"]))
    assert item["id"] != inside
    await clerk.ok("GET", path)
    noted = f"select object_ids from ({UNSEALED}) e where act = 'get_payout'"
    assert [row["object_ids"] for row in await owner.pool.fetch(noted)] == [[inside]]


async def test_a_payout_says_what_is_given_and_never_what_was_attended(
    clerk: Client, run: PayoutRun, thanks: Thanks
) -> None:
    first, second = await _listed(clerk, member_id=str(thanks.members[0].id))
    common = {
        "run_id": str(run.id),
        "round_sequence": 1,
        "member_id": str(thanks.members[0].id),
        "association_id": str(thanks.association.id),
        "streak": 1,
        "status": "pending",
        "failure_reason": None,
        "settled_at": None,
        "statement": "协会福利",
    }
    cash, gift = sorted((first, second), key=lambda item: str(item["rule_code"]))
    named = {name: cash.pop(name) for name in ("id", "line_no", "rule_id")}
    assert str(run.id)[:26] == named["id"][:26]
    assert cash == common | {
        "rule_code": "subsidy", "amount_fen": 1000, "gift_item": None, "quantity": 0,
    }  # fmt: skip
    assert gift.items() >= {"amount_fen": 0, "gift_item": "毛巾", "quantity": 2}.items()


async def test_every_line_of_a_long_run_has_an_id_of_its_own(
    clerk: Client, session: AsyncSession
) -> None:
    thanks = await make_thanks(session, members=70)
    run = await make_granted_run(session, thanks)
    await session.commit()
    listed = await _listed(clerk, run_id=str(run.id), limit="30")
    assert [item["line_no"] for item in listed] == list(range(1, 71))
    for item in listed[30:36] + listed[-3:]:
        assert await clerk.ok("GET", f"{_PAYOUTS}/{item['id']}") == item


async def test_what_is_no_line_is_not_found(
    clerk: Client, run: PayoutRun, keyring: Keyring
) -> None:
    for line_no in (0, 5, 33, 2**31, 2**40 - 1):
        path = f"{_PAYOUTS}/{known_id(keyring, run.id, line_no)}"
        await clerk.refused("GET", path, status=404, code="not_found")
    await clerk.refused("GET", f"{_PAYOUTS}/{clock.new_id()}", status=404, code="not_found")


async def test_payouts_are_narrowed_by_each_filter(
    clerk: Client, session: AsyncSession, thanks: Thanks, run: PayoutRun
) -> None:
    second = await make_round(session, 2)
    event = await make_event(session, second)
    neighbour = await make_association(session, "village")
    member = await make_member(session, neighbour)
    await make_attendance(session, event, member)
    later = await make_granted_run(session, replace(thanks, round=second))
    await session.commit()
    body = {"results": [{"line_no": 1, "outcome": "paid"}]}
    await clerk.ok("POST", f"/v1/payout-runs/{run.id}/results", json=body)

    assert [item["round_sequence"] for item in await _listed(clerk)] == [1, 1, 1, 1, 2, 2]
    for params, count in (
        ({"run_id": str(later.id)}, 2),
        ({"run_id": str(clock.new_id())}, 0),
        ({"status": "paid"}, 1),
        ({"status": "paid,pending"}, 6),
        ({"association_id": str(neighbour.id)}, 2),
        ({"member_id": str(thanks.members[1].id)}, 2),
        ({"member_id": str(member.id), "run_id": str(run.id)}, 0),
    ):
        assert len(await _listed(clerk, **params)) == count, params
    of_run = f"/v1/payout-runs/{run.id}/payouts"
    for params, count in (
        ({"status": "pending"}, 3),
        ({"association_id": str(neighbour.id)}, 0),
        ({"member_id": str(thanks.members[1].id)}, 2),
    ):
        page = await clerk.ok("GET", of_run, params=params | {"include_total": "true"})
        assert page["total"] == len(page["items"]) == count, params


async def test_payouts_beyond_reach_are_not_found(
    client: Callable[..., Client], clerk: Client, session: AsyncSession, thanks: Thanks
) -> None:
    distant = await make_association(session, "village", area_code="440605011001")
    member = await make_member(session, distant)
    await make_attendance(session, thanks.event, member)
    await make_granted_run(session, thanks)
    await session.commit()
    everything = await _listed(clerk)
    theirs = [item for item in everything if item["member_id"] == str(member.id)]
    town = client(Role.FINANCE_CLERK, areas=[GUICHENG])

    assert (len(everything), len(theirs)) == (6, 2)
    assert await _listed(town) == theirs
    assert await town.ok("GET", f"{_PAYOUTS}/{theirs[0]['id']}") == theirs[0]
    for outsider in (
        client(Role.FINANCE_CLERK, areas=[SHISHAN]),
        client(Role.AUDITOR, district_code="440604000000"),
    ):
        path = f"{_PAYOUTS}/{theirs[0]['id']}"
        await outsider.refused("GET", path, status=404, code="not_found")
        assert await _listed(outsider, member_id=str(member.id)) == []


@pytest.mark.parametrize(
    "role",
    [
        Role.MEMBER,
        Role.SECRETARY,
        Role.GUIDE,
        Role.EVENT_STAFF,
        Role.DATA_PLATFORM,
        Role.OPERATIONS,
    ],
)
async def test_the_employers_side_sees_no_payout(
    client: Callable[..., Client], clerk: Client, thanks: Thanks, run: PayoutRun, role: Role
) -> None:
    (item, *_) = await _listed(clerk, run_id=str(run.id))
    caller = client(
        role,
        member_id=item["member_id"],
        associations=[str(thanks.association.id)],
        events=[str(thanks.event.id)],
    )
    for path in (_PAYOUTS, f"{_PAYOUTS}/{item['id']}", f"{_PAYOUTS}/{clock.new_id()}"):
        await caller.refused("GET", path, status=403, code="forbidden")


async def test_an_id_tells_neither_members_nor_desks_how_many_lines_lie_between(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    """Two lines with a gap would tell that somebody between them was paid for a health check."""
    rules = [make_cash("exam"), make_gift("heard", event_kind="lecture")]
    thanks = await make_thanks(session, rules)
    day = datetime(2024, 2, 12, 1, tzinfo=UTC)
    lecture = await make_event(session, starts_at=day, ends_at=day.replace(hour=3))
    for member in thanks.members:
        await make_attendance(session, lecture, member)
    await make_granted_run(session, thanks)
    await session.commit()
    desk = client(Role.SECRETARY, associations=[str(thanks.association.id)])
    for member in thanks.members:
        herself = client(Role.MEMBER, member_id=str(member.id))
        hers = {each["id"] for each in (await herself.ok("GET", "/v1/me/payouts"))["items"]}
        [due] = (await desk.ok("GET", f"/v1/members/{member.id}/due-gifts"))["items"]
        assert due["payout_id"] in hers
        assert len(hers) == 2
        assert all(run_and_line(UUID(each))[1] > 10**6 for each in hers)


async def test_by_a_line_number_nobody_finds_whose_it_is(
    client: Callable[..., Client], thanks: Thanks, run: PayoutRun
) -> None:
    herself = client(Role.MEMBER, member_id=str(thanks.members[0].id))
    desk = client(Role.SECRETARY, associations=[str(thanks.association.id)])
    for line_no in range(1, 5):
        line = f"/{payout_id(run.id, line_no)}"
        for caller, path, body in (
            (herself, f"/v1/me/payouts{line}/dispute", {"kind": "not_me"}),
            (desk, f"{_PAYOUTS}{line}/hand-out", {"member_id": str(thanks.members[0].id)}),
        ):
            key = idempotency_key(f"line-{line_no}")
            await caller.refused("POST", path, json=body, headers=key, status=404, code="not_found")
