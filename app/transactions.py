"""What a route asks for to reach the database: a transaction, or single statements, in scope."""

from collections.abc import AsyncIterator
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.acting import act_of
from app.database import Database, Door, Statements, transaction
from app.identity import PHONE_LOGIN, AnyCaller, Caller
from app.roles import Role


async def _open_session(request: Request, caller: AnyCaller) -> AsyncIterator[AsyncSession]:
    database = cast("Database", request.app.state.database)
    async with transaction(database, caller.scope, act_of(request, caller)) as session:
        yield session


async def _open_statements(request: Request, caller: AnyCaller) -> Statements:
    pool = cast("Database", request.app.state.database).pool
    return Statements(pool, caller.scope, act_of(request, caller))


async def _open_door(request: Request) -> Door:
    """Open a door whose act is a member's, though not yet known whose."""
    route = request.scope["route"]
    nobody = Caller(subject=PHONE_LOGIN, role=Role.MEMBER, district_code="")
    act = nobody.act(
        route.name,
        kind="logins",
        ids=request.path_params.values(),
        request_id=request.scope["state"]["request_id"],
    )
    return Door(cast("Database", request.app.state.database), act)


# The function scope commits before the answer is sent; the default would answer first.
Session = Annotated[AsyncSession, Depends(_open_session, scope="function")]
OneStatement = Annotated[Statements, Depends(_open_statements)]
OpenDoor = Annotated[Door, Depends(_open_door)]
"""For the few routes by which callers first say who they are."""
