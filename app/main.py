"""Door 1, HTTP: puts settings, lifespan, routers and handlers together."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles

from app import answers, errands, openapi, paying, settings, worker
from app.crypto import load_keyring
from app.database import Database, connect
from app.issuer import DevelopmentIssuer
from app.member_issuer import MemberIssuer
from app.routers import REGISTRY, health
from app.services import health as database_health
from app.services import walls
from app.services.access.admission import Admission
from app.services.events import check_ins
from app.settings import Settings
from app.sms import messenger_of
from app.tokens import MemberKeys, TokenVerifier

VERSION = "0.1.0"
_log = structlog.get_logger()
_STATIC = Path(__file__).parent / "static"


def create_app(chosen: Settings | None = None, *, database_url: str | None = None) -> FastAPI:
    """Make the application; without a database address it can only describe itself."""
    config = chosen or settings.load()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = database_url or _address(config)
        app.state.database = database = await connect(url, config)
        await _examine(database)
        app.state.check_ins = check_ins.gathering(database)
        app.state.admit = Admission(database).admit
        app.state.keyring = load_keyring(config)
        issued_here = config.oidc_jwks_url is None
        keys = DevelopmentIssuer(config).keys() if issued_here else None
        app.state.verifier = TokenVerifier(config, keys, _member_keys(app, config))
        async with messenger_of(config) as app.state.messenger, _worker(app, config):
            yield
        await database.close()

    app = FastAPI(
        title="Jixie 计协",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        # Requests are counted and logged by the envelope.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = config
    app.add_middleware(answers.Envelope, settings=config)
    answers.install(app)
    openapi.install(app)
    for router in REGISTRY:
        app.include_router(router)
    app.include_router(health.router)
    _serve_docs(app)
    return app


async def _examine(database: Database) -> None:
    """Refuse a database without walls, and warn of one whose own log may hold names."""
    await walls.require(database)
    part = await database_health.database_log(database)
    if part.status != "pass":
        _log.warning("database_log_tells", settings=part.output)


@asynccontextmanager
async def _worker(app: FastAPI, config: Settings) -> AsyncIterator[None]:
    """Work the queue in this process too, if the settings say so."""
    stop, wake = asyncio.Event(), asyncio.Event()

    async def wake_worker() -> None:
        wake.set()

    app.state.wake_worker = wake_worker
    if not config.worker:
        yield
        return
    database, keyring = app.state.database, app.state.keyring
    working = asyncio.create_task(
        worker.work(
            database,
            keyring,
            stop,
            wake,
            heads_file=config.heads_file,
            most_elsewhere=config.enrolled_elsewhere_daily_limit,
        )
    )
    keeping = asyncio.create_task(errands.keep(database, keyring, config, stop))
    pays = asyncio.create_task(paying.keep(database, keyring, config, stop))
    yield
    stop.set()
    await asyncio.gather(working, keeping, pays)


def _member_keys(app: FastAPI, config: Settings) -> MemberKeys | None:
    """Accept members' tokens where members can log in."""
    if config.sms_url is None:
        return None
    issuer = MemberIssuer(config, app.state.keyring)
    return MemberKeys(issuer.name, issuer.keys())


def _address(config: Settings) -> str:
    if config.database_url is None:
        raise RuntimeError("The application needs a database address to serve.")
    return config.database_url.get_secret_value()


def _serve_docs(app: FastAPI) -> None:
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")

    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Jixie API",
        swagger_js_url="/static/swagger-ui/swagger-ui-bundle.js",
        swagger_css_url="/static/swagger-ui/swagger-ui.css",
        swagger_favicon_url="/static/favicon.svg",
        swagger_ui_parameters={"validatorUrl": None},
    )
    page.headers["Content-Security-Policy"] = _policy_of(bytes(page.body))

    @app.get("/docs", include_in_schema=False)
    async def docs(_request: Request) -> Response:
        return page


def _policy_of(page: bytes) -> str:
    """Let a page run its own inline scripts, known by their hashes, and load from here alone."""
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    hashes = (base64.b64encode(hashlib.sha256(each).digest()).decode() for each in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    return (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'; object-src 'none'"
    )
