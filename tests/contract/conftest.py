"""The application served over real HTTP, for clients that know only its OpenAPI document."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from tests.factories.servers import served


@pytest.fixture(scope="session")
def served_url(app: FastAPI, config: Settings, database_url: str) -> Iterator[str]:
    """Serve the application on a free loopback port; `app` has prepared the database."""
    assert app.state.database
    with served(create_app(config, database_url=database_url)) as url:
        yield url
