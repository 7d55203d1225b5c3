"""The log: one JSON line an event, with the request's id and nothing that tells of a person."""

import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import httpx
import pytest
import structlog

from app import clock
from app.identity import Role
from app.logging import configure
from app.settings import Settings
from tests.factories.callers import idempotency_key
from tests.factories.members import make_id_number, make_phone
from tests.factories.rosters import make_csv, make_people
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
        assert set(event) == {
            *("event", "level", "timestamp", "request_id", "method", "route", "status", "ms")
        }


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
