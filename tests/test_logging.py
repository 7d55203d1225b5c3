"""The log: one JSON line an event, with the request's id and nothing that tells of a person."""

import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.logging import configure
from app.roles import Role
from app.settings import Settings
from tests.factories.callers import Client, idempotency_key
from tests.factories.membership.logins import Inbox, ask, make_member_with_phone, verify, wrong
from tests.factories.membership.members import make_id_number, make_phone
from tests.factories.membership.rosters import make_csv, make_people
from tests.factories.organisation.associations import make_association
from tests.processes import Service

Begin = Callable[[Settings], Callable[[], str]]
_NAME = "欧阳望月例"


@pytest.fixture
def begin(log_as_before: None) -> Begin:  # noqa: ARG001  (it ends what is begun here)
    """Set the log up as the settings say, and give what reads it."""

    def begin(config: Settings) -> Callable[[], str]:
        stream = StringIO()
        with redirect_stderr(stream):
            configure(config)
        return stream.getvalue

    return begin


def _events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _requests(service: Service, seed: int) -> list[httpx.Response]:
    """Say names, numbers, tokens and queries to the service, rightly and wrongly."""
    headers = service.bearer(Role.DISTRICT_OFFICER)
    number, phone = make_id_number(seed), make_phone(seed)
    member = {
        "name": _NAME,
        "association_id": service.variables()["ASSOCIATION_ID"],
        "joined_on": "2026-01-01",
        "consented_on": "2026-01-01",
        "id_number": number,
        "phone": phone,
    }
    people = make_people(2, start=seed + 1)
    people[0]["身份证号码"] = f"{number[:17]}?"
    roster = {"file": (f"{_NAME}.csv", make_csv(people))}
    as_json = {"Content-Type": "application/json"}
    keyed = headers | idempotency_key(clock.new_id())
    with httpx.Client(base_url=service.url) as client:
        return [
            client.post("/v1/members", json=member, headers=headers),
            client.post("/v1/members", json=member, headers=headers),
            client.post(
                "/v1/members", json=member | {"id_number": number + phone}, headers=headers
            ),
            client.post("/v1/members", json=member | {_NAME: phone}, headers=headers),
            client.post("/v1/members/search", json={"id_number": number}, headers=headers),
            client.get("/v1/members", params={"name": _NAME, "phone": phone}, headers=headers),
            client.get(f"/v1/members/{phone}", headers=headers),
            client.get(f"/{_NAME}/{number}", headers=headers),
            client.get("/v1/members", headers={"Authorization": f"Bearer {number}.{phone}.x"}),
            client.get("/v1/members", headers=headers | {"X-Request-Id": f"{phone} x"}),
            client.post("/v1/members/import", files=roster, headers=keyed),
            client.post("/v1/members", content=f"{number}{_NAME}", headers=headers | as_json),
        ]


def _log(service: Service, known: int, answers: Sequence[httpx.Response]) -> str:
    """Give what was logged since; a line may come just after its answer."""
    deadline = time.monotonic() + 20
    log = ""
    while time.monotonic() < deadline:
        log = service.log[known:]
        if log.endswith("\n") and all(each.headers["x-request-id"] in log for each in answers):
            break
        time.sleep(0.02)
    return log


def test_every_line_is_json_and_every_answer_has_its_line(service: Service) -> None:
    known = len(service.log)
    answers = _requests(service, seed=7_001)
    by_id = {event["request_id"]: event for event in _events(_log(service, known, answers))}
    for answer in answers:
        event = by_id[answer.headers["x-request-id"]]
        assert event["event"] == "request"
        assert (event["method"], event["status"]) == (answer.request.method, answer.status_code)
        facts = {*("event", "level", "timestamp", "request_id", "method", "route", "status", "ms")}
        assert facts <= set(event) <= facts | {"code", "reason", "role", "grant"}
        assert ("code" in event) is (answer.status_code >= 400)


def test_a_refusal_says_why_and_under_which_grant(service: Service) -> None:
    known = len(service.log)
    clerk, member = (service.bearer(role) for role in (Role.FINANCE_CLERK, Role.MEMBER))
    with httpx.Client(base_url=service.url) as client:
        answers = [
            client.get("/v1/members"),
            client.get("/v1/members", headers={"Authorization": "Bearer a.b.c"}),
            client.post("/v1/exam-rounds", json={}, headers=clerk),
            client.get("/v1/payouts", headers=member),
            client.post("/v1/associations", content=b"{", headers=clerk),
        ]
    events = _events(_log(service, known, answers))
    of = {event["request_id"]: event for event in events if event["event"] == "request"}
    missing, forged, forbidden, of_member, _ = (of[a.headers["x-request-id"]] for a in answers)
    assert (missing["code"], missing["reason"]) == ("unauthenticated", "missing")
    assert (forged["code"], forged["reason"]) == ("unauthenticated", "signature")
    assert (forbidden["code"], forbidden["role"]) == ("forbidden", "finance_clerk")
    assert re.fullmatch(r"[0-9a-f-]{36}", forbidden["grant"])
    assert (of_member["code"], of_member["role"]) == ("forbidden", "member")
    assert "grant" not in of_member
    assert {event["level"] for event in (missing, forged, forbidden, of_member)} == {"warning"}


async def test_a_login_by_phone_is_logged_whether_it_succeeds_or_fails(
    app: FastAPI, client: Callable[..., Client], inbox: Inbox, session: AsyncSession
) -> None:
    phone, nobody = make_phone(1), client(None)
    association = await make_association(session)
    await make_member_with_phone(session, app.state.keyring, association, phone)
    await session.commit()
    login = await ask(nobody, phone)
    await app.state.messenger.idle()
    code = await inbox.code(phone)
    with structlog.testing.capture_logs() as events:
        await nobody.post(f"/v1/logins/{login['id']}/verify", json={"code": wrong(code)})
        await verify(nobody, login, code)
    by_name = {event["event"] for event in events}
    failed, succeeded = (event for event in events if event["event"] == "request")
    assert (failed["code"], failed["log_level"]) == ("code_refused", "warning")
    assert "code" not in succeeded
    assert "logged_in" in by_name
    assert phone not in str(events)
    assert code not in str(events)


def test_the_time_of_a_line_is_in_utc(begin: Begin, config: Settings) -> None:
    log = begin(config)
    _log_an_error("any")
    for event in _events(log()):
        at = datetime.fromisoformat(event["timestamp"])
        assert at.utcoffset() == timedelta(0)
        assert abs((clock.now() - at).total_seconds()) < 60


def test_a_token_is_logged_when_it_is_first_accepted(service: Service) -> None:
    known = len(service.log)
    headers = service.bearer(Role.AUDITOR)
    with httpx.Client(base_url=service.url) as client:
        answers = [client.get("/v1/areas", headers=headers) for _ in range(3)]
    events = _events(_log(service, known, answers))
    accepted = [event for event in events if event["event"] == "token_accepted"]
    assert [event["of_member"] for event in accepted] == [False]
    assert accepted[0]["request_id"] == answers[0].headers["x-request-id"]


def test_nothing_in_the_log_tells_of_a_person(service: Service) -> None:
    known = len(service.log)
    seed = 7_101
    answers = _requests(service, seed)
    assert {answer.status_code for answer in answers} >= {200, 201, 202, 400, 401, 404, 409, 422}
    log = re.sub(r'"request_id": "[^"]*"', "", _log(service, known, answers))
    said = [
        _NAME,
        make_id_number(seed),
        make_phone(seed),
        make_phone(seed)[-8:],
        "Bearer",
        "eyJ",
    ]
    assert not [each for each in said if each in log]
    assert "?" not in log
    assert not re.search(r"1[3-9]\d{9}|\d{17}[\dX]", log)


def _log_an_error(message: str) -> None:
    try:
        raise_it(message)
    except LookupError:
        structlog.get_logger().error("own", exc_info=True)
        logging.getLogger("uvicorn.error").exception("a library's")


def raise_it(message: str) -> None:
    raise LookupError(message)


def test_an_error_is_named_by_type_and_place_alone(begin: Begin, config: Settings) -> None:
    log = begin(config)
    _log_an_error(make_phone(0))
    for event in _events(log()):
        assert event["error"] == "LookupError"
        assert event["frames"][-1].endswith(" raise_it")
    assert len(_events(log())) == 2
    assert make_phone(0) not in log()


def test_a_terminal_is_told_no_more_than_a_file(begin: Begin, config: Settings) -> None:
    log = begin(config.model_copy(update={"log_json": False}))
    _log_an_error(make_phone(0))
    assert log().count("LookupError") == log().count("\n") == 2
    assert make_phone(0) not in log()


def test_what_is_below_the_level_is_not_written(begin: Begin, config: Settings) -> None:
    log = begin(config.model_copy(update={"log_level": "warning"}))
    for logger in (structlog.get_logger(), logging.getLogger("any")):
        logger.info("quiet")
        logger.warning("loud")
    assert [event["event"] for event in _events(log())] == ["loud", "loud"]
