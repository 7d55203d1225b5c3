"""The service in this process: its port, its server, and what to try once it serves."""

import asyncio
import gc
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import typer
import uvicorn

from app import errands, paying, payment_sandbox, sms_sandbox, worker
from app.crypto import load_keyring
from app.database import Database, transaction
from app.issuer import DevelopmentIssuer, signs_here
from app.main import create_app
from app.payment_gateway import gateway_key
from app.services.demo_district import demo
from app.settings import Settings
from app.sms import provider_key
from app.wire import Protocol

_GRACE_SECONDS = 10
_GARBAGE_THRESHOLD = 50_000
_BACKLOG = 2048


class PortTaken(Exception):
    """The service cannot listen where it is told to; the text is the line that says why."""


def end_when_told() -> None:
    """Let Ctrl-C, `kill` and a closed terminal end a command through every `finally`."""
    for each in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(each) is signal.SIG_DFL:
            signal.signal(each, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def spare_what_lives() -> None:
    """Have the garbage collector pass over what lives by now, and look for more less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 20)


async def work_until_told(database: Database, config: Settings) -> None:
    """Work the queue, seal the audit, run the errands and pay until told to stop."""
    spare_what_lives()
    stop, keyring = asyncio.Event(), load_keyring(config)
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await asyncio.gather(
        worker.work(
            database,
            keyring,
            stop,
            heads_file=config.heads_file,
            most_elsewhere=config.enrolled_elsewhere_daily_limit,
        ),
        errands.keep(database, keyring, config, stop),
        paying.keep(database, keyring, config, stop),
    )


@contextmanager
def listener(config: Settings) -> Iterator[socket.socket]:
    """Take the port first: it is the likeliest to be refused, and the cheapest to find out."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((config.host, config.port))
        except OSError as error:
            raise PortTaken(
                f"cannot listen on {_place(config)} ({error.strerror});"
                " choose another with JIXIE_HOST and JIXIE_PORT, or --host and --port"
            ) from None
        yield taken


def _place(config: Settings) -> str:
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{host}:{config.port}"


class Server(uvicorn.Server):
    """Uvicorn in this process, which says where to look once it serves."""

    def __init__(self, config: Settings, url: str) -> None:
        """Take the settings and the address of the database."""
        self._settings = config
        self._app = create_app(config, database_url=url)
        super().__init__(
            uvicorn.Config(
                self._app,
                http=Protocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start serving."""
        await super().startup(sockets)
        spare_what_lives()
        if signs_here(self._settings):
            async with transaction(self._app.state.database, demo.SCOPE) as session:
                shown = await demo.showcase(session)
            _announce(self._settings, shown)


def serve_sandbox(config: Settings) -> None:
    """Run the stand-ins for the providers until told to stop, and say where."""
    app = sms_sandbox.create_sandbox(provider_key(config))
    app.mount("/gateway", payment_sandbox.create_sandbox(gateway_key(config)))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    address = f"http://{_place(config)}"
    with listener(config) as taken:
        lines = (
            f"export JIXIE_SMS_URL={address}/sms",
            f"export JIXIE_GATEWAY_URL={address}/gateway",
            f"What was sent: {address}/sandbox/messages",
            f"What was paid: {address}/gateway/sandbox/payments",
        )
        print("\n".join(lines), flush=True)  # noqa: T201  (what the caller goes on with)
        server.run(sockets=[taken])


def _announce(config: Settings, shown: demo.Showcase | None) -> None:
    """Print where the docs are and what to try, as lines for a shell, and keep them in a file."""
    address = f"http://{_place(config)}"
    issuer = DevelopmentIssuer(config)
    facts = {"JIXIE": address}
    facts |= {
        f"TOKEN_{role.name}": issuer.token(demo.subject_of(role))
        for role in demo.roles_to_try(shown)
    }
    facts |= {name.upper(): str(value) for name, value in vars(shown or demo).items() if shown}
    lines = "".join(f"export {name}={value}\n" for name, value in facts.items())
    kept = config.data_dir / "try.env"
    kept.touch(mode=0o600)
    kept.write_text(lines)
    typer.echo(
        f"\n{lines}\nJixie serves {address}; docs at {address}/docs\n"
        f"The lines above are in {kept} too: `. {kept}` in another shell, then\n"
        f'  curl -H "Authorization: Bearer $TOKEN_DISTRICT_OFFICER" $JIXIE/v1/associations\n'
        "Ctrl-C ends the service."
    )
