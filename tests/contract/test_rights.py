"""Every route asks who calls, and its transaction ends before its answer."""

from collections.abc import Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.answers import all_routes
from app.identity import Identification
from app.main import create_app
from app.roles import RIGHTS, Right
from app.settings import Settings
from app.transactions import _open_door, _open_session

_ROUTES = [
    route
    for route in all_routes(create_app(Settings(log_level="error")).router.routes)
    if isinstance(route, APIRoute) and route.path.startswith("/v1/")
]


# By these callers first say who they are.
_OPEN = {"create_login", "verify_login", "choose_login"}


def _dependencies(dependant: Dependant) -> Iterator[Dependant]:
    for child in dependant.dependencies:
        yield child
        yield from _dependencies(child)


@pytest.mark.parametrize("route", _ROUTES, ids=lambda route: route.name)
def test_a_route_knows_its_caller(route: APIRoute) -> None:
    calls = {child.call for child in _dependencies(route.dependant)}
    if route.name in _OPEN:
        assert _open_door in calls
        return
    is_asked = any(isinstance(call, Identification) for call in calls)
    assert is_asked, f"{route.path}: name the right in the signature"


@pytest.mark.parametrize("route", _ROUTES, ids=lambda route: route.name)
def test_a_transaction_is_committed_before_the_answer(route: APIRoute) -> None:
    for child in _dependencies(route.dependant):
        if child.call is _open_session:
            assert child.scope == "function", f"{route.path}: use app.database.Session"


def test_every_right_is_somebodys_and_is_asked_for() -> None:
    given = set().union(*RIGHTS.values())
    asked = {
        getattr(child.call, "right")  # noqa: B009  (of `Allowed`)
        for route in _ROUTES
        for child in _dependencies(route.dependant)
        if hasattr(child.call, "right")
    }
    assert given == set(Right)
    assert asked <= set(Right)
