"""What stands for a person in what is sent to every route, rightly and wrongly."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any
from urllib.parse import quote

from tests.contract.attempts import Ids
from tests.contract.operations import NOWHERE, Operation, resolve
from tests.contract.requests import REQUESTS, Sent, filled
from tests.factories.membership.members import make_id_number, make_phone
from tests.factories.membership.rosters import make_person, make_xlsx

NAME = "欧阳甪霨"
WORDS = "霁月难逢彩云易散"
ID_NUMBER = make_id_number(4_444_444)
PHONE = make_phone(87_654_321)
CARD = "6225880137465283"
NUMBERS = (ID_NUMBER, PHONE, CARD)
ALL = (NAME, WORDS, *NUMBERS)
# What a person writes in her own words; the rest of a body is codes, dates, ids and numbers.
_IN_OWN_WORDS = {
    "name": NAME,
    "title": WORDS,
    "body": WORDS,
    "venue": WORDS,
    "reason": WORDS,
    "provenance_note": WORDS,
    "employee_no": "甪霨一号",
    "phone": PHONE,
    "id_number": ID_NUMBER,
    "consented_on": "2026-01-01",
}
# Headers are read alike by every route, so each route has another canary in each of them.
_TURNS = cycle(ALL)
_NUMBERS = count(1)
_NAMED = {"key": "independent_min_staff", "name": "roles"}
_PLACES_OF_MACHINES = {"device_id", "device_ref", "ref", "subject", "code", "ticket"}

# Columns in which somebody's own words, and so a name, may stand in clear, and why.
IN_CLEAR = {
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
    "bank_files.debtor_name": "which organisation pays",
    "grants.revoke_reason": "why a grant was taken back",
    "idempotency_keys.body": "the first answer, shown again to her alone who asked",
}
NEVER_ACCEPTED = {
    "verify_login": "a code comes by message alone; it takes no words",
    "choose_login": "a ticket comes from a code that was right; it takes no words",
    "update_my_phone": "a code comes by message alone; it takes no words",
    "update_my_payout_account": "she has no phone any more to be told on; its holder is sealed",
    "create_depot": "each place has its depots; the words of changing one stand in the same column",
    "create_month_close": "an earlier month of each place is open; it takes no words",
    "dissolve_association": "members are left in each place; suspending has the same column",
}
"""Operations in no state of the scene to accept a body, and why."""


@dataclass(frozen=True)
class Request:
    """One request, ready to be sent."""

    method: str
    url: str
    options: dict[str, Any] = field(default_factory=dict)


def forms(canary: str) -> set[str]:
    """Give the ways in which a text may be written, each enough to tell of her."""
    escaped = json.dumps(canary)[1:-1]
    forms = {canary, quote(canary), quote(canary).lower(), escaped, escaped.replace("\\", "\\\\")}
    forms |= {canary.encode().hex(), canary.encode().decode("latin-1")}
    if canary.isalnum() and canary.isascii():
        forms.add(canary[:17] if len(canary) == 18 else canary[-8:])
    return forms


def requests(operation: Operation, ids: Ids) -> Iterator[Request]:
    """Give requests to an operation, wrong in every place that takes input."""
    ids = {**dict.fromkeys(_names(operation), NOWHERE), **_NAMED, **ids}
    path = filled(operation.path, ids)
    for name in _names(operation):
        for value in (next(_TURNS), next(_TURNS)):
            yield _request(operation, filled(operation.path, ids | {name: quote(value)}))
    yield from _with_queries(operation, path)
    yield from _with_headers(operation, path)
    yield from _with_bodies(operation, path)
    if "multipart/form-data" in operation.spec.get("requestBody", {}).get("content", {}):
        yield from _files(operation, path, ids)
    for sent in _sent(operation):
        yield from _spoilt(operation, sent, ids)


def rights(operation: Operation, ids: Ids) -> Iterator[Request]:
    """Give requests that are right, in a person's own words; one of them is of the right version.

    Each has its key, so that none is the repeat of another.
    """
    ids = {**dict.fromkeys(_names(operation), NOWHERE), **_NAMED, **ids}
    for sent in _sent(operation):
        url, body = _place(operation, sent, ids), _body(operation, sent, ids)
        for version in (1, 2, 3, 4) if "If-Match" in operation.headers() else (1,):
            headers = operation.headers() | {"Idempotency-Key": f"{operation}-{next(_NUMBERS)}"}
            headers |= {"If-Match": f'"{version}"'} if "If-Match" in headers else {}
            params = filled(sent.query, ids)
            yield _request(operation, url, json=body, params=params, headers=headers)


def _sent(operation: Operation) -> list[Sent]:
    """Give what the authorisation matrix sends, if that is a body."""
    found = [sent for (name, _), sent in REQUESTS.items() if name == str(operation)]
    return [sent for sent in found if sent.body is not None]


def _place(operation: Operation, sent: Sent, ids: Ids) -> str:
    return str(filled(operation.path, ids | filled(sent.ids, ids)))


def _body(operation: Operation, sent: Sent, ids: Ids) -> Any:
    """Fill a body, in a person's own words but where a choice is asked for."""
    asked = (operation.body or {}).get("properties", {})
    words = {
        name: said
        for name, said in _IN_OWN_WORDS.items()
        if "enum" not in resolve(asked.get(name, {}))
    }
    return _dressed(filled(sent.body, ids), words)


def _names(operation: Operation) -> list[str]:
    return [p["name"] for p in operation.parameters if p["in"] == "path"]


def _request(operation: Operation, url: str, **options: Any) -> Request:
    return Request(operation.method, url, options)


def _with_queries(operation: Operation, path: str) -> Iterator[Request]:
    turns = cycle(ALL)
    for name in sorted(operation.query):
        yield _request(operation, path, params={name: next(turns)})
    yield _request(operation, path, params={NAME: PHONE})
    yield _request(operation, path, params={f"q{PHONE}": WORDS})


def _with_bodies(operation: Operation, path: str) -> Iterator[Request]:
    if operation.body is None:
        return
    headers = operation.headers()
    for body in _wrong_bodies(operation.body, cycle(ALL)):
        yield _request(operation, path, json=body, headers=headers)
    for raw in (f"{NAME}{ID_NUMBER}", f'{{"{NAME}": "{PHONE}"', f'"{WORDS}"'):
        typed = headers | {"Content-Type": "application/json"}
        yield _request(operation, path, content=raw.encode(), headers=typed)


def _with_headers(operation: Operation, path: str) -> Iterator[Request]:
    for name in (
        "X-Request-Id",
        "traceparent",
        "Jixie-Grant",
        "If-Match",
        "If-None-Match",
        "Accept-Language",
        "Accept",
        "User-Agent",
        "Referer",
        "Cookie",
        "Content-Type",
        "Authorization",
    ):
        yield _request(operation, path, headers={name: next(_TURNS).encode()})
    yield _request(operation, path, headers={"Authorization": f"Bearer {ID_NUMBER}.{PHONE}.x"})
    yield _request(operation, path, headers={"Idempotency-Key": NAME.encode()})


def _wrong_bodies(schema: dict[str, Any], turns: Iterator[str]) -> Iterator[Any]:
    """Put a person where she does not belong: one property at a time, and one that is not there."""
    properties = schema.get("properties", {})
    for name, each in properties.items():
        for value in NUMBERS if _is_text(each) and name not in _PLACES_OF_MACHINES else ALL[2:4]:
            if name not in {"phone", "id_number"}:
                yield {name: value}
        yield {name: [next(turns)]}
        yield {name: {next(turns): next(turns)}}
    yield {NAME: PHONE}
    yield {f"x_{PHONE}": ID_NUMBER}
    yield [*ALL]


def _is_text(schema: dict[str, Any]) -> bool:
    found = resolve(schema)
    return found.get("type") == "string" and not {"enum", "format", "pattern"} & found.keys()


def _spoilt(operation: Operation, sent: Sent, ids: Ids) -> Iterator[Request]:
    """Send what would be right, but for numbers in a person's own words."""
    params, headers = filled(sent.query, ids), operation.headers()
    for number in NUMBERS:
        spoilt = {
            name: f"见{number}" for name in _IN_OWN_WORDS if name not in {"phone", "id_number"}
        }
        body, url = _dressed(_body(operation, sent, ids), spoilt), _place(operation, sent, ids)
        yield _request(operation, url, json=body, params=params, headers=headers)


def _dressed(body: Any, words: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {name: words.get(name) or _dressed(each, words) for name, each in body.items()}
    return [_dressed(each, words) for each in body] if isinstance(body, list) else body


def _files(operation: Operation, path: str, ids: Ids) -> Iterator[Request]:
    """Send files whose names, sheets, headers and cells tell of her, in and out of place."""
    right = make_person(1, 姓名=NAME, 身份证号码=ID_NUMBER, 手机号=PHONE, 工号="甪霨二号")
    rows = [
        right,
        right | {"姓名": WORDS, "身份证号码": f"{ID_NUMBER[:17]}?", "手机号": CARD},
        right | {"姓名": f"{NAME}{PHONE}", "身份证号码": NAME, "手机号": ID_NUMBER, "工号": PHONE},
        right | {"入会日期": ID_NUMBER, "知情同意日期": WORDS, "序号": CARD, "姓名": "另一人"},
    ]
    files = {
        f"{NAME}{PHONE}.xlsx": make_xlsx(rows, title=f"{NAME} {ID_NUMBER}"),
        f"{ID_NUMBER}.csv": "\n".join(ALL).encode(),
        f"{WORDS}.xlsx": io.BytesIO(NAME.encode()).getvalue(),
    }
    fields = {"association_id": ids["association_id"], "dry_run": "false"}
    for number, (name, content) in enumerate(files.items()):
        for data in (fields, {"association_id": PHONE}, {"on_error": NAME}, {f"p{PHONE}": NAME}):
            keyed = {"Idempotency-Key": f"file-{operation}-{number}-{len(str(data))}"}
            sent = {"files": {"file": (name, content)}, "data": data, "headers": keyed}
            if operation.path.endswith(("/results/import", "/bank-results")):
                sent = {"files": {"file": (name, content)}}
            yield _request(operation, path, **sent)
