"""What capture reads out of a mail, beside the standard library's own reading by its newer policy."""

import email
import email.policy
from email.message import EmailMessage

import pytest

from services.capture.mime import header_text, read_mail


def read(raw: bytes):
    return read_mail(raw, "from@shop.example", "to@example.com", "i1", "2026-12-01T09:00:00Z", 0)


def letter(subject="Hi", text="Hello", html=None, **headers) -> EmailMessage:
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["From"] = "Shop Ärger <hi@shop.example>"
    mail["To"] = "to@example.com"
    mail["Subject"] = subject
    mail["Message-ID"] = "<t-1@shop.example>"
    for name, value in headers.items():
        mail[name.replace("_", "-")] = value
    mail.set_content(text)
    if html is not None:
        mail.add_alternative(html, subtype="html")
    return mail


LETTERS = {
    "plain": letter(),
    "not ascii": letter("Grüße an Žofie, " * 9, "Schöne Grüße\n" * 50, "<p>Schöne <b>Grüße</b></p>"),
    "long header": letter(List_Unsubscribe="<https://shop.example/u/" + "x" * 300 + ">, <mailto:u@shop.example>"),
    "folded": letter("a word " * 30),
    "emoji": letter("🎉 50 % off 🎉", "🎉"),
}


@pytest.mark.parametrize("name", LETTERS)
def test_it_reads_what_the_library_reads(name):
    raw = LETTERS[name].as_bytes()
    theirs = email.message_from_bytes(raw, policy=email.policy.default)
    ours = read(raw)
    assert ours.headers == {k: str(v) for k, v in theirs.items()}
    assert ours.subject == theirs["Subject"]
    assert ours.text == theirs.get_body(("plain",)).get_content()
    html = theirs.get_body(("html",))
    assert ours.html == (html.get_content() if html else None)


def test_attachments_and_forwarded_letters_are_not_the_letter():
    mail = letter(html="<p>Hello</p>")
    mail.add_attachment("not this", filename="a.txt")
    mail.add_attachment(letter(text="nor this", html="<p>nor this</p>"))
    ours = read(mail.as_bytes())
    assert (ours.text, ours.html) == ("Hello\r\n", "<p>Hello</p>\r\n")


def test_what_it_says_of_its_cause_links_and_pixel():
    html = (
        '<a href="https://l.example/c/1">x</a><a href="mailto:a@b.example">y</a>'
        '<img src="https://l.example/logo.png"><img src="https://l.example/o/9">'
    )
    given = letter(
        html=html, X_SMTPAPI='{"unique_args": {"t": "t-9", "m": "m-1"}}', List_Unsubscribe="<https://l.example/u/1>"
    )
    ours = read(given.as_bytes())
    assert ours.args == {"t": "t-9", "m": "m-1"}
    assert (ours.links, ours.pixel) == (["https://l.example/c/1"], "https://l.example/o/9")
    assert ours.unsubscribe == "https://l.example/u/1"
    assert read(letter().as_bytes()).args == {"t": "t-1"}


def test_an_unsigned_or_broken_mail_is_kept_as_far_as_it_can_be_read():
    assert read(b"").text == ""
    assert read(b"Subject: =?utf-8?b?!!?=\r\n\r\nHello").text == "Hello"
    unknown = b"Content-Type: text/plain; charset=x-nobody\r\n\r\nHello"
    assert read(unknown).text == "Hello"
    assert read(b"X-SMTPAPI: [1]\r\n\r\nHello").args == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\r\n b", "a b"),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?= <a@b.example>", "Grüße <a@b.example>"),
        ("=?x-nobody?q?a?=", "=?x-nobody?q?a?="),
        ("Grüße", "Grüße"),
        (b"Gr\xc3\xbc\xc3\x9fe".decode("ascii", "surrogateescape"), "Grüße"),
    ],
)
def test_headers_in_all_the_ways_they_are_written(value, text):
    assert header_text(value) == text
