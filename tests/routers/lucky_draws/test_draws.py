"""`/v1/draws`: what is promised, who may do which step, and a whole draw that anyone repeats."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import RunStatus
from app.models.lucky_draws.draws import Draw, DrawStatus
from app.roles import Role
from app.services.lucky_draws import draw_protocol
from tests.examples import verified
from tests.factories.callers import SHISHAN, Client, idempotency_key, if_match
from tests.factories.disbursement.payout_runs import make_granted_run, make_run, make_thanks
from tests.factories.events.exam_rounds import make_round
from tests.factories.finance.funds import agree
from tests.factories.incentives.incentive_policies import make_cash, make_policy, make_ticket
from tests.factories.lucky_draws.draws import SEED, draw_body, make_draw, make_tickets
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_BEACON = {"beacon_value": "03 08 14 21 27 33"}
_ENTRY = _BEACON | {"beacon_source": "公告"}


async def _prepare(officer: Client, body: dict[str, Any]) -> Any:
    headers = idempotency_key(clock.new_id())
    return await officer.ok("POST", "/v1/draws", status=201, json=body, headers=headers)


async def _step(caller: Client, draw: dict[str, Any], step: str, body: Any = None) -> Any:
    path = f"/v1/draws/{draw['id']}/{step}"
    return await caller.ok("POST", path, json=body, headers=if_match(draw))


async def _refused(caller: Client, draw: dict[str, Any], step: str, body: Any = None) -> Any:
    path = f"/v1/draws/{draw['id']}/{step}"
    answer = await caller.post(path, json=body, headers=if_match(draw))
    return answer.json()["code"]


async def _let_pass(session: AsyncSession, hours: float) -> None:
    """Let time go by for all draws: what they wait for comes so much sooner."""
    moved = ", ".join(
        f"{name} = {name} - cast(:by as interval)"
        for name in ("created_at", "opened_at", "closes_at", "closed_at", "beacon_at")
    )
    await session.execute(text(f"update draws set {moved}"), {"by": timedelta(hours=hours)})
    await session.commit()


async def _many(session: AsyncSession, status: DrawStatus, count: int = 6, **facts: Any) -> Draw:
    association = await make_association(session)
    held = await make_round(session)
    members = [await make_member(session, association, name=f"会员{n}") for n in range(count)]
    tickets = list(zip(make_tickets(count), members, strict=True))
    draw = await make_draw(session, held, status, tickets=tickets, **facts)
    await session.commit()
    return draw


async def test_a_draw_from_its_promise_to_its_last_prize(
    officer: Client,
    client: Callable[..., Client],
    session: AsyncSession,
    database: Database,
) -> None:
    rules = [make_cash(), make_ticket(quantity=2)]
    thanks = await make_thanks(session, rules, members=10)
    run = await make_granted_run(session, thanks, RunStatus.APPROVED)
    run.payout_count, run.amount_fen = 20, 10_000
    for _ in range(10):  # who did not come
        await make_member(
            session, thanks.association, created_at=thanks.event.starts_at - timedelta(days=1)
        )
    await session.commit()
    clerk, approver = client(Role.FINANCE_CLERK), client(Role.FINANCE_APPROVER)
    member = client(Role.MEMBER, member_id=thanks.members[0].id)
    draw = await _prepare(officer, draw_body(thanks.round))
    assert (draw["status"], draw["commitment"]) == ("draft", None)
    draw = await _step(officer, draw, "commit")
    assert len(draw["commitment"]) == 64
    assert draw["seed"] is None

    url = f"/v1/payout-runs/{run.id}"
    await clerk.ok("POST", f"{url}/disburse", headers=if_match({"version": run.version}))
    summary = await clerk.ok("GET", f"{url}/summary")
    assert (summary["total"]["ticket_quantity"], summary["total"]["gift_quantity"]) == (20, 0)
    assert (summary["total"]["paid_count"], summary["total"]["pending_count"]) == (10, 10)
    mine = (await member.ok("GET", "/v1/me/draw-tickets"))["items"]
    assert len(mine) == 2
    assert {each["draw_status"] for each in mine} == {"open"}
    await agree(database)

    await _let_pass(session, 1.5)
    draw = await _step(officer, draw, "close")
    assert draw["ticket_count"] == 20
    frozen = await member.ok("GET", f"/v1/draws/{draw['id']}/verification")
    assert {each["ticket"] for each in mine} <= set(frozen["tickets"])
    assert frozen["digest"] == draw_protocol.digest(frozen["tickets"])
    await _let_pass(session, 1)
    draw = await _step(officer, draw, "beacon", _ENTRY | {"beacon_value": "03 08 14 21 27  33 "})
    draw = await _step(approver, draw, "draw", _BEACON)
    assert draw["status"] == "drawn"
    assert len(bytes.fromhex(draw["seed"])) == 32

    document = await member.ok("GET", f"/v1/draws/{draw['id']}/verification")
    assert document["commitment"] == frozen["commitment"]
    assert [each["rank"] for each in document["winners"]] == [1, 2, 3, 4]
    assert "member" not in json.dumps(document)
    assert verified(document)
    await agree(database)
    mine = (await member.ok("GET", "/v1/me/draw-tickets"))["items"]
    places = {each["ticket"]: each["rank"] for each in document["winners"]}
    assert {each["ticket"]: each["rank"] for each in mine} == {
        each["ticket"]: places.get(each["ticket"]) for each in mine
    }


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"closes_at": "2026-01-01T00:00:00Z"}, "/closes_at"),
        ({"beacon_at": "2026-01-01T00:00:00Z"}, "/beacon_at"),
        ({"prizes": []}, "/prizes"),
        ({"exam_round_id": "018f0000-0000-7000-8000-000000000000"}, "/exam_round_id"),
        ({"replaces_id": "018f0000-0000-7000-8000-000000000000"}, "/replaces_id"),
        ({"beacon_name": "张三 440605199001011234"}, None),
    ],
)
async def test_a_promise_that_could_not_be_kept_is_refused(
    officer: Client, session: AsyncSession, change: dict[str, Any], pointer: str | None
) -> None:
    held = await make_round(session)
    await session.commit()
    answer = await officer.post(
        "/v1/draws", json=draw_body(held, **change), headers=idempotency_key("d")
    )
    if pointer is not None:
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == pointer


async def test_no_step_comes_before_its_time_or_after_it(
    officer: Client, client: Callable[..., Client], session: AsyncSession
) -> None:
    held = await make_round(session)
    await session.commit()
    approver = client(Role.FINANCE_APPROVER)
    draw = await _prepare(officer, draw_body(held))
    assert await _refused(officer, draw, "close") == "draw_state"
    draw = await _step(officer, draw, "commit")
    assert await _refused(officer, draw, "commit") == "draw_state"
    assert await _refused(officer, draw, "close") == "draw_too_early"
    assert await _refused(officer, draw, "beacon", _ENTRY) == "draw_state"
    await _let_pass(session, 1.5)
    draw = await _step(officer, draw, "close")
    assert await _refused(officer, draw, "beacon", _ENTRY) == "draw_too_early"
    assert await _refused(approver, draw, "draw", _BEACON) == "beacon_not_entered"


async def test_tickets_that_were_not_frozen_before_the_beacon_never_are(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session)
    await session.commit()
    draw = await _step(officer, await _prepare(officer, draw_body(held)), "commit")
    await _let_pass(session, 2.5)
    assert await _refused(officer, draw, "close") == "draw_too_late"
    late = await _prepare(officer, draw_body(held))
    await _step(officer, late, "cancel", {"reason": "另行抽取"})


async def test_a_draft_whose_time_is_over_is_not_opened(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session)
    await session.commit()
    draw = await _prepare(officer, draw_body(held))
    await _let_pass(session, 1.5)
    assert await _refused(officer, draw, "commit") == "draw_too_late"


async def test_an_area_has_one_open_draw_a_round(officer: Client, session: AsyncSession) -> None:
    held = await make_round(session)
    await make_draw(session, held)
    await session.commit()
    draw = await _prepare(officer, draw_body(held))
    assert await _refused(officer, draw, "commit") == "draw_already_open"
    town = await officer.ok(
        "POST",
        "/v1/draws",
        status=201,
        json=draw_body(held, area_code=SHISHAN),
        headers=idempotency_key("town"),
    )
    assert (await _step(officer, town, "commit"))["status"] == "open"


async def test_the_beacon_is_confirmed_by_another_who_read_the_same(
    client: Callable[..., Client], session: AsyncSession, keyring: Keyring
) -> None:
    draw = await _many(session, DrawStatus.CLOSED, keyring=keyring)
    shown: dict[str, Any] = {"id": draw.id, "version": 1}
    both = "both-offices"
    as_officer = client(Role.DISTRICT_OFFICER, subject=both)
    as_approver = client(Role.FINANCE_APPROVER, subject=both)
    opener = client(Role.FINANCE_APPROVER, subject="officer-1")
    approver = client(Role.FINANCE_APPROVER)
    shown = await _step(as_officer, shown, "beacon", _ENTRY)
    assert await _refused(as_approver, shown, "draw", _BEACON) == "beacon_checker_is_maker"
    assert await _refused(opener, shown, "draw", _BEACON) == "beacon_checker_is_maker"
    wrong = {"beacon_value": "01 02 03 04 05 06"}
    assert await _refused(approver, shown, "draw", wrong) == "beacon_mismatch"
    shown = await _step(as_officer, shown, "beacon", _ENTRY | wrong)
    assert await _refused(approver, shown, "draw", _BEACON) == "beacon_mismatch"
    shown = await _step(approver, shown, "draw", wrong)
    assert shown["seed"] == SEED.hex()
    assert await _refused(approver, shown, "draw", wrong) == "draw_state"


async def test_drawing_needs_a_fresh_sign_in(
    client: Callable[..., Client], session: AsyncSession, keyring: Keyring
) -> None:
    draw = await _many(session, DrawStatus.CLOSED, keyring=keyring)
    stale = client(Role.FINANCE_APPROVER, step_up=False)
    answer = await stale.post(
        f"/v1/draws/{draw.id}/draw", json=_BEACON, headers=if_match({"version": 1})
    )
    assert answer.json()["code"] == "insufficient_user_authentication"


async def test_cancelling_reveals_the_seed_and_another_draw_takes_the_tickets(
    officer: Client, session: AsyncSession, keyring: Keyring
) -> None:
    draw = await _many(session, DrawStatus.CLOSED, keyring=keyring)
    shown = await _step(officer, {"id": draw.id, "version": 1}, "cancel", {"reason": "开奖推迟"})
    assert (shown["seed"], shown["status_reason"]) == (SEED.hex(), "开奖推迟")
    assert await _refused(officer, shown, "cancel", {"reason": "再"}) == "draw_state"
    body = {
        "area_code": draw.area_code,
        "exam_round_id": shown["exam_round_id"],
        "replaces_id": str(draw.id),
    }
    held = await session.get_one(Draw, (draw.district_code, draw.id))
    assert held.wrapped_seed is not None
    facts = {"closes_at": clock.now() + timedelta(hours=1)}
    facts["beacon_at"] = facts["closes_at"] + timedelta(hours=1)
    sent = {
        "name": "再抽",
        "beacon_name": "双色球 第2026124期",
        "prizes": [{"name": "电饭煲"}],
        **body,
        **{name: value.isoformat() for name, value in facts.items()},
    }
    next_one = await _step(officer, await _prepare(officer, sent), "commit")
    moved = await session.scalar(
        text("select count(*) from draw_tickets where draw_id = :id"), {"id": next_one["id"]}
    )
    assert moved == 6
    answer = await officer.post("/v1/draws", json=sent, headers=idempotency_key("third"))
    assert answer.json()["code"] == "draw_replaced"
    kept = await officer.ok("GET", f"/v1/draws/{draw.id}/verification")
    assert len(kept["tickets"]) == 6


async def test_a_ticket_that_waited_goes_into_the_draw_when_its_line_is_paid(
    client: Callable[..., Client], session: AsyncSession, database: Database
) -> None:
    thanks = await make_thanks(session, [make_ticket(quantity=3)])
    run = await make_granted_run(session, thanks, RunStatus.APPROVED)
    run.payout_count = 2
    await make_draw(session, thanks.round)
    await session.execute(text("update payouts set status = 'held' where line_no = 2"))
    await session.commit()
    clerk = client(Role.FINANCE_CLERK)
    url = f"/v1/payout-runs/{run.id}"
    await clerk.ok("POST", f"{url}/disburse", headers=if_match({"version": run.version}))
    assert await session.scalar(text("select count(*) from draw_tickets")) == 3
    await session.execute(text("update payouts set status = 'pending' where line_no = 2"))
    await session.commit()
    body = {"results": [{"line_no": 2, "outcome": "paid"}]}
    for status in ("recorded", "unchanged"):
        answer = await clerk.ok("POST", f"{url}/results", json=body)
        assert answer["items"][0]["status"] == status
    assert await session.scalar(text("select count(*) from draw_tickets")) == 6
    await agree(database)


async def test_drafts_are_seen_by_those_who_prepare_them(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    held = await make_round(session)
    draft = await make_draw(session, held, DrawStatus.DRAFT)
    opened = await make_draw(session, held, DrawStatus.OPEN, area_code=SHISHAN)
    await session.commit()
    for role, sees in (
        (Role.DISTRICT_OFFICER, {str(draft.id), str(opened.id)}),
        (Role.DATA_PLATFORM, {str(opened.id)}),
        (Role.SECRETARY, {str(opened.id)}),
    ):
        page = await client(role).ok("GET", "/v1/draws")
        assert {each["id"] for each in page["items"]} == sees, role
        answer = await client(role).get(f"/v1/draws/{draft.id}")
        assert (answer.status_code == 200) == (str(draft.id) in sees)
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    page = await town.ok("GET", f"/v1/draws?area={SHISHAN}&status=open")
    assert [each["id"] for each in page["items"]] == [str(opened.id)]
    by_round = await town.ok("GET", f"/v1/draws?exam_round_id={held.id}&include_total=true")
    assert by_round["total"] == 1


async def test_a_run_with_tickets_waits_for_an_open_draw(
    client: Callable[..., Client], session: AsyncSession, database: Database
) -> None:
    thanks = await make_thanks(session, [make_ticket()])
    run = await make_granted_run(session, thanks, RunStatus.APPROVED)
    run.payout_count = 2
    closing = await make_draw(session, thanks.round)
    closing.closes_at = clock.now()
    await session.commit()
    clerk = client(Role.FINANCE_CLERK)
    headers = if_match({"version": run.version})
    answer = await clerk.post(f"/v1/payout-runs/{run.id}/disburse", headers=headers)
    assert answer.json()["code"] == "draw_not_open"
    closing.closes_at = clock.now() + timedelta(hours=1)
    await session.commit()
    await clerk.ok("POST", f"/v1/payout-runs/{run.id}/disburse", headers=headers)
    page = await clerk.ok("GET", f"/v1/payout-runs/{run.id}/payouts")
    assert {each["status"] for each in page["items"]} == {"paid"}
    returned = await clerk.post(
        f"/v1/payouts/{page['items'][0]['id']}/return",
        json={"reason": "退回"},
        headers=idempotency_key("back"),
    )
    assert returned.json()["code"] == "tickets_issued"
    listed = await clerk.get(f"/v1/payout-runs/{run.id}/cash-list?format=csv")
    assert "合计笔数,0" in listed.content.decode("utf-8-sig")
    await agree(database)


@pytest.mark.parametrize("count", [0, 3, 10])
async def test_nobody_is_told_of_fewer_than_ten_people_who_may_not_know_them(
    client: Callable[..., Client], session: AsyncSession, count: int
) -> None:
    held = await make_round(session)
    association = await make_association(session)
    people = [await make_member(session, association) for _ in range(max(count, 1))]
    member = people[0]
    run = await make_run(session, held, await make_policy(session))
    # Many tickets may be of few: of each person there are four.
    tickets = list(zip(make_tickets(4 * count), people[:count] * 4, strict=True))
    draw = await make_draw(session, held, DrawStatus.CLOSED, tickets=tickets, run=run)
    await session.commit()
    path = f"/v1/draws/{draw.id}"
    blind = (client(Role.SECRETARY), client(Role.TOWN_OFFICER, employer_linked=True))
    her = client(Role.MEMBER, member_id=str(member.id))
    for caller in (*blind, her, client(Role.EVENT_STAFF), client(Role.DATA_PLATFORM)):
        read = await caller.ok("GET", path)
        (listed,) = (await caller.ok("GET", "/v1/draws"))["items"]
        assert listed == read
        assert read["commitment"] == draw.commitment
        if count < 10:
            assert (read["ticket_count"], read["digest"]) == (None, None)
            await caller.refused("GET", f"{path}/verification", status=403, code="few_draw_tickets")
        else:
            assert read["ticket_count"] == 4 * count
            shown = await caller.ok("GET", f"{path}/verification")
            assert len(shown["tickets"]) == 4 * count
    mine = (await her.ok("GET", "/v1/me/draw-tickets"))["items"]
    assert len(mine) == (4 if count else 0)
    officer = client(Role.TOWN_OFFICER, subject="of-the-town")
    assert (await officer.ok("GET", path))["ticket_count"] == 4 * count
    assert len((await officer.ok("GET", f"{path}/verification"))["tickets"]) == 4 * count
