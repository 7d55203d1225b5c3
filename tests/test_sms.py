"""The SMS provider's interface, against its sandbox over real HTTP."""

import asyncio
import dataclasses
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from app.calls import CallFailed, Peer
from app.settings import Settings
from app.sms import Delivery, Message, Provider, messenger_of, provider_of
from tests.factories.membership.logins import SMS_KEY, Inbox

_MESSAGE = Message("+8613800000001", "【计协】一条消息", "m-1")


async def test_a_message_is_delivered_and_its_receipt_says_so(
    config: Settings, inbox: Inbox
) -> None:
    async with provider_of(config) as provider:
        assert provider is not None
        message_id = await provider.send(_MESSAGE)
        assert await provider.receipt(message_id) is Delivery.DELIVERED
    assert await inbox.texts(_MESSAGE.phone) == [_MESSAGE.text]


async def test_a_receipt_tells_of_a_failed_delivery(config: Settings, inbox: Inbox) -> None:
    await inbox.behave(delivery="failed")
    async with provider_of(config) as provider:
        assert provider is not None
        assert await provider.receipt(await provider.send(_MESSAGE)) is Delivery.FAILED


async def test_a_repeat_under_the_same_reference_is_not_sent_twice(
    config: Settings, inbox: Inbox
) -> None:
    async with provider_of(config) as provider:
        assert provider is not None
        assert await provider.send(_MESSAGE) == await provider.send(_MESSAGE)
        other = dataclasses.replace(_MESSAGE, text="另一条")
        with pytest.raises(CallFailed, match="422"):
            await provider.send(other)
    assert len(await inbox.texts(_MESSAGE.phone)) == 1


@pytest.mark.parametrize(
    ("status", "may_pass"), [(500, True), (503, True), (429, True), (422, False), (403, False)]
)
async def test_a_failure_says_whether_it_may_pass(
    config: Settings, inbox: Inbox, status: int, *, may_pass: bool
) -> None:
    await inbox.behave(fail_next=1, fail_status=status)
    async with provider_of(config) as provider:
        assert provider is not None
        with pytest.raises(CallFailed) as failure:
            await provider.send(_MESSAGE)
    assert (failure.value.status, failure.value.may_pass) == (status, may_pass)
    assert _MESSAGE.phone not in str(failure.value)


async def test_a_provider_that_is_too_slow_or_away_has_not_answered(
    config: Settings, inbox: Inbox
) -> None:
    await inbox.behave(slow_ms=500)
    hasty = config.model_copy(update={"sms_timeout_seconds": 0.05})
    absent = config.model_copy(update={"sms_url": "http://127.0.0.1:9/sms"})
    for settings in (hasty, absent):
        async with provider_of(settings) as provider:
            assert provider is not None
            with pytest.raises(CallFailed) as failure:
                await provider.send(_MESSAGE)
            assert failure.value.status is None


async def test_an_unknown_key_is_refused(sandbox_url: str) -> None:
    async with Peer(f"{sandbox_url}/sms", bearer="another", name="sms") as peer:
        with pytest.raises(CallFailed, match="401"):
            await Provider(peer).send(_MESSAGE)


async def test_an_answer_without_an_id_is_a_failure(sandbox_url: str) -> None:
    async with Peer(f"{sandbox_url}/sandbox", bearer=SMS_KEY, name="sms") as peer:
        with pytest.raises(CallFailed):
            await Provider(peer).receipt("none")
        with pytest.raises(CallFailed, match="405"):
            await Provider(peer).send(_MESSAGE)


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, {}, 401, "unauthenticated"),
        ({"Authorization": f"Bearer {SMS_KEY}"}, {}, 400, "idempotency_key_required"),
        (
            {"Authorization": f"Bearer {SMS_KEY}", "Idempotency-Key": "k"},
            {"to": "13800000001"},
            422,
            "invalid",
        ),
    ],
)
async def test_the_sandbox_refuses_by_problems(
    sandbox_url: str, headers: dict[str, str], body: dict[str, str], status: int, code: str
) -> None:
    whole = {"to": "+8613800000001", "text": "t", "reference": "r"} | body
    async with httpx.AsyncClient(base_url=sandbox_url) as client:
        answer = await client.post("/sms/messages", json=whole, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_message_shows_neither_phone_nor_text_when_printed() -> None:
    assert _MESSAGE.phone not in repr(_MESSAGE)
    assert _MESSAGE.text not in repr(_MESSAGE)


async def test_a_messenger_outlives_a_message_that_cannot_be_sent(
    config: Settings, inbox: Inbox
) -> None:
    await inbox.behave(fail_next=1, fail_status=422)
    async with messenger_of(config) as messenger:
        messenger.submit(_MESSAGE)
        await messenger.idle()
        messenger.submit(None)
        messenger.submit(dataclasses.replace(_MESSAGE, reference="m-2"))
        await messenger.idle()
    assert len(await inbox.texts(_MESSAGE.phone)) == 1


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def _jixie(*words: str, **variables: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app",
        *words,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_shell_serves_the_sandbox_until_told_to_stop(tmp_path: Path) -> None:
    port = _free_port()
    process = await _jixie("sandbox", "--port", str(port), JIXIE_DATA_DIR=str(tmp_path))
    config = Settings(data_dir=tmp_path, sms_url=f"http://127.0.0.1:{port}/sms/")
    async with provider_of(config) as provider:
        assert provider is not None
        for _ in range(200):
            try:
                assert await provider.receipt(await provider.send(_MESSAGE)) is Delivery.DELIVERED
                break
            except CallFailed:
                await asyncio.sleep(0.1)
        else:
            pytest.fail("it does not serve")
    process.send_signal(signal.SIGINT)
    said, complained = await process.communicate()
    assert f"JIXIE_SMS_URL=http://127.0.0.1:{port}/sms" in said.decode()
    assert process.returncode == 0
    assert b"Traceback" not in complained
    assert _MESSAGE.phone.encode() not in complained


_PRODUCTION: dict[str, Any] = {
    "mode": "production",
    "database_url": "postgresql://u@h/d",
    "oidc_jwks_url": "https://issuer.example/keys",
    "secret_key": "ab" * 32,
    "master_keys": "1:" + "ab" * 32,
    "index_keys": "1:" + "ab" * 32,
    "audit_heads": "/var/lib/jixie/audit-heads.jsonl",
}


async def test_production_has_no_sandbox(tmp_path: Path) -> None:
    variables = {f"JIXIE_{name.upper()}": value for name, value in _PRODUCTION.items()}
    process = await _jixie("sandbox", **variables, JIXIE_DATA_DIR=str(tmp_path))
    _, complained = await process.communicate()
    assert process.returncode == 1
    assert b"production" in complained


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sms_url": "https://sms.example"}, "JIXIE_SMS_KEY"),
        ({"sms_url": "http://sms.example", "sms_key": SecretStr("k")}, "https alone"),
        ({"sms_url": "sms.example", "sms_key": SecretStr("k")}, "must be like"),
    ],
)
def test_production_sends_codes_under_a_key_and_over_tls(
    changes: dict[str, Any], complaint: str
) -> None:
    assert Settings(**_PRODUCTION).sms_url is None
    with pytest.raises(ValidationError, match=complaint):
        Settings(**_PRODUCTION, **changes)
