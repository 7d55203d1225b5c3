"""Who reads the audit: the auditor all of her area's, a member what was done about her."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, worker
from app.database import Database
from app.models.membership.members import Member
from app.roles import Role
from app.services.audit.audit_seals import Heads
from tests.factories.callers import GUICHENG, SHISHAN, Client
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_PATH = "/v1/audit-entries"


@pytest.fixture
async def member(session: AsyncSession) -> Member:
    """A member of a town."""
    member = await make_member(session, await make_association(session))
    await session.commit()
    return member


@pytest.fixture
def auditor(client: Callable[..., Client]) -> Client:
    """An auditor of the whole district."""
    return client(Role.AUDITOR)


async def _seal(database: Database, tmp_path: Path) -> None:
    await worker.seal_all(database, Heads(tmp_path / "heads.jsonl"))


async def test_the_auditor_reads_who_did_what_the_latest_first(
    officer: Client, auditor: Client, member: Member
) -> None:
    await officer.ok("GET", f"/v1/members/{member.id}", headers={"X-Request-Id": "look-1"})
    await officer.ok("GET", "/v1/members", params={"name": "测试会员"})
    page = await auditor.ok("GET", _PATH)
    assert [entry["act"] for entry in page["items"]] == ["list_members", "get_member"]
    listed, got = page["items"]
    assert got["subject"] == "district_officer-1"
    assert got["role"] == "district_officer"
    assert got["request_id"] == "look-1"
    assert got["object_ids"] == got["person_ids"] == [str(member.id)]
    assert listed["person_ids"] == [str(member.id)]
    assert listed["fields"] == ["name"]
    assert "测试会员" not in str(page)
    again = await auditor.ok("GET", _PATH)
    assert again["items"][0]["act"] == "list_audit_entries", "reading the audit is an act too"


async def test_the_list_is_narrowed_by_each_filter(
    officer: Client, client: Callable[..., Client], auditor: Client, member: Member
) -> None:
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    before = clock.now().isoformat()
    await officer.ok("GET", "/v1/members", headers={"X-Request-Id": "one"})
    await town.ok("GET", f"/v1/members/{member.id}")
    after = clock.now().isoformat()
    for params, expected in (
        ({"subject": "town_officer-1"}, ["get_member"]),
        ({"role": "district_officer"}, ["list_members"]),
        ({"act": "get_member,list_members"}, ["get_member", "list_members"]),
        ({"object_kind": "members"}, ["get_member", "list_members"]),
        ({"request_id": "one"}, ["list_members"]),
        ({"area": SHISHAN}, ["get_member"]),
        ({"at_gte": before, "at_lt": after}, ["get_member", "list_members"]),
        ({"at_gte": after, "subject": "town_officer-1"}, []),
    ):
        page = await auditor.ok("GET", _PATH, params=params)
        assert [entry["act"] for entry in page["items"]] == expected, params


async def test_pages_go_on_where_the_one_before_ended(
    officer: Client, auditor: Client, member: Member
) -> None:
    for _ in range(5):
        await officer.ok("GET", f"/v1/members/{member.id}")
    params = {"limit": 2, "act": "get_member"}
    seen = []
    while True:
        page = await auditor.ok("GET", _PATH, params=params)
        seen += [entry["id"] for entry in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)


async def test_an_auditor_of_one_town_reads_what_its_offices_did(
    client: Callable[..., Client], officer: Client, member: Member
) -> None:
    await officer.ok("GET", f"/v1/members/{member.id}")
    await client(Role.TOWN_OFFICER, areas=[SHISHAN]).ok("GET", f"/v1/members/{member.id}")
    for area, expected in ((SHISHAN, ["town_officer-1"]), (GUICHENG, [])):
        reader = client(Role.AUDITOR, areas=[area], subject="town-auditor")
        page = await reader.ok("GET", _PATH, params={"act": "get_member"})
        assert [entry["subject"] for entry in page["items"]] == expected


async def test_a_role_that_there_is_not_is_refused_and_not_nothing(
    client: Callable[..., Client],
) -> None:
    auditor, wanted = client(Role.AUDITOR), {"role": "town_oficer"}
    problem = await auditor.refused("GET", _PATH, status=422, code="invalid", params=wanted)
    assert problem["errors"]
    several = {"role": ",".join(Role)}
    assert (await auditor.ok("GET", _PATH, params=several))["items"] is not None


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.AUDITOR])
async def test_nobody_else_reads_the_audit(
    client: Callable[..., Client], member: Member, role: Role
) -> None:
    caller = client(role, member_id=str(member.id))
    await caller.refused("GET", _PATH, status=403, code="forbidden")


async def test_an_officer_sees_who_looked_at_one_record_and_not_at_others(
    officer: Client,
    session: AsyncSession,
    database: Database,
    member: Member,
    tmp_path: Path,
) -> None:
    other = await make_member(session, await make_association(session))
    await session.commit()
    await officer.ok("GET", "/v1/members")
    await officer.ok("GET", f"/v1/members/{other.id}")
    await _seal(database, tmp_path)
    path = f"/v1/members/{member.id}/audit-entries"
    page = await officer.ok("GET", path)
    (entry,) = page["items"]
    assert (entry["act"], entry["subject"]) == ("list_members", "district_officer-1")
    assert str(other.id) not in str(page)
    assert "person_ids" not in entry
    await _seal(database, tmp_path)
    later = await officer.ok("GET", path)
    assert later["items"][0]["act"] == "list_member_audit_entries", "this look is one too"


async def test_an_officer_beyond_reach_does_not_see_who_looked(
    client: Callable[..., Client], member: Member
) -> None:
    path = f"/v1/members/{member.id}/audit-entries"
    assert (await client(Role.TOWN_OFFICER, areas=[SHISHAN]).ok("GET", path))["items"] == []
    elsewhere = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    await elsewhere.refused("GET", path, status=404, code="not_found")
    await client(Role.SECRETARY).refused("GET", path, status=403, code="forbidden")
