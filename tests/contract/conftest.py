"""The application served over real HTTP, for clients that know only its OpenAPI document."""

import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings


@pytest.fixture(scope="session")
def served_url(app: FastAPI, config: Settings, database_url: str) -> Iterator[str]:
    """Serve the application on a free loopback port; `app` has prepared the database."""
    assert app.state.database
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(config, database_url=database_url),
            host="127.0.0.1",
            port=0,
            log_config=None,
            access_log=False,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
