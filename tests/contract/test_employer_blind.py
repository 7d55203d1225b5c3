"""Nothing that the employer's side can ask tells whether somebody was at a health check.

Neither what is answered nor what is done for it: the database runs the same statements.
"""

import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Database, Statements, transaction
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.access.admission import FRESH_SECONDS, Admission
from tests.contract.blind_scene import Scene, build
from tests.contract.hearing import heard, listen
from tests.contract.operations import NOWHERE, Operation, resources
from tests.contract.requests import REQUESTS, Sent
from tests.factories.callers import DISTRICT, Client
from tests.tables import KeptTables

_READS = [operation for operation in resources() if operation.method == "get"]
_WRITES = [
    operation
    for operation in resources()
    if operation.method != "get" and "/logins/" not in operation.path
]
_NEW = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z")
"""Ids and instants of what a write has just made."""
_TELLING = {
    "get_bank_file",
    "get_eligibility",
    "get_fund_balance",
    "get_gift_forecast",
    "get_payout_decision",
    "get_payout_dispute",
    "get_payout_run_cash_list",
    "get_station_settlement_sheet",
    "list_accounts",
    "list_attendances",
    "list_draw_winners draw_id drawn",
    "list_member_attendances",
    "list_payout_entries",
    "list_payouts",
    "list_stock",
    "list_stock_movements",
}
"""Reads that tell all offices entitled to them: without these the worlds would not differ."""
Answers = dict[str, tuple[Any, ...]]


def _filled(template: str, ids: dict[str, str]) -> str:
    """Put the scene's ids where they are named: that very record, or else the one of its kind."""

    def named(match: re.Match[str]) -> str:
        return ids.get(match[1]) or ids.get(match[1].split()[0], NOWHERE)

    return re.sub(r"{(\w[^{}]*)}", named, template)


def _body(value: Any, ids: dict[str, str]) -> Any:
    """Put the scene's ids where a body names records, of whatever kind."""
    if isinstance(value, dict):
        return {name: _body(each, ids) for name, each in value.items()}
    if isinstance(value, list):
        return [_body(each, ids) for each in value]
    return _filled(value, ids) if isinstance(value, str) else value


def _calls(
    operations: list[Operation], ids: dict[str, str]
) -> Iterator[tuple[str, Operation, Sent, dict[str, str]]]:
    """Name each call: of what is sent to an operation anywhere, on a draw at each step."""
    draws = [name for name in ids if name.startswith("draw_id ")]
    for operation in operations:
        sent_to = {about: s for (name, about), s in REQUESTS.items() if name == str(operation)}
        steps = draws if "{draw_id}" in operation.path else [""]
        for about, sent in ({"": Sent()} | sent_to).items():
            named = ids | _body(sent.ids, ids)
            for step in steps:
                of = {"draw_id": ids[step]} if step else {}
                yield (
                    " ".join(filter(None, (str(operation), about, step))),
                    operation,
                    sent,
                    named | of,
                )


def _content(sent: Sent, ids: dict[str, str]) -> dict[str, Any]:
    if sent.file:
        content = _filled(sent.file, ids).encode()
        return {"files": {"file": content}, "data": _body(sent.form, ids)}
    return {"json": None if sent.body is None else _body(sent.body, ids)}


def _without_request(answer: httpx.Response) -> Any:
    if not answer.headers["content-type"].endswith("json"):
        return answer.content
    document = answer.json()
    if isinstance(document, dict):
        return {k: v for k, v in document.items() if k not in {"instance", "request_id"}}
    return document


async def _reads(caller: Client, ids: dict[str, str]) -> Answers:
    """Give all of each answer that could tell: status, ETag, body but for the request's id, work.

    What a read is asked for is what the scene knows, and what it must be.
    """
    answers: Answers = {}
    for name, operation, sent, named in _calls(_READS, ids):
        query = {of: named.get(of, NOWHERE) for of in operation.required_query}
        query |= _body(sent.query, named)
        with heard() as statements:
            answer = await caller.get(_filled(operation.path, named), params=query)
        told = answer.headers.get("etag"), _without_request(answer)
        answers[name] = (answer.status_code, *told, statements)
    return answers


async def _writes(caller: Client, ids: dict[str, str], tables: KeptTables) -> Answers:
    """Try each write, and undo what it has done."""
    answers: Answers = {}
    await tables.keep()
    try:
        for name, operation, sent, named in _calls(_WRITES, ids):
            headers = operation.headers() | {"Idempotency-Key": f"step {len(answers)}"}
            path, content = _filled(operation.path, named), _content(sent, named)
            with heard() as statements:
                answer = await caller.request(operation.method, path, headers=headers, **content)
            told = answer.headers.get("etag"), _said_of_old(answer, ids)
            answers[name] = (answer.status_code, *told, statements)
            await tables.restore()
    finally:
        await tables.forget()
    return answers


def _said_of_old(answer: httpx.Response, ids: dict[str, str]) -> Any:
    """Give what an answer says, but for the ids and instants of what is new."""
    known = set(ids.values())
    said = str(_without_request(answer) if answer.content else "")
    return _NEW.sub(lambda match: match[0] if match[0] in known else "new", said)


@pytest.fixture
def hearing(app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hear every statement of the application, which keeps nothing in mind between requests.

    By the clock it would now and then ask for the grant anew, and note no further denial.
    """
    admission = Admission(database, seconds=count(step=FRESH_SECONDS).__next__)
    admit, app.state.admit = app.state.admit, admission.admit
    monkeypatch.setattr("app.acting._MOST_DENIED", sys.maxsize)
    with listen(database, monkeypatch):
        yield
    app.state.admit = admit


@pytest_asyncio.fixture
async def scene(session: AsyncSession, keyring: Keyring) -> AsyncIterator[Scene]:
    """Nobody has come yet."""
    yield await build(session, keyring)
    await session.rollback()
    await session.execute(text("drop schema came cascade"))
    await session.commit()


@pytest.mark.usefixtures("hearing")
@pytest.mark.parametrize(
    "role",
    [
        Role.TOWN_OFFICER,
        Role.EVENT_STAFF,
        Role.SECRETARY,
        Role.FINANCE_CLERK,
        Role.AUDITOR,
        Role.DATA_PLATFORM,
        Role.DISTRICT_OFFICER,
        Role.GUIDE,
        Role.MEMBER,
    ],
)
async def test_an_employer_cannot_tell_who_came(
    client: Callable[..., Client],
    scene: Scene,
    owner: Database,
    role: Role,
) -> None:
    reach = {name: [scene.ids[f"{name[:-1]}_id"]] for name in ("events", "associations")}
    own = {"member_id": scene.ids["member_id"]} if role is Role.MEMBER else {}
    personnel = client(role, employer_linked=True, **reach, **own)
    tables = KeptTables(owner)
    # The first request stores her grant, and fills what a process keeps in mind.
    await _reads(personnel, scene.ids)
    before = await _reads(personnel, scene.ids)
    before |= await _writes(personnel, scene.ids, tables)
    await scene.come()
    after = await _reads(personnel, scene.ids)
    after |= await _writes(personnel, scene.ids, tables)
    told = {name: (before[name], after[name]) for name in after if after[name] != before[name]}
    differ = {
        name: [p for p in zip(*two, strict=True) if p[0] != p[1]] for name, two in told.items()
    }
    assert not differ, differ
    assert sum(status == 200 for status, *_ in before.values()) >= 10


@pytest.mark.parametrize("role", [Role.TOWN_OFFICER, Role.FINANCE_CLERK, Role.AUDITOR])
async def test_those_entitled_can_tell_who_came(
    client: Callable[..., Client], scene: Scene, role: Role
) -> None:
    officer = client(role)
    before = await _reads(officer, scene.ids)
    await scene.come()
    after = await _reads(officer, scene.ids)
    told = {name for name in after if after[name] != before[name]}
    assert told >= _TELLING, _TELLING - told
    assert role is Role.FINANCE_CLERK or "list_corrections" in told, told
    assert role is Role.AUDITOR or "list_due_gifts" in told, told


@pytest.mark.usefixtures("hearing")
async def test_statements_are_heard_by_whichever_way_they_go(
    database: Database, statements: Statements
) -> None:
    with heard() as said:
        await statements.fetch("select cast(:a as int) + 12, 'text'", {"a": 1})
        async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as session:
            for _ in range(2):
                await session.execute(text("select 'of a session', 3"))
    entering = [each for each in said if each.startswith("begin")]
    assert [each for each in said if each not in entering] == [
        "select cast($1 as int) + ?, ?",
        "commit",
        "select ?, ?",
        "select ?, ?",
        "commit",
    ]
    assert len(entering) == 2
