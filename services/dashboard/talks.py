"""Conversations as the pages show them: who waits for an answer, and for how long. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from services.dashboard import words


class Line(NamedTuple):
    """One message."""

    incoming: bool
    text: str
    at: str


class Talk(NamedTuple):
    """An open conversation. `waiting_s`: seconds since the member's first message that nobody answered,
    None when the last word is ours."""

    id: str
    member_id: str
    who: str
    channel: str
    opened_at: str
    waiting_s: float | None
    lines: list[Line]

    @property
    def last(self) -> str:
        """The member's last words, shortened."""
        text = next((line.text for line in reversed(self.lines) if line.incoming), "")
        return text if len(text) <= 90 else text[:89] + "…"


def name_of(member: Mapping[str, Any]) -> str:
    """What to call a member of the API: their name, else their user id, else nothing."""
    traits = member.get("traits") or {}
    full = " ".join(str(traits[k]) for k in ("firstName", "lastName") if traits.get(k))
    return full or str(traits.get("name") or member.get("user_id") or "")


def talk(conversation: Mapping[str, Any], names: Mapping[str, str], now: int) -> Talk:
    """A conversation of the API. `now` in ms."""
    lines = [
        Line(m.get("direction") == "in", str(m.get("text") or ""), str(m.get("at") or ""))
        for m in conversation.get("messages", ())
    ]
    waiting = None
    for line in reversed(lines):
        if not line.incoming:
            break
        waiting = words.seconds_since(line.at, now)
    member_id = str(conversation.get("member_id") or "")
    return Talk(
        id=str(conversation["id"]),
        member_id=member_id,
        who=names.get(member_id) or f"Member {member_id[:8]}",
        channel=words.channel(str(conversation.get("channel") or "")),
        opened_at=str(conversation.get("opened_at") or ""),
        waiting_s=waiting,
        lines=lines,
    )


def ordered(conversations: Iterable[Mapping[str, Any]], names: Mapping[str, str], now: int) -> list[Talk]:
    """Those who wait first, the longest before the others."""
    found = [talk(c, names, now) for c in conversations]
    return sorted(found, key=lambda t: (t.waiting_s is None, -(t.waiting_s or 0.0), t.id))
