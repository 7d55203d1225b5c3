"""Addresses of databases: as the driver, the owner and the service write them."""

import ipaddress
import os
import re
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import asyncpg

from app.scopes import LOGIN

_HOST = re.compile(r"(\[(?P<within>[^\]]+)\]|(?P<host>[^:]*))")


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


def is_of_this_machine(url: str) -> bool:
    """Tell whether an address is a socket or a loopback one, whatever else it could lead to."""
    parts = urlsplit(plain_url(url))
    query = parse_qs(parts.query)
    # Where the host that a service of that name has would be asked, no address says.
    if query.keys() & {"service", "servicefile"} or os.environ.get("PGSERVICE"):
        return False
    named = [parts.netloc.rpartition("@")[2], *query.get("host", ())]
    hosts = [host for hosts in named for host in hosts.split(",") if host]
    # An address that names none is completed by the environment.
    return all(_is_loopback(host) for host in hosts or [os.environ.get("PGHOST", "localhost")])


def _is_loopback(host_and_port: str) -> bool:
    named = _HOST.match(unquote(host_and_port))
    host = (named["within"] or named["host"]) if named else ""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def admit_service(owner_url: str, password: str) -> None:
    """Let the service log in with a password; its role is made by the migrations."""
    connection = await asyncpg.connect(plain_url(owner_url))
    try:
        quoted = password.replace("'", "''")
        await connection.execute(f"alter role {LOGIN} password '{quoted}'")
    finally:
        await connection.close()
