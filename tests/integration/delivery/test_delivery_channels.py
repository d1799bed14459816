"""The providers over real sockets: every kind of failure is told apart, by what had left when it came."""

import asyncio
from collections.abc import Iterator

import pytest

from services.delivery.channels.sendgrid import SendGrid
from services.delivery.channels.smtp import Smtp
from services.delivery.channels.telegram import Telegram
from services.delivery.channels.twilio import Twilio
from services.delivery.model import Answer, Lookup, Message, Verdict, digest
from tests.support.providers import HttpProvider, SmtpServer

TIMEOUT_S = 1.0
ARGS = {"touch_id": "t1", "w": "demo", "m": "m1", "t": "t1", "r": "r1", "c": "spring"}


def mail(to: str, **more: str) -> Message:
    base = {"text": "Hi\n.dot", "html": "<p>Hi</p>", "subject": "Hi", "sender": "hi@example.com"}
    return Message(to=to, args=ARGS, **{**base, **more})


def smtp(server: SmtpServer | str) -> Smtp:
    url = server if isinstance(server, str) else server.url
    return Smtp(url, "rondo.test", "x@example.com", 1.0, TIMEOUT_S)


@pytest.fixture(params=[True, False], ids=["pipelining", "plain"])
def server(request: pytest.FixtureRequest) -> Iterator[SmtpServer]:
    with SmtpServer(pipelining=request.param) as s:
        yield s


async def test_mails_go_over_kept_connections(server: SmtpServer) -> None:
    out = smtp(server)
    for i in range(5):
        assert await out.send(mail(f"ann{i}@example.com"), f"t{i}") == Answer(
            Verdict.ACCEPTED, "smtp", f"<t{i}@rondo.test>"
        )
    await out.close()
    assert server.connections == 1 and [m.touch_id for m in server.mails] == [f"t{i}" for i in range(5)]
    parts = list(server.mails[0].parsed().iter_parts())
    assert parts[0].get_content().splitlines() == ["Hi", ".dot"]
    assert server.mails[0].sender == "hi@example.com"


@pytest.mark.parametrize(
    ("tag", "verdict", "reason", "permanent"),
    [
        ("hardbounce", Verdict.REJECTED, "hard_bounce", True),
        ("policy", Verdict.REJECTED, "hard_bounce", False),
        ("datafail", Verdict.REJECTED, "hard_bounce", False),
        ("softbounce", Verdict.RETRY, "soft_bounce", False),
        ("421once", Verdict.RETRY, "provider_busy", False),
        ("timeout", Verdict.UNKNOWN, "timeout", False),
        ("reset", Verdict.UNKNOWN, "connection_lost", False),
        ("resettaken", Verdict.UNKNOWN, "connection_lost", False),
    ],
)
async def test_what_goes_wrong_with_one_mail_and_the_next_goes(
    server: SmtpServer, tag: str, verdict: Verdict, reason: str, permanent: bool
) -> None:
    out = smtp(server)
    answer = await out.send(mail(f"ann+{tag}@example.com"), "bad")
    assert (answer.verdict, answer.reason, answer.permanent) == (verdict, reason, permanent)
    assert "@example.com" not in (answer.detail or "")
    assert (await out.send(mail("ann@example.com"), "good")).verdict == Verdict.ACCEPTED
    await out.close()
    assert [m.touch_id for m in server.mails if m.touch_id == "good"] == ["good"]


async def test_no_server_means_not_sent(free_port) -> None:  # type: ignore[no-untyped-def]
    answer = await smtp(f"smtp://127.0.0.1:{free_port()}").send(mail("ann@example.com"), "t")
    assert (answer.verdict, answer.reason) == (Verdict.NOT_SENT, "connection_failed")


async def test_a_kept_connection_that_died_is_replaced() -> None:
    with SmtpServer() as s:
        out = smtp(s)
        assert (await out.send(mail("ann@example.com"), "t1")).verdict == Verdict.ACCEPTED
        out._idle[0]._connection.abort()
        assert (await out.send(mail("ann@example.com"), "t2")).verdict == Verdict.ACCEPTED
        port = s.port
    with SmtpServer(port) as again:
        assert (await out.send(mail("ann@example.com"), "t3")).verdict == Verdict.ACCEPTED
        await out.close()
        assert [m.touch_id for m in again.mails] == ["t3"]


async def test_a_server_that_talks_nonsense() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await reader.read()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    for behave in (nonsense, silent):
        listening = await asyncio.start_server(behave, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        answer = await smtp(f"smtp://127.0.0.1:{port}").send(mail("ann@example.com"), "t")
        assert (answer.verdict, answer.reason) == (Verdict.NOT_SENT, "connection_failed")
        listening.close()


async def test_many_mails_at_once() -> None:
    with SmtpServer(latency=0.02) as s:
        out = smtp(s)
        answers = await asyncio.gather(*(out.send(mail(f"a{i}@example.com"), f"t{i}") for i in range(40)))
        await out.close()
        assert {a.verdict for a in answers} == {Verdict.ACCEPTED}
        assert s.touches() == {f"t{i}": 1 for i in range(40)}


async def one_after_the_other(out: Smtp, to: list[str], withdraw: int | None = None) -> list[Answer]:
    """Mails t0, t1 ... over one seat, each told of the one that follows; one of them is withdrawn before its turn."""
    mails = [(mail(address), f"t{i}") for i, address in enumerate(to)]
    seat, answers = out.seat(), []
    for i, (message, touch) in enumerate(mails):
        if i == withdraw:
            seat.withdraw()
            continue
        answers.append(await seat.send(message, touch, mails[i + 1] if i + 1 < len(mails) else None))
    seat.leave()
    await out.close()
    return answers


async def test_envelopes_travel_ahead_and_each_mail_keeps_its_own(server: SmtpServer) -> None:
    to = [f"ann{i}@example.com" for i in range(6)]
    answers = await one_after_the_other(smtp(server), to)
    assert [a.provider_id for a in answers] == [f"<t{i}@rondo.test>" for i in range(6)]
    assert [(m.to, m.touch_id) for m in server.mails] == [(address, f"t{i}") for i, address in enumerate(to)]
    assert server.connections == 1


async def test_what_is_withdrawn_does_not_leave(server: SmtpServer) -> None:
    to = [f"ann{i}@example.com" for i in range(4)]
    answers = await one_after_the_other(smtp(server), to, withdraw=2)
    assert {a.verdict for a in answers} == {Verdict.ACCEPTED}
    assert [(m.to, m.touch_id) for m in server.mails] == [(to[i], f"t{i}") for i in (0, 1, 3)]


@pytest.mark.parametrize("tag", ["hardbounce", "softbounce", "datafail", "reset", "421once", "timeout"])
async def test_what_follows_a_failure_goes(server: SmtpServer, tag: str) -> None:
    to = ["a@example.com", f"b+{tag}@example.com", "c@example.com", "d@example.com"]
    answers = await one_after_the_other(smtp(server), to)
    verdicts = [a.verdict for a in answers]
    assert verdicts[0] == verdicts[2] == verdicts[3] == Verdict.ACCEPTED != verdicts[1]
    taken = [m.touch_id for m in server.mails if m.to != to[1]]
    assert taken == ["t0", "t2", "t3"]


# HTTP


@pytest.fixture
def http() -> Iterator[HttpProvider]:
    with HttpProvider() as h:
        yield h


async def test_sendgrid(http: HttpProvider) -> None:
    out = SendGrid(http.url, "key", "rondo.test", "x@example.com", 1.0, TIMEOUT_S, 8)
    ok = await out.send(mail("ann@example.com"), "t1")
    assert (ok.verdict, ok.provider_id) == (Verdict.ACCEPTED, "sg1")
    taken = http.taken[0]
    assert taken.body["personalizations"][0]["custom_args"] == ARGS
    assert taken.headers["authorization"] == "Bearer key"
    verdicts = {}
    for tag in ("429", "500", "500accepted", "timeout", "bad"):
        a = await out.send(mail(f"ann+{tag}@example.com"), tag)
        verdicts[tag] = (a.verdict, a.reason)
    assert verdicts == {
        "429": (Verdict.RETRY, "rate_limited"),
        "500": (Verdict.UNKNOWN, "provider_error"),
        "500accepted": (Verdict.UNKNOWN, "provider_error"),
        "timeout": (Verdict.UNKNOWN, "timeout"),
        "bad": (Verdict.REJECTED, "provider_rejected"),
    }
    await out.close()


async def test_twilio_and_its_look_up(http: HttpProvider) -> None:
    out = Twilio(http.url, "AC1", "tok", "+15005550006", "http://p", 1.0, TIMEOUT_S, 8)

    async def send(to: str, text: str = "Hi") -> Answer:
        return await out.send(Message(to=to, text=text, args=ARGS), "t1")

    assert (await send("+33612345678")).provider_id == "SM0"
    assert http.taken[0].body["StatusCallback"] == "http://p/v1/callbacks/twilio/status?w=demo&m=m1&t=t1&r=r1&c=spring"
    assert (await send("+15005550004")).reason == "suppressed_stop"
    assert (await send("+15005551429")).after == 2000
    for to, there in (("+15005551500", False), ("+15005551501", True), ("+15005551504", True)):
        assert (await send(to, "code 7")).verdict == Verdict.UNKNOWN
        found = await out.look_up(Lookup(to, digest("code 7"), 0))
        assert found.verdict == (Verdict.ACCEPTED if there else Verdict.NOT_SENT)
    await out.close()


async def test_telegram(http: HttpProvider) -> None:
    out = Telegram(http.url, "tok", 1.0, TIMEOUT_S, 8)
    answers = {c: await out.send(Message(to=c, text="Hi"), "t") for c in ("991", "403001", "429001", "500001")}
    assert {c: a.verdict for c, a in answers.items()} == {
        "991": Verdict.ACCEPTED,
        "403001": Verdict.REJECTED,
        "429001": Verdict.RETRY,
        "500001": Verdict.UNKNOWN,
    }
    assert answers["403001"].permanent and answers["429001"].after == 3000
    await out.close()


async def test_http_providers_that_are_not_there(free_port) -> None:  # type: ignore[no-untyped-def]
    base = f"http://127.0.0.1:{free_port()}"
    message = Message(to="b@example.com", text="Hi", sender="a@example.com", args=ARGS)
    for out in (
        SendGrid(base, "k", "h", "x@example.com", 1.0, 1.0, 2),
        Twilio(base, "AC1", "t", "+1", "http://p", 1.0, 1.0, 2),
        Telegram(base, "t", 1.0, 1.0, 2),
    ):
        assert (await out.send(message, "t")).verdict == Verdict.NOT_SENT
        await out.close()


async def test_an_http_provider_that_breaks_off_may_have_taken_it() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    listening = await asyncio.start_server(cut, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    out = Telegram(base, "t", 1.0, 1.0, 2)
    answer = await out.send(Message(to="1", text="Hi"), "t")
    assert (answer.verdict, answer.reason) == (Verdict.UNKNOWN, "connection_lost")
    await out.close()
    listening.close()
