"""Enrolling over HTTP who may be a member there already, who took back what is given for her."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, worker
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Database
from app.roles import Role
from tests.factories.callers import Client, idempotency_key
from tests.factories.membership.consents import a_day_after
from tests.factories.membership.members import make_id_number, make_phone
from tests.factories.membership.rosters import make_csv
from tests.factories.organisation.associations import make_association

_NAME = "张小样"
_EMPLOYERS, _TOWNS = "the employer's side", "a town officer"
_REFUSED = {
    (_EMPLOYERS, "the same day"): ("name", "not_given_again_by_employers"),
    (_EMPLOYERS, "the day after"): ("name", "not_given_again_by_employers"),
    (_TOWNS, "the same day"): ("consented_on", "withdrawn_since"),
    (_TOWNS, "the day after"): None,
}
_Refusal = tuple[str, str] | None
_Clients = Callable[..., Client]


class Place:
    """An association, who enrols there, and who is there."""

    def __init__(self, client: _Clients, database: Database, keyring: Keyring, id_: UUID) -> None:
        self.client, self.database, self.keyring, self.id = client, database, keyring, id_

    def office(self, name: str) -> Client:
        """Give who enrols, by the side that she is on."""
        if name == _EMPLOYERS:
            places = [str(self.id)]
            return self.client(
                Role.SECRETARY,
                employer_linked=True,
                associations=places,
                areas=[],
                subject="linked",
            )
        return self.client(Role.TOWN_OFFICER, subject="town")

    async def enrol_her(self, *withdrawn: str) -> None:
        """Enrol a member with both numbers, and let her take back some of her consents."""
        answer = await self.post(_TOWNS, seed=1, consented_on="2026-01-02", employee_no="G1")
        assert answer is None
        (her,) = await self.members()
        herself = self.client(Role.MEMBER, member_id=her["id"], subject="her")
        for purpose in withdrawn:
            body = {"purpose": purpose}
            await herself.ok("POST", "/v1/me/consents/withdraw", json=body)

    async def members(self) -> list[dict[str, Any]]:
        """Give who is enrolled in the district."""
        page = await self.client(Role.DISTRICT_OFFICER).ok("GET", "/v1/members")
        items: list[dict[str, Any]] = page["items"]
        return items

    async def post(self, by: str, *, seed: int, **facts: Any) -> _Refusal:
        """Enrol one person; gives the pointer and the code of a refusal."""
        body = {"association_id": str(self.id), "name": _NAME} | _numbers(seed) | facts
        answer = await self.office(by).post("/v1/members", json=body)
        if answer.status_code == 201:
            return None
        (error,) = answer.json()["errors"]
        return error["pointer"].removeprefix("/"), error["code"]

    async def send(self, by: str, *, seed: int, consented_on: str, **facts: Any) -> _Refusal:
        """Send a roster, without employee numbers unless one is given, likewise."""
        given = _numbers(seed) | facts
        titles = {"id_number": "身份证号码", "phone": "手机号", "employee_no": "工号"}
        person = {titles[name]: value for name, value in given.items() if value is not None}
        person["姓名"] = _NAME
        caller = self.office(by)
        operation = await caller.ok(
            "POST",
            "/v1/members/import",
            status=202,
            files={"file": ("r.csv", make_csv([person | {"知情同意日期": consented_on}]))},
            data={"association_id": str(self.id), "dry_run": "false"},
            headers=idempotency_key(clock.new_id()),
        )
        assert await worker.run_next(self.database, self.keyring)
        rows = await caller.ok("GET", f"/v1/operations/{operation['id']}/rows")
        (row,) = rows["items"]
        notes = [(note["column"], note["code"]) for note in row["notes"]]
        assert (row["outcome"], len(notes)) in {("created", 0), ("rejected", 1)}, row
        return notes[0] if notes else None

    async def enter(self, way: str, by: str, *, seed: int, consented_on: str) -> _Refusal:
        """Enrol by a roster or one by one."""
        enter = self.send if way == "roster" else self.post
        return await enter(by, seed=seed, consented_on=consented_on)


def _numbers(seed: int) -> dict[str, str]:
    return {"id_number": make_id_number(seed), "phone": make_phone(seed)}


def _today() -> str:
    return civil_date(clock.now()).isoformat()


@pytest_asyncio.fixture
async def place(
    client: _Clients, session: AsyncSession, database: Database, keyring: Keyring
) -> Place:
    association = await make_association(session)
    await session.commit()
    return Place(client, database, keyring, association.id)


@pytest.fixture(params=["roster", "one by one"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("withdrawn", [("contact", "identity"), ("identity",)])
@pytest.mark.parametrize(("by", "day"), list(_REFUSED))
async def test_who_took_back_her_numbers_is_not_enrolled_with_them_a_second_time(
    *, place: Place, owner: Database, way: str, withdrawn: tuple[str, ...], by: str, day: str
) -> None:
    await place.enrol_her(*withdrawn)
    if day == "the day after":
        await a_day_after(owner)
    refusal = await place.enter(way, by, seed=1, consented_on=_today())
    assert refusal == _REFUSED[by, day]
    held = [member["has_id_number"] for member in await place.members()]
    assert held == ([False] if refusal else [False, True])


@pytest.mark.parametrize("by", [_EMPLOYERS, _TOWNS])
async def test_a_namesake_who_took_nothing_back_is_another_person(
    place: Place, way: str, by: str
) -> None:
    bare = {"id_number": None, "phone": None, "employee_no": "G1"}
    assert await place.post(_TOWNS, seed=1, **bare) is None
    assert await place.enter(way, by, seed=2, consented_on=_today()) is None
    assert len(await place.members()) == 2


@pytest.mark.parametrize("by", [_EMPLOYERS, _TOWNS])
async def test_a_namesake_who_still_holds_an_id_number_is_another_person(
    place: Place, way: str, by: str
) -> None:
    await place.enrol_her("contact")
    assert await place.enter(way, by, seed=2, consented_on=_today()) is None
    assert len(await place.members()) == 2


@pytest.mark.parametrize("by", [_EMPLOYERS, _TOWNS])
async def test_a_phone_that_she_took_back_does_not_come_under_another_employee_number(
    place: Place, way: str, by: str
) -> None:
    """Of two of one name, one of whom has no ID number, nobody can say that they are two."""
    await place.enrol_her("contact")
    given: dict[str, Any] = {"id_number": None, "employee_no": "G9", "consented_on": _today()}
    enter = place.send if way == "roster" else place.post
    assert await enter(by, seed=2, **given) == _REFUSED[by, "the same day"]
    assert len(await place.members()) == 1


@pytest.mark.parametrize("by", [_EMPLOYERS, _TOWNS])
async def test_a_namesake_in_another_association_hinders_nobody(
    place: Place, session: AsyncSession, way: str, by: str
) -> None:
    await place.enrol_her("contact", "identity")
    other = await make_association(session, name="别的协会")
    await session.commit()
    place.id = other.id
    assert await place.enter(way, by, seed=2, consented_on=_today()) is None
    assert len(await place.members()) == 2


async def test_a_namesake_of_whom_nothing_is_given_that_was_taken_back_is_enrolled(
    place: Place,
) -> None:
    await place.enrol_her("identity")
    only_phone = {"id_number": None, "consented_on": _today()}
    assert await place.post(_EMPLOYERS, seed=2, **only_phone) is None
    assert await place.post(_EMPLOYERS, seed=3, id_number=None, phone=None) is None
    assert len(await place.members()) == 3
