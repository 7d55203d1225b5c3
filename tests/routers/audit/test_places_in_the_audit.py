"""Whose places at an event were seen or changed, the audit tells nobody but herself."""

import json
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, worker
from app.database import Database
from app.roles import Role
from app.services.audit.audit_seals import Heads
from tests.factories.callers import Client, idempotency_key
from tests.factories.events.attendances import make_attendance
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_KIND = "registrations"


async def test_who_was_listed_and_did_not_come_is_not_read_in_the_audit(
    *,
    officer: Client,
    client: Callable[..., Client],
    session: AsyncSession,
    database: Database,
    tmp_path: Path,
) -> None:
    event, association = await make_event(session), await make_association(session)
    came, absent, asks = [await make_member(session, association) for _ in range(3)]
    for member in (came, absent):
        await make_registration(session, event, member)
    await make_attendance(session, event, came)
    await session.commit()
    path = f"/v1/service-events/{event.id}/registrations"
    headers = idempotency_key(clock.new_id())
    her = client(Role.MEMBER, member_id=str(asks.id), subject="ying")
    await her.ok("POST", path, status=201, json={}, headers=headers)
    await officer.ok("GET", path)
    await officer.ok("GET", f"{path}/{absent.id}")
    await worker.seal_all(database, Heads(tmp_path / "heads.jsonl"))

    auditor = client(Role.AUDITOR)
    page = await auditor.ok("GET", "/v1/audit-entries", params={"object_kind": _KIND})
    acts = ["get_registration", "list_registrations", "create_registration"]
    assert [each["act"] for each in page["items"]] == acts
    assert {tuple(each["object_ids"]) for each in page["items"]} == {(str(event.id),)}
    for member in (came, absent, asks):
        assert str(member.id) not in json.dumps(page)
        for narrowed in ({"person_id": str(member.id)}, {"subject": "ying"}):
            named = await auditor.ok("GET", "/v1/audit-entries", params=narrowed)
            assert _KIND not in {each["object_kind"] for each in named["items"]}
        of_her = f"/v1/members/{member.id}"
        told = (await officer.ok("GET", f"{of_her}/audit-entries"))["items"]
        copy = await officer.ok("POST", f"{of_her}/export")
        for rows in (told, copy["tables"]["audit_sightings"]):
            assert _KIND not in {each["object_kind"] for each in rows}
    herself = client(Role.MEMBER, member_id=str(absent.id))
    lookups = (await herself.ok("GET", "/v1/me/lookups"))["items"]
    assert {"listed", "viewed"} <= {each["use"] for each in lookups}
    copy = await herself.ok("POST", f"/v1/members/{absent.id}/export")
    assert _KIND in {each["object_kind"] for each in copy["tables"]["audit_sightings"]}
