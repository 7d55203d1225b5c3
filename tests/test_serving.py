"""The service as a process: what it prints, how it ends, and what outlives it."""

import asyncio
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from app import clock
from app.roles import Role
from app.services.demo_district.demo_facts import DISTRICT
from tests.factories.callers import idempotency_key
from tests.factories.membership.rosters import make_csv, make_people
from tests.processes import Service, environment, free_port, jixie, serving
from tests.waiting import SOMEBODY_WAITS, until

_SETTINGS = f"/v1/areas/{DISTRICT}/settings"
_WRITE = {"value": 600, "effective_on": "2026-01-01", "provenance": "assumed"}


def test_a_first_start_says_where_the_docs_are_and_gives_a_token_a_role(service: Service) -> None:
    assert f"{service.url}/docs" in service.out
    assert oct((service.folder / "data" / "try.env").stat().st_mode)[-3:] == "600"
    given = service.variables()
    assert given["JIXIE"] == service.url
    for role in Role:
        answer = httpx.get(f"{service.url}/v1/service-events", headers=service.bearer(role))
        expected = 403 if role is Role.OPERATIONS else 200
        assert answer.status_code == expected, (role, answer.text)
    member = f"{service.url}/v1/members/{given['MEMBER_ID']}"
    assert httpx.get(member, headers=service.bearer(Role.MEMBER)).status_code == 200


def test_the_port_of_another_is_one_line(service: Service, folder: Path) -> None:
    second = subprocess.run(  # noqa: S603  (our own words)
        jixie("serve"),
        env=environment(folder, None, JIXIE_PORT=str(service.port)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr.startswith(f"jixie: cannot listen on 127.0.0.1:{service.port} (")
    assert second.stderr.count("\n") == 1


def test_a_worker_of_its_own_works_the_queue_and_stops_when_told(service: Service) -> None:
    headers = service.bearer(Role.DISTRICT_OFFICER) | idempotency_key(clock.new_id())
    order = httpx.post(
        f"{service.url}/v1/members/import",
        files={"file": ("roster.csv", make_csv(make_people(3)))},
        data={"dry_run": "false", "association_id": service.variables()["ASSOCIATION_ID"]},
        headers=headers,
    )
    assert order.status_code == 202, order.text

    def operation() -> dict[str, Any]:
        answer = httpx.get(service.url + order.headers["location"], headers=headers)
        return dict(answer.json())

    time.sleep(1)
    assert operation()["status"] == "queued"
    with subprocess.Popen(  # noqa: S603  (our own words)
        jixie("worker"), env=environment(service.folder, None), stderr=subprocess.PIPE
    ) as worker:
        deadline = time.monotonic() + 30
        while operation()["status"] in {"queued", "running"} and time.monotonic() < deadline:
            time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=60)
    assert operation()["result"]["created"] == 3
    assert (worker.returncode, said) == (0, b"")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_under_way_is_answered_before_the_end(
    folder: Path, empty_database: str, how: signal.Signals
) -> None:
    answers: list[httpx.Response] = []

    async def hold_it_up(service: Service) -> None:
        connection = await asyncpg.connect(empty_database)
        async with connection.transaction():
            await connection.execute("lock table areas in access exclusive mode")
            reader.start()
            await until(connection, SOMEBODY_WAITS)
            service.process.send_signal(how)
            await asyncio.sleep(0.5)
            assert not answers
        await connection.close()

    with serving(folder, empty_database, "--no-demo") as service:
        request = httpx.Request(
            "GET", f"{service.url}/v1/areas", headers=service.bearer(Role.AUDITOR)
        )
        reader = threading.Thread(target=lambda: answers.append(httpx.Client().send(request)))
        asyncio.run(hold_it_up(service))
        reader.join()
        assert [answer.status_code for answer in answers] == [200]
        assert service.process.wait(60) == 0
    assert "Traceback" not in service.log


def test_a_second_start_keeps_the_data_even_after_a_kill(folder: Path) -> None:
    variables = {"JIXIE_DEMO_MEMBERS": "100"}
    with serving(folder, None, **variables) as service:
        headers = service.bearer(Role.DISTRICT_OFFICER)
        path = f"{service.url}{_SETTINGS}/independent_min_staff"
        assert httpx.put(path, json=_WRITE, headers=headers).status_code == 200
        service.stop(signal.SIGKILL)
    with serving(folder, None, **variables) as service:
        kept = httpx.get(service.url + _SETTINGS, headers=headers).json()["items"]
        assert [each["value"] for each in kept] == [600]
        assert service.stop() == 0
        assert "payout runs" not in service.log
    assert not (folder / "data" / "postgres" / "postmaster.pid").exists()


def test_an_early_interruption_is_quiet(folder: Path) -> None:
    variables = environment(folder, None, JIXIE_PORT=str(free_port()))
    for pause in (0.1, 0.4, 0.9):
        with subprocess.Popen(  # noqa: S603  (our own words)
            jixie("serve"), env=variables, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as process:
            time.sleep(pause)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        assert b"Traceback" not in said
        assert process.returncode in {0, 130, -signal.SIGINT}
