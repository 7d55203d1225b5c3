"""What a route asks for to reach the database: a transaction, or single statements, in scope."""

from collections.abc import AsyncIterator
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database, Door, Statements, transaction
from app.identity import AnyCaller


async def _open_session(request: Request, caller: AnyCaller) -> AsyncIterator[AsyncSession]:
    database = cast("Database", request.app.state.database)
    async with transaction(database, caller.scope) as session:
        yield session


async def _open_statements(request: Request, caller: AnyCaller) -> Statements:
    return Statements(cast("Database", request.app.state.database).pool, caller.scope)


async def _open_door(request: Request) -> Door:
    return Door(cast("Database", request.app.state.database))


# The function scope commits before the answer is sent; the default would answer first.
Session = Annotated[AsyncSession, Depends(_open_session, scope="function")]
OneStatement = Annotated[Statements, Depends(_open_statements)]
OpenDoor = Annotated[Door, Depends(_open_door)]
"""For the few routes by which callers first say who they are."""
