"""What tells of a person goes into every route, and comes out nowhere but where it belongs."""

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import jwt
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, embedded
from app.crypto import load_keyring
from app.database import Database, connect
from app.issuer import DevelopmentIssuer
from app.models.columns import Entry, Sensitivity, read
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.organisation import areas
from app.services.privacy import privacy_notices
from app.settings import Settings
from tests.contract import canaries, file_canaries
from tests.contract.matrix import rows
from tests.contract.operations import Operation, operations
from tests.contract.scene import Scene, build
from tests.contract.test_headers import require_headers
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT
from tests.factories.membership.consents import NOTICED_ON
from tests.factories.membership.logins import SMS_KEY
from tests.processes import Service, serving


@dataclass
class Traces:
    """All that came out of a service into which the canaries went."""

    answers: list[httpx.Response] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Of each operation that never accepted a body with canaries, what it said last."""
    log: str = ""
    database_log: str = ""
    metrics: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)
    """What the SMS provider was given."""
    taken: list[str] = field(default_factory=list)
    """Which files that were right but for a person in them were taken."""
    columns: dict[str, str] = field(default_factory=dict)
    """What the rows of each column hold, by `table.column`, in clear and as bytes."""


def _found(text: str, among: tuple[str, ...] = canaries.ALL) -> set[str]:
    return {canary for canary in among if any(form in text for form in canaries.forms(canary))}


@pytest.fixture(scope="module")
def running(sandbox_url: str) -> Iterator[Service]:
    """A process of the service that says all it can say, with its worker and its own database."""
    variables = {
        "JIXIE_LOG_LEVEL": "debug",
        "JIXIE_SMS_URL": f"{sandbox_url}/sms",
        "JIXIE_SMS_KEY": SMS_KEY,
    }
    # pytest's own folders are closed to the account that runs PostgreSQL in root's place.
    with (
        tempfile.TemporaryDirectory(prefix="jixie-test-") as name,
        serving(Path(name), None, "--no-demo", **variables) as service,
    ):
        yield service


@pytest_asyncio.fixture(scope="module")
async def traces(running: Service, sandbox_url: str) -> AsyncIterator[Traces]:
    """Send the canaries everywhere, and gather what came of it."""
    config = Settings(data_dir=running.folder / "data", log_level="error")
    with embedded.server(config.data_dir / "postgres") as url:
        database = await connect(url.replace("/postgres?", f"/{embedded.DATABASE}?"), config)
        traces = Traces()
        scene, headers = await _prepared(database, config)
        async with httpx.AsyncClient(base_url=running.url, timeout=60, limits=_LIMITS) as client:
            for turn in range(4):
                await _send_all(client, scene, headers, traces, turn)
                # A phone gets a code a minute, and several operations send one.
                await database.pool.execute("delete from code_limits")
            await _send_files(client, scene, headers[Role.FINANCE_CLERK], traces)
            await _send_tokens(client, config, traces)
            await _await_imports(database)
            await _break_a_constraint(database)
            traces.metrics = (await client.get("/metrics")).text
            traces.messages = (await client.get(f"{sandbox_url}/sandbox/messages")).json()
        traces.columns = await _columns(database)
        await database.close()
        traces.log = running.log
        traces.database_log = (config.data_dir / "postgres" / "log").read_text(errors="replace")
        yield traces


async def _prepared(
    database: Database, config: Settings
) -> tuple[Scene, dict[Role, dict[str, str]]]:
    """Store the scene, and give callers of the whole district."""
    info = {"scope": Scope(Acting.DISTRICT, DISTRICT)}
    async with AsyncSession(database.engine, expire_on_commit=False, info=info) as session:
        await areas.load(session, _nanhai())
        await privacy_notices.provide(
            session, district_code=DISTRICT, effective_on=NOTICED_ON, now=clock.now()
        )
        scene = await build(session, load_keyring(config))
        member_id = scene.places["village"]["member_id"]
        for role in _CALLERS:
            reach = {"areas": [], "member_id": member_id} if role is Role.MEMBER else {}
            await make_grant(session, subject=f"canary-{role}", role=role.value, **reach)
        await session.commit()
    issuer = DevelopmentIssuer(config)
    # What an issuer tells of somebody besides is nobody's business here.
    told: dict[str, Any] = {
        "name": canaries.NAME,
        "phone_number": canaries.PHONE,
        "id_number": canaries.ID_NUMBER,
    }
    told |= {"preferred_username": canaries.WORDS, "card": canaries.CARD, "jti": canaries.PHONE}
    tokens = {role: issuer.token(f"canary-{role}", step_up=True, **told) for role in _CALLERS}
    return scene, {role: {"Authorization": f"Bearer {token}"} for role, token in tokens.items()}


async def _send_tokens(client: httpx.AsyncClient, config: Settings, traces: Traces) -> None:
    """Name a person in each claim and each header of a token, and as a subject with no grant."""
    issuer = DevelopmentIssuer(config)
    wrong: list[tuple[dict[str, Any], dict[str, Any]]] = [
        *(({name: each}, {}) for name in _CLAIMS for each in canaries.ALL),
        *(({}, {name: each}) for name in ("kid", "typ", "jku", "x5u") for each in canaries.ALL),
    ]
    requests = []
    for claims, header in wrong:
        right = jwt.decode(issuer.token("canary"), options={"verify_signature": False})
        given = {"kid": issuer._key.kid, "typ": "at+jwt", **header}
        token = jwt.encode({**right, **claims}, issuer._key.private, "EdDSA", headers=given)
        options = {"headers": {"Authorization": f"Bearer {token}"}}
        requests.append(canaries.Request("get", "/v1/areas", options))
    await _send_each(client, requests, {}, traces)


async def _send_files(
    client: httpx.AsyncClient, scene: Scene, bearer: dict[str, str], traces: Traces
) -> None:
    """Bring what a bank and a signed list say, of places whose records others do not need."""
    ids = list(scene.places.values())[-1]
    bank, cash = (f"/v1/payout-runs/{ids[name]}" for name in ("run_id bank", "run_id"))
    made = await client.post(f"{bank}/bank-files", json=file_canaries.ORDER, headers=bearer | _KEY)
    path = f"{bank}/bank-files/{made.raise_for_status().json()['file']['id']}/content"
    order = (await client.get(path, headers=bearer)).raise_for_status().content
    listed = await client.get(f"{cash}/cash-list?format=csv", headers=bearer)
    sheet = listed.raise_for_status().text
    for path, files in (
        (f"{cash}/results/import", list(file_canaries.signed_lists(sheet))),
        (f"{bank}/bank-results", list(file_canaries.wrong_answers(order))),
        (f"{bank}/bank-results", [(f"{canaries.NAME}.xml", file_canaries.right_answer(order))]),
    ):
        requests = [canaries.Request("post", path, {"files": {"file": file}}) for file in files]
        answers = await _send_each(client, requests, bearer, traces)
        traces.taken += [path.rpartition("/")[2] for answer in answers if answer.is_success]


def _nanhai() -> list[areas.AreaLine]:
    with Path("app/data/areas-nanhai.csv").open(encoding="utf-8") as file:
        return areas.read_file(file)


_LIMITS = httpx.Limits(keepalive_expiry=2)  # the service closes what is idle for five seconds
_KEY = {"Idempotency-Key": "canaries-at-the-bank"}
_CLAIMS = ("sub", "iss", "aud", "scope", "acr", "exp", "iat", "nbf", "client_id")
_UNKNOWN = dict.fromkeys(("code to scan", "code to scan health", "cash list"), "A")
_COLUMNS = {
    "district": Role.DISTRICT_OFFICER,
    "clerk": Role.FINANCE_CLERK,
    "approver": Role.FINANCE_APPROVER,
    "guide": Role.GUIDE,
    "member": Role.MEMBER,
}
"""Callers of the whole district, by their columns in the authorisation matrix."""
_CALLERS = tuple(_COLUMNS.values())


def _caller(operation: Operation) -> Role:
    path = operation.path
    if path == "/v1/me" or path.startswith("/v1/me/") or path.endswith("/check-in"):
        return Role.MEMBER
    if path.endswith(("/approve", "/reject")):
        return Role.FINANCE_APPROVER
    if "/results" in path or "/bank-" in path or path.endswith(("/disburse", "/settle")):
        return Role.FINANCE_CLERK
    return Role.DISTRICT_OFFICER


async def _send_all(
    client: httpx.AsyncClient,
    scene: Scene,
    headers: dict[Role, dict[str, str]],
    traces: Traces,
    turn: int,
) -> None:
    ids = scene.places["village"] | _UNKNOWN
    for operation in (each for each in operations() if _turn(each) == turn):
        requests = list(canaries.requests(operation, ids))
        answers = await _send_each(client, requests, headers[_caller(operation)], traces)
        is_accepted = any(
            answer.is_success and "json" in request.options
            for request, answer in zip(requests, answers, strict=True)
        )
        if operation.body is not None and not is_accepted:
            await _send_rightly(client, operation, scene, headers, traces)


async def _send_each(
    client: httpx.AsyncClient,
    requests: Sequence[canaries.Request],
    bearer: dict[str, str],
    traces: Traces,
) -> list[httpx.Response]:
    return [await _send(client, request, bearer, traces) for request in requests]


async def _send(
    client: httpx.AsyncClient, request: canaries.Request, bearer: dict[str, str], traces: Traces
) -> httpx.Response:
    options = dict(request.options)
    options["headers"] = bearer | options.get("headers", {})
    answer = await client.request(request.method, request.url, **options)
    traces.answers.append(answer)
    return answer


async def _send_rightly(
    client: httpx.AsyncClient,
    operation: Operation,
    scene: Scene,
    headers: dict[Role, dict[str, str]],
    traces: Traces,
) -> None:
    """Send what is right as whoever may, until one of the places is in a state to accept it."""
    said = "nobody may"
    for ids in scene.places.values():
        for role in _allowed(operation):
            for request in canaries.rights(operation, ids | _UNKNOWN):
                answer = await _send(client, request, headers[role], traces)
                if answer.is_success:
                    return
                said = f"{role}: {answer.text}"
    traces.refused[str(operation)] = said


def _allowed(operation: Operation) -> list[Role]:
    """Give the callers to whom the authorisation matrix allows an operation."""
    cells = [row.cells for row in rows() if row.operation == str(operation)]
    return [
        role for column, role in _COLUMNS.items() if any(each[column][0] == "A" for each in cells)
    ]


def _turn(operation: Operation) -> int:
    """Put first what needs a record as it was, and last what ends those that others need."""
    if operation.path.endswith(("/dispute", "/phone/codes")):
        return 0
    if operation.path.endswith("/sign-out"):
        return 3
    ends = ("/erase", "/dissolve", "/suspend", "/leave", "/revoke", "/withdraw")
    return 2 if operation.path.endswith(ends) else 1


async def _await_imports(database: Database) -> None:
    pending = "select count(*) from operations where status in ('queued', 'running')"
    # Those of the scene have no file, and are given up.
    for _ in range(300):
        if not await database.pool.fetchval(pending):
            break
        await asyncio.sleep(0.2)


async def _break_a_constraint(database: Database) -> None:
    """Have the database refuse a row that tells of her, as a fault of ours could."""
    with pytest.raises(asyncpg.CheckViolationError):
        await database.pool.execute("update members set name = $1, status = ''", canaries.NAME)


async def _columns(database: Database) -> dict[str, str]:
    held = {}
    for entry in read():
        rows = await database.pool.fetch(
            f'select "{entry.column}" as v from {entry.table} where "{entry.column}" is not null'
        )
        held[f"{entry.table}.{entry.column}"] = "\n".join(
            v.decode("latin-1") if isinstance(v := row["v"], bytes) else str(v) for row in rows
        )
    return held


def test_the_canaries_have_been_everywhere(traces: Traces) -> None:
    statuses = Counter(answer.status_code for answer in traces.answers)
    assert {200, 201, 202, 400, 401, 403, 404, 409, 412, 422} <= set(statuses), statuses
    assert not [status for status in statuses if status >= 500], statuses
    assert len(traces.answers) > 2_000
    for column in ("members.name", "memberships.reason", "service_events.title", "officers.name"):
        assert _found(traces.columns[column]), column
    for column in ("members.id_number_sealed", "members.phone_sealed", "phone_codes.digest"):
        assert traces.columns[column], column
    assert traces.columns["import_rows.outcome"].count("created") >= 1
    assert traces.columns["import_rows.outcome"].count("rejected") >= 1
    assert traces.log.count("\n") >= len(traces.answers)
    assert "violates check constraint" in traces.database_log
    assert traces.messages
    assert {"import", "bank-results"} <= set(traces.taken), traces.taken


def test_no_message_tells_more_of_her_than_where_it_goes(traces: Traces) -> None:
    assert not [each for each in traces.messages if _found(json.dumps({**each, "to": ""}))]


def test_every_answer_tells_browsers_to_keep_it_to_itself(traces: Traces) -> None:
    for answer in traces.answers:
        require_headers(answer)


def test_every_operation_has_accepted_a_body_with_canaries(traces: Traces) -> None:
    refused = {
        name: said for name, said in traces.refused.items() if name not in canaries.NEVER_ACCEPTED
    }
    assert not refused, "\n".join(f"{name}: {said}" for name, said in refused.items())


def test_no_log_line_tells_of_her(traces: Traces) -> None:
    assert not [line for line in traces.log.splitlines() if _found(line)]


def test_the_databases_own_log_tells_nothing_of_her(traces: Traces) -> None:
    assert not [line for line in traces.database_log.splitlines() if _found(line)]


def test_no_metric_tells_of_her(traces: Traces) -> None:
    assert not _found(traces.metrics)


def test_no_problem_repeats_what_was_sent(traces: Traces) -> None:
    telling = [
        f"{answer.request.method} {answer.request.url}: {answer.text[:300]}"
        for answer in traces.answers
        if answer.status_code >= 400 and _found(f"{answer.text}{answer.headers}")
    ]
    assert not telling, "\n".join(telling[:20])


def test_numbers_are_answered_in_full_where_they_are_revealed_and_nowhere_else(
    traces: Traces,
) -> None:
    telling = {
        f"{answer.request.method} {answer.request.url.path}"
        for answer in traces.answers
        if _found(f"{answer.text}{answer.headers}", canaries.NUMBERS)
    }
    assert not [each for each in telling if not each.endswith(("/reveal", "/export"))]


def test_no_table_holds_her_numbers_but_sealed(traces: Traces) -> None:
    found = {name: _found(held, canaries.NUMBERS) for name, held in traces.columns.items()}
    assert not {name: canary for name, canary in found.items() if canary}


def test_her_name_stands_in_clear_only_where_somebody_wrote_it(traces: Traces) -> None:
    words = (canaries.NAME, canaries.WORDS)
    found = {name for name, held in traces.columns.items() if _found(held, words)}
    assert sorted(found - canaries.IN_CLEAR.keys()) == []


def test_what_may_stand_in_clear_is_registered_as_such() -> None:
    register: dict[str, Entry] = {f"{each.table}.{each.column}": each for each in read()}
    assert canaries.IN_CLEAR.keys() <= register.keys()
    of = {name: register[name].sensitivity for name in canaries.IN_CLEAR}
    in_clear = {Sensitivity.PERSONAL, Sensitivity.WRITTEN, Sensitivity.ORGANISATIONAL}
    assert set(of.values()) <= in_clear, of


@pytest.mark.parametrize("canary", canaries.ALL)
def test_a_canary_is_found_however_it_is_written(canary: str) -> None:
    for written in (canary, json.dumps({"v": canary}), quote(canary), canary.encode().hex()):
        assert _found(f"…{written}…") == {canary}
