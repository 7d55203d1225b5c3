"""`/v1/draws/{draw_id}/winners`: prizes handed out once, and reserves who move up in turn."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, errands
from app.crypto import Keyring
from app.database import Database, Door, transaction
from app.models.disbursement.payout_runs import RunStatus
from app.models.lucky_draws.draws import Draw, DrawStatus
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.lucky_draws import due_draws
from app.settings import Settings
from tests.examples import verified
from tests.factories.callers import DISTRICT, GUICHENG, Client, idempotency_key
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.events.exam_rounds import make_round
from tests.factories.finance.funds import agree
from tests.factories.incentives.incentive_policies import make_ticket
from tests.factories.lucky_draws.draws import make_draw, make_tickets


@pytest_asyncio.fixture
async def drawn(session: AsyncSession) -> Draw:
    """A draw of two prizes and two reserves, in which six members had a ticket each."""
    thanks = await make_thanks(session, [make_ticket()], members=6)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING)
    run.payout_count = 6
    tickets = list(zip(make_tickets(6), thanks.members, strict=True))
    draw = await make_draw(session, thanks.round, DrawStatus.DRAWN, tickets=tickets, run=run)
    paid = text("update payouts set status = 'paid', settled_at = :now")
    await session.execute(paid, {"now": clock.now()})
    await session.commit()
    return draw


@pytest.fixture
def run_errands(
    database: Database, keyring: Keyring, config: Settings
) -> Callable[[], Awaitable[None]]:
    """Do once what the clock does every half a minute."""
    return lambda: errands.run(Door(database), keyring, config, None)


@pytest.fixture
def clerk(client: Callable[..., Client]) -> Client:
    """Who hands prizes out."""
    return client(Role.FINANCE_CLERK)


async def _places(caller: Client, draw: Draw) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await caller.ok("GET", f"/v1/draws/{draw.id}/winners"))["items"]
    return items


async def _act(caller: Client, draw: Draw, rank: int, step: str, **body: Any) -> Any:
    path = f"/v1/draws/{draw.id}/winners/{rank}/{step}"
    answer = await caller.post(path, json=body or None, headers=idempotency_key(clock.new_id()))
    shown = answer.json()
    return shown if answer.status_code == 200 else shown["code"]


def _summary(places: list[dict[str, Any]]) -> list[tuple[str, int | None]]:
    return [(each["status"], each["prize_number"]) for each in places]


async def test_a_prize_is_handed_out_once_to_who_shows_the_ticket(
    clerk: Client, drawn: Draw, database: Database
) -> None:
    first, second, *_ = await _places(clerk, drawn)
    assert await _act(clerk, drawn, 1, "hand-out", ticket=second["ticket"]) == "ticket_mismatch"
    given = await _act(clerk, drawn, 1, "hand-out", ticket=first["ticket"])
    assert (given["status"], given["prize_name"]) == ("handed_out", "奖品1")
    assert given["handed_out_by"] == "finance_clerk-1"
    assert given["handed_out_at"] is not None
    assert await _act(clerk, drawn, 1, "hand-out", ticket=first["ticket"]) == "winner_state"
    assert await _act(clerk, drawn, 1, "decline", reason="放弃") == "winner_state"
    assert await _act(clerk, drawn, 3, "hand-out", ticket=first["ticket"]) == "winner_state"
    assert await _act(clerk, drawn, 9, "hand-out", ticket=first["ticket"]) == "not_found"
    await agree(database)


async def test_reserves_move_up_in_turn_until_there_are_none(
    clerk: Client, drawn: Draw, database: Database
) -> None:
    assert _summary(await _places(clerk, drawn)) == [
        ("winning", 1), ("winning", 2), ("reserve", None), ("reserve", None),
    ]  # fmt: skip
    ended = await _act(clerk, drawn, 2, "decline", reason="本人放弃")
    assert (ended["status"], ended["end_reason"]) == ("declined", "本人放弃")
    places = await _places(clerk, drawn)
    assert _summary(places)[1:] == [("declined", 2), ("winning", 2), ("reserve", None)]
    assert places[2]["claim_until"] > places[0]["claim_until"]
    await agree(database)
    await _act(clerk, drawn, 1, "decline", reason="本人放弃")
    await _act(clerk, drawn, 4, "decline", reason="本人放弃")
    assert _summary(await _places(clerk, drawn)) == [
        ("declined", 1), ("declined", 2), ("winning", 2), ("declined", 1),
    ]  # fmt: skip
    document = await clerk.ok("GET", f"/v1/draws/{drawn.id}/verification")
    assert verified(document)
    await agree(database)


async def test_a_prize_goes_on_only_when_its_time_is_over(
    clerk: Client, drawn: Draw, session: AsyncSession, database: Database
) -> None:
    assert await _act(clerk, drawn, 1, "lapse") == "claim_still_open"
    await session.execute(text("update draw_winners set claim_until = claim_until - 1"))
    await session.commit()
    assert (await _act(clerk, drawn, 1, "lapse"))["status"] == "lapsed"
    assert _summary(await _places(clerk, drawn))[2] == ("winning", 1)
    await agree(database)


async def test_the_clock_lets_prizes_go_on_and_freezes_tickets(
    clerk: Client,
    drawn: Draw,
    session: AsyncSession,
    database: Database,
    run_errands: Callable[[], Awaitable[None]],
) -> None:
    held = await make_round(session, 2)
    opened = await make_draw(session, held)
    await session.commit()
    tomorrow = clock.now() + timedelta(days=1)
    holders = [UUID(place["member_id"]) for place in (await _places(clerk, drawn))[:2]]
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as acting:
        settled = await due_draws.settle(acting, district_code=DISTRICT, now=tomorrow)
    assert settled.late == holders, "the errands note whose prizes went on"
    assert _summary(await _places(clerk, drawn)) == [
        ("lapsed", 1), ("lapsed", 2), ("winning", 1), ("winning", 2),
    ]  # fmt: skip
    shown = await clerk.ok("GET", f"/v1/draws/{opened.id}")
    assert shown["status"] == "open", "its beacon would be out: nothing may be frozen any more"
    opened.closes_at = clock.now()
    await session.commit()
    await run_errands()
    shown = await clerk.ok("GET", f"/v1/draws/{opened.id}")
    assert (shown["status"], shown["ticket_count"]) == ("closed", 0)
    await agree(database)


async def test_winners_are_shown_within_reach_and_never_to_an_employer(
    client: Callable[..., Client], drawn: Draw
) -> None:
    path = f"/v1/draws/{drawn.id}/winners"
    town = client(Role.FINANCE_CLERK, areas=[GUICHENG])
    assert (await town.get(path)).status_code == 404
    for role in (Role.FINANCE_CLERK, Role.DISTRICT_OFFICER):
        linked = client(role, employer_linked=True)
        assert (await linked.get(path)).status_code == 403
    page = await client(Role.AUDITOR).ok("GET", f"{path}?status=reserve")
    assert [each["rank"] for each in page["items"]] == [3, 4]


async def test_a_member_sees_what_her_own_ticket_won(
    client: Callable[..., Client], clerk: Client, drawn: Draw
) -> None:
    first = (await _places(clerk, drawn))[0]
    winner = client(Role.MEMBER, member_id=first["member_id"])
    [mine] = (await winner.ok("GET", f"/v1/me/draw-tickets?draw_id={drawn.id}"))["items"]
    assert (mine["ticket"], mine["rank"], mine["prize"]) == (first["ticket"], 1, "奖品1")
    assert (await winner.get(f"/v1/draws/{drawn.id}/winners")).status_code == 403
    other = (await winner.ok("GET", f"/v1/me/draw-tickets?draw_id={clock.new_id()}"))["items"]
    assert other == []
