"""Addresses of databases: as the driver, the owner and the service write them."""

import re
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from app.scopes import LOGIN


def driver_url(url: str) -> str:
    """Name the asyncpg driver in a plain PostgreSQL address."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+asyncpg://", url)


def plain_url(url: str) -> str:
    """Name no driver in a PostgreSQL address."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


def service_url(owner_url: str, password: str) -> str:
    """Give the address under which the service itself logs in, from the owner's."""
    parts = urlsplit(plain_url(owner_url))
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{LOGIN}:{password}@{place}"))


async def admit_service(owner_url: str, password: str) -> None:
    """Let the service log in with a password; its role is made by the migrations."""
    connection = await asyncpg.connect(plain_url(owner_url))
    try:
        quoted = password.replace("'", "''")
        await connection.execute(f"alter role {LOGIN} password '{quoted}'")
    finally:
        await connection.close()
