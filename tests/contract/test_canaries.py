"""What tells of a person goes into every route, and comes out nowhere but where it belongs."""

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import asyncpg
import httpx
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
from tests.contract import canaries
from tests.contract.matrix import rows
from tests.contract.operations import Operation, operations
from tests.contract.scene import Scene, build
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT
from tests.factories.membership.consents import NOTICED_ON
from tests.factories.membership.logins import SMS_KEY
from tests.processes import Service, serving

# Columns in which somebody's own words, and so a name, may stand in clear, and why.
_IN_CLEAR = {
    "members.name": "she is addressed and signs a cash list by it",
    "members.employee_no": "a personnel office's roster finds her by it",
    "memberships.reason": "why she moved, in the words of who moved her",
    "officers.name": "an officer answers by name for what she does",
    "host_organisations.name": "an organisation's, though it may be called after its owner",
    "associations.name": "an organisation's, though it may be called after its owner",
    "associations.status_reason": "why it was suspended, shown with it",
    "facilities.name": "a room's",
    "regulations.title": "a published text's",
    "regulations.body": "a published text",
    "exam_rounds.name": "a period's",
    "service_events.title": "an event's, published",
    "service_events.venue": "where an event is, published",
    "service_events.status_reason": "why an event was cancelled, shown to who registered",
    "attendances.void_reason": "why it does not count, in the words of who voided it",
    "incentive_policies.name": "a policy's, published",
    "incentive_rules.name": "a rule's, published",
    "incentive_rules.gift_item": "what a rule gives, published",
    "gifts.name": "an article's",
    "gifts.unit": "an article's",
    "depots.name": "a place's",
    "stock_movements.document_no": "a delivery note's number",
    "stock_movements.note": "why pieces were lost, in the words of who wrote them off",
    "stock_takes.reason": "why the books were adjusted, in the words of who confirmed it",
    "policy_versions.provenance_note": "who approved a value",
    "payout_runs.status_reason": "why a run was rejected",
    "payouts.failure_reason": "why it was not paid, in the words of who tried",
    "payout_disputes.answer": "what the office answers her, in its own words",
    "draws.name": "a draw's, published",
    "draws.status_reason": "why a draw was given up, published",
    "draw_prizes.name": "what a winner gets, published",
    "service_stations.name": "a station's, known to all",
    "station_settlements.status_reason": "why a settlement was rejected",
    "funds.name": "a fund's",
    "draw_winners.end_reason": "why a prize was given up, in the words of who noted it",
    "payout_decisions.reason": "why it was decided so, in the words of who decided",
    "grants.revoke_reason": "why a grant was taken back",
    "idempotency_keys.body": "the first answer, shown again to her alone who asked",
}


_NEVER_ACCEPTED = {
    "verify_login": "a code comes by message alone; it takes no words",
    "choose_login": "a ticket comes from a code that was right; it takes no words",
    "update_my_phone": "a code comes by message alone; it takes no words",
    "update_my_payout_account": "she has no phone any more to be told on; its holder is sealed",
    "create_depot": "each place has its depots; the words of changing one stand in the same column",
    "create_month_close": "an earlier month of each place is open; it takes no words",
    "dissolve_association": "members are left in each place; suspending has the same column",
}
"""Operations in no state of the scene to accept a body, and why."""


@dataclass
class Traces:
    """All that came out of a service into which the canaries went."""

    answers: list[httpx.Response] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Of each operation that never accepted a body with canaries, what it said last."""
    log: str = ""
    database_log: str = ""
    metrics: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    """What the rows of each column hold, by `table.column`, in clear and as bytes."""


def _forms(canary: str) -> set[str]:
    """Give the ways in which a text may be written, each enough to tell of her."""
    escaped = json.dumps(canary)[1:-1]
    forms = {canary, quote(canary), quote(canary).lower(), escaped, escaped.replace("\\", "\\\\")}
    forms |= {canary.encode().hex(), canary.encode().decode("latin-1")}
    if canary.isalnum() and canary.isascii():
        forms.add(canary[:17] if len(canary) == 18 else canary[-8:])
    return forms


def _found(text: str, among: tuple[str, ...] = canaries.ALL) -> set[str]:
    return {canary for canary in among if any(form in text for form in _forms(canary))}


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
async def traces(running: Service) -> AsyncIterator[Traces]:
    """Send the canaries everywhere, and gather what came of it."""
    config = Settings(data_dir=running.folder / "data", log_level="error")
    with embedded.server(config.data_dir / "postgres") as url:
        database = await connect(url.replace("/postgres?", f"/{embedded.DATABASE}?"), config)
        traces = Traces()
        scene, headers = await _prepared(database, config)
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            for turn in range(4):
                await _send_all(client, scene, headers, traces, turn)
                # A phone gets a code a minute, and several operations send one.
                await database.pool.execute("delete from code_limits")
            await _await_imports(database)
            await _break_a_constraint(database)
            traces.metrics = (await client.get("/metrics")).text
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
    tokens = {role: issuer.token(f"canary-{role}", step_up=True) for role in _CALLERS}
    return scene, {role: {"Authorization": f"Bearer {token}"} for role, token in tokens.items()}


def _nanhai() -> list[areas.AreaLine]:
    with Path("app/data/areas-nanhai.csv").open(encoding="utf-8") as file:
        return areas.read_file(file)


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
        bearer, is_accepted = headers[_caller(operation)], False
        for request in canaries.requests(operation, ids):
            answer = await _send(client, request, bearer, traces)
            is_accepted = is_accepted or (answer.is_success and "json" in request.options)
        if operation.body is not None and not is_accepted:
            await _send_rightly(client, operation, scene, headers, traces)


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


def test_every_operation_has_accepted_a_body_with_canaries(traces: Traces) -> None:
    refused = {name: said for name, said in traces.refused.items() if name not in _NEVER_ACCEPTED}
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
    assert sorted(found - _IN_CLEAR.keys()) == []


def test_what_may_stand_in_clear_is_registered_as_such() -> None:
    register: dict[str, Entry] = {f"{each.table}.{each.column}": each for each in read()}
    assert _IN_CLEAR.keys() <= register.keys()
    of = {name: register[name].sensitivity for name in _IN_CLEAR}
    in_clear = {Sensitivity.PERSONAL, Sensitivity.WRITTEN, Sensitivity.ORGANISATIONAL}
    assert set(of.values()) <= in_clear, of


@pytest.mark.parametrize("canary", canaries.ALL)
def test_a_canary_is_found_however_it_is_written(canary: str) -> None:
    for written in (canary, json.dumps({"v": canary}), quote(canary), canary.encode().hex()):
        assert _found(f"…{written}…") == {canary}
