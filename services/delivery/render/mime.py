"""E-mail on the wire (RFC 5322, 2045, 2047, 8058), built by hand: safe headers, quick bodies. Pure.

Python's own writer let a decoded encoded-word smuggle header lines in (CVE-2024-6923, CVE-2026-1299),
so values are decoded first and then refused when they hold CR, LF or NUL, whatever the interpreter.
"""

import base64
import binascii
import json
import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import formatdate
from functools import lru_cache

from services.delivery.model import Message

_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\\\"@\x00-\x1f\x7f]+@[^\s<>()\[\],;:\\\"@\x00-\x1f\x7f]+")
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


@lru_cache(maxsize=1024)
def address(value: str) -> str:
    """A bare e-mail address as it goes into an SMTP command; a non-ASCII domain becomes its IDNA form.
    UnsafeHeader when it is none, or needs SMTPUTF8."""
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
    head = [
        f"From: {from_}",
        f"To: {to}",
        f"Subject: {encoded('Subject', plain('Subject', message.subject))}",
        f"Message-ID: {message_id(touch_id, host)}",
        f"Date: {_date(message.at // 1000)}",
        "MIME-Version: 1.0",
    ]
    if message.unsubscribe:
        head.append(f"List-Unsubscribe: <{message.unsubscribe}>")
        head.append("List-Unsubscribe-Post: List-Unsubscribe=One-Click")
    if message.args:
        unique = json.dumps({"unique_args": message.args}, separators=(", ", ": "))
        head.append("X-SMTPAPI: " + unique.replace(", ", ",\r\n "))
    cut = f"=_{touch_id.replace(':', '.')}"
    text = _part("plain", message.text, cut)
    if not message.html:
        return bare, to, "\r\n".join(head).encode() + b"\r\n" + text
    bound = cut.encode()
    head.append(f'Content-Type: multipart/alternative; boundary="{cut}"')
    return (
        bare,
        to,
        b"".join(
            (
                "\r\n".join(head).encode(),
                b"\r\n\r\n--",
                bound,
                b"\r\n",
                text,
                b"\r\n--",
                bound,
                b"\r\n",
                _part("html", message.html, cut),
                b"\r\n--",
                bound,
                b"--\r\n",
            )
        ),
    )


def _part(subtype: str, text: str, cut: str) -> bytes:
    """One body part with its headers; 7bit when it can be, else quoted-printable."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if text.isascii() and max(map(len, lines)) <= _LONGEST_LINE and cut not in text and "\x00" not in text:
        way, body = "7bit", "\r\n".join(lines).encode()
    else:
        way = "quoted-printable"
        body = binascii.b2a_qp(text.encode("utf-8", "replace"), istext=True).replace(b"\n", b"\r\n")
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {way}\r\n\r\n"
    return head.encode() + body + b"\r\n"
