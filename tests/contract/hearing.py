"""What statements a request has the database run, by whichever way it asks."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event

from app.database import Database

_COPY = "copy_records_to_table"
_WAYS = (
    "execute",
    "executemany",
    "fetch",
    "fetchrow",
    "fetchval",
    "copy_records_to_table",
    "prepare",
)
_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)
_LITERAL = re.compile(r"'(?:[^']|'')*'|(?<![$\w])\d+")


@contextmanager
def heard() -> Iterator[list[str]]:
    """Give the statements of what is done in the block, in their order and without literals.

    What goes on beside it, in tasks that were there before, is not heard.
    """
    statements: list[str] = []
    token = _heard.set(statements)
    try:
        yield statements
    finally:
        _heard.reset(token)


@contextmanager
def listen(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hear what goes through the sessions of a database, and what the driver is asked beside."""
    for way in _WAYS:
        monkeypatch.setattr(asyncpg.Connection, way, _told(way, getattr(asyncpg.Connection, way)))
    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", _of_session)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", _of_session)


def _told(way: str, ask: Callable[..., Any]) -> Callable[..., Any]:
    # A session's statement is prepared once a connection, and heard of from its engine.
    async def tell(connection: asyncpg.Connection, query: str, *args: Any, **options: Any) -> Any:
        if options.keys() != {"name"}:
            _note(query if way != _COPY else f"copy {query}")
        return await ask(connection, query, *args, **options)

    return tell


def _of_session(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    _note(statement)


def _note(statement: str) -> None:
    statements = _heard.get()
    if statements is not None:
        statements.append(_LITERAL.sub("?", statement))
