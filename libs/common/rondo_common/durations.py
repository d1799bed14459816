"""ISO 8601 durations as WIRE uses them: weeks, days, hours, minutes, seconds. Pure.

A day is 24 hours; years and months have no fixed length and are refused.
"""

import re

_DURATION = re.compile(
    r"P(?:(?P<w>\d+)W)?(?:(?P<d>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+)(?:\.(?P<f>\d{1,3}))?S)?)?",
    re.ASCII,
)
_LONGEST = 1000 * 366 * 86_400_000


def parse_duration(text: str) -> int:
    """Milliseconds of a duration such as P7D or PT1H30M. ValueError for anything else, and for more
    than a thousand years."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) and len(text) < 64 else None
    if match is None or not any(v is not None for v in match.groups()):
        raise ValueError(f"not a duration in W D H M S: {text!r}")
    n = {k: int(v) for k, v in match.groupdict().items() if v is not None and k != "f"}
    fraction = int((match["f"] or "").ljust(3, "0"))
    days = n.get("w", 0) * 7 + n.get("d", 0)
    ms = (((days * 24 + n.get("h", 0)) * 60 + n.get("m", 0)) * 60 + n.get("s", 0)) * 1000 + fraction
    if ms > _LONGEST:
        raise ValueError(f"longer than a thousand years: {text!r}")
    return ms
