"""E-mail on the wire (RFC 5322, 2045, 2047, 8058), built by hand: safe headers, quick bodies. Pure.

Python's own writer let a decoded encoded-word smuggle header lines in (CVE-2024-6923, CVE-2026-1299),
so values are decoded first and then refused when they hold CR, LF or NUL, whatever the interpreter.
"""

import base64
import re
from binascii import b2a_qp
from collections.abc import Sequence
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import formatdate
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _json_text

import msgspec

from services.delivery.model import Message
from services.delivery.render.quick import Fixed

_json = msgspec.json.Encoder().encode
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\\\"@\x00-\x1f\x7f]+@[^\s<>()\[\],;:\\\"@\x00-\x1f\x7f]+")
_usual_address = re.compile(r"[a-z0-9._+-]{1,64}@[a-z0-9.-]{1,180}").fullmatch
_NAMED = re.compile(r"(.*)<([^<>]*)>")
_LINE = 76
_LONGEST_LINE = 900
"""Octets of a body line sent as it is; SMTP allows 998 (RFC 5321 4.5.3.1.6)."""


class UnsafeHeader(ValueError):
    """A header value would not stay one header, or is no address. The text does not hold the value;
    `code` is a reason for rondo.deliveries.v1."""

    def __init__(self, text: str, code: str = "unsafe_header"):
        super().__init__(text)
        self.code = code


def plain(name: str, value: str) -> str:
    """`value` with encoded words decoded, as one line. UnsafeHeader for CR, LF, NUL and the like."""
    if "=?" in value:
        try:
            value = str(make_header(decode_header(value)))
        except (HeaderParseError, LookupError, UnicodeError, ValueError) as e:
            raise UnsafeHeader(f"{name} holds a broken encoded word") from e
    value = value.replace("\t", " ")
    if _FORBIDDEN.search(value):
        raise UnsafeHeader(f"{name} holds a line break or control character")
    return value


def encoded(name: str, value: str) -> str:
    """`value` (already `plain`) as it stands after "Name: ": folded, non-ASCII as encoded words."""
    if value.isascii() and "=?" not in value:
        return _folded(value, len(name) + 2)
    words, chunk = [], b""
    for char in value:
        raw = char.encode("utf-8", "replace")
        if len(chunk) + len(raw) > 42:
            words.append(chunk)
            chunk = b""
        chunk += raw
    words.append(chunk)
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(w).decode()}?=" for w in words)


def _folded(value: str, used: int) -> str:
    if used + len(value) <= _LINE:
        return value
    lines, line = [], ""
    for word in value.split(" "):
        if line and used + len(line) + 1 + len(word) > _LINE:
            lines.append(line)
            line, used = word, 1
        else:
            line = f"{line} {word}" if line or lines else word
    return "\r\n ".join([*lines, line])


def address(value: str) -> str:
    """A bare e-mail address as it goes into an SMTP command; a non-ASCII domain becomes its IDNA form.
    UnsafeHeader when it is none, or needs SMTPUTF8."""
    if _usual_address(value):
        return value
    if not _ADDRESS.fullmatch(value) or len(value) > 254:
        raise UnsafeHeader("not an e-mail address", "invalid_address")
    local, _, domain = value.rpartition("@")
    if not local.isascii():
        raise UnsafeHeader("a local part beyond ASCII", "invalid_address")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode()
        except UnicodeError as e:
            raise UnsafeHeader("not a valid domain", "invalid_address") from e
    return f"{local}@{domain}"


@lru_cache(maxsize=256)
def sender(value: str) -> tuple[str, str]:
    """A sender such as `Shop <hi@example.com>`: its address, and the From header's value."""
    value = plain("From", value).strip()
    named = _NAMED.fullmatch(value)
    try:
        bare = address((named[2] if named else value).strip())
    except UnsafeHeader as e:
        raise UnsafeHeader(f"From: {e}", "invalid_sender") from e
    name = named[1].strip() if named else ""
    if name.startswith('"') and name.endswith('"') and len(name) > 1:
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    name = plain("From", name)
    if not name:
        return bare, bare
    if not name.isascii() or "=?" in name:
        return bare, f"{encoded('From', name)} <{bare}>"
    if not _ATOM.fullmatch(name):
        name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return bare, f"{name} <{bare}>"


def message_id(touch_id: str, host: str) -> str:
    """Message-ID of a touch: the same at every sending, so that receivers can fold a repeat."""
    return f"<{touch_id.replace(':', '.')}@{host}>"


def check(message: Message, default_sender: str) -> None:
    """UnsafeHeader when `build` could not make this message."""
    sender(message.sender or default_sender)
    address(message.to)
    plain("Subject", message.subject)


@lru_cache(maxsize=64)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def build(message: Message, touch_id: str, host: str, default_sender: str) -> tuple[str, str, bytes]:
    """Envelope sender, envelope recipient, and the message with CRLF line ends (not dot-stuffed)."""
    bare, from_ = sender(message.sender or default_sender)
    to = address(message.to)
    head = (
        f"From: {from_}\r\nTo: {to}\r\nSubject: {encoded('Subject', plain('Subject', message.subject))}\r\n"
        f"Message-ID: {message_id(touch_id, host)}\r\nDate: {_date(message.at // 1000)}\r\nMIME-Version: 1.0\r\n"
    )
    if message.unsubscribe:
        head += f"List-Unsubscribe: <{message.unsubscribe}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    if message.args:
        head += _smtpapi(message.args)
    cut = f"=_{touch_id.replace(':', '.')}"
    text = _part("plain", message.text, message.text_pieces, cut)
    if not message.html:
        return bare, to, head.encode() + text
    head += f'Content-Type: multipart/alternative; boundary="{cut}"\r\n\r\n--{cut}\r\n'
    between, end = f"\r\n--{cut}\r\n".encode(), f"\r\n--{cut}--\r\n".encode()
    html = _part("html", message.html, message.html_pieces, cut)
    return bare, to, b"".join((head.encode(), text, between, html, end))


def _smtpapi(args: dict[str, str]) -> str:
    """What callbacks bring back, as JSON over several lines."""
    pairs = _json(args).decode()
    if pairs.isascii():
        # a quote within a text has a backslash before it: these are the ones between texts
        pairs = pairs[1:-1].replace('":"', '": "').replace('","', '",\r\n "')
    else:
        pairs = ",\r\n ".join([f"{_json_text(k)}: {_json_text(v)}" for k, v in args.items()])
    return f'X-SMTPAPI: {{"unique_args": {{{pairs}}}}}\r\n'


def _part(subtype: str, text: str, pieces: Sequence[str], cut: str) -> bytes:
    """One body part with its headers; 7bit when it can be, else quoted-printable. `pieces` make up `text`,
    or are empty."""
    if "\r" in text:
        text, pieces = text.replace("\r\n", "\n").replace("\r", "\n"), ()
    if text.isascii() and "\x00" not in text and cut not in text and _short_lines(text):
        return _HEADS[subtype, "7bit"] + text.replace("\n", "\r\n").encode() + b"\r\n"
    return b"".join((_HEADS[subtype, "quoted-printable"], *_quoted(pieces or (text,)), b"\r\n"))


_HEADS = {
    (subtype, way): f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {way}\r\n\r\n".encode()
    for subtype in ("plain", "html")
    for way in ("7bit", "quoted-printable")
}


def _short_lines(text: str) -> bool:
    return len(text) <= _LONGEST_LINE or max(map(len, text.split("\n"))) <= _LONGEST_LINE


def _quoted(pieces: Sequence[str]) -> list[bytes]:
    """Quoted-printable (RFC 2045, 6.7) piece by piece: what a template says to everybody is encoded once.
    Where two pieces do not fit on one line, a soft line break goes between."""
    out: list[bytes] = []
    column = 0
    for piece in pieces:
        if type(piece) is Fixed:
            try:
                body, first, last = piece.encoded
            except AttributeError:
                body, first, last = piece.encoded = _encoded_piece(piece)
        else:
            body, first, last = _encoded_piece(piece)
        if column + first >= _LINE:
            out.append(b"=\r\n")
            column = 0
        out.append(body)
        column = last if last is not None else column + first
    return out


_WORD = 70


def _plain_word(text: str) -> bool:
    """Whether it is what quoted-printable leaves as it is, wherever it stands: ASCII that shows, without blanks
    and "=". A dot at the start of a line is doubled later."""
    return text.isascii() and text.isprintable() and "=" not in text and " " not in text and text != ""


def _encoded_piece(text: str) -> tuple[bytes, int, int | None]:
    """A piece in quoted-printable, the length of its first line, and of its last (None: it has but one)."""
    if _plain_word(text):
        raw = text.encode()
        if len(raw) <= _WORD:
            return raw, len(raw), None
        last = len(raw) % _WORD or _WORD
        return b"=\r\n".join([raw[at : at + _WORD] for at in range(0, len(raw), _WORD)]), _WORD + 1, last
    body = b2a_qp(text.encode("utf-8", "replace"), istext=True).replace(b"\n", b"\r\n")
    end = body.rfind(b"\r\n")
    return (body, len(body), None) if end < 0 else (body, body.find(b"\r\n"), len(body) - end - 2)
