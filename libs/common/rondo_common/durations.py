"""ISO 8601 durations in weeks, days, hours, minutes and seconds. A day is 24 hours (WIRE).

Years and months are refused: their length depends on the calendar.
"""

import re

MOST_MS = 36_525 * 86_400_000
"""Longest duration taken: a hundred years."""

_FORM = re.compile(
    r"P(?:(?P<w>\d{1,9})W)?(?:(?P<d>\d{1,9})D)?"
    r"(?P<t>T(?:(?P<h>\d{1,9})H)?(?:(?P<m>\d{1,9})M)?(?:(?P<s>\d{1,9})(?:\.(?P<f>\d{1,3}))?S)?)?",
    re.ASCII,
)
_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}


def parse_duration(text: str) -> int:
    """Milliseconds of a duration such as P90D, PT30M, P1DT12H or PT0.5S. ValueError for anything else."""
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if not found or found["t"] == "T" or text == "P":
        raise ValueError(f"not a duration in W, D, H, M and S: {text!r}; such as P90D or PT30M")
    ms = sum(int(found[unit]) * length for unit, length in _UNITS.items() if found[unit])
    if found["f"]:
        ms += int(found["f"].ljust(3, "0"))
    if ms > MOST_MS:
        raise ValueError(f"longer than a hundred years: {text!r}")
    return ms
