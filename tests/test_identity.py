"""Only tokens of the issuer, meant for this service and still valid, name a caller."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from app.crypto import encode
from app.identity import Role
from app.issuer import DevelopmentIssuer, Refused
from app.settings import Settings
from tests.factories.callers import DISTRICT, Client


def _claims(config: Settings, **changes: Any) -> dict[str, Any]:
    issued = int(time.time())
    claims = {
        "iss": config.oidc_issuer,
        "aud": config.oidc_audience,
        "sub": "somebody",
        "iat": issued,
        "exp": issued + 60,
        "role": "district_officer",
        "areas": [DISTRICT],
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


async def _status(app: FastAPI, token: str) -> int:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as client:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await client.get("http://jixie.test/v1/areas", headers=headers)
        if answer.status_code == 401:
            assert "Bearer" in answer.headers["www-authenticate"]
        return answer.status_code


def _sign(issuer: DevelopmentIssuer, claims: dict[str, Any], **header: Any) -> str:
    headers = {"kid": issuer._kid, "typ": "at+jwt", **header}
    return jwt.encode(claims, issuer._key, algorithm="EdDSA", headers=headers)


async def test_a_token_of_the_issuer_is_accepted(app: FastAPI, config: Settings) -> None:
    assert await _status(app, _sign(DevelopmentIssuer(config), _claims(config))) == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"aud": "another service"},
        {"aud": None},
        {"iss": "another issuer"},
        {"nbf": 9_999_999_999},
        {"role": "emperor"},
        {"role": None},
        {"role": "member"},
        {"areas": [], "district_code": None},
        {"areas": 7},
        {"associations": ["no id"]},
    ],
    ids=str,
)
async def test_wrong_claims_are_refused(
    app: FastAPI, config: Settings, changes: dict[str, Any]
) -> None:
    assert await _status(app, _sign(DevelopmentIssuer(config), _claims(config, **changes))) == 401


def _sign_with_public_key(claims: dict[str, Any], headers: dict[str, str], key: str) -> str:
    """Sign as an attacker would who hopes that the public key is taken for a shared secret."""
    head = {**headers, "alg": "HS256"}
    body = ".".join(encode(json.dumps(part).encode()) for part in (head, claims))
    return f"{body}.{encode(hmac.digest(key.encode(), body.encode(), 'sha256'))}"


async def test_forged_tokens_are_refused(app: FastAPI, config: Settings) -> None:
    issuer, claims = DevelopmentIssuer(config), _claims(config)
    genuine = _sign(issuer, claims)
    body, signature = genuine.rsplit(".", 1)
    public = json.dumps(issuer.keys().keys[0]._jwk_data)
    stranger = Ed25519PrivateKey.generate()
    headers = {"kid": issuer._kid, "typ": "at+jwt"}
    forged = [
        "nonsense",
        "a.b.c",
        f"{body}.",
        f"{body}.{signature[::-1]}",
        jwt.encode(claims, "", algorithm="none", headers=headers),
        _sign_with_public_key(claims, headers, public),
        jwt.encode(claims, stranger, algorithm="EdDSA", headers=headers),
        _sign(issuer, claims, kid="unknown"),
        _sign(issuer, claims, typ="JWT"),
    ]
    assert [await _status(app, token) for token in forged] == [401] * len(forged)


async def test_a_remembered_token_still_expires(app: FastAPI, config: Settings) -> None:
    verifier = app.state.verifier
    token = _sign(DevelopmentIssuer(config), _claims(config))
    await verifier.verify(token)
    fingerprint = hashlib.sha256(token.encode()).digest()
    _, caller = verifier._seen[fingerprint]
    verifier._seen[fingerprint] = (time.time() - 1, caller)
    assert await _status(app, token) == 200
    assert verifier._seen[fingerprint][0] > time.time()


async def test_a_token_for_fewer_actions_does_fewer(client: Callable[..., Client]) -> None:
    narrow = client(Role.DISTRICT_OFFICER, scope="areas:read")
    path = f"/v1/areas/{DISTRICT}/settings/independent_min_staff"
    body = {"value": 1, "effective_on": "2026-01-01", "provenance": "assumed"}
    await narrow.ok("GET", "/v1/areas")
    await narrow.refused("PUT", path, json=body, status=403, code="forbidden")


def test_there_is_no_development_issuer_in_production() -> None:
    production = Settings(
        mode="production",
        database_url="postgresql://nowhere/none",  # type: ignore[arg-type]  # as from a variable
        oidc_jwks_url="https://issuer.example/jwks",
        secret_key="00" * 32,  # type: ignore[arg-type]  # as from a variable
    )
    with pytest.raises(Refused):
        DevelopmentIssuer(production)


def test_production_refuses_to_start_without_its_secrets() -> None:
    with pytest.raises(ValueError, match="JIXIE_SECRET_KEY"):
        Settings(mode="production")
