"""What went wrong with a command, as the one line that a shell shows."""

import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg
import typer
from alembic.util import CommandError
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import DBAPIError

from app import answers, settings, wording
from app.auditing import AuditBroken
from app.crypto import MasterKeyMissing
from app.database_errors import sqlstate
from app.embedded import EmbeddedServerFailed
from app.granting import NoSuchReach
from app.issuer import Refused
from app.problems import Problem
from app.services.walls import WallsDown
from app.serving import PortTaken


class CommandFailed(Exception):
    """The command cannot be done; the text is the line that says why."""


def line_of(error: Exception) -> str:
    """Say in one line what went wrong; empty when it was said already."""
    for kinds, say in _SAID:
        if isinstance(error, kinds):
            return " ".join(say(error).replace("Value error, ", "").split())
    with suppress(Exception):
        if settings.load().log_level == "debug":
            traceback.print_exception(error)
    return f"unexpected {type(error).__name__}; JIXIE_LOG_LEVEL=debug shows where"


def _of_problem(problem: Problem) -> str:
    said = [
        wording.say("en", "fields", each.code, **getattr(each, "facts", {}))
        for each in problem.errors
    ]
    return " ".join(said) or wording.say("en", "problems", problem.code, **problem.facts)


def _of_settings(error: ValidationError) -> str:
    found = error.errors(include_input=False, include_url=False)
    names = [f"JIXIE_{each['loc'][0]}: ".upper() if each["loc"] else "" for each in found]
    return "; ".join(name + each["msg"] for name, each in zip(names, found, strict=True))


def _of_database(error: Exception) -> str:
    said = str(error).splitlines() or ["no answer in time"]
    return f"the database does not serve: {said[0]}"


def _of_statement(error: DBAPIError) -> str:
    if (sqlstate(error) or "").startswith(("22", "23")):
        return _of_problem(answers.problem_of_database(error))
    cause = getattr(error.orig, "__cause__", None)
    return _of_database(cause if isinstance(cause, Exception) else ConnectionError("it went away"))


def _of_system(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")


_NO_ISSUER = (
    "there is no development issuer in production or for a database that is set;"
    " JIXIE_OIDC_JWKS_URL says whose tokens to take,"
    " JIXIE_DEVELOPMENT_ISSUER=true that all data is made up, in a database of this machine"
)
_SAID: tuple[tuple[tuple[type[Exception], ...], Callable[[Any], str]], ...] = (
    ((typer.TyperException,), lambda error: error.format_message()),
    (
        (
            AuditBroken,
            CommandError,
            CommandFailed,
            EmbeddedServerFailed,
            NoSuchReach,
            PortTaken,
            SettingsError,
            WallsDown,
        ),
        str,
    ),
    (
        (MasterKeyMissing,),
        lambda error: f"JIXIE_MASTER_KEYS lacks version {error}, which is in use",
    ),
    ((Refused,), lambda _: _NO_ISSUER),
    ((Problem,), _of_problem),
    ((ValidationError,), _of_settings),
    ((UnicodeDecodeError,), lambda _: "the file is not UTF-8 text"),
    ((DBAPIError,), _of_statement),
    (
        (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            ConnectionError,
            TimeoutError,
            socket.gaierror,
        ),
        _of_database,
    ),
    ((OSError,), _of_system),
)
