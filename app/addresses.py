"""Where the database is, for its owner and for the service that owns nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from app import embedded, schema
from app.crypto import machine_secret
from app.database import Database, connect
from app.database_urls import admit_service, service_url
from app.settings import Settings


@dataclass(frozen=True)
class Addresses:
    """Where the database is for its owner and for the service, which owns nothing.

    With a `password`, migrating lets the service log in with it.
    """

    owner: str
    service: str
    password: str | None = None


@contextmanager
def addresses_of(config: Settings) -> Iterator[Addresses]:
    """Give the addresses that are set, or those of an embedded server for the while."""
    if config.database_url is None:
        with embedded.server(config.data_dir / "postgres") as maintenance_url:
            yield _derived(config, asyncio.run(embedded.ensure_database(maintenance_url)))
        return
    url = config.database_url.get_secret_value()
    if config.owner_url is not None:
        yield Addresses(config.owner_url.get_secret_value(), url, urlsplit(url).password)
    elif config.mode == "production":
        yield Addresses(url, url)
    else:
        yield _derived(config, url)


def _derived(config: Settings, owner_url: str) -> Addresses:
    password = machine_secret(config.data_dir / "keys" / "service.key")
    return Addresses(owner_url, service_url(owner_url, password), password)


@asynccontextmanager
async def opened(url: str, config: Settings) -> AsyncIterator[Database]:
    """Connect without the time limits of requests: commands work long and wait their turn."""
    patient = config.model_copy(update={"statement_timeout_ms": 0, "lock_timeout_ms": 0})
    database = await connect(url, patient)
    try:
        yield database
    finally:
        await database.close()


async def bring_to_head(owner: Database, addresses: Addresses) -> None:
    """Migrate as the owner, and let the service log in where its password is known."""
    await schema.migrate(owner.engine)
    if addresses.password is not None:
        await admit_service(addresses.owner, addresses.password)
