"""The messages taken, in the order they came, kept across a restart.

inbox.log in the data folder holds length-prefixed msgpack records, appended and handed to the
operating system before the provider's answer leaves: a kill -9 loses nothing that was answered.
"""

import itertools
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from services.capture.model import Message, Stored

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Stored).decode


class Inbox:
    """All captured messages. Used from one event loop."""

    def __init__(self, folder: str, announce: Callable[[Message], None] = lambda _: None):
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        self._messages: dict[str, Message] = {}
        self._announce = announce
        self._path = path / "inbox.log"
        for stored in self._read():
            if stored.message is None:
                self._forget(stored.workspace)
            else:
                self._messages[stored.message.id] = stored.message
        self._log = open(self._path, "ab", buffering=0)  # noqa: SIM115 - open for the process's life
        last = max((int(i[1:]) for i in self._messages), default=0)
        self._numbers = itertools.count(last + 1)

    def _read(self) -> Iterator[Stored]:
        if not self._path.exists():
            return
        data = self._path.read_bytes()
        at = 0
        while at + 4 <= len(data):
            (size,) = struct.unpack_from("<I", data, at)
            if at + 4 + size > len(data):
                break  # torn by a kill; nobody was told that it was taken
            yield _decode(data[at + 4 : at + 4 + size])
            at += 4 + size
        if at < len(data):
            with open(self._path, "r+b") as f:
                f.truncate(at)

    def _append(self, stored: Stored) -> None:
        body = _encode(stored)
        self._log.write(struct.pack("<I", len(body)) + body)

    def next_id(self) -> str:
        return f"i{next(self._numbers)}"

    def close(self) -> None:
        self._log.close()

    def add(self, message: Message) -> None:
        self._append(Stored(message))
        self._messages[message.id] = message
        self._announce(message)

    def get(self, id: str) -> Message | None:
        return self._messages.get(id)

    def by_provider_id(self, provider_id: str) -> Message | None:
        return next((m for m in self._messages.values() if m.provider_id == provider_id), None)

    def clear(self, workspace: str | None = None) -> None:
        """Delete all messages, or those of a workspace."""
        self._append(Stored(workspace=workspace))
        self._forget(workspace)

    def _forget(self, workspace: str | None) -> None:
        kept = {} if workspace is None else {i: m for i, m in self._messages.items() if not _of(m, workspace)}
        self._messages = kept

    def find(
        self,
        *,
        channel: str | None = None,
        to: str | None = None,
        run_id: str | None = None,
        campaign: str | None = None,
        since: int | None = None,
        workspace: str | None = None,
        q: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[list[Message], str | None]:
        """Messages newest first that match all that is given, and the cursor of the next page (the id
        of the last one shown). `q` is looked for in addresses, subject, text and campaign, in any case."""
        found: list[Message] = []
        wanted = q.casefold() if q else ""
        below = int(after[1:]) if after else None
        for m in reversed(self._messages.values()):
            if below is not None and int(m.id[1:]) >= below:
                continue
            if (
                (channel and m.channel != channel)
                or (to and m.to.lower() != to.lower())
                or (run_id and m.args.get("r") != run_id)
                or (campaign and m.args.get("c") != campaign)
                or (workspace and not _of(m, workspace))
                or (since is not None and m.at < since)
                or (wanted and wanted not in _searched(m))
            ):
                continue
            if len(found) == limit:
                return found, found[-1].id
            found.append(m)
        return found, None

    def stats(self, workspace: str | None = None) -> dict[str, object]:
        """Totals; `repeats` counts messages beyond the first of one touch."""
        messages = [m for m in self._messages.values() if not workspace or _of(m, workspace)]
        touches = Counter(m.args["t"] for m in messages if m.args.get("t"))
        return {
            "total": len(messages),
            "distinct_touches": len(touches),
            "repeats": sum(n - 1 for n in touches.values()),
            "by_channel": dict(Counter(m.channel for m in messages)),
        }


def _of(m: Message, workspace: str) -> bool:
    """Whether a workspace may see it: its own, or one that says nothing of its cause."""
    return m.args.get("w", workspace) == workspace


def _searched(m: Message) -> str:
    return "\n".join((m.to, m.sender, m.subject or "", m.text, m.args.get("c", ""))).casefold()
