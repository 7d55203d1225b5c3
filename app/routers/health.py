"""What operations ask: is it alive, is it ready, how is it, what did it count."""

import ipaddress
from typing import Any, cast

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.answers import Configured
from app.database import Database
from app.problems import RouteNotFound, refusals
from app.services import health

router = APIRouter(tags=["health"])
_MEDIA_TYPE = "application/health+json"


def _answer(parts: list[health.Part], *, detailed: bool) -> Response:
    states = {part.status for part in parts}
    status = "fail" if "fail" in states else "warn" if "warn" in states else "pass"
    body: dict[str, Any] = {"status": status, "service_id": "jixie"}
    if detailed:
        body["checks"] = {
            part.name: [
                {
                    "status": part.status,
                    "observed_value": part.value,
                    "observed_unit": part.unit,
                    "output": part.output,
                }
            ]
            for part in parts
        }
    return JSONResponse(body, status_code=503 if status == "fail" else 200, media_type=_MEDIA_TYPE)


def _require_near(request: Request, settings: Configured) -> None:
    """Answer as to an unknown path who asks from elsewhere than where operations do.

    A socket has no address, and is of this machine. Raises RouteNotFound.
    """
    if request.client is None:
        return
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        raise RouteNotFound from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if not any(address in network for network in settings.operations_networks):
        raise RouteNotFound


_NEAR = [Depends(_require_near)]
_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {"content": {_MEDIA_TYPE: {"example": {"status": "pass", "service_id": "jixie"}}}},
    503: {
        "description": "A part that the service needs fails.",
        "content": {_MEDIA_TYPE: {"example": {"status": "fail", "service_id": "jixie"}}},
    },
}


@router.get("/livez", summary="Is the process alive?", responses={200: _DOCUMENTED[200]})
async def get_liveness() -> Response:
    """Answer without asking any other part."""
    return _answer([], detailed=False)


@router.get("/readyz", summary="Can it take requests?", responses=_DOCUMENTED)
async def get_readiness(request: Request) -> Response:
    """Answer 200 when the database answers and its schema is the one that this code expects."""
    parts = await health.check(cast("Database", request.app.state.database))
    return _answer(parts, detailed=False)


@router.get(
    "/healthz",
    summary="How is each part?",
    dependencies=_NEAR,
    responses={**_DOCUMENTED, **refusals(RouteNotFound)},
)
async def get_health(request: Request) -> Response:
    """Show every part with its measured value."""
    database = cast("Database", request.app.state.database)
    parts = [*await health.check(database), await health.database_log(database)]
    return _answer(parts, detailed=True)


@router.get(
    "/metrics",
    summary="Counts for Prometheus",
    response_class=Response,
    dependencies=_NEAR,
    responses={
        200: {"content": {"text/plain": {"example": "jixie_requests_total 1.0"}}},
        **refusals(RouteNotFound),
    },
)
async def get_metrics() -> Response:
    """Give all counters in the Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
