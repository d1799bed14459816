"""Every id in Rondo, in one place.

Two families: ids of *people's identifiers*, made by HMAC so that nobody can guess them and
topics, Redis keys and logs hold no addresses; and ids *derived from a cause*, so that any
replay of the same input gives the same id and a repeat can be recognised.
"""

import hashlib
import hmac
import uuid
from functools import lru_cache

TOUCH_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "rondo:touch")
CAUSE_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "rondo:cause")
_CAUSE_BYTES = CAUSE_NAMESPACE.bytes
_TOUCH_BYTES = TOUCH_NAMESPACE.bytes
_VARIANT = {d: f"{int(d, 16) & 3 | 8:x}" for d in "0123456789abcdef"}

IDENTIFIER_KINDS = ("user_id", "anonymous_id", "email", "phone")


@lru_cache(maxsize=1024)
def workspace_secret(master: str, workspace: str) -> bytes:
    """The secret of one workspace, derived from the installation's master secret."""
    return hmac.new(master.encode(), f"workspace:{workspace}".encode(), hashlib.sha256).digest()


@lru_cache(maxsize=1024)
def _keyed(secret: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """HMAC's inner and outer hash (RFC 2104) with the key's block already taken in."""
    block = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in block)), hashlib.sha256(bytes(b ^ 0x5C for b in block))


def identifier_id(secret: bytes, kind: str, value: str) -> str:
    """Id of an identifier: first 16 bytes of HMAC-SHA256(secret, kind:value) written as a UUID."""
    # from copies of the keyed hashes: 0.8 us where hmac.digest takes 1.8; the door makes one per event
    keyed = _keyed(secret)
    inner, outer = keyed[0].copy(), keyed[1].copy()
    inner.update(f"{kind}:{value}".encode())
    outer.update(inner.digest())
    h = outer.hexdigest()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:32]}"


def normal_email(value: str) -> str:
    """The form an e-mail address is compared in: trimmed, lower case."""
    return value.strip().lower()


def normal_phone(value: str) -> str:
    """The form a phone number is compared in: E.164 as given, blanks and dashes removed."""
    return "".join(c for c in value if c.isdigit() or c == "+")


def member_key(workspace: str, member_id: str) -> str:
    """Kafka key of everything that is keyed by member (or by sender, with a sender's id)."""
    return f"{workspace}:{member_id}"


def derived(cause: str, purpose: str) -> str:
    """Id of a record derived from another: the same cause and purpose always give the same id."""
    return _uuid5(_CAUSE_BYTES, f"{cause}:{purpose}")


def touch_id(run_id: str, step: str, member_id: str, occurrence: str, channel: str | None = None) -> str:
    """Id of one intended message, also its send id (WIRE 5). `channel` only under channel_rule `all`."""
    base = _uuid5(_TOUCH_BYTES, f"{run_id}:{step}:{member_id}:{occurrence}")
    return f"{base}:{channel}" if channel else base


def _uuid5(namespace: bytes, name: str) -> str:
    """str(uuid.uuid5(namespace, name)), four times as fast."""
    h = hashlib.sha1(namespace + name.encode()).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"
