"""Door 2, the shell: the `jixie` command."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Never, TypeVar
from uuid import UUID

import typer

from app import (
    auditing,
    bookkeeping,
    granting,
    importing,
    keeping,
    logging,
    retaining,
    schema,
    serving,
    settings,
)
from app.addresses import Addresses, addresses_of, bring_to_head, opened
from app.complaints import CommandFailed, line_of
from app.crypto import load_keyring
from app.database import Database, transaction
from app.issuer import DevelopmentIssuer, signs_here
from app.main import create_app
from app.models.membership.rosters import OnError
from app.openapi import first_difference
from app.progress import progress_of
from app.roles import Role
from app.services import walls
from app.services.demo_district import demo
from app.services.organisation import areas
from app.settings import Settings

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
_keys = typer.Typer(help="The keys of personal data, replaced while it is served.")
cli.add_typer(_keys, name="keys")
_audit_commands = typer.Typer(help="The audit and its seals.", no_args_is_help=True)
cli.add_typer(_audit_commands, name="audit")
_books = typer.Typer(help="The books: funds, entries, payouts.", no_args_is_help=True)
cli.add_typer(_books, name="books")


def main() -> Never:
    """Run the command and leave with 0, 1 (failed) or 2 (wrongly called); never a traceback."""
    serving.end_when_told()
    try:
        code = cli(prog_name="jixie", standalone_mode=False) or 0
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001  (the last place that can say it in one line)
        if line := line_of(error):
            typer.echo(f"jixie: {line}", err=True)
        code = getattr(error, "exit_code", 1)
    sys.exit(code)


def _settings(**given: Any) -> Settings:
    """Read the settings, with what the command line gives instead, and set up the log."""
    chosen = {name: value for name, value in given.items() if value is not None}
    config = settings.load().model_copy(update=chosen)
    logging.configure(config)
    return config


def _run(work: Callable[[Database, Settings], Awaitable[T]], *, as_owner: bool = False) -> T:
    """Do a command's work on the database, as the service unless only its owner may."""
    config = _settings()

    async def run(addresses: Addresses) -> T:
        url = addresses.owner if as_owner else addresses.service
        async with opened(url, config) as database:
            return await work(database, config)

    with addresses_of(config) as addresses:
        return asyncio.run(run(addresses))


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
    with suppress(KeyboardInterrupt), serving.listener(config) as taken, addresses_of(config) as at:
        asyncio.run(_prepare(at, config, with_demo=with_demo))
        serving.Server(config, at.service).run(sockets=[taken])


async def _prepare(addresses: Addresses, config: Settings, *, with_demo: bool) -> None:
    """Examine the walls; in development, first make a database with something to try."""
    if config.oidc_jwks_url is None:
        DevelopmentIssuer(config)
    if config.mode == "development":
        async with opened(addresses.owner, config) as owner:
            await _make_ready(owner, addresses, config, with_demo=with_demo)
    async with opened(addresses.service, config) as database:
        await walls.require(database)


async def _make_ready(owner: Database, at: Addresses, config: Settings, *, with_demo: bool) -> None:
    await bring_to_head(owner, at)
    async with transaction(owner, demo.SCOPE) as session:
        is_new = await demo.is_new(session)
    if is_new and with_demo:
        with suppress(demo.DatabaseNotEmpty):
            await _load_demo(owner, config, config.demo_members)
    if signs_here(config):
        async with transaction(owner, demo.SCOPE) as session:
            await demo.provide_grants(session)


@cli.command()
def migrate() -> None:
    """Bring the database's schema to what this version expects."""
    config = _settings()

    async def work(addresses: Addresses) -> None:
        async with opened(addresses.owner, config) as owner:
            await bring_to_head(owner, addresses)

    with addresses_of(config) as addresses:
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
    typer.echo("Loading the demo district ...", err=True)
    keyring = load_keyring(config)
    with progress_of("members") as progress:
        await importing.load_demo(owner, keyring, members=members, progress=progress)


@_area_commands.command("load")
def load_areas(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV of areas.")],
) -> None:
    """Load or rename areas from a file with the columns code, name, level, parent_code."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        area_lines = areas.read_file(lines)

    async def work(database: Database, _config: Settings) -> int:
        await _require_head(database)
        return await importing.load_areas(database, area_lines)

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
        most = config.enrolled_elsewhere_daily_limit
        order = importing.Order(content, district, association, commit, on_error, most)
        with progress_of(file.name) as progress:
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


@_keys.command("rotate")
def rotate_master_key() -> None:
    """Wrap all data keys by the master key that JIXIE_MASTER_KEYS lists first."""
    typer.echo(f"{_keep(keeping.rewrap, 'Wrapping data keys')} data keys are wrapped anew.")


@_keys.command("reindex")
def rotate_index_key() -> None:
    """Index all members by the key that JIXIE_INDEX_KEYS lists first."""
    typer.echo(f"{_keep(keeping.reindex, 'Indexing members')} members are indexed anew.")


def _keep(work: Callable[..., Awaitable[int]], what: str) -> int:
    with progress_of(what) as progress:
        return _run(
            lambda db, config: work(db, load_keyring(config), lambda n: progress(what, n, n))
        )


@_keys.command("versions")
def show_key_versions() -> None:
    """Say how much each version of a key holds; one that holds nothing may be thrown away."""
    for line in _run(lambda database, _config: keeping.versions(database)):
        typer.echo(line)


@_books.command("check")
def check_books() -> None:
    """Say whether balances, entries, payouts and runs agree to the fen; 1 when they do not."""
    if found := _run(lambda database, _config: bookkeeping.check(database)):
        raise CommandFailed("\n".join([*found, f"{len(found)} records do not agree"]))
    typer.echo("The books agree.")


@cli.command("retention")
def retain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete and clear whose time is over, as is done each night; rules: retention.csv."""
    work = retaining.preview if dry_run else retaining.run_now
    for line in _run(lambda database, _config: work(database)):
        typer.echo(line)


@cli.command("worker")
def work_queue() -> None:
    """Work the queue until told to stop, beside services that do not (JIXIE_WORKER=false)."""

    async def work(database: Database, config: Settings) -> None:
        await _require_head(database)
        await serving.work_until_told(database, config)

    _run(work)


@_audit_commands.command("verify")
def verify_audit(
    heads: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The heads kept outside.")
    ] = None,
) -> None:
    """Compute every entry and seal again; 1 and the places that break when some do."""
    for line in _run(lambda database, _config: auditing.verify(database, heads)):
        typer.echo(line)


@cli.command("sandbox")
def serve_sandbox(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on loopback.")] = 8025,
) -> None:
    """Serve stand-ins for the SMS provider and the payment gateway on loopback."""
    config = _settings(host="127.0.0.1", port=port)
    if config.mode == "production":
        raise CommandFailed("the sandbox is for development; JIXIE_MODE is production")
    with suppress(KeyboardInterrupt):
        serving.serve_sandbox(config)


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
    if (changed := first_difference(kept, document)) is not None:
        raise CommandFailed(f"{file} differs first at `{changed}`; run `jixie openapi`")


_RoleArgument = Annotated[Role, typer.Argument(help="Role of the caller.")]
_Areas = Annotated[list[str] | None, typer.Option(help="Area code; may be repeated.")]
_Associations = Annotated[list[UUID] | None, typer.Option(help="Association id.")]
_Events = Annotated[list[UUID] | None, typer.Option(help="Service event id.")]
_Member = Annotated[UUID | None, typer.Option(help="Member id.")]
_Linked = Annotated[bool, typer.Option("--employer-linked", help="Sees no health checks.")]


@cli.command()
def grant(
    role: _RoleArgument,
    subject: Annotated[str, typer.Argument(help="`sub` of the access tokens.")],
    area: _Areas = None,
    association: _Associations = None,
    event: _Events = None,
    member: _Member = None,
    employer_linked: _Linked = False,
    days: Annotated[int | None, typer.Option(min=1, help="How long it holds.")] = None,
    district: Annotated[str, typer.Option(help="Code of the district.")] = demo.DISTRICT,
) -> None:
    """Grant a role, asking nobody: how the first officer of a district begins."""
    reach = (area or (), association or (), event or (), member)
    typer.echo(_provide(granting.Order(role, subject, *reach, employer_linked, days, district)))


def _provide(order: granting.Order) -> UUID:
    async def work(owner: Database, _config: Settings) -> UUID:
        await _require_head(owner)
        return await granting.provide(owner, order)

    return _run(work, as_owner=True)


@cli.command()
def token(
    role: _RoleArgument,
    area: _Areas = None,
    association: _Associations = None,
    event: _Events = None,
    member: _Member = None,
    employer_linked: _Linked = False,
    subject: Annotated[str | None, typer.Option(help="Who it is; else demo-ROLE.")] = None,
    step_up: Annotated[
        bool, typer.Option("--step-up", help="As after a fresh sign-in: approves and grants.")
    ] = False,
    hours: Annotated[int, typer.Option(min=1, max=720, help="How long it is valid.")] = 12,
) -> None:
    """Sign an access token with this machine's key, and see that its grant is there."""
    issuer = DevelopmentIssuer(_settings())
    reach = (area or (), association or (), event or (), member)
    order = granting.Order(role, subject, *reach, employer_linked)
    _provide(order)
    typer.echo(issuer.token(order.named, lifetime=hours * 3600, step_up=step_up))


@cli.command()
def config() -> None:
    """Show the settings in force, secrets masked, and which of them were set."""
    for line in settings.described(_settings()):
        typer.echo(line)


if __name__ == "__main__":
    main()
