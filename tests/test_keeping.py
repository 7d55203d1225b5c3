"""Keys are replaced while the service reads and writes, and nobody notices."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import keeping
from app.ciphers import Profile
from app.crypto import IndexKey, Keyring, MasterKeyMissing
from app.database import Database
from app.models.organisation.associations import Association
from app.roles import Role
from tests.factories.callers import DISTRICT, SHISHAN, Client, idempotency_key, if_match
from tests.factories.disbursement.vouchers import make_issued
from tests.factories.membership.members import make_id_number, make_phone
from tests.factories.organisation.associations import make_association

_ROOT, _OLD, _NEW = b"r" * 32, b"o" * 32, b"n" * 32
_OLD_INDEX = IndexKey(1, _OLD, Profile.INTERNATIONAL)
_NEW_INDEX = IndexKey(2, _NEW, Profile.GUOMI)
_BEFORE = Keyring(_ROOT, masters={1: _OLD}, indexes=[_OLD_INDEX])
_DURING = Keyring(
    _ROOT,
    masters={2: _NEW, 1: _OLD},
    indexes=[_NEW_INDEX, _OLD_INDEX],
    profile=Profile.GUOMI,
)
_AFTER = Keyring(_ROOT, masters={2: _NEW}, indexes=[_NEW_INDEX], profile=Profile.GUOMI)
_PEOPLE = 6
Use = Callable[[Keyring], None]


@pytest.fixture
def use(app: FastAPI) -> Iterator[Use]:
    """Start the service again, as it were, with other keys in its settings."""
    own = app.state.keyring

    def restart(keyring: Keyring) -> None:
        app.state.keyring = keyring

    yield restart
    app.state.keyring = own


@pytest_asyncio.fixture
async def association(session: AsyncSession) -> Association:
    association = await make_association(session)
    await session.commit()
    return association


@pytest_asyncio.fixture
async def members(officer: Client, association: Association, use: Use) -> list[dict[str, Any]]:
    """Members whose keys and indexes are all of the first version."""
    use(_BEFORE)
    return [await _enrol(officer, association, seed) for seed in range(_PEOPLE)]


async def _enrol(officer: Client, association: Association, seed: int) -> dict[str, Any]:
    member: dict[str, Any] = await officer.ok(
        "POST", "/v1/members", json=_person(str(association.id), seed), status=201
    )
    return member


def _person(association_id: str, seed: int) -> dict[str, Any]:
    return {
        "association_id": association_id,
        "name": f"会员{seed}",
        "id_number": make_id_number(seed),
        "phone": make_phone(seed),
        "consented_on": "2026-01-02",
    }


async def _all_are_read_and_found(officer: Client, members: list[dict[str, Any]]) -> None:
    for seed, member in enumerate(members):
        read = await officer.ok("GET", f"/v1/members/{member['id']}")
        assert read == member
        for wanted in ({"id_number": make_id_number(seed)}, {"phone": make_phone(seed)}):
            page = await officer.ok("POST", "/v1/members/search", json=wanted)
            assert page["items"] == [member]


@pytest.mark.parametrize("work", [keeping.rewrap, keeping.reindex])
async def test_reading_goes_on_while_keys_are_replaced(
    officer: Client,
    database: Database,
    members: list[dict[str, Any]],
    use: Use,
    work: Callable[..., Any],
) -> None:
    use(_DURING)
    await _all_are_read_and_found(officer, members)
    steps: list[int] = []
    reads = 0
    replacing = asyncio.create_task(work(database, _DURING, steps.append, at_once=1))
    while not replacing.done():
        await _all_are_read_and_found(officer, members)
        reads += 1
    assert await replacing == _PEOPLE
    assert steps[:_PEOPLE] == list(range(1, _PEOPLE + 1))
    assert reads > 0
    await _all_are_read_and_found(officer, members)


async def test_after_both_rotations_the_old_keys_may_be_thrown_away(
    officer: Client,
    database: Database,
    owner: Database,
    members: list[dict[str, Any]],
    use: Use,
) -> None:
    sealed = await owner.pool.fetch("select id_number_sealed from members order by id")
    for work in (keeping.rewrap, keeping.reindex):
        assert await work(database, _DURING, lambda _: None) == _PEOPLE
        assert await work(database, _DURING, lambda _: None) == 0
    assert await keeping.versions(database) == [
        f"440605000000 master key 2: {_PEOPLE} data keys",
        f"440605000000 index key 2: {_PEOPLE} members",
    ]
    assert await owner.pool.fetch("select id_number_sealed from members order by id") == sealed
    use(_AFTER)
    await _all_are_read_and_found(officer, members)
    hashes = "select count(*) from person_keys"
    assert await owner.pool.fetchval(hashes) == 2 * _PEOPLE
    assert await keeping.reindex(database, _AFTER, lambda _: None) == 0
    assert await owner.pool.fetchval(hashes) == _PEOPLE
    await officer.refused(
        "POST",
        "/v1/members",
        json=_person(members[0]["association_id"], 0),
        status=409,
        code="already_enrolled",
    )


async def test_nobody_is_enrolled_twice_while_two_index_keys_are_in_use(
    officer: Client, association: Association, members: list[dict[str, Any]], use: Use
) -> None:
    """Some processes know the new key already, others do not: each sees what all have stored."""
    new = _PEOPLE
    use(_DURING)
    await _enrol(officer, association, new)
    for keyring in (_BEFORE, _DURING):
        use(keyring)
        for seed in (0, new):
            await officer.refused(
                "POST",
                "/v1/members",
                json=_person(str(association.id), seed),
                status=409,
                code="already_enrolled",
            )
    use(_DURING)
    answers = await asyncio.gather(
        *(officer.post("/v1/members", json=_person(str(association.id), new + 1)) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert len(members) == _PEOPLE


async def test_the_same_number_sent_again_is_no_change_and_another_one_is(
    officer: Client, association: Association, members: list[dict[str, Any]], use: Use
) -> None:
    use(_DURING)
    path = f"/v1/members/{members[0]['id']}"
    same = {"id_number": make_id_number(0), "phone": make_phone(0)}
    kept = await officer.ok("PATCH", path, json=same, headers=if_match(members[0]))
    assert kept["version"] == members[0]["version"]
    other = {"id_number": make_id_number(500)}
    changed = await officer.ok("PATCH", path, json=other, headers=if_match(members[0]))
    assert changed["version"] == members[0]["version"] + 1
    # The number that she does not have any more is free, under either version.
    await _enrol(officer, association, 0)


async def test_without_its_master_key_nothing_is_wrapped_anew(
    database: Database, members: list[dict[str, Any]]
) -> None:
    assert members
    with pytest.raises(MasterKeyMissing, match="1"):
        await keeping.rewrap(database, _AFTER, lambda _: None)


async def test_open_vouchers_are_found_under_either_key_and_redeemed_under_the_new_one(
    client: Callable[..., Client], session: AsyncSession, database: Database, use: Use
) -> None:
    use(_BEFORE)
    issued = await make_issued(session, _BEFORE, members=3)
    await session.commit()
    desk = client(Role.GUIDE, areas=[SHISHAN])
    for line_no, keyring in enumerate((_BEFORE, _DURING, _AFTER), 1):
        use(keyring)
        if keyring is _AFTER:
            await keeping.rewrap(database, _DURING, lambda _: None)
            assert await keeping.reindex(database, _DURING, lambda _: None, at_once=1) == 1
            said = await keeping.versions(database)
            assert f"{DISTRICT} index key 2: 1 open vouchers" in said
        await desk.ok(
            "POST",
            "/v1/vouchers/redeem",
            json=issued.body(line_no),
            headers=idempotency_key(f"k{line_no}"),
        )
