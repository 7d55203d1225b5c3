"""That somebody is enrolled elsewhere is told so often a day; then enrolled and not look alike."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, worker
from app.crypto import Keyring
from app.database import Database
from app.models.organisation.associations import Association
from app.roles import Role
from app.services.audit.audit_seals import UNSEALED
from tests.factories.callers import SHISHAN, Client, idempotency_key, if_match
from tests.factories.membership.members import make_id_number
from tests.factories.membership.rosters import make_csv, make_person
from tests.factories.organisation.associations import make_association

_MOST = 3
_LIMITED: dict[str, Any] = {"status": 429, "code": "enrolled_elsewhere_limit"}
_TAKEN: dict[str, Any] = {"status": 409, "code": "already_enrolled"}
_COUNT = "select taken from code_limits where kind = 'enrolled'"
_NOTED = f"select purpose from ({UNSEALED}) e where purpose is not null order by id"


@pytest.fixture(autouse=True)
def _limit(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.state.settings, "enrolled_elsewhere_daily_limit", _MOST)


@pytest.fixture
async def association(session: AsyncSession) -> Association:
    association = await make_association(session)
    await session.commit()
    return association


@pytest.fixture
async def elsewhere(owner: Database, keyring: Keyring) -> None:
    """Members of another district, of the first ten ID numbers."""
    await owner.pool.executemany(
        "insert into person_keys (identity_hash, district_code, member_id)"
        " values ($1, '440604000000', $2)",
        [
            (keyring.blind_index(make_id_number(n), column="person"), clock.new_id())
            for n in range(10)
        ],
    )


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def clerk(client: Callable[..., Client]) -> Client:
    return client(Role.TOWN_OFFICER, areas=[SHISHAN])


class Desk:
    """Enrols one by one, and by files, at the same association."""

    def __init__(self, association: Association, database: Database, keyring: Keyring) -> None:
        self.association, self.database, self.keyring = association, database, keyring

    def person(self, number: int | None) -> dict[str, Any]:
        """Give the body that enrols somebody, with an ID number if one is given."""
        said = {"association_id": str(self.association.id), "name": "会员"}
        if number is None:
            return said
        return said | {"id_number": make_id_number(number), "consented_on": "2026-01-02"}

    async def refused(self, by: Client, number: int, **how: Any) -> dict[str, Any]:
        """Try to enrol somebody, in vain."""
        return await by.refused("POST", "/v1/members", json=self.person(number), **how)

    async def enrol(self, by: Client, number: int | None) -> dict[str, Any]:
        """Enrol somebody."""
        made: dict[str, Any] = await by.ok(
            "POST", "/v1/members", json=self.person(number), status=201
        )
        return made

    async def send(
        self, by: Client, numbers: Sequence[int | None], *, dry_run: bool = True, **more: str
    ) -> dict[str, Any]:
        """Send a file of people and give the operation as it ended."""
        people = [
            make_person(n or 0, **({"身份证号码": "", "工号": f"N{row}"} if n is None else {}))
            for row, n in enumerate(numbers)
        ]
        operation = await by.ok(
            "POST",
            "/v1/members/import",
            status=202,
            files={"file": ("r.csv", make_csv(people))},
            data={
                "association_id": str(self.association.id),
                "dry_run": str(dry_run).lower(),
                **more,
            },
            headers=idempotency_key(clock.new_id()),
        )
        assert await worker.run_next(self.database, self.keyring, most_elsewhere=_MOST)
        ended: dict[str, Any] = await by.ok("GET", f"/v1/operations/{operation['id']}")
        return ended

    async def codes(self, by: Client, operation: dict[str, Any]) -> list[list[str]]:
        """Give what the rows of a file were answered."""
        page = await by.ok("GET", f"/v1/operations/{operation['id']}/rows")
        return [[note["code"] for note in row["notes"]] for row in page["items"]]


@pytest.fixture
def desk(association: Association, database: Database, keyring: Keyring) -> Desk:
    return Desk(association, database, keyring)


async def _age(owner: Database) -> None:
    await owner.pool.execute(
        "update code_limits set window_started_at = window_started_at - interval '1 day'"
    )


async def test_beyond_the_limit_a_number_enrolled_and_one_that_is_not_are_refused_alike(
    desk: Desk, clerk: Client, client: Callable[..., Client], owner: Database
) -> None:
    member = await desk.enrol(clerk, 20)
    for number in range(_MOST):
        problem = await desk.refused(clerk, number, **_TAKEN)
        assert "member_id" not in problem
    refusals = [await desk.refused(clerk, number, **_LIMITED) for number in (4, 21)]
    said = [{name: each[name] for name in ("title", "detail", "errors")} for each in refusals]
    assert said[0] == said[1]
    answer = await clerk.post("/v1/members", json=desk.person(21))
    assert 86_000 < int(answer.headers["Retry-After"]) <= 86_401

    path, headers = f"/v1/members/{member['id']}", if_match(member)
    for number in (4, 21):
        body = {"id_number": make_id_number(number)}
        await clerk.refused("PATCH", path, json=body, headers=headers, **_LIMITED)
    same = {"id_number": make_id_number(20)}
    assert (await clerk.ok("PATCH", path, json=same, headers=headers))["version"] == 1
    await desk.enrol(clerk, None)
    await desk.refused(client(Role.TOWN_OFFICER, areas=[SHISHAN], subject="x"), 5, **_TAKEN)
    await _age(owner)
    await desk.enrol(clerk, 21)


async def test_each_answer_is_counted_and_noted_and_one_within_reach_is_not(
    desk: Desk, clerk: Client, owner: Database
) -> None:
    await desk.enrol(clerk, 20)
    assert "member_id" in await desk.refused(clerk, 20, **_TAKEN)
    assert await owner.pool.fetchval(_COUNT) is None
    member = await desk.enrol(clerk, None)
    body = {"id_number": make_id_number(1), "consented_on": "2026-01-02"}
    path = f"/v1/members/{member['id']}"
    await clerk.refused("PATCH", path, json=body, headers=if_match(member), **_TAKEN)
    await desk.send(clerk, [2, 3, 22])
    assert await owner.pool.fetchval(_COUNT) == 3
    rows = await owner.pool.fetch(_NOTED)
    assert [row["purpose"] for row in rows] == ["1 enrolled elsewhere", "2 enrolled elsewhere"]


async def test_what_is_refused_with_it_is_noted_as_refused_and_told_apart(
    desk: Desk, clerk: Client, owner: Database
) -> None:
    member = await desk.enrol(clerk, None)
    await owner.pool.execute("truncate audit_unsealed")
    body = {"id_number": make_id_number(1), "consented_on": "2026-01-02"}
    path = f"/v1/members/{member['id']}"
    await clerk.refused("PATCH", path, json=body, headers=if_match(member), **_TAKEN)
    rows = await owner.pool.fetch(
        "select act, refusal, purpose, cast(person_ids as text[]) as persons"
        f" from ({UNSEALED}) e where act <> 'get_member' order by id"
    )
    assert [tuple(row) for row in rows] == [
        ("tell_enrolled_elsewhere", None, "1 enrolled elsewhere", []),
        ("update_member", "already_enrolled", None, [member["id"]]),
    ]


async def test_tries_at_once_are_all_counted(desk: Desk, clerk: Client, owner: Database) -> None:
    answers = await asyncio.gather(
        *(clerk.post("/v1/members", json=desk.person(n)) for n in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [409] * _MOST + [429] * 5
    assert await owner.pool.fetchval(_COUNT) >= _MOST


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_file_within_the_limit_is_answered_row_by_row(
    desk: Desk, clerk: Client, *, dry_run: bool
) -> None:
    operation = await desk.send(clerk, [*range(_MOST), 20], dry_run=dry_run)
    assert operation["result"]["created"] == 1
    said = [code for row in await desk.codes(clerk, operation) for code in row]
    assert said == ["already_enrolled_elsewhere"] * _MOST


@pytest.mark.parametrize("more", [{}, {"on_error": "abort"}, {"dry_run": True}], ids=str)
async def test_a_file_that_would_tell_of_more_tells_of_nobody_and_ends_the_day(
    desk: Desk, clerk: Client, owner: Database, more: dict[str, Any]
) -> None:
    before = await owner.pool.fetchval("select count(*) from members")
    operation = await desk.send(clerk, [*range(_MOST + 1), 20], **({"dry_run": False} | more))
    assert (operation["status"], operation["result"]) == ("failed", None)
    assert operation["problem"]["code"] == "enrolled_elsewhere_limit"
    assert await desk.codes(clerk, operation) == []
    assert await owner.pool.fetchval("select count(*) from members") == before
    for numbers in ([5], [21]):
        ended = await desk.send(clerk, numbers)
        assert ended["problem"]["code"] == "enrolled_elsewhere_limit"
    await desk.refused(clerk, 21, **_LIMITED)
    without = await desk.send(clerk, [None], dry_run=False)
    assert without["result"]["created"] == 1
    await _age(owner)
    assert (await desk.send(clerk, [21], dry_run=False))["result"]["created"] == 1
