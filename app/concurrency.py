"""Writing twice and writing over each other: idempotency keys, ETags and `If-Match`."""

import functools
import re
import unicodedata
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any, cast, get_args, get_origin
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app import attempts, crypto, etags, kept_answers, locks, witness
from app.acting import note_refusal
from app.acts import Act
from app.crypto import Keyring
from app.database import note
from app.identity import Caller
from app.kept_answers import Kept, Place
from app.problems import (
    IdempotencyInFlight,
    IdempotencyKeyMalformed,
    IdempotencyKeyRequired,
    IdempotencyKeyReused,
    Invalid,
    Stale,
    UnsupportedMediaType,
    field_error,
    shown_name,
)
from app.resources import Resource

_JSON_SUFFIX = re.compile(r"application/[\w.-]+\+json")
_KEY_HEADER = "Idempotency-Key"
_FINGERPRINT_BYTES = 32
_KEPT_HEADERS = ("content-type", "location", "etag")


@dataclass
class _Exchange:
    """What the route must know of the request under way in this task."""

    key: str | None = None
    sign: Callable[[bytes], bytes] = bytes
    fingerprint: bytes = b""
    session: AsyncSession | None = None
    caller: Caller | None = None
    act: Act | None = None
    asked_of: UUID | None = None
    needs_entry: bool = False
    version: int | None = None
    beyond_version: bool = False
    never_kept: bool = False
    found_anew: bool = False
    is_repeat: bool = False

    def known_by(self, caller: Caller) -> bytes:
        """Sign what was asked, by whom it is asked now: under another grant it is another thing.

        What was shown under a grant that ended, or before she worked for an employer, or to a
        token for more, is not to be had again by its key.
        """
        scopes = None if caller.token is None else caller.token.scopes
        allowed = "all" if scopes is None else " ".join(sorted(scopes))
        under = f"\n{caller.grant_id} {caller.employer_linked} {allowed}"
        return self.sign(self.fingerprint + under.encode())

    def place_of(self, caller: Caller) -> Place:
        """Name where the answer to a request with a key is kept."""
        return Place(caller.district_code, caller.subject, self.key or "")


class _Replay(Exception):
    """The request came before; its first answer is sent again."""

    def __init__(self, first: Kept) -> None:
        super().__init__()
        headers = dict(line.split(": ", 1) for line in first.headers.splitlines())
        headers["Idempotency-Replayed"] = "true"
        self.response = Response(bytes(first.body), status_code=first.status, headers=headers)
        self.persons = first.persons


_exchange: ContextVar[_Exchange] = ContextVar("exchange")
_under_way: set[tuple[str, str, str]] = set()
"""Under whose tokens and grants, and with which keys, this process has requests at work."""


def _takes_many(annotation: object) -> bool:
    return get_origin(annotation) is list or any(map(_takes_many, get_args(annotation)))


class Route(APIRoute):
    """A route that honours `Idempotency-Key`, answers with an ETag and retries a deadlock once."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Watch the endpoint, so that its session, caller and version are known."""
        super().__init__(path, _watched(endpoint), **options)
        fields = get_flat_params(self.dependant)
        self._names = {field.alias for field in fields}
        self._lists = {each.alias for each in fields if _takes_many(each.field_info.annotation)}
        self._needs_entry = self.methods != {"GET"} or witness.is_about_persons(self)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler with what holds for every resource."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            self._refuse_wrong_parameters(request)
            self._refuse_other_media_types(request)
            exchange = await _begin(request)
            exchange.needs_entry = self._needs_entry
            with _without_twins(request, exchange):
                await self._refuse_wrong_parts(request)
                return await answer(request, exchange)

        async def answer(request: Request, exchange: _Exchange) -> Response:
            _exchange.set(exchange)
            try:
                return await attempts.once_more(
                    request, lambda: self._attempt(handler, request, exchange)
                )
            except Exception as refusal:
                if exchange.needs_entry:
                    await note_refusal(
                        request, refusal, act=exchange.act, asked_of=exchange.asked_of
                    )
                raise

        return handle

    async def _attempt(
        self,
        handler: Callable[[Request], Awaitable[Response]],
        request: Request,
        exchange: _Exchange,
    ) -> Response:
        try:
            response = await handler(request)
        except _Replay as replay:
            self._note_replay(exchange, replay)
            return replay.response
        _require_entry(exchange)
        if exchange.version is not None:
            response = _tagged(request, response, exchange)
        if exchange.key is not None:
            await _remember(exchange, response)
        return response

    def _note_replay(self, exchange: _Exchange, replay: _Replay) -> None:
        if exchange.session is not None:
            # The version before kept answers without whom they told of.
            shown = witness.persons_in_body(self, bytes(replay.response.body))
            note(exchange.session, [*replay.persons, *shown])

    def _refuse_wrong_parameters(self, request: Request) -> None:
        errors, seen = [], set[str]()
        for number, (name, value) in enumerate(request.query_params.multi_items(), 1):
            if name not in self._names:
                shown = shown_name(name, instead=f"parameter {number}")
                errors.append(field_error(shown, "unknown_parameter", within="query"))
            elif any(unicodedata.category(char) in {"Cc", "Cs"} for char in value):
                errors.append(field_error(name, "control_character", within="query"))
            elif name in seen and name not in self._lists:
                errors.append(field_error(name, "repeated_parameter", within="query"))
            seen.add(name)
        if errors:
            raise Invalid(errors=errors)

    def _refuse_other_media_types(self, request: Request) -> None:
        if self.body_field is None:
            return
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if isinstance(self.body_field.field_info, params.Form):
            if given != "multipart/form-data":
                raise UnsupportedMediaType(expected="multipart/form-data")
        elif given and given != "application/json" and not _JSON_SUFFIX.fullmatch(given):
            raise UnsupportedMediaType(expected="application/json")

    async def _refuse_wrong_parts(self, request: Request) -> None:
        if self.body_field is None or not isinstance(self.body_field.field_info, params.Form):
            return
        fields = {field.alias: field.field_info for field in self.dependant.body_params}
        errors, seen = [], set[str]()
        for name, part in (await request.form()).multi_items():
            shown = f"/{shown_name(name)}"
            if name not in fields:
                errors.append(field_error(shown, "extra_forbidden"))
            elif name in seen:
                # Of two only one would be read, and nobody would be told which.
                errors.append(field_error(shown, "repeated_part"))
            elif isinstance(fields[name], params.File) and not getattr(part, "filename", None):
                errors.append(field_error(shown, "file_without_name"))
            seen.add(name)
        if errors:
            await request.close()
            raise Invalid(errors=errors[:100])


def _watched(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    if getattr(endpoint, "is_watched", False):
        return endpoint

    @functools.wraps(endpoint)
    async def watch(**arguments: Any) -> Any:
        exchange = _exchange.get()
        exchange.caller = arguments.get("caller")
        exchange.act = _act_of(arguments)
        exchange.asked_of = getattr(arguments.get("body"), "member_id", None)
        if exchange.key is not None:
            # Who has not said who she is cannot be given her first answer again.
            exchange.session = arguments.get("session")
            await _claim(exchange)
        result = await endpoint(**arguments)
        _note_result(exchange, arguments.get("session"), result)
        exchange.version = getattr(result, "version", None)
        exchange.beyond_version = getattr(result, "beyond_version", False)
        exchange.never_kept = getattr(result, "never_kept", False)
        exchange.found_anew = getattr(result, "found_anew", False)
        return result

    watch.is_watched = True  # type: ignore[attr-defined]  # a mark on a function of ours
    return watch


def _act_of(arguments: Mapping[str, Any]) -> Act | None:
    """Give the act under way, with the names of what its body says."""
    session, statements = arguments.get("session"), arguments.get("statements")
    act: Act | None = session.info["act"] if session is not None else None
    if act is None:
        act = getattr(statements or arguments.get("door"), "act", None)
    body = arguments.get("body")
    if act is not None and isinstance(body, BaseModel):
        act.fields = (*act.fields, *sorted(body.model_fields_set))
        act.purpose = getattr(body, "purpose", None)
    return act


def _note_result(exchange: _Exchange, session: AsyncSession | None, result: object) -> None:
    """Have a session's transaction store the entry, unless a single statement has done so."""
    act = exchange.act
    if session is None or act is None or act.is_noted or not exchange.needs_entry:
        return
    made = getattr(result, "id", None)
    if made is not None and str(made) not in act.object_ids:
        act.object_ids = (*act.object_ids, str(made))
    note(session, list(witness.persons_in(result)))


def _require_entry(exchange: _Exchange) -> None:
    """Let no answer out that the audit does not know of: it is our failure, and shows nothing."""
    if exchange.needs_entry and (exchange.act is None or not exchange.act.is_noted):
        raise RuntimeError("An answer without its entry in the audit.")


async def _begin(request: Request) -> _Exchange:
    key = request.headers.get(_KEY_HEADER)
    if request.method != "POST" or key is None:
        return _Exchange()
    key = key.strip('"')
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise IdempotencyKeyMalformed
    body = await request.body()
    target = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    if (boundary := parameters.strip().removeprefix("boundary=").strip('"')) and "/" in kind:
        # Each sending of the same form has a boundary of its own.
        body = body.replace(boundary.encode(), b"")
    content = target + kind.encode() + b"\n" + body
    # Keyed: what a short body says could be guessed from a plain hash.
    keyring = cast("Keyring", request.app.state.keyring)
    sign = functools.partial(keyring.sign, purpose="idempotency", length=_FINGERPRINT_BYTES)
    return _Exchange(key=key, sign=sign, fingerprint=sign(content))


@contextmanager
def _without_twins(request: Request, exchange: _Exchange) -> Iterator[None]:
    """Refuse a twin of what this process is doing before it takes a connection.

    However many are sent of one slow request, they leave the pool to others. Twins that reach
    another process are refused by the lock in the database.
    """
    bearer, grant = (request.headers.get(name, "") for name in ("authorization", "jixie-grant"))
    if exchange.key is None or not bearer:
        yield
        return
    mark = (bearer, grant, exchange.key)
    if mark in _under_way:
        raise IdempotencyInFlight(headers={"Retry-After": "1"})
    _under_way.add(mark)
    try:
        yield
    finally:
        _under_way.discard(mark)


async def _claim(exchange: _Exchange) -> None:
    """Replay the first answer of a key, or hold the key until the transaction ends."""
    if exchange.session is None or exchange.caller is None:
        return
    place = exchange.place_of(exchange.caller)
    if not await locks.try_hold(exchange.session, place.lock):
        raise IdempotencyInFlight(headers={"Retry-After": "1"})
    first = await kept_answers.find(exchange.session, place)
    if first is None:
        return
    if not crypto.same(bytes(first.fingerprint), exchange.known_by(exchange.caller)):
        raise IdempotencyKeyReused
    if first.status == kept_answers.FORGOTTEN:
        raise kept_answers.AnswerForgotten
    if first.status != kept_answers.FOUND_ANEW:
        raise _Replay(first)
    exchange.is_repeat = exchange.session.info["is_repeat"] = True


async def _remember(exchange: _Exchange, response: Response) -> None:
    if exchange.session is None or exchange.caller is None:
        return
    if exchange.never_kept or exchange.is_repeat:
        return
    headers = (
        f"{name}: {response.headers[name]}" for name in _KEPT_HEADERS if name in response.headers
    )
    kept = Kept(
        fingerprint=exchange.known_by(exchange.caller),
        status=response.status_code,
        headers="\n".join(headers),
        body=bytes(response.body),
        persons=[] if exchange.act is None else exchange.act.whom(),
    )
    if exchange.found_anew:
        kept = kept.emptied()
    await kept_answers.remember(exchange.session, exchange.place_of(exchange.caller), kept)


def _tagged(request: Request, response: Response, exchange: _Exchange) -> Response:
    response.headers["ETag"] = tag = etags.tag(cast("int", exchange.version))
    if exchange.beyond_version or request.method != "GET":
        return response
    is_known = etags.knows(request.headers.getlist("If-None-Match"), tag)
    return Response(status_code=304, headers={"ETag": tag}) if is_known else response


async def _expected_version(
    request: Request,
    _: Annotated[
        str | None, Header(alias="If-Match", description="The ETag of the version that you read.")
    ] = None,
) -> int:
    return etags.expected_version(request.headers.getlist("If-Match"))


async def _required_key(
    key: Annotated[
        str | None,
        Header(
            alias=_KEY_HEADER, description="A key of your choice; a repeat with it changes nothing."
        ),
    ] = None,
) -> None:
    if key is None:
        raise IdempotencyKeyRequired


IfMatch = Annotated[int, Depends(_expected_version)]
NeedsIdempotencyKey = Depends(_required_key)


def router(prefix: str, tag: str) -> APIRouter:
    """Make the router of one resource under `/v1`."""
    return Resource(prefix=f"/v1{prefix}", tags=[tag], route_class=Route)


def require_version(actual: int, expected: int) -> None:
    """Raise Stale when the record is no longer the one that the caller read."""
    if actual != expected:
        raise Stale
