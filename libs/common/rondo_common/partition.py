"""The one partitioner: murmur2, as Kafka's Java client and librdkafka's `murmur2_random` hash keys.

Every member-keyed topic has the same partition count, so one key lies in the same partition
number of each of them. A test holds this function equal to what three clients really do.
"""

PARTITIONS = 8
"""Partitions of every member-keyed topic on a local stack; fixed at creation (64 in production)."""

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's murmur2 of `data` as an unsigned 32-bit number."""
    length = len(data)
    h = 0x9747B28C ^ length
    end = length - (length % 4)
    for i in range(0, end, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * _M) & _MASK
        k ^= k >> 24
        k = (k * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    rest = length % 4
    if rest:
        h ^= int.from_bytes(data[end:], "little")
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)


def partition_of(key: str | bytes, count: int = PARTITIONS) -> int:
    """Partition of `key` among `count`: (murmur2 & 0x7fffffff) % count."""
    data = key.encode() if isinstance(key, str) else key
    return (murmur2(data) & 0x7FFFFFFF) % count
