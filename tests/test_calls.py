"""Calls to other services: to the address that was set and nowhere else, within bounds."""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from app import clock
from app.calls import CallFailed, Peer
from app.sms import Provider

_ANSWER = json.dumps({"id": "1", "status": "delivered", "keys": []}).encode()


class Neighbour:
    """A service on loopback that behaves as its path says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        neighbour = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                neighbour.asked.append(self.path)
                neighbour.answer(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def address(self) -> str:
        """Where it listens, without a scheme."""
        return f"127.0.0.1:{self.server.server_address[1]}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        moved = handler.path == "/moved"
        handler.send_response(302 if moved else 200)
        if moved:
            handler.send_header("Location", f"http://{self.address}/inner")
        handler.end_headers()
        if handler.path == "/vast":
            handler.wfile.write(b" " * 2_000_000)
        for piece in _ANSWER if handler.path == "/drip" else ():
            time.sleep(0.02)
            handler.wfile.write(bytes((piece,)))
        handler.wfile.write(b"[" * 100_000 if handler.path == "/deep" else _ANSWER)

    def start(self) -> None:
        """Serve beside the test."""
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    """A neighbour that serves."""
    neighbour = Neighbour()
    neighbour.start()
    yield neighbour
    neighbour.server.shutdown()
    neighbour.server.server_close()


async def _why(address: str, path: str = "", seconds: float = 5) -> str:
    async with Peer(address, seconds=seconds, name="sms") as peer:
        with pytest.raises(CallFailed) as failure:
            await peer.get(path)
    return failure.value.why


async def test_a_redirect_is_a_refusal_and_is_not_followed(neighbour: Neighbour) -> None:
    assert await _why(f"http://{neighbour.address}", "/moved") == "status"
    assert neighbour.asked == ["/moved"]


async def test_an_answer_is_read_up_to_a_bound(neighbour: Neighbour) -> None:
    assert await _why(f"http://{neighbour.address}", "/vast") == "too_large"
    assert await _why(f"http://{neighbour.address}", "/deep") == "unreadable"


async def test_an_answer_that_drips_has_no_more_time_than_a_silent_one(
    neighbour: Neighbour,
) -> None:
    begun = asyncio.get_running_loop().time()
    assert await _why(f"http://{neighbour.address}", "/drip", seconds=0.2) == "timeout"
    assert asyncio.get_running_loop().time() - begun < 1


async def test_what_a_provider_names_stays_within_its_path(neighbour: Neighbour) -> None:
    async with Peer(f"http://{neighbour.address}/sms", name="sms") as peer:
        await Provider(peer).receipt("../../admin?x=1#y")
    assert neighbour.asked == ["/sms/messages/..%2F..%2Fadmin%3Fx%3D1%23y"]


def _self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = clock.now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, SHA256())
    )
    pem = folder / "own.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def test_a_certificate_that_nobody_vouches_for_ends_the_call(tmp_path: Path) -> None:
    neighbour = Neighbour()
    context = _self_signed(tmp_path)
    neighbour.server.socket = context.wrap_socket(
        neighbour.server.socket, server_side=True, do_handshake_on_connect=False
    )
    neighbour.start()
    assert await _why(f"https://{neighbour.address}", "/keys") == "tls"
    assert neighbour.asked == []
    neighbour.server.shutdown()
    neighbour.server.server_close()


async def test_tls_is_spoken_in_its_present_versions_alone() -> None:
    async with Peer("https://nobody.example", name="sms") as peer:
        pool = peer._client._transport._pool  # type: ignore[attr-defined]  # what it connects with
        context: ssl.SSLContext = pool._ssl_context
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
