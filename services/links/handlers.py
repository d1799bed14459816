"""What following an address means: the engagement record behind it. Pure but for what it remembers of
the last second."""

from collections import OrderedDict
from collections.abc import Mapping

from rondo_common import ids
from rondo_common.clock import iso
from rondo_common.links import Link
from rondo_common.records import Engagement
from services.links.classify import Actor, Recent, classify

KIND_OF = {"click": "clicked", "open": "opened", "unsubscribe": "unsubscribed"}
_MOST_IDS = 50_000


class Follower:
    """Makes engagement records. Repeats of the same act within a second are one."""

    def __init__(self) -> None:
        self._recent = Recent()
        self._written: OrderedDict[str, None] = OrderedDict()

    def follow(self, link: Link, method: str, headers: Mapping[str, str], now: int, ticks: int) -> Engagement | None:
        """The record of an open or click at `now`; None when it is the repeat of one. `ticks`: ms of a
        clock that always runs."""
        burst = self._recent.burst(link.touch_id, link.url if link.kind == "click" else None, ticks)
        made = engagement(link, now, classify(method, headers, burst), link.topic)
        if made.id in self._written:
            return None
        self._written[made.id] = None
        if len(self._written) > _MOST_IDS:
            self._written.popitem(last=False)
        return made


def engagement(link: Link, now: int, actor: Actor, topic: str) -> Engagement:
    """The record of an act. Its id is the same for the same act by the same kind of actor within a second."""
    cause = f"{link.workspace}:{link.member_id}:{link.touch_id}:{link.kind}:{link.url}:{topic}:{actor.actor}"
    return Engagement(
        workspace=link.workspace,
        id=ids.derived(cause, str(now // 1000)),
        kind=KIND_OF[link.kind],
        member_id=link.member_id,
        at=iso(now),
        actor=actor.actor,
        touch_id=link.touch_id or None,
        campaign=link.campaign or None,
        run_id=link.run_id or None,
        channel=link.channel or None,
        topic=topic or None,
        link=link.url or None,
    )
