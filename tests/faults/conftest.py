"""What the tests of faults share: processes to kill, and that they say what they counted."""

import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.settings import Settings
from tests.factories.channels.gateway import GATEWAY_KEY, Till
from tests.faults.nursery import Child, Nursery, nursing


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line that is seen however the tests are run."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}\n")

    return write


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Processes of the service and of the worker that start in a moment."""
    with tempfile.TemporaryDirectory(prefix="jixie-nursery-") as name, nursing(Path(name)) as made:
        yield made


@pytest_asyncio.fixture(scope="session")
async def gateway(nursery: Nursery) -> AsyncIterator[Child]:
    """The payment gateway's sandbox in a process of its own, which nobody kills."""
    child = nursery.start("gateway")
    await child.until_ready("/sandbox/figures")
    yield child
    child.kill()


@pytest_asyncio.fixture
async def till(gateway: Child) -> AsyncIterator[Till]:
    """That sandbox, empty, and behaving until it is told otherwise."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        till = Till(client)
        await till.empty()
        yield till
        await till.empty()


@pytest.fixture
def said(config: Settings, gateway: Child, tmp_path: Path) -> dict[str, Any]:
    """The settings of processes that share the tests' keys and that gateway."""
    return {
        "data_dir": str(config.data_dir),
        "development_issuer": True,
        "worker": False,
        "pool_size": 4,
        "log_level": "warning",
        "gateway_url": gateway.url,
        "gateway_key": GATEWAY_KEY,
        "gateway_timeout_seconds": 5,
        "audit_heads": str(tmp_path / "heads.jsonl"),
    }
