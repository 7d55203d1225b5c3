"""`/v1/code-lists`: what the codes in answers are called."""

from app import concurrency
from app.identity import AnyCaller
from app.models.code_lists import CodeListRead
from app.services import code_lists

router = concurrency.router("/code-lists", "code-lists")


@router.get("", summary="List the names of all code lists")
async def list_code_lists(caller: AnyCaller) -> list[str]:
    """Name every enumeration of the API."""
    return code_lists.list_code_lists()


@router.get("/{name}", summary="Get a code list")
async def get_code_list(caller: AnyCaller, name: str) -> CodeListRead:
    """Give the values of an enumeration with their words in Chinese and English."""
    return code_lists.find(name)
