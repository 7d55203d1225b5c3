"""One file per resource: the path, the right, the shapes and one service call."""

from app.routers import (
    areas,
    associations,
    code_lists,
    facilities,
    host_organisations,
    members,
    officers,
    regulations,
)

REGISTRY = (
    areas.router,
    host_organisations.router,
    associations.router,
    officers.router,
    facilities.router,
    regulations.router,
    code_lists.router,
    members.router,
)
