"""What a member asked for: tempo, pause, quiet hours, channels. Pure."""

from typing import Annotated, Any

import msgspec

from rondo_common.clock import from_iso, iso
from services.profiles.model import CHANNEL_SET, Trait

_Clock = Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class Quiet(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    from_: _Clock
    to: _Clock


class Preferences(msgspec.Struct, forbid_unknown_fields=True):
    """Body of PUT /v1/members/{id}/preferences. A field that is absent stays as it is, null clears it."""

    tempo: dict[str, str] | msgspec.UnsetType | None = msgspec.UNSET
    paused_until: str | msgspec.UnsetType | None = msgspec.UNSET
    quiet_hours: Quiet | msgspec.UnsetType | None = msgspec.UNSET
    channels: list[str] | msgspec.UnsetType | None = msgspec.UNSET


_decode = msgspec.json.Decoder(Preferences).decode


def read(data: msgspec.Raw, at: int) -> dict[str, Trait]:
    """The fields that `data` sets, said at `at`. ValueError (msgspec.ValidationError is one) when it
    is not of that form."""
    p = _decode(data)
    if isinstance(p.paused_until, str):
        p.paused_until = iso(from_iso(p.paused_until))
    if isinstance(p.channels, list) and not CHANNEL_SET.issuperset(p.channels):
        raise ValueError(f"channels: some of {', '.join(sorted(CHANNEL_SET))}")
    out = {}
    for name in Preferences.__struct_fields__:
        value = getattr(p, name)
        if value is not msgspec.UNSET:
            out[name] = Trait(at, msgspec.Raw(msgspec.json.encode(value)))
    return out


def values(preferences: dict[str, Trait]) -> dict[str, Any]:
    """The fields that are set, decoded."""
    found = {name: msgspec.json.decode(t.value) for name, t in sorted(preferences.items())}
    return {name: value for name, value in found.items() if value is not None}
