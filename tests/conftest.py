"""A real database, the application on it, and callers of every role."""

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest
import pytest_asyncio
import structlog
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, embedded, payment_sandbox, schema, sms_sandbox
from app.crypto import Keyring
from app.database import Database, Statements, connect, transaction
from app.database_urls import admit_service, plain_url, service_url
from app.main import create_app
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.organisation import areas
from app.services.privacy import privacy_notices
from app.settings import Settings
from tests import tables
from tests.factories.callers import DISTRICT, Client, make_act
from tests.factories.calling import calling
from tests.factories.channels.gateway import GATEWAY_KEY, Till
from tests.factories.membership.consents import NOTICED_ON
from tests.factories.membership.logins import SMS_KEY, Inbox
from tests.factories.servers import served
from tests.processes import Service, serving

# Losing the test database to a power cut costs nothing.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
PASSWORD = "of-the-tests"  # noqa: S105  (of a server that lives as long as the tests)


@pytest.fixture(scope="session")
def sandbox_url() -> Iterator[str]:
    """The SMS provider's sandbox, served."""
    with served(sms_sandbox.create_sandbox(SMS_KEY)) as url:
        yield url


@pytest.fixture(scope="session")
def gateway_url() -> Iterator[str]:
    """The payment gateway's sandbox, served."""
    with served(payment_sandbox.create_sandbox(GATEWAY_KEY)) as url:
        yield url


@pytest.fixture(scope="session")
def config(sandbox_url: str, gateway_url: str) -> Iterator[Settings]:
    """Settings of a development machine with its own directory."""
    with _folder() as data_dir:
        yield Settings(
            data_dir=data_dir,
            log_level="error",
            pool_size=16,
            worker=False,
            development_issuer=True,
            sms_url=f"{sandbox_url}/sms",
            sms_key=SecretStr(SMS_KEY),
            gateway_url=gateway_url,
            gateway_key=SecretStr(GATEWAY_KEY),
            gateway_timeout_seconds=0.5,
        )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in which a server of a test's own may live."""
    with _folder() as path:
        yield path


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A process of the service with a small demo, on an embedded server and without a worker."""
    variables = {"JIXIE_DEMO_MEMBERS": "300", "JIXIE_WORKER": "false"}
    with _folder() as path, serving(path, None, **variables) as service:
        yield service


@contextmanager
def _folder() -> Iterator[Path]:
    # pytest's own folders are closed to others whenever a run starts, so also to the account
    # that runs PostgreSQL in root's place.
    with tempfile.TemporaryDirectory(prefix="jixie-test-") as name:
        yield Path(name)


@pytest_asyncio.fixture
async def inbox(app: FastAPI, sandbox_url: str) -> AsyncIterator[Inbox]:
    """The phones of the sandbox, all empty, and nothing of a test before still on its way."""
    await app.state.messenger.idle()
    async with httpx.AsyncClient(base_url=sandbox_url) as client:
        inbox = Inbox(client)
        await inbox.empty()
        yield inbox


@pytest_asyncio.fixture
async def till(gateway_url: str) -> AsyncIterator[Till]:
    """The sandbox of the gateway, empty, and behaving until it is told otherwise."""
    async with httpx.AsyncClient(base_url=gateway_url) as client:
        till = Till(client)
        await till.empty()
        yield till
        await till.empty()


@pytest.fixture(scope="session")
def maintenance_url(config: Settings) -> Iterator[str]:
    """The server given by `JIXIE_DATABASE_URL`, or an embedded one."""
    if config.database_url is not None:
        yield plain_url(config.database_url.get_secret_value())
        return
    with embedded.server(config.data_dir / "postgres", overrides=_FAST) as url:
        yield url


@pytest.fixture(scope="session")
def owner_url(maintenance_url: str) -> Iterator[str]:
    """A database of this test process, dropped when it ends."""
    with _database(maintenance_url, f"jixie_test_{os.getpid()}") as url:
        yield url


@pytest.fixture
def empty_database(maintenance_url: str) -> Iterator[str]:
    """A database without any table, dropped after the test."""
    with _database(maintenance_url, f"jixie_empty_{os.getpid()}") as url:
        yield url


@contextmanager
def _database(maintenance_url: str, name: str) -> Iterator[str]:
    yield asyncio.run(embedded.ensure_database(maintenance_url, name))

    async def drop() -> None:
        connection = await asyncpg.connect(maintenance_url)
        await connection.execute(f'drop database if exists "{name}" with (force)')
        await connection.close()

    asyncio.run(drop())


@pytest_asyncio.fixture(scope="session")
async def owner(config: Settings, maintenance_url: str, owner_url: str) -> AsyncIterator[Database]:
    """Connections of the database's owner, whom no wall holds, to a migrated database."""
    database = await connect(owner_url, config)
    # Roles are the whole server's, which another test process may be migrating too.
    turn = await asyncpg.connect(maintenance_url)
    await turn.execute("select pg_advisory_lock(1)")
    await schema.migrate(database.engine)
    await admit_service(owner_url, PASSWORD)
    await turn.close()
    yield database
    await database.close()


@pytest.fixture(scope="session")
def database_url(owner: Database) -> str:
    """Where the service itself logs in."""
    return service_url(owner.url, PASSWORD)


@pytest_asyncio.fixture(scope="session")
async def app(config: Settings, database_url: str) -> AsyncIterator[FastAPI]:
    """The application, serving, on a database that knows Nanhai's areas."""
    app = create_app(config, database_url=database_url)
    async with app.router.lifespan_context(app):
        scope = Scope(Acting.DISTRICT, DISTRICT)
        async with transaction(app.state.database, scope) as session:
            await areas.load(session, _nanhai())
            await privacy_notices.provide(
                session, district_code=DISTRICT, effective_on=NOTICED_ON, now=clock.now()
            )
        yield app


def _nanhai() -> list[areas.AreaLine]:
    with Path("app/data/areas-nanhai.csv").open(encoding="utf-8") as file:
        return areas.read_file(file)


@pytest.fixture
def log_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a test set the log up; afterwards it is as it was, also for who logged meanwhile."""
    root, configure = logging.getLogger(), structlog.configure
    handlers, level = root.handlers, root.level
    # A logger that is cached keeps for ever to the log in which it first spoke.
    monkeypatch.setattr(
        structlog,
        "configure",
        lambda **said: configure(**said | {"cache_logger_on_first_use": False}),
    )
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest_asyncio.fixture(autouse=True)
async def clean(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Empty every table after a test that used the database."""
    yield
    if "app" not in request.fixturenames:
        return
    await tables.empty(request.getfixturevalue("owner"))


@pytest.fixture
def database(app: FastAPI) -> Database:
    """The application's connections."""
    opened: Database = app.state.database
    return opened


@pytest_asyncio.fixture
async def session(owner: Database, app: FastAPI) -> AsyncIterator[AsyncSession]:
    """A transaction of the owner, before any wall; call `commit()` to let others see it."""
    assert app.state.database is not owner
    info = {"scope": Scope(Acting.DISTRICT, DISTRICT), "act": make_act()}
    async with AsyncSession(owner.engine, expire_on_commit=False, info=info) as session:
        yield session


@pytest.fixture
def statements(database: Database) -> Statements:
    """Single statements of the test's own, as a rule of the whole district."""
    return Statements(database.pool, Scope(Acting.DISTRICT, DISTRICT), make_act())


@pytest.fixture
def keyring(app: FastAPI) -> Keyring:
    """The application's keys."""
    keys: Keyring = app.state.keyring
    return keys


@pytest_asyncio.fixture
async def client(
    app: FastAPI, config: Settings, owner: Database
) -> AsyncIterator[Callable[..., Client]]:
    """Make callers: `client(Role.TOWN_OFFICER, areas=[...])`, or `client(None)` for nobody.

    What is given besides is the caller's grant, stored before her first request, or a claim of
    her token, which tells of a fresh sign-in unless `step_up` is false.
    """
    async with calling(app, config, owner) as open_client:
        yield open_client


@pytest.fixture
def officer(client: Callable[..., Client]) -> Client:
    """An officer of the whole district."""
    return client(Role.DISTRICT_OFFICER)
