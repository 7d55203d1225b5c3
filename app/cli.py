"""Door 2, the shell: the `jixie` command."""

import asyncio
import difflib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Never, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from app import embedded, importing, logging, schema, serving, settings, worker
from app.complaints import CommandFailed, line_of
from app.crypto import load_keyring, machine_secret
from app.database import Database, admit_service, connect, service_url, transaction
from app.identifiers import district_of
from app.identity import Role
from app.issuer import DevelopmentIssuer
from app.main import create_app
from app.models.rosters import OnError
from app.services import areas, demo, walls
from app.services.demo import DatabaseNotEmpty
from app.settings import Settings

_AREA_CODE = re.compile(r"[1-9][0-9]{11}")
_AREAS = Path(__file__).parent / "data" / "areas-nanhai.csv"
T = TypeVar("T")

cli = typer.Typer(
    help="Run and feed the Jixie service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_imports = typer.Typer(help="Take files in.", no_args_is_help=True)
cli.add_typer(_imports, name="import")
_area_commands = typer.Typer(help="The tree of administrative areas.", no_args_is_help=True)
cli.add_typer(_area_commands, name="areas")


def main() -> Never:
    """Run the command and leave with 0, 1 (failed) or 2 (wrongly called); never a traceback."""
    _listen()
    try:
        code = cli(prog_name="jixie", standalone_mode=False) or 0
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001  (the last place that can say it in one line)
        if line := line_of(error):
            typer.echo(f"jixie: {line}", err=True)
        code = getattr(error, "exit_code", 1)
    sys.exit(code)


def _listen() -> None:
    """Let Ctrl-C, `kill` and a closed terminal end a command through every `finally`."""
    for each in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(each) is signal.SIG_DFL:
            signal.signal(each, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def _settings(**given: Any) -> Settings:
    """Read the settings, with what the command line gives instead, and set up the log."""
    chosen = {name: value for name, value in given.items() if value is not None}
    config = settings.load().model_copy(update=chosen)
    logging.configure(config)
    return config


@dataclass(frozen=True)
class Addresses:
    """Where the database is for its owner and for the service, which owns nothing.

    With a `password`, migrating lets the service log in with it.
    """

    owner: str
    service: str
    password: str | None = None


@contextmanager
def _addresses(config: Settings) -> Iterator[Addresses]:
    """Give the addresses that are set, or those of an embedded server for the while."""
    if config.database_url is None:
        with embedded.server(config.data_dir / "postgres") as maintenance_url:
            yield _derived(config, asyncio.run(embedded.ensure_database(maintenance_url)))
        return
    url = config.database_url.get_secret_value()
    if config.owner_url is not None:
        yield Addresses(config.owner_url.get_secret_value(), url, urlsplit(url).password)
    elif config.mode == "production":
        yield Addresses(url, url)
    else:
        yield _derived(config, url)


def _derived(config: Settings, owner_url: str) -> Addresses:
    password = machine_secret(config.data_dir / "keys" / "service.key")
    return Addresses(owner_url, service_url(owner_url, password), password)


@asynccontextmanager
async def _opened(url: str, config: Settings) -> AsyncIterator[Database]:
    """Connect without the time limits of requests: commands work long and wait their turn."""
    patient = config.model_copy(update={"statement_timeout_ms": 0, "lock_timeout_ms": 0})
    database = await connect(url, patient)
    try:
        yield database
    finally:
        await database.close()


def _run(work: Callable[[Database, Settings], Awaitable[T]], *, as_owner: bool = False) -> T:
    """Do a command's work on the database, as the service unless only its owner may."""
    config = _settings()

    async def run(addresses: Addresses) -> T:
        url = addresses.owner if as_owner else addresses.service
        async with _opened(url, config) as database:
            return await work(database, config)

    with _addresses(config) as addresses:
        return asyncio.run(run(addresses))


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far each part of a long work is, beginning with one that has yet to say so."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {what: bars.add_task(what, total=None)}

        def show(part: str, done: int, total: int) -> None:
            task = tasks.get(part)
            if task is None:
                task = tasks[part] = bars.add_task(part)
            bars.update(task, completed=done, total=total)

        yield show


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
    with_demo: Annotated[
        bool, typer.Option("--demo/--no-demo", help="Load the demo into a new database.")
    ] = True,
) -> None:
    """Run the service, with a PostgreSQL of its own where none is set."""
    config = _settings(host=host, port=port)
    with suppress(KeyboardInterrupt), serving.listener(config) as taken, _addresses(config) as at:
        asyncio.run(_prepare(at, config, with_demo=with_demo))
        serving.Server(config, at.service).run(sockets=[taken])


async def _prepare(addresses: Addresses, config: Settings, *, with_demo: bool) -> None:
    """Examine the walls; in development, first make a database with something to try."""
    if config.mode == "development":
        async with _opened(addresses.owner, config) as owner:
            await _make_ready(owner, addresses, config, with_demo=with_demo)
    async with _opened(addresses.service, config) as database:
        await walls.require(database)


async def _make_ready(
    owner: Database, addresses: Addresses, config: Settings, *, with_demo: bool
) -> None:
    await _bring_to_head(owner, addresses)
    async with transaction(owner, demo.SCOPE) as session:
        is_new = await demo.is_new(session)
    if is_new and with_demo:
        with suppress(DatabaseNotEmpty):
            await _load_demo(owner, config, config.demo_members)


async def _bring_to_head(owner: Database, addresses: Addresses) -> None:
    await schema.migrate(owner.engine)
    if addresses.password is not None:
        await admit_service(addresses.owner, addresses.password)


@cli.command()
def migrate() -> None:
    """Bring the database's schema to what this version expects."""
    config = _settings()

    async def work(addresses: Addresses) -> None:
        async with _opened(addresses.owner, config) as owner:
            await _bring_to_head(owner, addresses)

    with _addresses(config) as addresses:
        asyncio.run(work(addresses))
    typer.echo(f"The schema is at {schema.head()}.")


@cli.command("demo")
def load_demo(
    members: Annotated[
        int | None, typer.Option(min=100, max=1_100_000, help="How many members.")
    ] = None,
) -> None:
    """Fill an empty database with the demo district."""
    if _settings().mode == "production":
        raise CommandFailed("the demo is for development; JIXIE_MODE is production")

    async def work(owner: Database, config: Settings) -> None:
        await schema.migrate(owner.engine)
        await _load_demo(owner, config, members or config.demo_members)

    _run(work, as_owner=True)


async def _load_demo(owner: Database, config: Settings, members: int) -> None:
    with _AREAS.open(encoding="utf-8") as file:
        area_lines = areas.read_file(file)
    keyring = load_keyring(config)
    typer.echo("Loading the demo district ...", err=True)
    with _progress("members") as progress:
        async with transaction(owner, demo.SCOPE) as session:
            await demo.load(
                session, keyring, members=members, area_lines=area_lines, progress=progress
            )
        await demo.tidy(owner)


@_area_commands.command("load")
def load_areas(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV of areas.")],
) -> None:
    """Load or rename areas from a file with the columns code, name, level, parent_code."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        area_lines = areas.read_file(lines)

    async def work(database: Database, _config: Settings) -> int:
        await _require_head(database)
        async with transaction(database, demo.SCOPE) as session:
            return await areas.load(session, area_lines)

    typer.echo(f"{_run(work)} of {len(area_lines)} areas are new or renamed.")


@_imports.command("members")
def import_members(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help=".xlsx or .csv")],
    association: Annotated[
        UUID | None, typer.Option(help="Whom all join; else the column 协会 says it.")
    ] = None,
    commit: Annotated[
        bool, typer.Option("--commit/--dry-run", help="Store, or only answer each row.")
    ] = False,
    on_error: Annotated[
        OnError, typer.Option(help="What a rejected row means for the others.")
    ] = OnError.SKIP,
    rejected: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Where to write the rejected rows, to correct them."),
    ] = None,
    district: Annotated[str, typer.Option(help="Code of the district.")] = demo.DISTRICT,
) -> None:
    """Import members from a roster, as `POST /v1/members/import` does."""
    content = file.read_bytes()
    if rejected is not None and not os.access(rejected.parent, os.W_OK):
        raise CommandFailed(f"cannot write into {rejected.parent}")

    async def work(database: Database, config: Settings) -> importing.Answer:
        await _require_head(database)
        order = importing.Order(content, district, association, commit, on_error)
        with _progress(file.name) as progress:
            return await importing.import_members(
                database, load_keyring(config), order, progress=partial(progress, file.name)
            )

    answer = _run(work)
    for line in answer.lines:
        typer.echo(line)
    if rejected is not None and answer.rejected is not None:
        rejected.write_bytes(answer.rejected)
    if answer.problem is not None:
        raise CommandFailed(answer.problem)


@cli.command("worker")
def work_queue() -> None:
    """Work the queue until told to stop, beside services that do not (JIXIE_WORKER=false)."""

    async def work(database: Database, config: Settings) -> None:
        await _require_head(database)
        stop = asyncio.Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, stop.set)
        await worker.work(database, load_keyring(config), stop)

    _run(work)


async def _require_head(database: Database) -> None:
    found = await schema.revision(database)
    if found != schema.head():
        raise CommandFailed(
            f"the schema is at {found or 'nothing'}, not at {schema.head()}; run `jixie migrate`"
        )


@cli.command()
def openapi(
    file: Annotated[Path, typer.Argument(help="Where the document is kept.")] = Path(
        "openapi/openapi.json"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; 1 on a difference.")
    ] = False,
) -> None:
    """Write the OpenAPI document that the code gives, or compare it with the file."""
    document = json.dumps(create_app(_settings()).openapi(), ensure_ascii=False, indent=2) + "\n"
    if not check:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(document, encoding="utf-8")
        return
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    changes = difflib.unified_diff(kept.splitlines(), document.splitlines(), lineterm="", n=0)
    difference = next(
        (line for line in changes if line[:1] in "+-" and line[1:2] not in "+-"), None
    )
    if difference is not None:
        raise CommandFailed(f"{file} differs first at `{difference.strip()}`; run `jixie openapi`")


@cli.command()
def token(
    role: Annotated[Role, typer.Argument(help="Role of the caller.")],
    area: Annotated[list[str] | None, typer.Option(help="Area code; may be repeated.")] = None,
    association: Annotated[list[UUID] | None, typer.Option(help="Association id.")] = None,
    event: Annotated[list[UUID] | None, typer.Option(help="Service event id.")] = None,
    member: Annotated[UUID | None, typer.Option(help="Member id.")] = None,
    subject: Annotated[str | None, typer.Option(help="Who it is; demo-ROLE otherwise.")] = None,
    hours: Annotated[int, typer.Option(min=1, max=720, help="How long it is valid.")] = 12,
) -> None:
    """Sign an access token with this machine's key; development only."""
    issuer = DevelopmentIssuer(_settings())
    areas = area or [serving.AREAS_OF_ROLE.get(role, demo.DISTRICT)]
    district = district_of(areas[0])
    if not all(_AREA_CODE.fullmatch(code) and district_of(code) == district for code in areas):
        raise CommandFailed("--area takes 12-digit codes of one district")
    reach: dict[str, Any] = {
        "district_code": district,
        "areas": areas,
        "associations": [str(each) for each in association or ()],
        "events": [str(each) for each in event or ()],
        "member_id": member and str(member),
    }
    claims = {name: value for name, value in reach.items() if value}
    typer.echo(issuer.token(subject or f"demo-{role}", role, lifetime=hours * 3600, **claims))


@cli.command()
def config() -> None:
    """Show the settings in force, secrets masked, and which of them were set."""
    current = _settings()
    for name, field in Settings.model_fields.items():
        origin = "set" if name in current.model_fields_set else "default"
        shown = _shown(getattr(current, name))
        typer.echo(f"JIXIE_{name.upper()}={shown}  # {origin}: {field.description}")


def _shown(value: object) -> str:
    """Write a setting as its variable would hold it."""
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, list):
        return ",".join(value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
