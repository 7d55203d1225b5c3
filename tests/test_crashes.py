"""Crash points: a process that is killed at one, and started again, has paid each payout once."""

import asyncio
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app import crashes
from app.calls import CallFailed, Peer
from app.crypto import Keyring
from app.database import Database, Statements, transaction
from app.models.disbursement.payouts import payout_id
from app.scopes import Acting, Scope
from app.settings import Settings
from tests.factories.callers import DISTRICT
from tests.factories.channels.gateway import GATEWAY_KEY, Till, make_gateway_run
from tests.factories.finance.funds import agree
from tests.processes import environment, jixie

_OPEN = "select count(*) from payouts where status in ('pending', 'sending')"
_SPENT = "select spent_fen, reserved_fen from funds"
_SECONDS = 120
_PRODUCTION: dict[str, Any] = {
    "mode": "production",
    "database_url": "postgresql://u@h/d",
    "oidc_jwks_url": "https://issuer.example/keys",
    "secret_key": "ab" * 32,
    "master_keys": "1:" + "ab" * 32,
    "index_keys": "1:" + "ab" * 32,
    "audit_heads": "/var/lib/jixie/audit-heads.jsonl",
}


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The signals that this process would have sent itself."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _pid, how: sent.append(how))
    yield sent
    crashes.arm(None)


async def test_a_point_is_reached_by_its_name_and_at_its_time(
    database: Database, gateway_url: str, reached: list[int]
) -> None:
    async def pass_by() -> None:
        scope = Scope(Acting.DISTRICT, DISTRICT)
        async with transaction(database, scope, name="an_errand"):
            pass
        await Statements(database.pool, scope, name="a_statement").fetch("select 1", {})
        async with Peer(gateway_url, name="a_peer") as peer:
            with pytest.raises(CallFailed):
                await peer.get("/nowhere")

    await pass_by()
    assert not reached
    for point in (
        "an_errand.before_commit",
        "an_errand.after_commit",
        "a_statement.before_commit",
        "a_peer.before_call",
        "a_peer.after_call",
    ):
        crashes.arm(f"{point}:2")
        await pass_by()
        assert not reached, point
        await pass_by()
        assert reached == [signal.SIGKILL], point
        reached.clear()


@pytest.mark.parametrize("point", ["x", "x.before", "x.before_commit:0", "X.before_call", "a b"])
def test_what_names_no_point_is_refused(point: str) -> None:
    with pytest.raises(ValidationError, match="crash_at"):
        Settings(crash_at=point)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"crash_at": "a.before_commit"}, "JIXIE_CRASH_AT"),
        ({"gateway_url": "https://pay.example"}, "JIXIE_GATEWAY_KEY"),
        ({"gateway_url": "http://pay.example", "gateway_key": SecretStr("k")}, "https alone"),
        ({"gateway_url": "pay.example", "gateway_key": SecretStr("k")}, "must be like"),
    ],
)
def test_production_ends_by_itself_at_no_point_and_pays_under_a_key_and_over_tls(
    changes: dict[str, Any], complaint: str
) -> None:
    assert Settings(**_PRODUCTION).crash_at is None
    with pytest.raises(ValidationError, match=complaint):
        Settings(**_PRODUCTION, **changes)


@contextmanager
def _worker(folder: Path, url: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    with (
        (folder / "err").open("ab") as err,
        subprocess.Popen(  # noqa: S603  (our own words)
            jixie("worker"), env=environment(folder, url, **variables), stderr=err
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    "point",
    ["claim_gateway_payments.after_commit", "gateway.after_call:3"],
)
async def test_a_worker_killed_at_a_point_and_started_again_has_paid_each_payout_once(
    session: AsyncSession,
    owner: Database,
    keyring: Keyring,
    config: Settings,
    till: Till,
    *,
    tmp_path: Path,
    point: str,
) -> None:
    _, run = await make_gateway_run(session, keyring, members=30)
    await session.commit()
    variables = {
        "JIXIE_DATA_DIR": str(config.data_dir),
        "JIXIE_GATEWAY_URL": str(config.gateway_url),
        "JIXIE_GATEWAY_KEY": GATEWAY_KEY,
        "JIXIE_GATEWAY_TIMEOUT_SECONDS": "0.3",
    }
    with _worker(tmp_path, owner.url, JIXIE_CRASH_AT=point, **variables) as crashing:
        assert await asyncio.to_thread(crashing.wait, _SECONDS) == -signal.SIGKILL
    assert await owner.pool.fetchval(_OPEN) > 0
    with _worker(tmp_path, owner.url, **variables) as process:
        deadline = time.monotonic() + _SECONDS
        while await owner.pool.fetchval(_OPEN) and time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "err").read_text()
            await asyncio.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, _SECONDS) == 0

    effects = Counter(effect["reference"] for effect in await till.effects())
    assert effects == {str(payout_id(run.id, line)): 1 for line in range(1, 31)}
    assert tuple(await owner.pool.fetchrow(_SPENT)) == (30_000, 0)
    await agree(owner)
