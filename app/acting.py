"""The act of a request, as the audit will know it, and what it stores of a refused one."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from typing import cast
from uuid import UUID

from fastapi import Request
from fastapi.routing import APIRoute

from app import numbered_ids, problems, witness
from app.acts import Act
from app.database import Database, Statements
from app.database_errors import constraint_name
from app.identity import Caller

_OWN = re.compile("/v1/me(/|$)")
_OF_PATHS = re.compile("[0-9]{12}|[0-9]{1,4}|[a-z_-]{1,40}")
_DENIED = 403
_MOST_DENIED, _WINDOW = 60, 60.0
"""How many denials of one caller are noted in how many seconds; the log tells of all."""
_MOST_CALLERS = 10_000


class Denials:
    """How often each caller was denied something of late, by this process.

    A valid token is enough to be denied something, so that entries of it need a bound. It is kept
    here and not in the database, as who is denied a hundred times would ask that a hundred times.
    """

    def __init__(self) -> None:
        """Begin with nobody."""
        self._of: OrderedDict[tuple[object, ...], tuple[float, int]] = OrderedDict()

    def is_to_be_noted(self, caller: Caller, *, at: float) -> bool:
        """Count a denial, and tell whether it is among the first of its caller's minute."""
        key = (caller.district_code, caller.subject, caller.grant_id)
        since, count = self._of.pop(key, (at, 0))
        if at - since >= _WINDOW:
            since, count = at, 0
        self._of[key] = since, count + 1
        if len(self._of) > _MOST_CALLERS:
            self._of.popitem(last=False)
        return count < _MOST_DENIED


_DENIALS = Denials()


def act_of(request: Request, caller: Caller) -> Act:
    """Give the one act of a request, however many ask for it."""
    state = request.scope["state"]
    act: Act | None = state.get("act")
    if act is None:
        act = state["act"] = _begun(request, caller)
    return act


async def note_refusal(
    request: Request, refusal: Exception, *, act: Act | None, asked_of: UUID | None
) -> None:
    """Store an entry of what was refused to a known caller, as its transaction stores nothing.

    `act` is what was under way, None before the endpoint was reached: there only a right that is
    missing is noted. `asked_of` is whom the body names.
    """
    caller: Caller | None = request.scope["state"].get("caller")
    is_denied = getattr(refusal, "status", None) == _DENIED
    if caller is None or (act is None and not is_denied):
        return
    act = act or act_of(request, caller)
    told = getattr(refusal, "extra", {}).get("member_id")
    persons = [UUID(str(each)) for each in (asked_of, told) if each is not None]
    whom = (*act.persons, *persons)
    is_of_her = bool(whom) and isinstance(refusal, problems.Invalid)
    is_answer = told is not None or witness.says_what_is_stored(refusal)
    if not (is_denied or is_of_her or is_answer) or act.tells_of(whom):
        return
    at = asyncio.get_running_loop().time()
    if not (is_of_her or is_answer or _DENIALS.is_to_be_noted(caller, at=at)):
        return
    act.refusal = _code_of(refusal)
    pool = cast("Database", request.app.state.database).pool
    await Statements(pool, caller.scope, act).note(persons)


def _code_of(refusal: Exception) -> str:
    if isinstance(refusal, problems.Problem):
        return refusal.code
    return (problems.of_constraint(constraint_name(refusal)) or problems.Conflict).code


def _begun(request: Request, caller: Caller) -> Act:
    route = request.scope["route"]
    act = caller.act(
        route.name,
        kind=kind_of(request.method, route.path, creates=route.status_code == 201),
        ids=_ids(request),
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


def _ids(request: Request) -> Iterator[str]:
    """Walk what the path names, by ids as they are inside: the audit outlasts the others' key."""
    for name, given in request.path_params.items():
        if not _is_reference(given):
            continue
        if name in numbered_ids.IN_PATHS and not _OF_PATHS.fullmatch(given):
            yield str(numbered_ids.opened(request.app.state.keyring, UUID(given)))
        else:
            yield given


def _is_reference(given: str) -> bool:
    """Tell whether a path's part is what paths name: an id, a code, a rank, or one of our words.

    Who may not do a thing is refused before its path is read. What else she typed, which may be
    somebody's number, is nothing to keep.
    """
    try:
        return bool(_OF_PATHS.fullmatch(given)) or UUID(given).version is not None
    except ValueError:
        return False


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
def kind_of(method: str, path: str, *, creates: bool) -> str:
    """Give the collection that an operation is about, as the path names it."""
    parts = path.split("/")[2:]
    if len(parts) > 1 and method != "GET" and not creates and not parts[-1].startswith("{"):
        # What stands last is the step.
        parts = parts[:-1]
    return next(part for part in reversed(parts) if not part.startswith("{"))
