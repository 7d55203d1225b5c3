"""The way to the database keeps to what its address says of TLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import certifi
import pytest

from app.database import _engine, connect
from app.settings import Settings

_ASKS_FOR_TLS = bytes.fromhex("0000000804d2162f")


@asynccontextmanager
async def _without_tls(heard: list[bytes]) -> AsyncIterator[int]:
    """A database server that has no TLS, and hears what it is told in clear."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(8))
        writer.write(b"N")
        heard.append(await reader.read(1_000))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_no_login_is_sent_where_tls_is_asked_for_and_there_is_none(mode: str) -> None:
    heard: list[bytes] = []
    async with _without_tls(heard) as port:
        url = f"postgresql://jixie_service:secret@127.0.0.1:{port}/jixie?sslmode={mode}"
        if mode != "require":
            url += f"&sslrootcert={certifi.where()}"
        engine = _engine(url, Settings())
        with pytest.raises(ConnectionError):
            await connect(url, Settings())
        with pytest.raises(ConnectionError):
            async with engine.connect():
                pass
        await engine.dispose()
    assert heard.count(_ASKS_FOR_TLS) == 2
    assert set(heard) <= {_ASKS_FOR_TLS, b""}
