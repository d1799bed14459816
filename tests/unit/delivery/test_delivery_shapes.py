"""Provider bodies are the providers' own, and their answers mean what they mean."""

import logging
from typing import Any

import httpx
import msgspec
import pytest
import requests
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from services.delivery.channels import sendgrid, telegram, twilio
from services.delivery.channels.smtp_connection import Reply, Server
from services.delivery.channels.smtp_transfer import is_permanent
from services.delivery.model import Lookup, Message, Verdict, digest

ARGS = {"touch_id": "t1", "w": "demo", "m": "m1", "t": "t1", "r": "r1", "c": "spring"}


class _Recorder(HttpClient):
    """Twilio's package over an HTTP client that keeps the request."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("twilio"), False)

    def request(self, method: str, url: str, params: Any = None, data: Any = None, **more: Any) -> Any:
        # as the package's own client sends it
        prepared = requests.Request(method, url, params=params, data=data, headers=more["headers"]).prepare()
        self.body, self.url, self.headers = str(prepared.body).encode(), prepared.url, prepared.headers
        return Response(201, '{"sid":"SM1"}')


@pytest.mark.parametrize("text", ["Hi Ann", "Salut é & ü = 100% +1\n✓", "a~b*c(d)'!"])
def test_twilio_s_form_is_the_package_s(text: str) -> None:
    recorder = _Recorder()
    client = Client("AC1", "token", http_client=recorder)
    callback = "http://p/v1/callbacks/twilio/status?w=demo&m=m1&t=t1&r=r1&c=spring"
    client.messages.create(to="+33612345678", from_="+15005550006", body=text, status_callback=callback)
    ours = twilio.form(Message(to="+33612345678", text=text, args=ARGS), "+15005550006", "http://p")
    assert ours == recorder.body
    assert recorder.url == "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json"
    made = twilio.Twilio("https://api.twilio.com", "AC1", "token", "+1", "http://p", 1, 1, 1)
    assert made._url == recorder.url
    assert recorder.headers["Content-Type"] == "application/x-www-form-urlencoded"


def test_sendgrid_s_body() -> None:
    message = Message(
        to="ann@example.com",
        text="Hi",
        html="<p>Hi</p>",
        subject="S",
        sender="Shop <hi@example.com>",
        args=ARGS,
        unsubscribe="https://l/u/x",
    )
    assert msgspec.json.decode(sendgrid.body(message, "t1", "rondo.test", "x@example.com")) == {
        "from": {"email": "hi@example.com", "name": "Shop"},
        "subject": "S",
        "personalizations": [
            {
                "to": [{"email": "ann@example.com"}],
                "headers": {
                    "Message-ID": "<t1@rondo.test>",
                    "List-Unsubscribe": "<https://l/u/x>",
                    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                },
                "custom_args": ARGS,
            }
        ],
        "content": [{"type": "text/plain", "value": "Hi"}, {"type": "text/html", "value": "<p>Hi</p>"}],
    }


def test_telegram_s_body() -> None:
    assert msgspec.json.decode(telegram.body(Message(to="991", text="<b>Hi"))) == {"chat_id": "991", "text": "<b>Hi"}


def response(status: int, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, content=msgspec.json.encode(body), headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


@pytest.mark.parametrize(
    ("status", "code", "verdict", "reason", "permanent"),
    [
        (201, None, Verdict.ACCEPTED, None, False),
        (400, 21211, Verdict.REJECTED, "invalid_number", True),
        (400, 21610, Verdict.REJECTED, "suppressed_stop", True),
        (400, 21614, Verdict.REJECTED, "not_a_mobile_number", True),
        (400, 21612, Verdict.REJECTED, "unroutable", False),
        (400, 21408, Verdict.REJECTED, "region_not_enabled", False),
        (400, 99999, Verdict.REJECTED, "provider_rejected", False),
        (429, 20429, Verdict.RETRY, "rate_limited", False),
        (401, 20003, Verdict.NOT_SENT, "provider_refused_us", False),
        (500, 20500, Verdict.UNKNOWN, "provider_error", False),
        (503, None, Verdict.UNKNOWN, "provider_error", False),
    ],
)
def test_twilio_s_answers(status: int, code: int | None, verdict: Verdict, reason: str | None, permanent: bool) -> None:
    a = twilio.answer_of(response(status, {"code": code, "sid": "SM1"}, retry_after="2"), 0.0)
    assert (a.verdict, a.reason, a.permanent) == (verdict, reason, permanent)
    assert a.after == (2000 if status == 429 else 5000 if status == 401 else None)
    assert a.provider_id == ("SM1" if status == 201 else None)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(202, Verdict.ACCEPTED), (429, Verdict.RETRY), (400, Verdict.REJECTED), (413, Verdict.REJECTED)]  # noqa: RUF005
    + [(401, Verdict.NOT_SENT), (500, Verdict.UNKNOWN), (504, Verdict.UNKNOWN)],
)
def test_sendgrid_s_answers(status: int, verdict: Verdict) -> None:
    assert sendgrid.answer_of(response(status, {"errors": [{"field": "to"}]}, x_message_id="1"), 0.0).verdict == verdict


@pytest.mark.parametrize(
    ("status", "body", "verdict", "permanent", "after"),
    [
        (200, {"ok": True, "result": {"message_id": 5}}, Verdict.ACCEPTED, False, None),
        (403, {"ok": False, "description": "Forbidden: bot was blocked by the user"}, Verdict.REJECTED, True, None),
        (400, {"ok": False, "description": "Bad Request: chat not found"}, Verdict.REJECTED, True, None),
        (400, {"ok": False, "description": "Bad Request: message text is empty"}, Verdict.REJECTED, False, None),
        (429, {"ok": False, "parameters": {"retry_after": 7}}, Verdict.RETRY, False, 7000),
        (401, {"ok": False}, Verdict.NOT_SENT, False, 5000),
        (502, None, Verdict.UNKNOWN, False, None),
        (200, ["odd"], Verdict.UNKNOWN, False, None),
    ],
)
def test_telegram_s_answers(status: int, body: Any, verdict: Verdict, permanent: bool, after: int | None) -> None:
    a = telegram.answer_of(response(status, body))
    assert (a.verdict, a.permanent, a.after) == (verdict, permanent, after)


def test_a_look_up_matches_number_text_and_time() -> None:
    r = twilio._Resource(sid="SM1", to="+1", body="Hi", date_created="Sat, 21 Nov 2026 05:00:00 +0000")
    since = 1795237200_000
    assert twilio.found_in([r], Lookup("+1", digest("Hi"), since)).provider_id == "SM1"
    for other in (
        Lookup("+2", digest("Hi"), since),
        Lookup("+1", digest("Ho"), since),
        Lookup("+1", digest("Hi"), since + 1),
    ):
        assert twilio.found_in([r], other).verdict == Verdict.NOT_SENT


@pytest.mark.parametrize(
    ("code", "text", "permanent"),
    [(550, "5.1.1 no such user", True), (550, "no such user", True), (550, "5.7.1 spam", False), (552, "full", False)]  # noqa: RUF005
    + [(553, "bad name", True), (554, "5.1.10 null MX", True), (554, "no", False), (551, "moved", True)],
)
def test_which_refusals_speak_of_the_address(code: int, text: str, permanent: bool) -> None:
    assert is_permanent(Reply(code, text)) is permanent


def test_smtp_urls() -> None:
    assert Server.of("smtp://127.0.0.1:2525") == Server("127.0.0.1", 2525, "smtp", "", "")
    assert Server.of("smtps://u%40x:p%3A@mail.example.com") == Server("mail.example.com", 465, "smtps", "u@x", "p:")
    for bad in ("http://x", "smtp://", "smtp://u:p@mail.example.com"):
        with pytest.raises(ValueError):
            Server.of(bad)
