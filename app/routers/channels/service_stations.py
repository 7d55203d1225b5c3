"""`/v1/service-stations`: where vouchers are redeemed."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.channels.service_stations import (
    StationCreate,
    StationFilters,
    StationRead,
    StationUpdate,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadStations, MayWriteStations
from app.services.channels import service_stations
from app.services.channels.service_stations import StationNameTaken
from app.transactions import OneStatement, Session

router = concurrency.router("/service-stations", "service-stations")
StationId = Annotated[Id, Path(description="The station's id.")]


@router.get("", summary="List service stations", response_model=Page[StationRead])
async def list_service_stations(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadStations,
    filters: Annotated[StationFilters, Query()],
) -> Response:
    """List the district's stations, all or by area or status."""
    page = await service_stations.list_stations(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "", status_code=201, summary="Enter a service station", responses=refusals(StationNameTaken)
)
async def create_service_station(
    session: Session, caller: MayWriteStations, body: StationCreate, now: Now, response: Response
) -> StationRead:
    """Enter a station of an area within reach; it redeems vouchers from now on."""
    station = await service_stations.enter(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/service-stations/{station.id}"
    return station


@router.get("/{station_id}", summary="Get a service station")
async def get_service_station(
    statements: OneStatement, caller: MayReadStations, station_id: StationId
) -> StationRead:
    """Give one station of the district."""
    return await service_stations.find(statements, caller, station_id=station_id)


@router.patch(
    "/{station_id}", summary="Edit a service station", responses=refusals(StationNameTaken)
)
async def update_service_station(
    session: Session,
    caller: MayWriteStations,
    station_id: StationId,
    body: StationUpdate,
    if_match: IfMatch,
    now: Now,
) -> StationRead:
    """Rename a station, close it, or open it again."""
    return await service_stations.edit(
        session, caller, station_id=station_id, body=body, expected=if_match, now=now
    )
