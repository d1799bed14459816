"""Signed tokens of the links in messages: click, open, unsubscribe. Pure.

A token says for whom and from which message it is and, for a click, where it leads, so the links
service needs no look-up and redirects only to what was signed. It is
base64url(key number, 1 byte + MAC, 12 bytes + msgpack body), without padding. The MAC is
HMAC-SHA256 cut to 96 bits. Keys rotate: a new one signs, old ones still verify.

    signer = Signer(settings.secret)
    url = signer.url(settings.url_links, Link("click", "demo", member, touch, run, "spring", "email", "offers", target))
    link = signer.read(token)          # BadToken when it was not made here
"""

import base64
import binascii
import hashlib
import hmac
from binascii import b2a_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

KINDS = {"click": "l", "open": "o", "unsubscribe": "u"}
"""Kind of a link and the first part of its path: /l/<token>, /o/<token>.gif, /u/<token>."""

_MAC = 12
_LONGEST = 8192


class BadToken(ValueError):
    """The token was not made by us, or was changed."""


class Link(msgspec.Struct, array_like=True, frozen=True):
    """What a token carries. `url` of a click only; `topic` is what an unsubscribe denies."""

    kind: str
    workspace: str
    member_id: str
    touch_id: str
    run_id: str = ""
    campaign: str = ""
    channel: str = ""
    topic: str = ""
    url: str = ""


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    kind: str
    workspace: str
    member_id: Any  # bytes of a UUID, or text
    touch_id: Any
    run_id: Any
    campaign: str
    channel: str
    topic: str
    url: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def _pack(id: str) -> bytes | str:
    """A UUID in its usual form as 16 bytes, any other id as it is."""
    if len(id) == 36 and id[8] == id[13] == id[18] == id[23] == "-":
        digits = id.replace("-", "")
        try:
            raw = bytes.fromhex(digits)
        except ValueError:
            return id
        if raw.hex() == digits and len(raw) == 16:  # no blanks, no capitals
            return raw
    return id


def _unpack(id: bytes | str) -> str:
    if isinstance(id, str):
        return id
    h = id.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


class Signer:
    """Makes and reads tokens. `old` holds the secrets of earlier key numbers (0 to 255)."""

    def __init__(self, secret: str, key_id: int = 1, old: Mapping[int, str] | None = None):
        if not 0 <= key_id <= 255:
            raise ValueError("a key number is 0 to 255")
        self._key_id = bytes([key_id])
        self._keys = {number: _Mac(s) for number, s in {**(old or {}), key_id: secret}.items()}
        self._key = self._keys[key_id]

    def token(self, link: Link) -> str:
        """The token of `link`. ValueError for an unknown kind."""
        letter = KINDS.get(link.kind)
        if letter is None:
            raise ValueError(f"not a kind of link: {link.kind!r}")
        body = _encode(
            _Packed(
                letter,
                link.workspace,
                _pack(link.member_id),
                _pack(link.touch_id),
                _pack(link.run_id),
                link.campaign,
                link.channel,
                link.topic,
                link.url,
            )
        )
        mac = self._key.of(self._key_id + body)
        return base64.urlsafe_b64encode(self._key_id + mac + body).rstrip(b"=").decode()

    def url(self, base: str, link: Link) -> str:
        """The public address of `link` under `base` (scheme and host, no slash at its end)."""
        end = ".gif" if link.kind == "open" else ""
        return f"{base}/{KINDS[link.kind]}/{self.token(link)}{end}"

    def series(self, link: Link) -> "Series":
        """For the links of one message: what they have in common with `link` is packed once."""
        return Series(self._key_id, self._key, link)

    def read(self, token: str) -> Link:
        """What `token` carries. BadToken unless this installation signed exactly it."""
        if not token or len(token) > _LONGEST or not token.isascii():
            raise BadToken("not a token")
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as e:
            raise BadToken("not a token") from e
        if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != token:
            raise BadToken("not in its canonical form")
        key = self._keys.get(raw[0]) if len(raw) > 1 + _MAC else None
        if key is None:
            raise BadToken("signed with an unknown key")
        body = raw[1 + _MAC :]
        if not hmac.compare_digest(raw[1 : 1 + _MAC], key.of(raw[:1] + body)):
            raise BadToken("the signature does not fit")
        p = _decode(body)
        kind = next(k for k, letter in KINDS.items() if letter == p.kind)
        return Link(
            kind,
            p.workspace,
            _unpack(p.member_id),
            _unpack(p.touch_id),
            _unpack(p.run_id),
            p.campaign,
            p.channel,
            p.topic,
            p.url,
        )


class Series:
    """The tokens of one message. They are those that `Signer.token` makes, at a third of the cost: a
    broadcast signs several for each mail."""

    __slots__ = ("_key", "_key_id", "_what", "_who")

    def __init__(self, key_id: bytes, key: "_Mac", link: Link):
        self._key_id, self._key = key_id, key
        self._who = b"".join(
            (_text(link.workspace), _encode(_pack(link.member_id)), _encode(_pack(link.touch_id)), _id(link.run_id))
        )
        self._what = _common(link.campaign, link.channel, link.topic)

    def url(self, base: str, kind: str, url: str = "") -> str:
        """The public address of a link of this kind, as `Signer.url`."""
        body = b"".join((_HEADS[kind], self._who, self._what, _text(url)))
        mac = self._key.of(self._key_id + body)
        token = (
            b2a_base64(b"".join((self._key_id, mac, body)), newline=False).rstrip(b"=").translate(_URL_SAFE).decode()
        )
        return f"{base}/{KINDS[kind]}/{token}.gif" if kind == "open" else f"{base}/{KINDS[kind]}/{token}"


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_HEADS = {kind: b"\x99" + _encode(letter) for kind, letter in KINDS.items()}
"""How a body begins: a msgpack array of nine, the kind."""


@lru_cache(maxsize=1024)
def _text(text: str) -> bytes:
    """A text that many tokens carry, packed."""
    return _encode(text)


@lru_cache(maxsize=256)
def _id(id: str) -> bytes:
    return _encode(_pack(id))


@lru_cache(maxsize=256)
def _common(campaign: str, channel: str, topic: str) -> bytes:
    return _encode(campaign) + _encode(channel) + _encode(topic)


class _Mac:
    """HMAC-SHA256 (RFC 2104) under a key derived for links, so that a leaked one opens nothing else. The
    two hashes are prepared once; unlike hmac.digest this does not give up the interpreter lock for
    microseconds of work, which in a process with a busy second thread costs milliseconds."""

    def __init__(self, secret: str):
        key = hmac.new(secret.encode(), b"links", hashlib.sha256).digest().ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(b ^ 0x36 for b in key))
        self._outer = hashlib.sha256(bytes(b ^ 0x5C for b in key))

    def of(self, data: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()[:_MAC]
