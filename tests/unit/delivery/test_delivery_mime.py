"""E-mail on the wire: what is written is read back by Python's own parser, and nothing smuggles a header."""

import email
from email import policy
from email.utils import parsedate_to_datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.delivery.channels.smtp_transfer import stuffed
from services.delivery.model import Message
from services.delivery.render import mime
from services.delivery.render.quick import Fixed

TOUCH = "0b1c1d2e-1111-5222-8333-444455556667"


def message(**more):  # type: ignore[no-untyped-def]
    base = {"to": "ann@example.com", "text": "Hi", "subject": "Hi", "sender": "Shop <hi@example.com>"}
    return Message(**{**base, **more})


def parsed(m: Message, touch: str = TOUCH):  # type: ignore[no-untyped-def]
    _, _, data = mime.build(m, touch, "rondo.test", "x@example.com")
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))
    assert b"\n" not in data.replace(b"\r\n", b"") and b"\r" not in data.replace(b"\r\n", b"")
    assert data.isascii()
    return email.message_from_bytes(data, policy=policy.default)


def test_a_full_message() -> None:
    args = {"touch_id": TOUCH, "w": "demo", "m": "5f", "t": TOUCH, "r": "run-1", "c": "spring"}
    m = message(
        html="<p>Hé</p>", subject="Été — 50 %", unsubscribe="https://l.test/u/x", args=args, at=1_796_000_000_000
    )
    p = parsed(m, f"{TOUCH}:email")
    assert p["Subject"] == "Été — 50 %" and p["To"] == "ann@example.com" and p["From"] == "Shop <hi@example.com>"
    assert p["Message-ID"] == f"<{TOUCH}.email@rondo.test>"
    assert p["List-Unsubscribe"] == "<https://l.test/u/x>"
    assert p["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert msgspec.json.decode(str(p["X-SMTPAPI"])) == {"unique_args": args}
    assert parsedate_to_datetime(p["Date"]).timestamp() == 1_796_000_000
    assert p.get_content_type() == "multipart/alternative"
    plain, html = p.iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert plain.get_content().strip() == "Hi" and html.get_content().strip() == "<p>Hé</p>"


def test_text_only_is_one_part() -> None:
    p = parsed(message(text="Hello\nthere"))
    assert p.get_content_type() == "text/plain" and p.get_content().splitlines() == ["Hello", "there"]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_any_body_comes_back(text: str, html: str) -> None:
    clean = [t.encode("utf-8", "replace").decode() for t in (text, html)]
    m = message(text=clean[0], html=clean[1] or "x")
    parts = list(parsed(m).iter_parts())
    for part, wanted in zip(parts, (m.text, m.html), strict=True):
        got = part.get_payload(decode=True).decode().replace("\r\n", "\n").removesuffix("\n")
        assert got == wanted.replace("\r\n", "\n").replace("\r", "\n")


PIECES = st.lists(
    st.text(st.sampled_from("ab é=.\n\r\t-ü✓"), max_size=120)
    | st.text(st.sampled_from("ab.-"), max_size=300)
    | st.sampled_from(["x" * 74, "é" * 40, "x" * 2000]),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(PIECES, st.lists(st.booleans(), min_size=8, max_size=8))
def test_a_body_encoded_in_pieces_comes_back(pieces: list[str], fixed: list[bool]) -> None:
    made = [Fixed(p) if f else p for p, f in zip(pieces, fixed, strict=False)]
    m = message(text="".join(made), text_pieces=made, html="<p>é</p>", html_pieces=[Fixed("<p>é</p>")])
    for _ in range(2):  # the second time the fixed ones are encoded already
        plain, _html = parsed(m).iter_parts()
        got = plain.get_payload(decode=True).decode().replace("\r\n", "\n").removesuffix("\n")
        assert got == m.text.replace("\r\n", "\n").replace("\r", "\n")
        _, _, data = mime.build(m, TOUCH, "rondo.test", "x@example.com")
        body = data.split(b"quoted-printable", 1)[-1] if b"quoted-printable" in data.split(b"text/html")[0] else b""
        # 76 by RFC 2045; Python's own encoder goes over it by a blank at the end of a line, written =20
        assert all(len(line) <= 78 for line in body.split(b"\r\n"))


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=200))
def test_any_subject_comes_back_or_is_refused(subject: str) -> None:
    try:
        wanted = mime.plain("Subject", subject)
    except mime.UnsafeHeader:
        return
    p = parsed(message(subject=subject))
    assert " ".join(str(p["Subject"]).split()) == " ".join(wanted.split())
    assert {k.lower() for k in p} <= {
        *("from", "to", "subject", "message-id", "date", "mime-version", "content-type", "content-transfer-encoding")
    }


@pytest.mark.parametrize(
    "value",
    [
        "x\r\nBcc: evil@example.com",
        "x\nBcc: evil@example.com",
        "x\rBcc: evil@example.com",
        "x\0y",
        "=?utf-8?q?x=0D=0ABcc=3A_evil=40x.example?=",
        "=?utf-8?b?eA0KQmNjOiBldmlsQHguZXhhbXBsZQ==?=",
    ],
)
def test_line_breaks_in_headers_are_refused(value: str) -> None:
    for field in ("subject", "sender"):
        with pytest.raises(mime.UnsafeHeader):
            mime.check(message(**{field: value if field == "subject" else f"{value} <a@example.com>"}), "x@example.com")


@pytest.mark.parametrize(
    "to", ["", "ann", "a b@example.com", "a@b@c", "<a@example.com>", "a@example.com\r\nDATA", "ä@example.com", "a@"]
)
def test_bad_recipients_are_refused(to: str) -> None:
    with pytest.raises(mime.UnsafeHeader):
        mime.check(message(to=to), "x@example.com")


def test_an_international_domain_becomes_its_ascii_form() -> None:
    _, to, _ = mime.build(message(to="ann@bücher.example"), TOUCH, "h", "x@example.com")
    assert to == "ann@xn--bcher-kva.example"


def test_names_that_need_quotes() -> None:
    assert mime.sender('Shop, "Inc" <hi@example.com>')[1] == r'"Shop, \"Inc\"" <hi@example.com>'
    p = parsed(message(sender='"Shop, Inc." <hi@example.com>'))
    assert p["From"].addresses[0].display_name == "Shop, Inc." and p["From"].addresses[0].addr_spec == "hi@example.com"
    assert parsed(message(sender="Café <hi@example.com>"))["From"].addresses[0].display_name == "Café"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([b".", b"a", b"\r\n", b".."]), max_size=30))
def test_dot_stuffing_can_be_undone(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    sent = stuffed(data)
    assert sent.endswith(b"\r\n.\r\n") or sent == b".\r\n"
    lines = sent.removesuffix(b".\r\n").split(b"\r\n")
    assert b"." not in lines  # nothing ends the mail early
    back = b"\r\n".join(line.removeprefix(b".") if line.startswith(b".") else line for line in lines)
    assert back in (data, data + b"\r\n")
