"""Reading the stage's states from beside it: members, counts, how far a version is live. Blocking; for
threads. A partition that can't be read is Problem 503, never "nobody"."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from rondo_common.definitions import DefinitionStore
from rondo_common.ids import member_key
from rondo_common.problems import unavailable
from rondo_common.records import Definition
from rondo_common.streams.view import StateView, Unavailable
from services.segmentation.kept import opened, whole
from services.segmentation.model import Count, Live, Member, count_key, live_key, state_key
from services.segmentation.ruleset import RuleSet

MOST_HOPS = 8
_PAGE = 1_000


@dataclass(frozen=True)
class Standing:
    """Members in a segment, and in which share of the partitions its newest version is live."""

    count: int
    progress: float

    @property
    def live(self) -> bool:
        return self.progress >= 1.0


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Unavailable as e:
        raise unavailable("segmentation", str(e)) from e


class States:
    """The stage's states, and the compiled rules of each workspace. `address_ids(workspace)` makes ids of
    addresses."""

    def __init__(
        self,
        view: StateView,
        definitions: DefinitionStore,
        address_ids: Callable[[str], Callable[[str, str], str]],
    ):
        self._view = view
        self._definitions = definitions
        self._address_ids = address_ids
        self._compiled: dict[str, tuple[dict[str, int], RuleSet]] = {}
        self._lock = Lock()

    def rules(self, workspace: str) -> RuleSet:
        """The newest versions of the workspace's segments, compiled once."""
        definitions = self._definitions.list(workspace, "segment")
        versions = {d.id: d.version for d in definitions}
        with self._lock:
            known = self._compiled.get(workspace)
            if known is None or known[0] != versions:
                known = versions, RuleSet(definitions, self._address_ids(workspace))
                self._compiled[workspace] = known
            return known[1]

    def standing(self, workspace: str, definitions: Sequence[Definition]) -> list[Standing]:
        """How each segment stands, in the order given."""
        keys = [key(workspace, d.id) for d in definitions for key in (count_key, live_key)]
        counts = [0] * len(definitions)
        live = [0] * len(definitions)
        with _readable():
            for partition in range(self._view.partitions):
                found: list[Count | Live | None] = self._view.get_many(partition, keys)
                for i, d in enumerate(definitions):
                    count, marker = found[2 * i : 2 * i + 2]
                    counts[i] += count.members if isinstance(count, Count) else 0
                    live[i] += isinstance(marker, Live) and marker.version >= d.version
        return [Standing(c, n / self._view.partitions) for c, n in zip(counts, live, strict=True)]

    def member(self, workspace: str, member_id: str) -> tuple[str, Member] | None:
        """A member that counts, by its id or that of one merged into it; None when there is none."""
        with _readable():
            for _ in range(MOST_HOPS):
                member = self._view.get(member_key(workspace, member_id), state_key(workspace, member_id))
                if member is None or member.merged_into is None:
                    return (member_id, whole(member)) if member is not None and member.counts else None
                member_id = member.merged_into
        return None

    def members(self, workspace: str) -> Iterator[tuple[str, Member]]:
        """All members of a workspace that count."""
        for partition in range(self._view.partitions):
            yield from self._of_partition(workspace, partition, "")

    def page(self, workspace: str, segment: str, after: str, limit: int) -> list[tuple[str, Member]]:
        """The first `limit` members of a segment whose ids come after `after`, in order of ids."""
        found: list[tuple[str, Member]] = []
        for partition in range(self._view.partitions):
            inside = 0
            for row in self._of_partition(workspace, partition, after):
                if segment in row[1].inside:
                    found.append(row)
                    inside += 1
                    if inside == limit:
                        break
        return sorted(found, key=lambda row: row[0])[:limit]

    def _of_partition(self, workspace: str, partition: int, after: str) -> Iterator[tuple[str, Member]]:
        prefix = state_key(workspace, "")
        cursor: str | None = prefix + after if after else None
        while True:
            with _readable():
                rows, cursor = self._view.scan(prefix, partition, cursor, _PAGE)
            for key, member in rows:
                if member.counts:
                    yield key[len(prefix) :], opened(member)
            if cursor is None:
                return
