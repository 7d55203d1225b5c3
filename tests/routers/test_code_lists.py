"""`/v1/code-lists`: the words of every enumeration."""

from app.models.code_lists import CODE_LISTS
from tests.factories.callers import Client

_PATH = "/v1/code-lists"


async def test_the_names_come_in_pages(officer: Client) -> None:
    names: list[str] = []
    params: dict[str, str | int] = {"limit": 20, "include_total": "true"}
    while True:
        page = await officer.ok("GET", _PATH, params=params)
        assert page["total"] == len(CODE_LISTS)
        names += page["items"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert names == sorted(CODE_LISTS)


async def test_a_list_has_its_words_in_both_languages(officer: Client) -> None:
    read = await officer.ok("GET", f"{_PATH}/event-statuses")
    assert {"code": "published", "zh": "已发布", "en": "Published"} in read["codes"]
    await officer.refused("GET", f"{_PATH}/colours", status=404, code="not_found")
