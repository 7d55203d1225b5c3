"""What operations ask of the service, in good days and in bad."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import asyncpg
import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from structlog.testing import capture_logs

from app import embedded, schema
from app.database import Database, connect
from app.database_urls import service_url
from app.issuer import DevelopmentIssuer
from app.main import create_app
from app.services import health
from app.settings import Settings, described
from tests.conftest import PASSWORD
from tests.factories.callers import Client

_MEDIA_TYPE = "application/health+json"


@pytest_asyncio.fixture
async def alone(config: Settings, owner: Database, empty_database: str) -> AsyncIterator[Client]:
    """A caller of an application on a database of its own, which may be taken away."""
    opened = await connect(empty_database, config)
    await schema.migrate(opened.engine)
    await opened.close()
    app: FastAPI = create_app(config, database_url=_as_service(owner, empty_database))
    async with (
        app.router.lifespan_context(app),
        Client(transport=httpx.ASGITransport(app), base_url="http://jixie.test") as client,
    ):
        yield client


def _as_service(owner: Database, url: str) -> str:
    """Give the address under which the service logs in; its role is there once `owner` is."""
    assert owner.url != url
    return service_url(url, PASSWORD)


async def test_a_live_process_says_so_without_a_token(officer: Client) -> None:
    answer = await officer.get("/livez", headers={"Authorization": ""})
    assert answer.headers["content-type"] == _MEDIA_TYPE
    assert answer.json() == {"status": "pass", "service_id": "jixie"}


async def test_each_part_is_shown_with_its_value(officer: Client) -> None:
    answer = await officer.get("/healthz")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == _MEDIA_TYPE
    checks = answer.json()["checks"]
    assert set(checks) == {"database", "schema", "database_log", "pool"}
    (log,) = checks.pop("database_log")
    assert log["status"] == ("warn" if log["output"] else "pass")
    assert {part["status"] for (part,) in checks.values()} == {"pass"}
    assert checks["schema"][0]["output"] == schema.head()
    assert checks["database"][0]["observed_unit"] == "ms"
    assert checks["pool"][0]["observed_value"] > 0


async def test_a_schema_of_another_version_is_not_ready(officer: Client, owner: Database) -> None:
    for wrong in ("update alembic_version set version_num = '0000'", "delete from alembic_version"):
        await owner.pool.execute(wrong)
        try:
            ready, asked = await officer.get("/readyz"), await officer.get("/healthz")
        finally:
            await owner.pool.execute("delete from alembic_version")
            await owner.pool.execute("insert into alembic_version values ($1)", schema.head())
        assert (ready.status_code, ready.json()["status"]) == (503, "fail")
        assert asked.status_code == 503
        assert asked.json()["checks"]["schema"][0]["status"] == "fail"
        assert asked.json()["checks"]["database"][0]["status"] == "pass"
    assert (await officer.get("/readyz")).status_code == 200


async def test_a_database_that_is_gone_is_not_ready_but_the_process_lives(
    alone: Client, config: Settings, maintenance_url: str, empty_database: str
) -> None:
    assert (await alone.get("/readyz")).status_code == 200
    name = empty_database.partition("?")[0].rpartition("/")[2]
    connection = await asyncpg.connect(maintenance_url)
    await connection.execute(f'drop database "{name}" with (force)')
    await connection.close()

    ready, asked = await alone.get("/readyz"), await alone.get("/healthz")

    assert (ready.status_code, asked.status_code) == (503, 503)
    assert ready.json() == {"status": "fail", "service_id": "jixie"}
    assert asked.json()["checks"]["database"][0]["status"] == "fail"
    assert (await alone.get("/livez")).status_code == 200

    token = DevelopmentIssuer(config).token("li")
    refused = await alone.get("/v1/areas", headers={"Authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert refused.headers["retry-after"] == "5"


_NAME = "王芳芳"
_KEPT = "create table if not exists kept (name text, age int check (age > 0))"
_REFUSED = "insert into kept (name, age) values ($1, -1)"


@pytest.mark.parametrize(
    ("setting", "usual"),
    [
        ("log_error_verbosity", "default"),
        ("log_parameter_max_length", "-1"),
        ("log_parameter_max_length_on_error", "-1"),
    ],
)
async def test_a_database_whose_log_may_hold_names_is_warned_of(
    config: Settings, owner: Database, empty_database: str, setting: str, usual: str
) -> None:
    name = empty_database.partition("?")[0].rpartition("/")[2]
    for each, value in (health.SILENT | {setting: usual}).items():
        await owner.pool.execute(f"alter database \"{name}\" set {each} = '{value}'")
    app = create_app(config, database_url=_as_service(owner, empty_database))
    with capture_logs() as logs:
        async with (
            app.router.lifespan_context(app),
            Client(transport=httpx.ASGITransport(app), base_url="http://jixie.test") as client,
        ):
            (part,) = (await client.get("/healthz")).json()["checks"]["database_log"]
    said = f"{setting}={usual}"
    assert (part["status"], part["output"]) == ("warn", said)
    (warning,) = [each for each in logs if each["event"] == "database_log_tells"]
    assert (warning["log_level"], warning["settings"]) == ("warning", said)


async def test_a_silent_log_holds_no_name_and_the_usual_one_does(folder: Path) -> None:
    log = folder / "postgres" / "log"
    for settings, is_told in (({}, False), ({"log_error_verbosity": "default"}, True)):
        with embedded.server(folder / "postgres", overrides=settings) as url:
            connection = await asyncpg.connect(url)
            await connection.execute(
                "create table if not exists kept (name text, age int check (age > 0))"
            )
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(_REFUSED, _NAME)
            await connection.close()
        assert "violates check constraint" in log.read_text()
        assert (_NAME in log.read_text()) == is_told


async def test_a_schema_that_was_never_laid_is_not_ready(
    config: Settings, owner: Database, empty_database: str
) -> None:
    app = create_app(config, database_url=_as_service(owner, empty_database))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        Client(transport=transport, base_url="http://jixie.test") as client,
    ):
        assert (await client.get("/readyz")).status_code == 503


async def test_requests_are_counted_by_template_never_by_person(officer: Client) -> None:
    before = (await officer.get("/metrics")).text
    await officer.get("/v1/members/019a5c3e-7b1c-7d20-9a54-3f6f0c2b8e11")
    await officer.get("/nowhere/13800138000")
    answer = await officer.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    series = 'jixie_requests_total{method="GET",route="/v1/members/{member_id}",status="404"}'
    assert _value(answer.text, series) == _value(before, series) + 1
    assert "019a5c3e" not in answer.text
    assert "13800138000" not in answer.text


_NETWORKS = [ip_network("203.0.113.0/24"), ip_network("2001:db8::/32")]


@pytest.mark.parametrize(
    ("address", "usual", "chosen"),
    [
        ("127.0.0.1", 200, 404),
        ("10.1.2.3", 200, 404),
        ("::ffff:192.168.1.1", 200, 404),
        ("fd00::1", 200, 404),
        ("203.0.113.7", 404, 200),
        ("::ffff:203.0.113.7", 404, 200),
        ("2001:db8::1", 404, 200),
        ("100.64.0.1", 404, 404),
        ("proxy", 404, 404),
    ],
)
async def test_parts_and_counts_are_shown_where_operations_are(
    app: FastAPI, address: str, usual: int, chosen: int
) -> None:
    config: Settings = app.state.settings
    transport = httpx.ASGITransport(app=app, client=(address, 40_000))
    async with Client(transport=transport, base_url="http://jixie.test") as client:
        for networks, status in ((config.operations_networks, usual), (_NETWORKS, chosen)):
            app.state.settings = config.model_copy(update={"operations_networks": networks})
            try:
                for path in ("/healthz", "/metrics"):
                    answer = await client.get(path)
                    assert answer.status_code == status
                    assert status == 200 or answer.json()["code"] == "route_not_found"
                for path in ("/livez", "/readyz"):
                    assert (await client.get(path)).status_code == 200
            finally:
                app.state.settings = config


def test_where_operations_are_is_set_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIXIE_OPERATIONS_NETWORKS", "203.0.113.0/24, 2001:db8::/32")
    config = Settings()
    assert config.operations_networks == _NETWORKS
    assert any("=203.0.113.0/24,2001:db8::/32 " in line for line in described(config))
    monkeypatch.setenv("JIXIE_OPERATIONS_NETWORKS", "everywhere")
    with pytest.raises(ValueError, match="operations_networks"):
        Settings()


def _value(text: str, series: str) -> float:
    return next(
        (float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series)),
        0,
    )
