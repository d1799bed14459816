"""Provider callbacks: what they become, and that nothing enters without its signature."""

import json
import random
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest

from rondo_common import ids, topics
from tests.support.ingestion_app import TELEGRAM_SECRET, memory_door

TOUCH = "6a1f9d3e-0000-5000-8000-000000000001"
MEMBER = "5f000000-0000-0000-0000-000000000001"
ARGS = {"w": "demo", "m": MEMBER, "t": TOUCH, "r": "r1", "c": "spring", "touch_id": TOUCH}
QUERY = f"?w=demo&m={MEMBER}&t={TOUCH}&r=r1&c=spring"
STATUS = "/v1/callbacks/twilio/status" + QUERY
INBOUND = "/v1/callbacks/twilio/inbound"


@pytest.fixture
async def door(tmp_path):
    return memory_door(tmp_path)


def address(door, kind, value):
    return ids.identifier_id(ids.workspace_secret(door.settings.secret, "demo"), kind, value)


async def post_sendgrid(door, events, path="sendgrid", **headers):
    body = json.dumps(events).encode()
    async with door.client as http:
        return await http.post(
            f"/v1/callbacks/{path}", content=body, headers={**door.provider.sendgrid(body), **headers}
        )


def sg(event, **more):
    return {
        "email": "Ann@Example.com",
        "timestamp": 1_795_000_100,
        "event": event,
        "sg_event_id": f"ev-{event}-{len(more)}",
        "sg_message_id": "mid.1",
        **ARGS,
        **more,
    }


@pytest.mark.parametrize(
    "event,status,reason,permanent",
    [
        (sg("delivered"), "delivered", None, False),
        (sg("bounce", type="bounce", reason="550 no such user"), "bounced", "hard_bounce", True),
        (sg("bounce", type="blocked"), "bounced", "blocked", False),
        (sg("dropped", reason="Bounced Address"), "bounced", "hard_bounce", True),
        (sg("dropped", reason="Unsubscribed Address"), "bounced", "unsubscribed", False),
        (sg("deferred", response="451 later"), "deferred", "soft_bounce", False),
        (sg("spamreport"), "complained", "complaint", True),
    ],
)
async def test_sendgrid_deliveries(door, event, status, reason, permanent):
    assert (await post_sendgrid(door, [event])).status_code == 204
    (record,) = door.sink.of(topics.DELIVERIES)
    assert (record["status"], record.get("reason"), record.get("permanent", False)) == (status, reason, permanent)
    assert record["touch_id"] == TOUCH
    assert record["at"] == "2026-11-18T11:08:20Z"
    assert record["address_id"] == address(door, "email", "ann@example.com")
    (message,) = door.sink.messages
    assert message.key == f"demo:{MEMBER}".encode()


async def test_sendgrid_engagement_and_what_is_not_kept(door):
    events = [
        sg("open", sg_machine_open=True),
        sg("open", sg_machine_open=False, x=1),
        sg("click", url="https://example.com/a"),
        sg("unsubscribe"),
        sg("group_unsubscribe", asm_group_id=3),
        sg("processed"),
        {"event": "delivered", "email": "x@y.z", "sg_event_id": "strange"},
        {"event": ["open"]},
        "x",
        None,
    ]
    assert (await post_sendgrid(door, events)).status_code == 204
    got = [(e["kind"], e.get("actor", "human"), e.get("link")) for e in door.sink.of(topics.ENGAGEMENT)]
    assert got == [
        ("opened", "machine", None),
        ("opened", "human", None),
        ("clicked", "human", "https://example.com/a"),
        ("unsubscribed", "human", None),
        ("unsubscribed", "human", None),
    ]
    assert door.sink.of(topics.DELIVERIES) == []


async def test_a_repeat_has_the_same_ids(door):
    for _ in range(2):
        await post_sendgrid(door, [sg("delivered"), sg("open")])
    records = door.sink.of(topics.DELIVERIES) + door.sink.of(topics.ENGAGEMENT)
    assert len(records) == 4
    assert len({r["id"] for r in records}) == 2


async def test_sendgrid_signature_covers_timestamp_and_body(door):
    body = b"[]"
    good = door.provider.sendgrid(body)
    stamp = "X-Twilio-Email-Event-Webhook-Timestamp"
    async with door.client as http:

        async def status(body, headers):
            return (await http.post("/v1/callbacks/sendgrid", content=body, headers=headers)).status_code

        assert await status(body, good) == 204
        assert await status(b"1[]", {**good, stamp: "179500000"}) == 403
        assert await status(b"0[]", {**good, stamp: "179500000"}) == 403  # the same signed bytes, cut elsewhere
        assert await status(body, {}) == 403
        assert await status(b"", {**good, stamp: "1795000000[]"}) == 403
        assert await status(b"{}", door.provider.sendgrid(b"{}")) == 403
        assert await status(b"[x", door.provider.sendgrid(b"[x")) == 400
        assert await status(b"[" * 5000, door.provider.sendgrid(b"[" * 5000)) == 400


def flips(data: bytes, count: int, seed: int):
    """`count` copies of `data`, each with one bit turned, all different."""
    places = random.Random(seed).sample(range(len(data) * 8), min(count, len(data) * 8))
    for place in places:
        mutant = bytearray(data)
        mutant[place // 8] ^= 1 << (place % 8)
        yield bytes(mutant)


def visible(data: bytes) -> str | None:
    """As a header value, when it can be one."""
    text = data.decode("latin-1")
    return text if text.isprintable() and text == text.strip() and text.isascii() else None


async def test_no_mutant_of_a_sendgrid_post_enters(door):
    body = json.dumps([sg("bounce", type="bounce")]).encode()
    good = door.provider.sendgrid(body)
    signature, stamp = list(good)
    tried = 0
    async with door.client as http:
        for path in ("sendgrid", "sendgrid-inbound"):
            for mutant in flips(body, 400, 1):
                answer = await http.post(f"/v1/callbacks/{path}", content=mutant, headers=good)
                assert answer.status_code == 403
                tried += 1
            for name in (signature, stamp):
                for mutant in flips(good[name].encode(), 400, 2):
                    if (text := visible(mutant)) is not None:
                        headers = {**good, name: text}
                        answer = await http.post(f"/v1/callbacks/{path}", content=body, headers=headers)
                        assert answer.status_code == 403, text
                        tried += 1
    assert tried > 1000
    assert door.sink.messages == []


TWILIO_FORM = {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": "30005", "To": "+33612345678"}


async def post_twilio(door, path, form, **headers):
    async with door.client as http:
        body = urlencode(form).encode()
        return await http.post(path, content=body, headers={**door.provider.twilio(path, form), **headers})


@pytest.mark.parametrize(
    "status,code,want",
    [
        ("delivered", None, ("delivered", None, False)),
        ("undelivered", "30005", ("bounced", "unknown_number", True)),
        ("failed", "21610", ("bounced", "opted_out", False)),
        ("undelivered", "30008", ("bounced", "undelivered", False)),
        ("sent", None, None),
        ("queued", None, None),
    ],
)
async def test_twilio_status(door, status, code, want):
    form = {"MessageSid": "SM1", "MessageStatus": status, "To": "+33612345678"}
    if code:
        form["ErrorCode"] = code
    assert (await post_twilio(door, STATUS, form)).status_code == 204
    records = door.sink.of(topics.DELIVERIES)
    if want is None:
        assert records == []
        return
    (record,) = records
    assert (record["status"], record.get("reason"), record.get("permanent", False)) == want
    assert (record["touch_id"], record["run_id"], record["campaign"]) == (TOUCH, "r1", "spring")
    assert record["provider_id"] == "SM1"
    assert record["address_id"] == address(door, "phone", "+33612345678")


async def test_twilio_stop_sets_the_mark_and_start_takes_it_away(door):
    form = {"MessageSid": "SM9", "From": "+33612345678", "To": "+15005550006", "Body": "Stop"}
    answer = await post_twilio(door, INBOUND, form)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/xml")
    mark = ("sms", address(door, "phone", "+33612345678"))
    assert door.marks.held == {mark}
    (record,) = door.sink.of(topics.INBOUND)
    assert (record["keyword"], record["text"], record["channel"]) == ("stop", "Stop", "sms")
    assert door.sink.messages[0].key == f"demo:{mark[1]}".encode()
    await post_twilio(door, INBOUND, {**form, "MessageSid": "SM10", "Body": "when does it open?"})
    assert door.marks.held == {mark}
    await post_twilio(door, INBOUND, {**form, "MessageSid": "SM11", "Body": "START"})
    assert door.marks.held == set()
    assert [r.get("keyword") for r in door.sink.of(topics.INBOUND)] == ["stop", None, "start"]


async def test_a_number_s_webhook_may_name_its_workspace(door):
    form = {"MessageSid": "SM12", "From": "+33612345678", "To": "+15005550007", "Body": "Stop"}
    assert (await post_twilio(door, INBOUND + "?w=second", form)).status_code == 200
    (record,) = door.sink.of(topics.INBOUND)
    other = ids.identifier_id(ids.workspace_secret(door.settings.secret, "second"), "phone", "+33612345678")
    assert (record["workspace"], record["address_id"], record["keyword"]) == ("second", other, "stop")


async def test_no_mutant_of_a_twilio_post_enters(door):
    body = urlencode(TWILIO_FORM).encode()
    good = door.provider.twilio(STATUS, TWILIO_FORM)
    signature = good["X-Twilio-Signature"]
    tried = 0

    def same_form(mutant: bytes) -> bool:
        """%2B and %2b are one form: the signature covers what it says, not how it is written."""
        try:
            return parse_qsl(mutant.decode("ascii"), keep_blank_values=True) == list(TWILIO_FORM.items())
        except UnicodeDecodeError:
            return False

    async with door.client as http:

        async def status(url, content, headers):
            return (await http.post(url, content=content, headers=headers)).status_code

        for mutant in flips(body, 600, 3):
            if not same_form(mutant):
                assert await status(STATUS, mutant, good) == 403, mutant
                tried += 1
        for mutant in flips(signature.encode(), 300, 4):
            if (text := visible(mutant)) is not None:
                assert await status(STATUS, body, {**good, "X-Twilio-Signature": text}) == 403
                tried += 1
        for mutant in flips(QUERY[1:].encode(), 600, 5):
            text = visible(mutant)
            if text is not None and not set(text) & set("#%\\ \"<>`{}|^'"):
                assert await status("/v1/callbacks/twilio/status?" + text, body, good) == 403, text
                tried += 1
        assert await status(STATUS + "&x=1", body, good) == 403
        assert await status(STATUS, body, {**good, "Content-Type": "application/json"}) == 403
        assert await status(STATUS, b"", {"X-Twilio-Signature": signature}) == 403
        assert await status(STATUS, b"\xff\xfe", good) == 403
        assert await status(STATUS, b"a=%ff", good) == 403
        assert await status(STATUS, b"&".join(b"a=%d" % i for i in range(1000)), good) == 403
        # a JSON body is not covered by a signature over an empty form
        empty = door.provider.twilio(STATUS, {})
        assert await status(STATUS, b'{"a":1}', {**empty, "Content-Type": "application/json"}) == 403
        assert await status(STATUS, body, good) == 204
    assert tried > 1000
    assert len(door.sink.messages) == 1


async def post_telegram(door, update, token=TELEGRAM_SECRET):
    async with door.client as http:
        headers = {"X-Telegram-Bot-Api-Secret-Token": token}
        return await http.post("/v1/callbacks/telegram", content=json.dumps(update), headers=headers)


def telegram_text(text, update_id=1, kind="private"):
    chat = {"id": 991, "type": kind}
    return {"update_id": update_id, "message": {"message_id": 5, "date": 1_795_000_100, "chat": chat, "text": text}}


async def test_telegram(door):
    assert (await post_telegram(door, telegram_text("when does it open?"))).status_code == 200
    await post_telegram(door, telegram_text("/stop", 2))
    await post_telegram(door, telegram_text("/start", 3))
    await post_telegram(door, telegram_text("in a group", 4, "group"))
    blocked = {"chat": {"id": 991, "type": "private"}, "new_chat_member": {"status": "kicked"}, "date": 1_795_000_200}
    await post_telegram(door, {"update_id": 5, "my_chat_member": blocked})
    await post_telegram(door, {"update_id": 6, "poll": {}})
    chat = address(door, "telegram_chat_id", "991")
    got = [(r["text"], r.get("keyword"), r["address_id"]) for r in door.sink.of(topics.INBOUND)]
    assert got == [
        ("when does it open?", None, chat),
        ("/stop", "stop", chat),
        ("/start", None, chat),
        ("", "stop", chat),
    ]
    assert door.marks.held == {("messaging", chat)}


async def test_telegram_needs_its_token(door):
    for token in ("", "wrong", TELEGRAM_SECRET + "x", TELEGRAM_SECRET[:-1], TELEGRAM_SECRET.upper()):
        assert (await post_telegram(door, telegram_text("hi"), token)).status_code == 403
    for update in ([], "x", {}, {"update_id": "x"}, {"update_id": 1, "message": {"chat": 1}}):
        assert (await post_telegram(door, update)).status_code == 400
    assert door.sink.messages == []


def multipart(fields):
    request = httpx.Request("POST", "http://x/", files={k: (None, v) for k, v in fields.items()})
    return request.read(), request.headers["content-type"]


async def post_mail(door, fields):
    body, kind = multipart(fields)
    async with door.client as http:
        headers = {**door.provider.sendgrid(body), "Content-Type": kind}
        return await http.post("/v1/callbacks/sendgrid-inbound", content=body, headers=headers)


async def test_an_answer_by_mail(door):
    fields = {
        "from": "Ann <Ann@Example.com>",
        "to": "hi@example.com",
        "subject": "Re: Hi",
        "text": "stop\r\n\r\nOn Mon, 1 Dec 2026 Shop wrote:\r\n> Hi",
        "headers": f"Message-ID: <x1@example.com>\nIn-Reply-To: <{TOUCH}@rondo>\nSubject: Re: Hi",
    }
    assert (await post_mail(door, fields)).status_code == 200
    assert (await post_mail(door, fields)).status_code == 200
    first, second = door.sink.of(topics.INBOUND)
    assert first["id"] == second["id"]
    assert (first["text"], first["keyword"], first["touch_id"]) == ("stop", "stop", TOUCH)
    assert first["address_id"] == address(door, "email", "ann@example.com")
    assert door.marks.held == {("email", first["address_id"])}
    door.sink.messages.clear()
    raw = f"From: ann@example.com\r\nMessage-ID: <x2@e>\r\nReferences: <a@b> <{TOUCH}@d>\r\n\r\nwhen?\r\n"
    assert (await post_mail(door, {"email": raw})).status_code == 200
    assert (await post_mail(door, {"text": "no sender"})).status_code == 200
    (record,) = door.sink.of(topics.INBOUND)
    assert (record["text"], record["touch_id"], record.get("keyword")) == ("when?", TOUCH, None)


async def test_signed_rubbish_is_400_and_whatsapp_501(door):
    body = b"--x"
    async with door.client as http:
        headers = {**door.provider.sendgrid(body), "Content-Type": "multipart/form-data; boundary=y"}
        assert (await http.post("/v1/callbacks/sendgrid-inbound", content=body, headers=headers)).status_code == 400
        headers["Content-Type"] = "text/plain"
        assert (await http.post("/v1/callbacks/sendgrid-inbound", content=body, headers=headers)).status_code == 400
        for method in ("GET", "POST"):
            answer = await http.request(method, "/v1/callbacks/whatsapp")
            assert answer.status_code == 501
            assert answer.headers["content-type"] == "application/problem+json"


async def test_kafka_down_means_the_provider_asks_again(door):
    door.sink.down = True
    assert (await post_sendgrid(door, [sg("delivered")])).status_code == 503
    assert (await post_twilio(door, STATUS, TWILIO_FORM)).status_code == 503
    assert (await post_telegram(door, telegram_text("hi"))).status_code == 503
