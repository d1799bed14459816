"""Capture over real sockets: every provider's shape, the magic addresses, the inbox API, callbacks."""

import asyncio
import base64
import smtplib
import socket
from email.message import EmailMessage

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from rondo_common.lifecycle import Life
from rondo_common.settings import Settings
from services.capture.main import start
from tests.support.slowness import ANSWER_S


def _port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Running:
    """Capture in this event loop, and a door that keeps the callbacks it gets."""

    def __init__(self, settings: Settings, calls: list):
        self.s = settings
        self.calls = calls
        self.inbox = httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.http_port}", timeout=10)

    async def mail(self, to: str, **headers: str):
        m = EmailMessage()
        m["From"], m["To"], m["Subject"] = "shop@example.com", to, "Hi Ann"
        for name, value in headers.items():
            m[name.replace("_", "-")] = value
        m.set_content("plain text")
        m.add_alternative(
            '<a href="http://127.0.0.1:9/l/abc">go</a><img src="http://127.0.0.1:9/o/x.gif">', subtype="html"
        )

        def send():
            with smtplib.SMTP("127.0.0.1", self.s.capture_smtp_port, timeout=5) as smtp:
                smtp.send_message(m)

        await asyncio.to_thread(send)

    async def until(self, path: str, count: int = 1) -> list:
        for _ in range(200):
            found = [c for c in self.calls if c[0].startswith(path)]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"no {path} among {self.calls}")


@pytest.fixture
async def capture(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    private = base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode()
    calls: list = []

    async def door(request: Request):
        calls.append((str(request.url.path), await request.body(), dict(request.headers)))
        return JSONResponse({})

    door_port = _port()
    settings = Settings(
        service="capture",
        kafka="",
        data_dir=str(tmp_path),
        http_port=_port(),
        capture_smtp_port=_port(),
        capture_sendgrid_port=_port(),
        capture_twilio_port=_port(),
        capture_telegram_port=_port(),
        sendgrid_private_key=private,
        twilio_token="tok",
        telegram_secret="sec",
        public_url=f"http://127.0.0.1:{door_port}",
        url_links=f"http://127.0.0.1:{door_port}",
    )
    life = Life(settings)
    methods = ["GET", "POST"]
    await life.http(Starlette(routes=[Route("/{path:path}", door, methods=methods)]), door_port)
    await start(life, settings)
    running = Running(settings, calls)
    yield running
    await running.inbox.aclose()
    life._stop.set()
    await life._end(2.0)


async def test_a_mail_lands_in_the_inbox_with_what_it_says_of_its_cause(capture):
    await capture.mail("ann@example.com", X_SMTPAPI='{"unique_args":{"t":"t1","m":"m1","r":"r1","c":"spring"}}')
    (m,) = (await capture.inbox.get("/v1/inbox/messages", params={"run_id": "r1"})).json()["data"]
    assert (m["channel"], m["provider"], m["to"], m["touch_id"], m["campaign"]) == (
        "email", "smtp", "ann@example.com", "t1", "spring",
    )  # fmt: skip
    assert m["subject"] == "Hi Ann"
    assert m["links"] == ["http://127.0.0.1:9/l/abc"]
    raw = await capture.inbox.get(f"/v1/inbox/messages/{m['id']}/raw")
    assert b"Subject: Hi Ann" in raw.content
    ((_, body, headers),) = await capture.until("/v1/callbacks/sendgrid")
    assert b'"event":"delivered"' in body
    assert b'"t":"t1"' in body
    assert headers["x-twilio-email-event-webhook-signature"]


@pytest.mark.parametrize(("tag", "code"), [("hardbounce", 550), ("softbounce", 451)])
async def test_magic_addresses_refuse_a_mail(capture, tag, code):
    with pytest.raises((smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError)) as e:
        await capture.mail(f"ann+{tag}@example.com")
    found = next(iter(e.value.recipients.values()))[0] if tag == "hardbounce" else e.value.smtp_code
    assert found == code
    assert (await capture.inbox.get("/v1/inbox/stats")).json()["total"] == 0


async def test_500_refuses_twice_then_takes_the_mail(capture):
    for _ in range(2):
        with pytest.raises(smtplib.SMTPDataError):
            await capture.mail("ann+500@example.com")
    await capture.mail("ann+500@example.com")
    assert (await capture.inbox.get("/v1/inbox/stats")).json()["total"] == 1


@pytest.mark.parametrize(("tag", "taken"), [("reset", 0), ("500accepted", 1)])
async def test_a_cut_line_says_nothing_about_acceptance(capture, tag, taken):
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        await capture.mail(f"ann+{tag}@example.com")
    assert (await capture.inbox.get("/v1/inbox/stats")).json()["total"] == taken


async def test_twilio_shape_errors_callbacks_and_stop(capture):
    base = f"http://127.0.0.1:{capture.s.capture_twilio_port}/2010-04-01/Accounts/ACcapture/Messages.json"
    auth = ("ACcapture", "tok")
    callback = capture.s.public_url + "/v1/callbacks/twilio/status?t=t9&m=m9"
    async with httpx.AsyncClient(timeout=ANSWER_S) as c:
        assert (await c.post(base, data={"To": "+1", "Body": "x"})).status_code == 401
        bad = await c.post(base, auth=auth, data={"To": "+15005550001", "From": "+15005550006", "Body": "x"})
        assert (bad.status_code, bad.json()["code"]) == (400, 21211)
        form = {"To": "+15005551001", "From": "+15005550006", "Body": "hi €", "StatusCallback": callback}
        good = await c.post(base, auth=auth, data=form)
        assert good.status_code == 201
        assert good.json()["num_segments"] == "1"
        listed = await c.get(base, auth=auth, params={"To": "+15005551001"})
        assert [m["sid"] for m in listed.json()["messages"]] == [good.json()["sid"]]
    ((_, body, headers),) = await capture.until("/v1/callbacks/twilio/status")
    assert b"MessageStatus=delivered" in body
    assert headers["x-twilio-signature"]
    ((_, body, _),) = await capture.until("/v1/callbacks/twilio/inbound")
    assert b"Body=STOP" in body


async def test_telegram_shape_blocked_429_and_reply(capture):
    base = f"http://127.0.0.1:{capture.s.capture_telegram_port}/bottok/sendMessage"
    async with httpx.AsyncClient(timeout=ANSWER_S) as c:
        blocked = await c.post(base, json={"chat_id": "403001", "text": "x"})
        assert blocked.status_code == 403
        slow = await c.post(base, json={"chat_id": "429001", "text": "x"})
        assert (slow.status_code, slow.json()["parameters"]["retry_after"]) == (429, 2)
        assert (await c.post(base, json={"chat_id": "429001", "text": "x"})).status_code == 200
        await c.post(base, json={"chat_id": "991", "text": "x"}, headers={"baggage": "t=t5,c=spring"})
    (m,) = (await capture.inbox.get("/v1/inbox/messages", params={"to": "991"})).json()["data"]
    assert (m["touch_id"], m["campaign"]) == ("t5", "spring")
    answer = await capture.inbox.post(f"/v1/inbox/messages/{m['id']}/reply", json={"text": "when?"})
    assert answer.status_code == 202
    ((_, body, headers),) = await capture.until("/v1/callbacks/telegram")
    assert b'"text": "when?"' in body
    assert headers["x-telegram-bot-api-secret-token"] == "sec"


async def test_sendgrid_shape_takes_each_personalization_and_cuts_on_reset(capture):
    base = f"http://127.0.0.1:{capture.s.capture_sendgrid_port}/v3/mail/send"
    auth = {"Authorization": "Bearer SG.x"}

    def body(*addresses: str) -> dict:
        return {
            "from": {"email": "shop@example.com"},
            "subject": "Hi",
            "content": [{"type": "text/plain", "value": "x"}],
            "personalizations": [{"to": [{"email": a}], "custom_args": {"t": f"t-{a}"}} for a in addresses],
        }

    async with httpx.AsyncClient(timeout=ANSWER_S) as c:
        assert (await c.post(base, json=body("a@example.com"))).status_code == 401
        assert (await c.post(base, json={}, headers=auth)).status_code == 400
        assert (await c.post(base, json=body("a@example.com", "b@example.com"), headers=auth)).status_code == 202
        with pytest.raises(httpx.TransportError):
            await c.post(base, json=body("a+reset@example.com"), headers=auth)
        assert (await c.post(base, json=body("a+500accepted@example.com"), headers=auth)).status_code == 500
    stats = (await capture.inbox.get("/v1/inbox/stats")).json()
    assert stats == {"total": 3, "distinct_touches": 3, "repeats": 0, "by_channel": {"email": 3}}


async def test_inbox_pages_refuses_bad_questions_and_empties(capture):
    for n in range(3):
        await capture.mail(f"m{n}@example.com")
    page = (await capture.inbox.get("/v1/inbox/messages", params={"limit": 2})).json()
    assert [m["to"] for m in page["data"]] == ["m2@example.com", "m1@example.com"]
    rest = (await capture.inbox.get("/v1/inbox/messages", params={"cursor": page["next_cursor"]})).json()
    assert [m["to"] for m in rest["data"]] == ["m0@example.com"]
    assert rest["next_cursor"] is None
    for params in ({"limit": "x"}, {"since": "2026-01-01T00:00:00"}, {"cursor": "nope"}):
        assert (await capture.inbox.get("/v1/inbox/messages", params=params)).status_code == 422
    assert (await capture.inbox.post("/v1/inbox/messages/i999/reply", json={})).status_code == 404
    assert (await capture.inbox.post("/v1/inbox/messages/i1/dance", json={})).status_code == 404
    assert (await capture.inbox.post("/v1/inbox/messages/i1/click", json={"link": 7})).status_code == 409
    assert (await capture.inbox.delete("/v1/inbox/messages")).status_code == 204
    assert (await capture.inbox.get("/v1/inbox/stats")).json()["total"] == 0
