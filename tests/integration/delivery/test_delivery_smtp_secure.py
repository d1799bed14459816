"""SMTP with TLS and a password, against a real server: STARTTLS, TLS from the start, AUTH PLAIN and LOGIN."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.delivery.channels.smtp import Smtp
from services.delivery.model import Message, Verdict

USER, PASSWORD = "rondo@example.com", "p:ss/w%rd é"
ENCODED = "rondo%40example.com:p%3Ass%2Fw%25rd%20%C3%A9"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of its own for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(*private))
    return folder / "cert.pem", folder / "key.pem"


class Relay:
    """What the server saw."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, bool]] = []
        self.mechanisms: list[str] = []
        self.url = ""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.mails.append((envelope.rcpt_tos[0], session.ssl is not None))
        return "250 2.0.0 OK"

    def check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.mechanisms.append(mechanism)
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False)


Open = Callable[..., Any]


@pytest.fixture
def relay(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a relay that demands TLS and a password; `implicit`: TLS from the first byte."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    @asynccontextmanager
    async def opened(
        implicit: bool = False, without: tuple[str, ...] = (), user: str = ENCODED
    ) -> AsyncIterator[Relay]:
        seen, loop = Relay(), asyncio.get_running_loop()

        def session() -> SMTP:
            return SMTP(
                seen,
                tls_context=None if implicit else context,
                require_starttls=not implicit,
                authenticator=seen.check,
                auth_required=True,
                auth_require_tls=not implicit,
                auth_exclude_mechanism=without,
                loop=loop,
            )

        server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if implicit else None)
        port = server.sockets[0].getsockname()[1]
        seen.url = f"{'smtps' if implicit else 'smtp+tls'}://{user}@127.0.0.1:{port}"
        try:
            yield seen
        finally:
            server.close()

    return opened


def smtp(url: str) -> Smtp:
    return Smtp(url, "rondo.test", "x@example.com", 3.0, 3.0)


def mail(to: str) -> Message:
    return Message(to=to, text="Hi", subject="Hi", sender="hi@example.com")


@pytest.mark.parametrize(("without", "mechanism"), [((), "PLAIN"), (("PLAIN",), "LOGIN"), (("LOGIN",), "PLAIN")])
@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "tls"])
async def test_mails_travel_sealed_and_with_a_password(
    relay: Open, implicit: bool, without: tuple[str, ...], mechanism: str
) -> None:
    async with relay(implicit, without) as seen:
        out = smtp(seen.url)
        for i in range(3):
            answer = await out.send(mail(f"a{i}@example.com"), f"t{i}")
            assert answer.verdict == Verdict.ACCEPTED, answer
        await out.close()
    assert [to for to, _ in seen.mails] == [f"a{i}@example.com" for i in range(3)]
    assert all(sealed for _, sealed in seen.mails) or implicit
    assert seen.mechanisms == [mechanism], "one log-in for all, on a kept connection"


async def test_a_wrong_password_sends_nothing(relay: Open) -> None:
    async with relay(user="rondo%40example.com:other") as seen:
        out = smtp(seen.url)
        answer = await out.send(mail("ann@example.com"), "t")
        await out.close()
    assert (answer.verdict, answer.reason) == (Verdict.NOT_SENT, "connection_failed") and seen.mails == []
    assert "535" in (answer.detail or "") and "other" not in (answer.detail or "")


async def test_without_a_way_to_log_in_nothing_is_sent(relay: Open) -> None:
    async with relay(without=("PLAIN", "LOGIN")) as seen:
        answer = await smtp(seen.url).send(mail("ann@example.com"), "t")
    assert answer.verdict == Verdict.NOT_SENT and seen.mails == []


async def test_a_certificate_nobody_vouches_for_is_refused(relay: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    for implicit in (False, True):
        async with relay(implicit) as seen:
            answer = await smtp(seen.url).send(mail("ann@example.com"), "t")
        assert (answer.verdict, answer.reason) == (Verdict.NOT_SENT, "connection_failed"), answer
        assert seen.mails == [] and seen.mechanisms == []


async def test_a_server_without_starttls_gets_no_password() -> None:
    seen, loop = Relay(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(seen, loop=loop), "127.0.0.1", 0)
    url = f"smtp+tls://{ENCODED}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    answer = await smtp(url).send(mail("ann@example.com"), "t")
    server.close()
    assert answer.verdict == Verdict.NOT_SENT and "STARTTLS" in (answer.detail or "") and seen.mechanisms == []
