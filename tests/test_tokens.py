"""The issuer's keys come over HTTP: kept, asked for again when needed, and survive its absence."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.problems import Problem
from app.settings import Settings
from app.tokens import TokenVerifier


class Issuer:
    """An issuer on loopback, which publishes its keys over real HTTP and counts who asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_down = False
        self.answer: bytes | None = None
        self.seconds = 1000.0
        self._keys: dict[str, Ed25519PrivateKey] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                time.sleep(0.05)
                self.send_response(503 if issuer.is_down else 200)
                self.end_headers()
                if not issuer.is_down:
                    self.wfile.write(issuer.published())

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()
        host, port = self._server.server_address[:2]
        self.config = Settings(
            oidc_jwks_url=f"http://{host!s}:{port}/jwks", oidc_issuer="https://issuer.example"
        )
        self.add("first")

    def published(self) -> bytes:
        if self.answer is not None:
            return self.answer
        keys = [
            {**json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key())), "kid": kid}
            for kid, key in self._keys.items()
        ]
        return json.dumps({"keys": keys}).encode()

    def add(self, kid: str) -> None:
        self._keys[kid] = Ed25519PrivateKey.generate()

    def drop(self, kid: str) -> Ed25519PrivateKey:
        return self._keys.pop(kid)

    def token(self, kid: str = "first", key: Ed25519PrivateKey | None = None) -> str:
        issued = int(time.time())
        claims = {
            "iss": self.config.oidc_issuer,
            "aud": self.config.oidc_audience,
            "sub": "somebody",
            "iat": issued,
            "exp": issued + 60,
            "jti": str(time.perf_counter_ns()),
        }
        headers = {"kid": kid, "typ": "at+jwt"}
        return jwt.encode(claims, key or self._keys[kid], "EdDSA", headers=headers)

    def verifier(self) -> TokenVerifier:
        return TokenVerifier(self.config, seconds=lambda: self.seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer that has one key."""
    opened = Issuer()
    yield opened
    opened.close()


async def _status(verifier: TokenVerifier, token: str) -> int:
    try:
        said = await verifier.verify(token)
    except Problem as refusal:
        return refusal.status
    assert said.subject == "somebody"
    return 200


async def test_keys_are_asked_for_once_and_kept(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    tokens = [issuer.token() for _ in range(20)]
    assert await asyncio.gather(*(_status(verifier, token) for token in tokens)) == [200] * 20
    issuer.seconds += 590
    assert await _status(verifier, issuer.token()) == 200
    assert issuer.asked == 1
    issuer.seconds += 20
    assert await _status(verifier, issuer.token()) == 200
    assert issuer.asked == 2


async def test_a_new_key_is_known_to_all_who_come_with_it(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    assert await _status(verifier, issuer.token()) == 200
    issuer.add("second")
    issuer.seconds += 31
    tokens = [issuer.token("second") for _ in range(20)]
    assert await asyncio.gather(*(_status(verifier, token) for token in tokens)) == [200] * 20
    assert issuer.asked == 2


async def test_unknown_keys_make_us_ask_once_in_thirty_seconds(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    assert await _status(verifier, issuer.token()) == 200
    stranger = Ed25519PrivateKey.generate()
    forged = [issuer.token(f"unknown-{number}", stranger) for number in range(50)]
    for moment in range(4):
        issuer.seconds += 10 if moment else 31
        statuses = [await _status(verifier, token) for token in forged]
        assert statuses == [401] * 50
    assert issuer.asked == 3
    assert await _status(verifier, issuer.token()) == 200


async def test_known_keys_serve_on_while_the_issuer_is_down(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    assert await _status(verifier, issuer.token()) == 200
    for breakage in (b"not json", b"[]", b"7", b'{"keys": []}', b'{"keys": 7}', b""):
        issuer.answer = breakage
        issuer.seconds += 700
        assert await _status(verifier, issuer.token()) == 200, breakage
    issuer.is_down = True
    issuer.seconds += 3600
    assert await _status(verifier, issuer.token()) == 200
    assert issuer.asked == 8


async def test_keys_that_nobody_confirmed_for_a_day_are_no_keys(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    assert await _status(verifier, issuer.token()) == 200
    issuer.is_down = True
    issuer.seconds += 24 * 3600 + 1
    assert await _status(verifier, issuer.token()) == 503
    issuer.is_down = False
    issuer.seconds += 31
    assert await _status(verifier, issuer.token()) == 200


async def test_a_withdrawn_key_is_refused_once_the_keys_are_read_again(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    issuer.add("second")
    assert await _status(verifier, issuer.token("second")) == 200
    withdrawn = issuer.drop("second")
    issuer.seconds += 601
    assert await _status(verifier, issuer.token("second", withdrawn)) == 401


async def test_a_token_known_before_is_no_longer_trusted_than_its_key(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    issuer.add("second")
    known = issuer.token("second")
    assert await _status(verifier, known) == 200
    issuer.drop("second")
    assert await _status(verifier, known) == 200
    issuer.seconds += 601
    assert await _status(verifier, known) == 401


async def test_what_a_withdrawn_key_signed_ends_when_others_see_it_gone(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    issuer.add("second")
    assert await _status(verifier, issuer.token()) == 200
    issuer.seconds += 400
    known = issuer.token("second")
    assert await _status(verifier, known) == 200
    issuer.drop("second")
    issuer.add("third")
    issuer.seconds += 31
    assert await _status(verifier, issuer.token("third")) == 200
    assert await _status(verifier, known) == 401


async def test_without_any_keys_we_are_unavailable_and_soon_ask_again(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    issuer.is_down = True
    assert await _status(verifier, issuer.token()) == 503
    assert await _status(verifier, issuer.token()) == 503
    assert issuer.asked == 1
    issuer.is_down = False
    issuer.seconds += 2
    assert await _status(verifier, issuer.token()) == 200


async def test_an_issuer_that_is_not_there_leaves_known_keys_in_force() -> None:
    issuer = Issuer()
    verifier = issuer.verifier()
    assert await _status(verifier, issuer.token()) == 200
    issuer.close()
    issuer.seconds += 700
    assert await _status(verifier, issuer.token()) == 200


async def test_a_secret_among_the_published_keys_signs_nothing(issuer: Issuer) -> None:
    secret = b"s" * 32
    issuer.answer = json.dumps(
        {
            "keys": [
                {"kty": "oct", "kid": "first", "k": "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M"}
            ]
        }
    ).encode()
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    token = jwt.encode(claims, secret, "HS256", headers={"kid": "first", "typ": "at+jwt"})
    assert await _status(issuer.verifier(), token) == 401
