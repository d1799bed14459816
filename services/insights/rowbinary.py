"""Values in ClickHouse's RowBinary. Pure.

The engine reads it several times as fast as JSON, and making it costs less than quoting a record's JSON
inside another JSON.
"""

import struct
from collections.abc import Callable

_SHORT = [bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(1 << 14)]
place: Callable[[int, int], bytes] = struct.Struct("<HQ").pack
"""_partition UInt16, _offset UInt64."""
int64: Callable[[int], bytes] = struct.Struct("<q").pack


def size(n: int) -> bytes:
    """A length, as it stands before a String or an Array."""
    if n < 1 << 14:
        return _SHORT[n]
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def blob(value: bytes) -> bytes:
    """String, of bytes."""
    return size(len(value)) + value


def text(value: str) -> bytes:
    """String or LowCardinality(String)."""
    data = value.encode()
    return size(len(data)) + data


def uint128(value: int) -> bytes:
    """UInt128."""
    return value.to_bytes(16, "little")
