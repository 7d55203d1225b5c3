"""The pages of the documentation, which need no internet."""

import re

from fastapi import FastAPI

from tests.factories.callers import Client

_ASSET = re.compile(r"""(?:src|href)="([^"]+)\"""")


async def test_every_asset_of_the_docs_is_served_here(officer: Client) -> None:
    page = (await officer.get("/docs")).text
    assets = _ASSET.findall(page)
    assert len(assets) == 3
    for asset in assets:
        assert asset.startswith("/static/")
        assert (await officer.get(asset)).status_code == 200
    assert "://" not in page


async def test_the_docs_styles_load_nothing_from_elsewhere(officer: Client) -> None:
    style = (await officer.get("/static/swagger-ui/swagger-ui.css")).text
    assert not re.findall(r"url\(['\"]?(?:https?:)?//", style)
    assert "@import" not in style


async def test_the_docs_show_the_document_that_is_committed(app: FastAPI, officer: Client) -> None:
    assert "url: '/openapi.json'" in (await officer.get("/docs")).text
    assert await officer.ok("GET", "/openapi.json") == app.openapi()
