"""Keys: who may write events (write keys) and who may use the API (admin keys), and for which workspace.

Three sources: the boot keys of the installation's own workspace (settings), keys that were issued
(definitions of kind `key`: `{"name", "scopes", "kind": "write"|"admin", "sha256", "prefix"}`; only
the SHA-256 of a key is kept), and the internal write key of each workspace, by which our own services
send events to ingestion.

    keys = Keys(settings, definitions)         # definitions: a DefinitionStore, or None for boot keys only
    grant = keys.write("wk_...")               # Grant, or None for a wrong key
    grant = keys.admin("rk_...")
    issued = issue("admin")                    # .key is shown once, .sha256 and .prefix are kept
    make_internal_key(settings.secret, "demo")
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec

from rondo_common.records import Definition
from rondo_common.settings import Settings

INTERNAL = "wk_internal_"
PREFIXES = {"write": "wk_", "admin": "rk_"}


class Grant(NamedTuple):
    """What a key allows. `id` names the key in the audit (`boot`, `internal`, or the definition's id);
    `scopes` of an admin key, e.g. `campaigns:write`; the boot key has `*`."""

    workspace: str
    kind: str
    id: str
    scopes: frozenset[str] = frozenset()

    def allows(self, scope: str) -> bool:
        """Whether `scope` (noun:read or noun:write) is granted. `admin:write` and `*` grant everything; a
        write scope grants reading too."""
        noun, _, act = scope.partition(":")
        held = self.scopes
        return bool(held & {"*", "admin:write", scope}) or (act == "read" and f"{noun}:write" in held)


class Issued(NamedTuple):
    """A new key. `key` is shown to its owner once."""

    key: str
    sha256: str
    prefix: str


class Definitions(Protocol):
    """What this module needs of a DefinitionStore."""

    def all(self, kind: str) -> Iterable[Definition]: ...

    def on_change(self, listener: Callable[[Definition], None]) -> None: ...

    def ready(self) -> tuple[bool, str]: ...


class _Body(msgspec.Struct):
    sha256: str
    kind: str = "admin"
    scopes: list[str] = []


def hash_key(key: str) -> str:
    """SHA-256 of a key in hex, the only form in which an issued key is kept."""
    return hashlib.sha256(key.encode()).hexdigest()


def issue(kind: str) -> Issued:
    """A new key of 256 random bits. `kind` is write or admin; KeyError otherwise."""
    key = PREFIXES[kind] + secrets.token_hex(32)
    return Issued(key, hash_key(key), key[:11])


def make_internal_key(secret: str, workspace: str) -> str:
    """The write key by which Rondo's own services write into a workspace. `secret` is the
    installation's master secret."""
    digest = hmac.digest(secret.encode(), f"internal:{workspace}".encode(), "sha256").hex()
    return f"{INTERNAL}{workspace}_{digest[:32]}"


class Keys:
    """Verifies keys. Safe from any thread; follows definitions as they change."""

    def __init__(self, settings: Settings, definitions: Definitions | None = None):
        self._secret = settings.secret
        self._definitions = definitions
        self._boot: list[tuple[bytes, Grant]] = []
        for kind, key in (("write", settings.write_key), ("admin", settings.admin_key)):
            if key:
                grant = Grant(settings.workspace, kind, "boot", frozenset({"*"}) if kind == "admin" else frozenset())
                self._boot.append((hash_key(key).encode(), grant))
        self._issued: dict[str, Grant] = {}
        self._by_id: dict[tuple[str, str], str] = {}
        self._listeners: list[Callable[[], None]] = []
        if definitions is not None:
            definitions.on_change(self._take)
            for d in definitions.all("key"):
                self._take(d)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` when a key was added, changed or withdrawn: forget what you remembered."""
        self._listeners.append(listener)

    def complete(self) -> bool:
        """Whether all issued keys are known. While not, an unknown key may still turn out to be right."""
        return self._definitions is None or self._definitions.ready()[0]

    def write(self, key: str) -> Grant | None:
        """The workspace a write key writes to; None when it is no write key."""
        if key.startswith(INTERNAL):
            workspace = key[len(INTERNAL) :].rpartition("_")[0]
            good = hmac.compare_digest(key.encode(), make_internal_key(self._secret, workspace).encode())
            return Grant(workspace, "write", "internal") if good and workspace else None
        return self._find(key, "write")

    def admin(self, key: str) -> Grant | None:
        """What an admin key allows; None when it is no admin key."""
        return self._find(key, "admin")

    def _find(self, key: str, kind: str) -> Grant | None:
        digest = hash_key(key)
        found = None
        for boot, grant in self._boot:
            # every boot key is compared in full: the time tells nothing
            if hmac.compare_digest(boot, digest.encode()) and grant.kind == kind:
                found = grant
        if found is None:
            # looked up by its hash, which nobody can steer digit by digit
            found = self._issued.get(digest)
        return found if found is not None and found.kind == kind else None

    def _take(self, d: Definition) -> None:
        if d.kind != "key":
            return
        # the old hash goes last, so that a key that stays is never missing in between
        before = self._by_id.pop((d.workspace, d.id), None)
        now = None
        if not d.deleted:
            body = msgspec.json.decode(d.body, type=_Body)
            now = body.sha256
            self._issued[now] = Grant(d.workspace, body.kind, d.id, frozenset(body.scopes))
            self._by_id[(d.workspace, d.id)] = now
        if before is not None and before != now:
            self._issued.pop(before, None)
        for listener in self._listeners:
            listener()
