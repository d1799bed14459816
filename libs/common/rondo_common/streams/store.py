"""The view of one stage's states in Redis. A view only: it is right when, and only when, its stored
position is the expected one, and every read and write here says which one that is (STREAMS 1).

Per partition three keys under the hash tag `{stage:partition}`:
  :s  hash   state key -> JSON; and ~~pos (offset in the state topic up to which the view is right, or
             "r:<offset>:<token>" during a restore), ~~at (ms of the last apply), ~~cluster, ~~topic
  :i  zset   state keys in lexicographic order (score 0), for sweeps and listings
  :t  zset   owner -> when its first timer is due
"""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import redis

from rondo_common.streams import scripts
from rondo_common.streams.codec import GLOBALS, OFFSETS, SWEEPS, TIMERS, Codec, earliest
from rondo_common.streams.overlay import Lost, Unreadable

POS = b"~~pos"


class Names(NamedTuple):
    """Redis keys of one partition."""

    states: str
    index: str
    timers: str


def names(stage: str, partition: int) -> Names:
    tag = f"{{{stage}:{partition}}}"
    return Names(f"{tag}:s", f"{tag}:i", f"{tag}:t")


class Meta(NamedTuple):
    """What a partition's view says about itself. All None or "" when there is none."""

    position: str
    cluster: str
    topic: str
    at: int


class Applied(NamedTuple):
    """After an apply: owners with timers, and when the first is due."""

    timers: int
    next_due: int | None


class Change(NamedTuple):
    """New states of a partition. `position` is where the log now stands; `fresh` are the keys of
    `states` that may not be in the index yet; `timers` maps an owner to its first due time or None."""

    expected: str
    position: str
    states: Mapping[str, bytes | None]
    fresh: Iterable[str]
    timers: Mapping[str, int | None]


def prefix_range(prefix: str, after: str = "") -> tuple[bytes, bytes]:
    """Bounds of ZRANGEBYLEX over keys that start with `prefix` and come after `after`."""
    low = b"(" + after.encode() if after else (b"[" + prefix.encode() if prefix else b"-")
    high = b"(" + prefix.encode() + b"\xff" if prefix else b"+"
    return low, high


class Store:
    """Reads and changes the view. RedisError comes out as `Lost` where states are read or changed."""

    def __init__(self, client: redis.Redis, stage: str, codec: Codec, indexed: frozenset[str] | None = None):
        self._redis = client
        self._stage = stage
        self._codec = codec
        self._indexed = indexed
        self._names: dict[int, Names] = {}
        self._shas: dict[str, str] = {}

    def names(self, partition: int) -> Names:
        found = self._names.get(partition)
        if found is None:
            found = self._names[partition] = names(self._stage, partition)
        return found

    # reading

    def read(
        self, wanted: Mapping[int, Sequence[str]], expected: Mapping[int, int]
    ) -> dict[int, dict[str, bytes | None] | None]:
        """States of several partitions in one round trip, each with its position in the same atomic
        HMGET; None for a partition whose position is not the expected one."""
        pipe = self._redis.pipeline(transaction=False)
        for partition, keys in wanted.items():
            pipe.execute_command("HMGET", self.names(partition).states, POS, *keys)
        try:
            answers = pipe.execute()
        except (redis.RedisError, OSError) as e:
            raise Lost(f"Redis does not answer: {e}") from e
        found: dict[int, dict[str, bytes | None] | None] = {}
        for (partition, keys), values in zip(wanted.items(), answers, strict=True):
            if values[0] == b"%d" % expected[partition]:
                found[partition] = dict(zip(keys, values[1:], strict=True))
            else:
                found[partition] = None
        return found

    def due(self, partition: int, expected: int, until: int, limit: int) -> list[tuple[str, int]]:
        """(owner, due) of owners whose first timer is due at or before `until`, earliest first."""
        answer = self._call(scripts.DUE, partition, expected, until, limit)
        if answer is None:
            raise Lost("the position is another one")
        return [(answer[i].decode(), int(float(answer[i + 1]))) for i in range(0, len(answer), 2)]

    def range(self, partition: int, expected: int, prefix: str, after: str, limit: int) -> list[str]:
        """The next state keys with `prefix` after `after`, in order."""
        low, high = prefix_range(prefix, after)
        answer = self._call(scripts.RANGE, partition, expected, low, high, limit)
        if answer is None:
            raise Lost("the position is another one")
        return [key.decode() for key in answer]

    def in_memory(self, partition: int, expected: int) -> dict[str, Any]:
        """The states the loop keeps in memory: offsets, globals and sweeps, decoded."""
        raws = self.read({partition: [OFFSETS]}, {partition: expected})[partition]
        if raws is None:
            raise Lost("the position is another one")
        raw = raws[OFFSETS]
        found: dict[str, Any] = {OFFSETS: {} if raw is None else self._decoded(OFFSETS, raw)}
        for prefix in (GLOBALS, SWEEPS):
            keys = self.range(partition, expected, prefix, "", 1_000_000)
            for at in range(0, len(keys), 1000):
                raws = self.read({partition: keys[at : at + 1000]}, {partition: expected})[partition]
                if raws is None:
                    raise Lost("the position is another one")
                found.update((k, self._decoded(k, raw)) for k, raw in raws.items() if raw is not None)
        return found

    def _decoded(self, key: str, raw: bytes) -> Any:
        try:
            return self._codec.decode(key, raw)
        except ValueError as e:
            raise Unreadable(key, e) from e

    def meta(self, partition: int) -> Meta:
        try:
            values = self._redis.hmget(self.names(partition).states, "~~pos", "~~cluster", "~~topic", "~~at")
        except (redis.RedisError, OSError) as e:
            raise Lost(f"Redis does not answer: {e}") from e
        pos, cluster, topic, at = ((v or b"").decode() for v in values)
        return Meta(pos, cluster, topic, int(at or 0))

    # changing

    def apply(self, changes: Mapping[int, Change]) -> dict[int, Applied | None]:
        """Change several partitions in one round trip; None for one whose position was not the expected
        one, which then is unchanged. Lost when Redis does not answer: then nothing is known."""
        calls = [(p, self._apply_args(c)) for p, c in changes.items()]
        sha = self._sha(scripts.APPLY)
        try:
            pipe = self._redis.pipeline(transaction=False)
            for p, args in calls:
                pipe.execute_command("EVALSHA", sha, 3, *self.names(p), *args)
            answers = pipe.execute(raise_on_error=False)
            for i, (p, args) in enumerate(calls):
                if isinstance(answers[i], redis.exceptions.NoScriptError):
                    answers[i] = self._redis.eval(scripts.APPLY, 3, *self.names(p), *args)
                elif isinstance(answers[i], Exception):
                    raise answers[i]
        except (redis.RedisError, OSError) as e:
            raise Lost(f"Redis does not answer: {e}") from e
        return {p: self._applied(answer) for (p, _), answer in zip(calls, answers, strict=True)}

    def _apply_args(self, c: Change) -> list[Any]:
        sets: list[Any] = []
        dels: list[Any] = []
        for key, raw in c.states.items():
            if raw is None:
                dels.append(key)
            else:
                sets += (key, raw)
        fresh = [k for k in c.fresh if self._in_index(k)]
        timers: list[Any] = []
        for owner, due in c.timers.items():
            timers += (owner, "" if due is None else due)
        head = (c.expected, c.position, int(time.time() * 1000), len(sets), len(dels), len(fresh), len(timers))
        return [*head, *sets, *dels, *fresh, *timers]

    def _in_index(self, key: str) -> bool:
        if key.startswith(TIMERS) or key == OFFSETS:
            return False
        return self._indexed is None or key[:2] in ("g:", "~s") or key.partition(":")[0] in self._indexed

    @staticmethod
    def _applied(answer: Sequence[Any]) -> Applied | None:
        if answer[0] != 1:
            return None
        return Applied(int(answer[1]), int(float(answer[2])) if answer[2] else None)

    def wipe(self, partition: int, marker: str, cluster: str, topic: str) -> None:
        """Forget a partition's view and begin its restore."""
        self._call(scripts.WIPE, partition, marker, cluster, topic)

    # scripts

    def _sha(self, script: str) -> str:
        sha = self._shas.get(script)
        if sha is None:
            sha = self._shas[script] = hashlib.sha1(script.encode()).hexdigest()
        return sha

    def _call(self, script: str, partition: int, *args: Any) -> Any:
        keys = self.names(partition)
        try:
            try:
                return self._redis.evalsha(self._sha(script), 3, *keys, *args)
            except redis.exceptions.NoScriptError:
                return self._redis.eval(script, 3, *keys, *args)
        except (redis.RedisError, OSError) as e:
            raise Lost(f"Redis does not answer: {e}") from e


def timer_changes(codec: Codec, states: Mapping[str, bytes | None]) -> dict[str, int | None]:
    """Owner -> first due time, for every owner's timers among `states`."""
    return {
        key[len(TIMERS) :]: None if raw is None else earliest(codec.decode(key, raw))
        for key, raw in states.items()
        if key.startswith(TIMERS)
    }
