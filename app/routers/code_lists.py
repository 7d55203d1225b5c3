"""`/v1/code-lists`: what the codes in answers are called."""

from typing import Annotated

from fastapi import Query, Request, Response

from app import concurrency, paging
from app.crypto import Keys
from app.identity import AnyCaller
from app.models.code_lists import CodeListFilters, CodeListRead
from app.paging import Page
from app.services import code_lists

router = concurrency.router("/code-lists", "code-lists")


@router.get("", summary="List the names of all code lists", response_model=Page[str])
async def list_code_lists(
    request: Request,
    keyring: Keys,
    caller: AnyCaller,
    filters: Annotated[CodeListFilters, Query()],
) -> Response:
    """Name every enumeration of the API."""
    return paging.answer(request, code_lists.list_code_lists(keyring, filters=filters))


@router.get("/{name}", summary="Get a code list")
async def get_code_list(caller: AnyCaller, name: str) -> CodeListRead:
    """Give the values of an enumeration with their words in Chinese and English."""
    return code_lists.find(name)
