"""Reading Prometheus text, as much of it as the pages need. Pure."""

import re
from collections.abc import Collection

Labels = tuple[tuple[str, str], ...]
"""Sorted (name, value) pairs."""
Metrics = dict[str, dict[Labels, float]]
"""Values by metric and labels."""

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def parse(text: str, wanted: Collection[str]) -> Metrics:
    """The samples of the `wanted` metrics. Lines that can't be read are left out."""
    out: Metrics = {name: {} for name in wanted}
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        if not brace:
            name, _, rest = line.partition(" ")
        if name not in out:
            continue
        inside, _, value = rest.rpartition("}") if brace else ("", "", rest)
        labels = tuple(sorted((k, _plain(v)) for k, v in _LABEL.findall(inside)))
        try:
            out[name][labels] = float(value.split()[0])
        except (ValueError, IndexError):
            continue
    return out


def _plain(value: str) -> str:
    return re.sub(r"\\.", lambda m: _ESCAPES.get(m[0], m[0]), value) if "\\" in value else value


def total(metrics: Metrics | None, name: str, **labels: str) -> float:
    """Sum of a metric's samples that have these labels; 0 without any."""
    wanted = set(labels.items())
    return sum(v for have, v in (metrics or {}).get(name, {}).items() if wanted <= set(have))


def by(metrics: Metrics | None, name: str, label: str, **labels: str) -> dict[str, float]:
    """Sums of a metric by one label, of the samples that have the other labels."""
    wanted = set(labels.items())
    out: dict[str, float] = {}
    for have, value in (metrics or {}).get(name, {}).items():
        if wanted <= set(have):
            key = dict(have).get(label, "")
            out[key] = out.get(key, 0.0) + value
    return out
