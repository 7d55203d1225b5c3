"""One file per resource: the path, the right, the shapes and one service call."""

from app.routers import areas, code_lists, members

REGISTRY = (
    areas.router,
    code_lists.router,
    members.router,
)
