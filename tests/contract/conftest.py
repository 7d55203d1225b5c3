"""The application served over real HTTP, and one of everything that is about persons."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Database
from app.main import create_app
from app.roles import Role
from app.scopes import Acting, Scope
from app.settings import Settings
from tests.contract.audited import World, make_world
from tests.factories.callers import DISTRICT, make_act
from tests.factories.calling import calling
from tests.factories.servers import served
from tests.tables import KeptTables


@pytest.fixture(scope="session")
def served_url(app: FastAPI, config: Settings, database_url: str) -> Iterator[str]:
    """Serve the application on a free loopback port; `app` has prepared the database."""
    assert app.state.database
    with served(create_app(config, database_url=database_url)) as url:
        yield url


@pytest_asyncio.fixture(scope="module")
async def made_world(
    app: FastAPI, config: Settings, owner: Database
) -> AsyncIterator[tuple[World, KeptTables]]:
    """One of everything, made once for a module's tests, with the way back to it."""
    info = {"scope": Scope(Acting.DISTRICT, DISTRICT), "act": make_act()}
    async with (
        calling(app, config, owner) as client,
        AsyncSession(owner.engine, expire_on_commit=False, info=info) as session,
    ):
        officer = client(Role.DISTRICT_OFFICER)
        world = await make_world(session, app.state.database, app.state.keyring, officer)
    tables = KeptTables(owner)
    await tables.keep()
    yield world, tables
    await tables.forget()


@pytest_asyncio.fixture
async def world(made_world: tuple[World, KeptTables], keyring: Keyring) -> World:
    """One of everything, as it was made; other modules have worlds of their own."""
    world, tables = made_world
    await tables.restore_all()
    return world.for_a_test(keyring)
