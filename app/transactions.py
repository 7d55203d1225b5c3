"""What a route asks for to reach the database: a transaction, or single statements, in scope."""

import re
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Annotated, cast
from uuid import UUID

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncSession

from app.acts import Act
from app.database import Database, Door, Statements, transaction
from app.identity import PHONE_LOGIN, AnyCaller, Caller
from app.roles import Role

_OWN = re.compile("/v1/me(/|$)")


def _act(request: Request, caller: Caller) -> Act:
    """Give the one act of a request, however many ask for it."""
    state = request.scope["state"]
    act: Act | None = state.get("act")
    if act is None:
        act = state["act"] = _begun(request, caller)
    return act


def _begun(request: Request, caller: Caller) -> Act:
    route = request.scope["route"]
    act = caller.act(
        route.name,
        kind=_kind(request.method, route.path, creates=route.status_code == 201),
        ids=request.path_params.values(),
        request_id=request.scope["state"]["request_id"],
    )
    act.is_prompt = (
        request.method == "GET"
        and not _gives_all(route)
        and not request.app.state.settings.audit_reads_wait
    )
    act.persons = _named(request, caller)
    act.fields = tuple(sorted(set(request.query_params)))
    return act


def _gives_all(route: APIRoute) -> bool:
    """Tell whether a fresh sign-in is asked for, as what is read is a file of whole numbers."""
    asked = (dependency.call for dependency in route.dependant.dependencies)
    return any(getattr(each, "step_up", False) for each in asked)


def _named(request: Request, caller: Caller) -> tuple[UUID, ...]:
    """Give the member whom the path names; what is no id is refused before anything is read."""
    if caller.member_id is not None and _OWN.match(request.scope["route"].path):
        return (caller.member_id,)
    given = request.path_params.get("member_id")
    try:
        return () if given is None else (UUID(given),)
    except ValueError:
        return ()


@lru_cache
def _kind(method: str, path: str, *, creates: bool) -> str:
    """Give the collection that an operation is about, as the path names it."""
    parts = path.split("/")[2:]
    if len(parts) > 1 and method != "GET" and not creates and not parts[-1].startswith("{"):
        # What stands last is the step.
        parts = parts[:-1]
    return next(part for part in reversed(parts) if not part.startswith("{"))


async def _open_session(request: Request, caller: AnyCaller) -> AsyncIterator[AsyncSession]:
    database = cast("Database", request.app.state.database)
    async with transaction(database, caller.scope, _act(request, caller)) as session:
        yield session


async def _open_statements(request: Request, caller: AnyCaller) -> Statements:
    pool = cast("Database", request.app.state.database).pool
    return Statements(pool, caller.scope, _act(request, caller))


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
