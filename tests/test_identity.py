"""Only tokens of the issuer, meant for this service and still valid, name a caller."""

import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncSession

from app.answers import all_routes
from app.crypto import encode
from app.identity import STEP_UP_SECONDS
from app.issuer import DevelopmentIssuer, Refused
from app.main import create_app
from app.problems import Unauthenticated
from app.roles import Right, Role
from app.settings import Settings
from app.tokens import MAX_TOKEN_LENGTH, TokenVerifier
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT, Client

_STEP_UP = "insufficient_user_authentication"


def _claims(config: Settings, **changes: Any) -> dict[str, Any]:
    issued = int(time.time())
    claims = {
        "iss": config.oidc_issuer,
        "aud": config.oidc_audience,
        "sub": "somebody",
        "iat": issued,
        "exp": issued + 60,
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


@pytest_asyncio.fixture
async def ask(app: FastAPI, session: AsyncSession) -> Callable[[str], Any]:
    """Call with a token as somebody to whom everything is granted, and give the answer."""
    await make_grant(session)
    await session.commit()

    async def send(token: str, path: str = "/v1/areas") -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://jixie.test") as client:
            answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
            assert answer.json()["code"] == "unauthenticated"
        return answer

    return send


def _sign(issuer: DevelopmentIssuer, claims: dict[str, Any], **header: Any) -> str:
    headers = {"kid": issuer._key.kid, "typ": "at+jwt", **header}
    return jwt.encode(claims, issuer._key.private, algorithm="EdDSA", headers=headers)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["another service", "jixie"]},
        {"scope": "areas:read members:read"},
        {"nbf": 1_700_000_000},
        {"role": "emperor", "areas": 7},
    ],
    ids=str,
)
async def test_a_token_of_the_issuer_is_accepted(
    ask: Callable[[str], Any], config: Settings, changes: dict[str, Any]
) -> None:
    token = _sign(DevelopmentIssuer(config), _claims(config, **changes))
    assert (await ask(token)).status_code == 200
    assert (await ask(token)).status_code == 200, "and when it is remembered"


async def test_the_type_may_be_written_in_full(ask: Callable[[str], Any], config: Settings) -> None:
    token = _sign(DevelopmentIssuer(config), _claims(config), typ="application/AT+JWT")
    assert (await ask(token)).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": 1_700_000_000},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": None},
        {"iat": 9_999_999_999},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"sub": "x" * 256},
        {"aud": "another service"},
        {"aud": []},
        {"aud": None},
        {"iss": "another issuer"},
        {"iss": None},
        {"nbf": 9_999_999_999},
        {"scope": ["areas:read"]},
        {"filling": "x" * MAX_TOKEN_LENGTH},
    ],
    ids=lambda changes: str(changes)[:40],
)
async def test_wrong_claims_are_refused(
    ask: Callable[[str], Any], config: Settings, changes: dict[str, Any]
) -> None:
    token = _sign(DevelopmentIssuer(config), _claims(config, **changes))
    assert (await ask(token)).status_code == 401


def _part(value: object) -> str:
    return encode(json.dumps(value).encode())


def _by_hand(header: dict[str, Any], claims: dict[str, Any], secret: bytes = b"") -> str:
    """Write a token as an attacker would, signed with what is no secret or not at all."""
    body = f"{_part(header)}.{_part(claims)}"
    digests = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
    name = digests.get(header["alg"])
    return f"{body}.{encode(hmac.digest(secret, body.encode(), name)) if name else ''}"


def _attacks(issuer: DevelopmentIssuer, claims: dict[str, Any]) -> dict[str, str]:
    genuine = _sign(issuer, claims)
    head, payload, signature = genuine.split(".")
    other = _part({**claims, "sub": "somebody else"})
    own = {"kid": issuer._key.kid, "typ": "at+jwt"}
    stranger, curve = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
    theirs = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(stranger.public_key()))
    public = issuer._key.private.public_key().public_bytes_raw()
    published = json.dumps(issuer.keys().keys[0]._jwk_data).encode()
    flipped = base64.urlsafe_b64encode(bytes(64)).rstrip(b"=").decode()
    attacks = {
        "nonsense": "nonsense",
        "three parts of nonsense": "a.b.c",
        "no signature": f"{head}.{payload}.",
        "two parts": f"{head}.{payload}",
        "five parts": f"{head}.{payload}.{signature}.{signature}.{signature}",
        "signature reversed": f"{head}.{payload}.{signature[::-1]}",
        "signature of zeros": f"{head}.{payload}.{flipped}",
        "payload exchanged": f"{head}.{other}.{signature}",
        "signed by a stranger": jwt.encode(claims, stranger, "EdDSA", headers=own),
        "a curve of a stranger": jwt.encode(claims, curve, "ES256", headers=own),
        "a header nested without end": f"{encode(b'[' * 5000)}.{payload}.{signature}",
        "a header that is a list": f"{_part([])}.{payload}.{signature}",
        "a long token": f"{head}.{'A' * MAX_TOKEN_LENGTH}.{signature}",
        "an algorithm that is a list": _by_hand({**own, "alg": "none"}, claims).replace(
            _part({**own, "alg": "none"}), _part({**own, "alg": ["EdDSA"]})
        ),
    }
    for alg in ("none", "None", "NONE", "nOnE"):
        attacks[f"alg {alg}"] = _by_hand({**own, "alg": alg}, claims)
    for alg in ("HS256", "HS384", "HS512"):
        attacks[f"{alg} with the public key"] = _by_hand({**own, "alg": alg}, claims, public)
    attacks["HS256 with the published key"] = _by_hand({**own, "alg": "HS256"}, claims, published)
    for kid in ("unknown", "../../dev/null", "' or '1'='1", "", "http://attacker.example/key"):
        attacks[f"kid {kid}"] = _sign(issuer, claims, kid=kid)
    for typ in ("JWT", "jwt", "id_token+jwt", "at+jwt+x"):
        attacks[f"typ {typ}"] = _sign(issuer, claims, typ=typ)
    for name, value in {
        "jwk": theirs,
        "jku": "http://127.0.0.1:9/keys",
        "x5u": "http://127.0.0.1:9/cert",
        "x5c": ["MIIB"],
        "crit": ["exp"],
    }.items():
        attacks[f"own key by {name}"] = jwt.encode(
            claims, stranger, "EdDSA", headers={**own, "kid": "theirs", name: value}
        )
    attacks["what is critical and unknown"] = _sign(issuer, claims, crit=["unheard-of"])
    attacks["no typ"] = _sign(issuer, claims, typ=None)
    attacks["no alg"] = f"{_part(own)}.{payload}.{signature}"
    attacks["a payload not encoded (RFC 7797)"] = _signed_by_hand(
        issuer, {**own, "alg": "EdDSA", "b64": False, "crit": ["b64"]}, json.dumps(claims).encode()
    )
    attacks["b64 critical, and encoded all the same"] = _signed_by_hand(
        issuer, {**own, "alg": "EdDSA", "b64": False, "crit": ["b64"]}, payload.encode()
    )
    attacks["a payload that is a list"] = _signed_by_hand(
        issuer, {**own, "alg": "EdDSA"}, _part([claims]).encode()
    )
    doubled = json.dumps(claims)[:-1] + f', "exp": {int(time.time()) - 3600}}}'
    attacks["exp twice, the last one past"] = _signed_by_hand(
        issuer, {**own, "alg": "EdDSA"}, encode(doubled.encode()).encode()
    )
    for name, head in {
        "alg twice, the last one none": f'"alg": "EdDSA", {json.dumps(own)[1:-1]}, "alg": "none"',
        "alg twice, the first one none": f'"alg": "none", {json.dumps(own)[1:-1]}, "alg": "EdDSA"',
    }.items():
        doubled_head = encode(f"{{{head}}}".encode())
        attacks[name] = f"{doubled_head}.{payload}."
    return attacks


def _signed_by_hand(issuer: DevelopmentIssuer, header: dict[str, Any], payload: bytes) -> str:
    """Sign as the issuer what no library would."""
    signed = _part(header).encode() + b"." + payload
    return f"{signed.decode()}.{encode(issuer._key.private.sign(signed))}"


async def test_forged_tokens_are_refused(ask: Callable[[str], Any], config: Settings) -> None:
    attacks = _attacks(DevelopmentIssuer(config), _claims(config))
    answers = {name: (await ask(token)).status_code for name, token in attacks.items()}
    assert answers == dict.fromkeys(attacks, 401)
    assert len(attacks) >= 25


@pytest.mark.parametrize("name", ["jku", "x5u"])
async def test_no_address_in_a_token_is_ever_asked_for_keys(
    ask: Callable[[str], Any], config: Settings, name: str
) -> None:
    """A genuine signature is accepted, and what the header would have us fetch is left alone."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/keys"
        token = _sign(DevelopmentIssuer(config), _claims(config), **{name: address})
        stranger = jwt.encode(
            _claims(config),
            Ed25519PrivateKey.generate(),
            "EdDSA",
            headers={"kid": "theirs", "typ": "at+jwt", name: address},
        )
        assert (await ask(token)).status_code == 200
        assert (await ask(stranger)).status_code == 401
        with pytest.raises(TimeoutError):
            trap.accept()


async def test_the_algorithms_are_the_configured_ones_whatever_the_issuer_publishes(
    config: Settings,
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    published = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": "r"}
    keys = jwt.PyJWKSet.from_dict({"keys": [{**published, "alg": "RS256"}]})
    headers = {"kid": "r", "typ": "at+jwt"}
    for accepted, alg, expected in (
        (["RS256"], "RS256", 200),
        (["EdDSA", "ES256"], "RS256", 401),
        (["RS256", "PS256"], "PS256", 401),
    ):
        chosen = config.model_copy(update={"oidc_algorithms": accepted})
        token = jwt.encode(_claims(config), key, alg, headers=headers)
        assert await _verified(chosen, keys, token) == expected


async def test_a_short_rsa_key_of_the_issuer_is_accepted_only_where_that_was_set(
    config: Settings,
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    published = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": "r"}
    keys = jwt.PyJWKSet.from_dict({"keys": [{**published, "alg": "RS256"}]})
    token = jwt.encode(_claims(config), key, "RS256", headers={"kid": "r", "typ": "at+jwt"})
    assert await _verified(config, keys, token) == 401
    lowered = config.model_copy(update={"oidc_rsa_bits": 2048})
    assert await _verified(lowered, keys, token) == 200


async def _verified(config: Settings, keys: jwt.PyJWKSet, token: str) -> int:
    try:
        await TokenVerifier(config, keys).verify(token)
    except Unauthenticated as refusal:
        return refusal.status
    return 200


async def test_a_remembered_token_still_expires(
    ask: Callable[[str], Any], app: FastAPI, config: Settings
) -> None:
    verifier = app.state.verifier
    token = _sign(DevelopmentIssuer(config), _claims(config))
    await verifier.verify(token)
    fingerprint = hashlib.sha256(token.encode()).digest()
    _, checked_at, said = verifier._seen[fingerprint]
    verifier._seen[fingerprint] = (time.time() - 1, checked_at, said)
    assert (await ask(token)).status_code == 200
    assert verifier._seen[fingerprint][0] > time.time()


async def test_a_token_for_fewer_actions_does_fewer(client: Callable[..., Client]) -> None:
    narrow = client(Role.DISTRICT_OFFICER, scope="areas:read")
    path = f"/v1/areas/{DISTRICT}/settings/independent_min_staff"
    body = {"value": 1, "effective_on": "2026-01-01", "provenance": "assumed"}
    await narrow.ok("GET", "/v1/areas")
    await narrow.refused("PUT", path, json=body, status=403, code="forbidden")


async def test_a_token_without_scope_is_limited_by_its_grant_alone(
    client: Callable[..., Client],
) -> None:
    await client(Role.DISTRICT_OFFICER).ok("GET", "/v1/areas")
    for scope in ("", "openid profile"):
        stranger = client(Role.DISTRICT_OFFICER, scope=scope)
        await stranger.refused("GET", "/v1/areas", status=403, code="forbidden")


@pytest.mark.parametrize(
    ("age", "acr"),
    [
        (None, None),
        (0, None),
        (None, "urn:jixie:acr:two-factor"),
        (STEP_UP_SECONDS + 60, "urn:jixie:acr:two-factor"),
        (-3600, "urn:jixie:acr:two-factor"),
        (0, "urn:jixie:acr:password"),
        (0, "urn:jixie:acr:two-factor urn:jixie:acr:password"),
        (0, ["urn:jixie:acr:two-factor"]),
        ("now", "urn:jixie:acr:two-factor"),
        (True, "urn:jixie:acr:two-factor"),
    ],
)
async def test_approving_asks_for_a_fresh_and_strong_sign_in(
    client: Callable[..., Client], age: Any, acr: Any
) -> None:
    is_age = isinstance(age, int) and age is not True
    claims = {"auth_time": int(time.time()) - age if is_age else age, "acr": acr}
    approver = client(Role.FINANCE_APPROVER, step_up=False, **claims)
    path = "/v1/payout-runs/018f0000-0000-7000-8000-000000000000/approve"
    answer = await approver.post(path, headers={"If-Match": '"1"'})
    assert answer.status_code == 401
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith(f'Bearer error="{_STEP_UP}"')
    assert 'acr_values="urn:jixie:acr:two-factor", max_age="300"' in challenge
    document = answer.json()
    assert document["code"] == _STEP_UP
    assert document["acr_values"] == ["urn:jixie:acr:two-factor"]
    assert document["max_age"] == STEP_UP_SECONDS


async def test_a_fresh_sign_in_is_asked_only_of_those_who_may(
    client: Callable[..., Client],
) -> None:
    path = "/v1/payout-runs/018f0000-0000-7000-8000-000000000000/approve"
    options: dict[str, Any] = {"headers": {"If-Match": '"1"'}}
    clerk = client(Role.FINANCE_CLERK, step_up=False)
    await clerk.refused("POST", path, status=403, code="forbidden", **options)
    approver = client(Role.FINANCE_APPROVER)
    await approver.refused("POST", path, status=404, code="not_found", **options)
    await client(Role.FINANCE_APPROVER, step_up=False).ok("GET", "/v1/payout-runs")


def test_every_route_that_approves_reveals_exports_or_grants_asks_for_a_fresh_sign_in() -> None:
    routes = all_routes(create_app(Settings(log_level="error")).router.routes)
    calls: list[Any] = [
        child.call
        for route in routes
        if isinstance(route, APIRoute)
        for child in route.dependant.dependencies
    ]
    asked = {(call.right, call.step_up) for call in calls if hasattr(call, "step_up")}
    stepped = {right for right, step_up in asked if step_up}
    assert stepped == {
        Right.APPROVE_PAYOUTS,
        Right.REVEAL_MEMBERS,
        Right.EXPORT_MEMBERS,
        Right.ERASE_MEMBERS,
        Right.WRITE_GRANTS,
        Right.CONFIRM_DRAWS,
        Right.CONFIRM_STOCK,
        Right.CLOSE_MONTHS,
        Right.DISBURSE_PAYOUTS,
        Right.READ_PAYOUTS,
        Right.READ_OPERATIONS,
    }
    # These need one only for whole files with account numbers, names or rows as they were sent.
    stepped -= {Right.DISBURSE_PAYOUTS, Right.READ_PAYOUTS, Right.READ_OPERATIONS}
    assert not {right for right, step_up in asked if not step_up} & stepped


_FILES = {
    "get_rejected_rows": "rows as they were sent",
    "get_payout_run_cash_list": "names and amounts",
    "get_bank_file_content": "account numbers",
    "get_station_settlement_sheet": None,
    "get_month_file": None,
    "get_check_in_code": None,
    "get_my_voucher": None,
}
"""What each file holds of others; None if nothing, or nothing but what is the caller's own."""


def test_whole_files_with_personal_data_of_others_ask_for_a_fresh_sign_in() -> None:
    found = {}
    for route in all_routes(create_app(Settings(log_level="error")).router.routes):
        if not isinstance(route, APIRoute) or not route.path.startswith("/v1/"):
            continue
        kinds = route.responses.get(200, {}).get("content", {})
        if any("json" not in kind for kind in kinds):
            calls = [child.call for child in route.dependant.dependencies]
            found[route.name] = any(getattr(call, "step_up", False) for call in calls)
    assert found == {name: held is not None for name, held in _FILES.items()}


@pytest.mark.parametrize(
    ("role", "path"),
    [
        (Role.FINANCE_CLERK, "/v1/payout-runs/{}/cash-list"),
        (Role.AUDITOR, "/v1/payout-runs/{}/cash-list"),
        (Role.DISTRICT_OFFICER, "/v1/operations/{}/rejected-rows"),
    ],
)
async def test_a_file_with_names_or_rows_needs_a_fresh_sign_in(
    client: Callable[..., Client], role: Role, path: str
) -> None:
    where = path.format("018f0000-0000-7000-8000-000000000000")
    await client(role, step_up=False).refused("GET", where, status=401, code=_STEP_UP)
    assert (await client(role).get(where)).status_code == 404


_PRODUCTION: dict[str, Any] = {
    "mode": "production",
    "database_url": "postgresql://nowhere/none",
    "oidc_jwks_url": "https://issuer.example/jwks",
    "secret_key": "00" * 32,
    "master_keys": "1:" + "01" * 32,
    "index_keys": "1:" + "02" * 32,
    "audit_heads": "/var/lib/jixie/audit-heads.jsonl",
}


_MADE_UP: dict[str, Any] = {"development_issuer": True}
_ELSEWHERE = (
    "postgresql://jixie@db.example/none",
    "postgresql+asyncpg://jixie@10.0.0.5:5432/none",
    "postgresql://127.0.0.1,db.example/none",
    "postgresql://127.0.0.1:5432,10.0.0.5:5432/none",
    "postgresql:///none?host=db.example",
    "postgresql://localhost/none?host=db.example",
    "postgresql://[2001:db8::1]:5432/none",
    "postgresql://jixie@localhost.example/none",
    "postgresql:///none?service=prod",
    "postgresql://localhost/none?servicefile=/tmp/services",
)
_HERE = (
    "postgresql://jixie:a@b@localhost/none",
    "postgresql://127.0.0.1:5432/none",
    "postgresql://[::1]:5432/none",
    "postgresql://postgres@/none?host=/tmp/socket&port=5432",
    "postgresql://postgres@%2Ftmp%2Fsocket/none",
    "postgresql://postgres@/none",
)


@pytest.mark.parametrize("url", _HERE)
def test_made_up_data_on_this_machine_has_a_development_issuer(url: str, tmp_path: Path) -> None:
    facts: dict[str, Any] = _MADE_UP | {"database_url": url, "data_dir": tmp_path}
    assert DevelopmentIssuer(Settings(**facts)).token("li")


def test_an_address_without_a_host_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("PGHOST", "db.example"), ("PGSERVICE", "prod")):
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            with pytest.raises(Refused):
                DevelopmentIssuer(
                    Settings(**_MADE_UP | {"database_url": "postgresql://jixie@/none"})
                )


@pytest.mark.parametrize(
    "facts",
    [
        _PRODUCTION,
        {"database_url": "postgresql://nowhere/none"},
        {"oidc_jwks_url": "https://issuer.example/jwks"},
        *(_MADE_UP | {"database_url": url} for url in _ELSEWHERE),
        _MADE_UP | {"database_url": "postgresql://localhost/none", "owner_url": _ELSEWHERE[0]},
    ],
)
def test_there_is_no_development_issuer_where_data_may_be_real(facts: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        DevelopmentIssuer(Settings(**facts))


@pytest.mark.parametrize(
    "address",
    ["http://issuer.example/jwks", "ftp://issuer.example/jwks", "https://me@issuer.example/jwks"],
)
def test_production_trusts_keys_over_tls_alone(address: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Settings(**_PRODUCTION | {"oidc_jwks_url": address})


def test_production_says_where_the_heads_of_the_audit_are_published() -> None:
    facts = {name: value for name, value in _PRODUCTION.items() if name != "audit_heads"}
    with pytest.raises(ValueError, match="production needs JIXIE_AUDIT_HEADS"):
        Settings(**facts)


def test_production_cannot_be_told_to_trust_its_own_issuer() -> None:
    with pytest.raises(ValueError, match="no development issuer"):
        Settings(**_PRODUCTION, development_issuer=True)


async def test_the_service_does_not_start_without_an_issuer_to_trust(database_url: str) -> None:
    config = Settings(database_url=database_url, log_level="error")  # type: ignore[arg-type]  # as from a variable
    app = create_app(config)
    with pytest.raises(Refused):
        async with app.router.lifespan_context(app):
            pass


def test_production_refuses_to_start_without_its_secrets() -> None:
    with pytest.raises(ValueError, match="JIXIE_SECRET_KEY, JIXIE_MASTER_KEYS, JIXIE_INDEX_KEYS"):
        Settings(mode="production")
