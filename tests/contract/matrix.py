"""The authorisation matrix: its table, and the scene in which each of its cells is called."""

import csv
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring, encode
from app.database import Database
from app.identity import STEP_UP_SECONDS
from app.issuer import DevelopmentIssuer
from app.scopes import Acting, Scope
from app.services.events import check_in_codes
from app.settings import Settings
from tests.contract.attempts import Attempt, Ids
from tests.contract.operations import NOWHERE, Operation, operations
from tests.contract.requests import REQUESTS, Sent, filled
from tests.contract.scene import Scene, build, store_grants
from tests.factories.callers import DISTRICT
from tests.tables import KeptTables

_FRESH = timedelta(seconds=STEP_UP_SECONDS / 3)
"""How old a sign-in may become while the table is tried on a slow machine."""
_BASE = "http://jixie.test"
_LIKE_A_CLIENT = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
    "User-Agent": "tests",
}
_TABLE = Path(__file__).parent / "authorisation.csv"
RELATIONS = {
    "public": ("any",),
    "member": ("self", "fellow", "far"),
    "staff": ("own", "sibling", "far", "none"),
    "secretary": ("own", "below", "above", "sibling", "far", "none"),
    "guide": ("own", "sibling", "far", "none"),
    "village": ("own", "above", "sibling", "far", "none"),
    "town": ("own", "below", "above", "sibling", "far", "none"),
    "district": ("own", "below", "far", "none"),
    "clerk": ("own", "below", "above", "sibling", "far", "none"),
    "approver": ("own", "below", "above", "sibling", "far", "none"),
    "auditor": ("own", "below", "above", "sibling", "far", "none", "whole"),
    "platform": ("own", "sibling", "far", "none"),
    "operations": ("own", "none"),
}
MEANING = {
    "A": "allowed",
    "F": "forbidden (403)",
    ".": "hidden (404)",
    "0": "answered without it (200)",
    "?": "told that it knows no such reference (422)",
    "u": "unauthenticated (401)",
}
# An answer of these was given before anything was written.
_NOTHING_DONE = {401, 403, 404, 422}


@dataclass(frozen=True)
class Row:
    """What the table says of one operation, or of one kind of record that it is asked about."""

    operation: str
    of: str
    cells: dict[str, str]
    employer: str

    def __str__(self) -> str:
        """Name the row in a test's id."""
        return f"{self.operation} ({self.of})" if self.of else self.operation

    def expected(self, attempt: Attempt) -> str:
        """Give the letter for a caller."""
        relation = "any" if attempt.column == "public" else attempt.relation
        letter = self.cells[attempt.column][RELATIONS[attempt.column].index(relation)]
        if not attempt.employer_linked or self.employer == "=":
            return letter
        before, _, after = self.employer.partition(">")
        return after if letter in before else letter


@lru_cache
def rows() -> list[Row]:
    """Give the rows of the table."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        header, *lists = [
            [cell.strip() for cell in cells] for cells in csv.reader(lines, skipinitialspace=True)
        ]
    facts = [dict(zip(header, cells, strict=True)) for cells in lists]
    return [
        Row(each["operation"], each["of"], {c: each[c] for c in RELATIONS}, each["employer"])
        for each in facts
    ]


@lru_cache
def by_name() -> dict[str, Operation]:
    """Give the operations by their names."""
    return {str(operation): operation for operation in operations()}


class World:
    """The scene in the database, who calls, and the way back to how it was."""

    def __init__(self, app: FastAPI, config: Settings, owner: Database, scene: Scene) -> None:
        self.scene = scene
        self.headers: dict[Attempt, dict[str, str]] = {}
        self._grants: Mapping[Attempt, UUID] = {}
        self._admitted_at = clock.now()
        self._keyring: Keyring = app.state.keyring
        self.tables = KeptTables(owner)
        self._config = config
        self._keys = 0
        self._transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=self._transport, base_url=_BASE)

    async def print_cash_lists(self) -> None:
        """Have each place's list to sign printed, so that it can be sent back."""
        officer = next(a for a in self.scene.attempts if str(a) == "district/own")
        for ids in self.scene.places.values():
            answer = await self.client.get(
                f"/v1/payout-runs/{ids['run_id']}/cash-list?format=csv",
                headers=self.headers[officer],
            )
            ids["cash list"] = answer.raise_for_status().content.decode()

    async def call(self, row: Row, attempt: Attempt) -> str:
        """Ask as a caller, and give the letter of the answer, or the answer if it has none."""
        answer = await self.ask(row, attempt)
        if by_name()[row.operation].method != "get" and (
            answer.status_code not in _NOTHING_DONE or attempt.column == "public"
        ):
            await self.tables.restore()
        return _letter(answer, _sent(row), self._ids(row, attempt))

    async def ask(self, row: Row, attempt: Attempt, *, token: str | None = None) -> httpx.Response:
        """Ask as a caller, or with another token of hers, and leave what it has done."""
        if clock.now() - self._admitted_at > _FRESH:
            self.admit(self._grants)
        operation, sent = by_name()[row.operation], _sent(row)
        ids = self._ids(row, attempt)
        self._keys += 1
        bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers = operation.headers() | {"Idempotency-Key": f"cell-{self._keys}"}
        request = httpx.Request(
            operation.method,
            f"{_BASE}{filled(operation.path, ids | filled(sent.ids, ids))}",
            params=operation.required_query | filled(sent.query, ids),
            headers=_LIKE_A_CLIENT | headers | self.headers[attempt] | bearer,
            **_content(sent, ids),
        )
        # A client would look in each answer for cookies, and whether to ask elsewhere.
        answer = await self._transport.handle_async_request(request)
        await answer.aread()
        return answer

    def _ids(self, row: Row, attempt: Attempt) -> Ids:
        ids = dict(self.scene.places[attempt.place])
        if row.of == "her own":
            ids["operation_id"] = ids.get(f"operation_id of {attempt.subject}", NOWHERE)
        for name, event in (
            ("code to scan", "event_id"),
            ("code to scan health", "event_id health"),
        ):
            window = check_in_codes._window(clock.now())
            ids[name] = check_in_codes._code(self._keyring, DISTRICT, UUID(ids[event]), window)
        return ids

    def lesser_tokens(self, attempt: Attempt) -> list[str]:
        """Give tokens of a caller that tell of no sign-in just now: too old, too weak, neither."""
        issuer, now = DevelopmentIssuer(self._config), clock.now()
        old = int((now - timedelta(seconds=STEP_UP_SECONDS + 60)).timestamp())
        strong = {"acr": self._config.oidc_step_up_acr[0]}
        claims: list[dict[str, Any]] = [
            {"auth_time": old, **strong},
            {"auth_time": int(now.timestamp()), "acr": "password"},
            strong,
        ]
        return [issuer.token(attempt.subject, **each) for each in claims]

    def admit(self, grants: Mapping[Attempt, UUID]) -> None:
        """Give each caller a token, as after a sign-in just now."""
        self._grants, self._admitted_at = grants, clock.now()
        issuer = DevelopmentIssuer(self._config)
        for attempt in self.scene.attempts:
            if attempt in grants:
                token = issuer.token(attempt.subject, step_up=True)
                named = {"Jixie-Grant": str(grants[attempt])}
                self.headers[attempt] = {"Authorization": f"Bearer {token}", **named}
            else:
                token = _worthless(attempt.relation, issuer)
                self.headers[attempt] = {"Authorization": f"Bearer {token}"} if token else {}


def _worthless(kind: str, issuer: DevelopmentIssuer) -> str:
    """Give a token of a district officer that is not worth anything any more, or never was."""
    subject = "district-of-the-matrix"
    genuine = issuer.token(subject, step_up=True)
    claims = jwt.decode(genuine, options={"verify_signature": False})
    header = jwt.get_unverified_header(genuine)
    if kind == "expired":
        return issuer.token(subject, step_up=True, lifetime=-3600)
    if kind == "another's audience":
        return issuer.token(subject, step_up=True, aud="another service")
    if kind == "forged":
        return jwt.encode(claims, Ed25519PrivateKey.generate(), "EdDSA", headers=header)
    if kind == "unsigned":
        none = encode(b'{"alg":"none","typ":"at+jwt"}')
        return f"{none}.{genuine.split('.')[1]}."
    return ""


def _sent(row: Row) -> Sent:
    plain = REQUESTS.get((row.operation, ""), Sent())
    return REQUESTS.get((row.operation, row.of), plain)


def _content(sent: Sent, ids: Ids) -> dict[str, Any]:
    if sent.file:
        return {"files": {"file": filled(sent.file, ids).encode()}, "data": filled(sent.form, ids)}
    return {} if sent.body is None else {"json": filled(sent.body, ids)}


def _letter(answer: httpx.Response, sent: Sent, ids: Ids) -> str:
    """Give the letter of an answer; what has none is its own text, and fits no cell."""
    status = answer.status_code
    if status < 300:
        if sent.shows is None or filled(sent.shows, ids) in answer.text.replace('": "', '":"'):
            return "A"
        return "0"
    said = answer.json()
    code = said["code"]
    errors = {error["code"] for error in said["errors"]} if status == 422 else set()
    if code in sent.past or errors & set(sent.past):
        return "A"
    if errors and errors <= set(sent.beyond):
        return "?"
    letters = {(401, "unauthenticated"): "u", (404, "not_found"): "."}
    letter = "F" if status == 403 else letters.get((status, code))
    return letter or f"{status} {code} {said.get('errors') or said['detail']}"


@asynccontextmanager
async def built(app: FastAPI, config: Settings, owner: Database) -> AsyncIterator[World]:
    """Build the scene once, and remember it."""
    info = {"scope": Scope(Acting.DISTRICT, DISTRICT)}
    async with AsyncSession(owner.engine, expire_on_commit=False, info=info) as session:
        scene = await build(session, app.state.keyring)
        grants = await store_grants(session, scene)
        await session.commit()
    world = World(app, config, owner, scene)
    world.admit(grants)
    await world.tables.keep()
    await world.print_cash_lists()
    yield world
    await world.client.aclose()
    await world.tables.forget()
