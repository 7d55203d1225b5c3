"""A router that other paths than its own pass over, without a look at what each route needs."""

import functools
import re

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope


class Resource(APIRouter):
    """The routes of one resource, among the many that every request asks in turn."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match no path that is none of its own; FastAPI asks the others' routes one by one."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not path.startswith(self._start) or not any(each.match(path) for each in self._paths):
            return Match.NONE, {}
        return super().matches(scope)

    @functools.cached_property
    def _start(self) -> str:
        return self.prefix.partition("{")[0]

    @functools.cached_property
    def _paths(self) -> list[re.Pattern[str]]:
        """The paths of its routes, all of which are there when the first request comes."""
        routes = [route for route in self.routes if isinstance(route, APIRoute)]
        return list({route.path: route.path_regex for route in routes}.values())
