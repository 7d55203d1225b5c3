"""What is said of one consent at once: recorded one after the other, as the member's row says."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database, transaction
from app.models.membership.consents import ConsentGive
from app.models.membership.members import Member
from app.models.privacy.privacy_notices import ConsentPurpose
from app.roles import Role
from app.services.membership import consents
from tests.factories.callers import Client, make_act, make_caller
from tests.factories.membership.logins import make_member_with_phone
from tests.factories.membership.members import make_phone
from tests.factories.membership.rosters import import_phone
from tests.factories.organisation.associations import make_association
from tests.waiting import until

_MINE, _WITHDRAW = "/v1/me/consents", "/v1/me/consents/withdraw"
_GIVE = {"purpose": "thanks", "notice_number": 1, "language": "zh"}
_STATES = "select state from consents where purpose = $1 order by recorded_at, id"
_SKEW = timedelta(seconds=1)
_WAITING = (
    "select count(distinct w.pid) >= {} from pg_locks w join pg_locks h using (pid)"
    " join pg_database d on d.oid = h.database"
    " where not w.granted and d.datname = current_database()"
)


@pytest.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    association = await make_association(session)
    made = await make_member_with_phone(session, keyring, association, make_phone(1))
    await session.commit()
    return made


@pytest.fixture
def her(client: Callable[..., Client], member: Member) -> Client:
    return client(Role.MEMBER, member_id=str(member.id), subject="her")


class Crossing:
    """A give and a withdrawal of one consent that both wait for the member's row."""

    def __init__(self, database: Database, keyring: Keyring, member: Member) -> None:
        self.database, self.keyring, self.member = database, keyring, member
        self.caller = make_caller(Role.MEMBER, areas=(), member_id=member.id)
        self.begun = clock.now()

    async def give(self) -> None:
        """Give as by a request that began after the other one."""
        act, now = make_act(self.caller), self.begun
        async with transaction(self.database, self.caller.scope, act) as session:
            await consents.give(
                session, self.caller, body=ConsentGive.model_validate(_GIVE), now=now
            )

    async def withdraw(self, earlier: timedelta = _SKEW) -> None:
        """Withdraw as by a request that began before the other one."""
        member_id, purpose, now = self.member.id, ConsentPurpose.THANKS, self.begun - earlier
        async with transaction(self.database, self.caller.scope, make_act(self.caller)) as session:
            await consents.withdraw(
                session, self.caller, self.keyring, member_id=member_id, purpose=purpose, now=now
            )


@pytest.mark.parametrize("first", ["give", "withdraw"])
async def test_a_give_and_a_withdrawal_that_cross_leave_what_the_row_says(
    *,
    her: Client,
    member: Member,
    database: Database,
    owner: Database,
    keyring: Keyring,
    first: str,
) -> None:
    crossing = Crossing(database, keyring, member)
    if first == "give":
        # The consent holds until now; it is taken back, given and taken back again.
        await crossing.withdraw(earlier=2 * _SKEW)
    steps = [crossing.give, crossing.withdraw] if first == "give" else [
        lambda: crossing.withdraw(-_SKEW), crossing.give
    ]  # fmt: skip
    async with owner.pool.acquire() as holding:
        turn = holding.transaction()
        await turn.start()
        await holding.execute("select from members where id = $1 for update", member.id)
        tasks = []
        for number, step in enumerate(steps, 1):
            tasks.append(asyncio.create_task(step()))
            await until(owner.pool, _WAITING.format(number))
        await turn.commit()
    await asyncio.gather(*tasks)

    held = "thanks" in (await her.ok("GET", "/v1/me"))["consents"]
    states = [row["state"] for row in await owner.pool.fetch(_STATES, "thanks")]
    assert held is (first == "withdraw")
    assert states[-1] == ("given" if held else "withdrawn"), states
    again = await her.ok("POST", _WITHDRAW, json={"purpose": "thanks"})
    assert again["state"] == "withdrawn"
    given = await her.ok("POST", _MINE, status=201, json=_GIVE)
    assert given["state"] == "given"
    assert "thanks" in (await her.ok("GET", "/v1/me"))["consents"]


async def test_what_a_row_does_not_say_is_given_anew_and_never_withdrawn_as_given(
    her: Client, member: Member, owner: Database
) -> None:
    """As earlier versions left it, in the order of the requests."""
    await her.ok("POST", _WITHDRAW, json={"purpose": "thanks"})
    await owner.pool.execute(
        "update consents set recorded_at = recorded_at - interval '1 hour'"
        " where state = 'withdrawn'"
    )
    states = [row["state"] for row in await owner.pool.fetch(_STATES, "thanks")]
    assert states == ["withdrawn", "given"]
    answer = await her.ok("POST", _WITHDRAW, json={"purpose": "thanks"})
    assert answer["state"] == "withdrawn"
    assert (await her.ok("POST", _MINE, status=201, json=_GIVE))["state"] == "given"
    row = "select thanks_consented_on is not null from members where id = $1"
    assert await owner.pool.fetchval(row, member.id)


async def test_a_file_is_recorded_after_what_was_said_while_it_waited(
    *, officer: Client, member: Member, database: Database, keyring: Keyring, owner: Database
) -> None:
    await owner.pool.execute("update consents set recorded_at = recorded_at + interval '1 hour'")
    await import_phone(officer, database, keyring, member, make_phone(1))
    methods = "select method from consents where purpose = $1 order by recorded_at, id"
    found = [row["method"] for row in await owner.pool.fetch(methods, "contact")]
    assert found == ["paper", "import"]
