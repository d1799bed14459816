"""Columns of events: adding one, and joining two histories. Neither changes what it is given. Pure.

Both are independent of order and of repeats: adding the same events in any order, some of them
twice, ends in the same series (but for what the limits of `model` cut away).
"""

from bisect import bisect_right
from hashlib import blake2b
from typing import Any

import msgspec

from services.segmentation.model import COLUMNS, EVENTS_KEPT, LIST_KEPT, TEXT_KEPT, Series

_SCALARS = (str, int, float, bool)


def mark_of(id: str) -> int:
    """A 48-bit mark of an id, to tell events of one instant apart."""
    return int.from_bytes(blake2b(id.encode(), digest_size=6).digest())


def compact(value: Any, depth: int = 2) -> Any:
    """A trait's value as it is kept: texts and lists cut, objects to `depth` levels."""
    if type(value) is str:
        return value[:TEXT_KEPT]
    if type(value) is list:
        return [compact(one, 0) for one in value[:LIST_KEPT] if type(one) in _SCALARS]
    if type(value) is dict:
        return {name: compact(one, depth - 1) for name, one in value.items()} if depth > 0 else {}
    return value


def flat(properties: msgspec.Raw | None) -> dict[str, Any]:
    """An event's properties as they are kept: scalars and lists of scalars, by name; those of nested
    objects as `outer.inner`, three levels deep."""
    if properties is None:
        return {}
    found = msgspec.json.decode(properties)
    out: dict[str, Any] = {}
    if type(found) is dict:
        _flatten(found, "", 3, out)
    return out


def _flatten(values: dict[str, Any], prefix: str, depth: int, out: dict[str, Any]) -> None:
    for name, value in values.items():
        if type(value) is dict:
            if depth > 1:
                _flatten(value, f"{prefix}{name}.", depth - 1, out)
        elif value is not None:
            out[prefix + name] = compact(value, 0)


def add(series: Series | None, at: int, mark: int, values: dict[str, Any]) -> Series | None:
    """The series with one event more; None when it has that event."""
    if series is None:
        return Series([at], [mark], {name: [values[name]] for name in list(values)[:COLUMNS]})
    times, marks = series.at, series.marks
    i = bisect_right(times, at)
    first = i
    while first > 0 and times[first - 1] == at:
        first -= 1
        if marks[first] == mark:
            return None
    while i > first and marks[i - 1] > mark:
        i -= 1
    columns = {name: [*c[:i], values.get(name), *c[i:]] for name, c in series.columns.items()}
    for name in values:
        if name not in columns and len(columns) < COLUMNS:
            column: list[Any] = [None] * (len(times) + 1)
            column[i] = values[name]
            columns[name] = column
    return _newest(Series([*times[:i], at, *times[i:]], [*marks[:i], mark, *marks[i:]], columns))


def add_once(series: Series | None, at: int, mark: int, values: dict[str, Any]) -> Series | None:
    """Like `add` where a mark may be in the series only once, at its earliest time."""
    if series is not None and mark in series.marks:
        i = series.marks.index(mark)
        if series.at[i] <= at:
            return None
        series = _pick(series, [n for n in range(len(series.at)) if n != i])
    return add(series, at, mark, values)


def join(a: Series | None, b: Series, once: bool = False) -> Series:
    """All events of both; `once` as in `add_once`."""
    if a is None or not a.at:
        return b
    rows: dict[Any, tuple[int, int, Series, int]] = {}
    for series in (a, b):
        for i, (at, mark) in enumerate(zip(series.at, series.marks, strict=True)):
            key = mark if once else (at, mark)
            if key not in rows or at < rows[key][0]:
                rows[key] = (at, mark, series, i)
    kept = sorted(rows.values(), key=lambda row: row[:2])
    names = list(dict.fromkeys([*a.columns, *b.columns]))[:COLUMNS]
    return _newest(
        Series(
            [row[0] for row in kept],
            [row[1] for row in kept],
            {n: [s.columns[n][i] if n in s.columns else None for _, _, s, i in kept] for n in names},
        )
    )


def _newest(series: Series) -> Series:
    extra = len(series.at) - EVENTS_KEPT
    return series if extra <= 0 else _pick(series, list(range(extra, len(series.at))))


def _pick(series: Series, rows: list[int]) -> Series:
    return Series(
        [series.at[i] for i in rows],
        [series.marks[i] for i in rows],
        {name: [c[i] for i in rows] for name, c in series.columns.items()},
    )
