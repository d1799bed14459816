"""What became of touches: decisions, deliveries, engagement move the counts of the partition that wrote
the touch.

After a merge the gate and delivery speak of the winner's touches and the loser's alike from the
winner's partition. A report on a touch that was not written here is passed on to the partitions of
the members that were merged into the one it names; when no merge is known yet it waits for one.
"""

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from rondo_common import ids, topics
from rondo_common.outcomes import DeadLetter, Drop, Emit, Outcome, Save
from rondo_common.records import Move
from rondo_common.stage import States
from services.campaigns.handlers import shares
from services.campaigns.model import Absorbed, TouchState, absorbed_key, share_key, touch_key
from services.campaigns.run_counts import advance, engaged, let_through, on_their_way
from services.campaigns.touch_making import OCCURRENCE, STEP
from services.campaigns.touch_progress import Report, decided, delivered, engagement_name

MOST_HOPS = 8
MOST_WAITING = 50
SEND_RUN, STOP_RUN, REPLY_RUN = "transactional", "stop-confirmation", "reply-"
"""Run ids of single messages, which have no counts; an operator's reply adds its conversation's id."""


class About(msgspec.Struct, frozen=True):
    """What all three records say of a touch. Read by this stage instead of the whole record: decisions
    are long."""

    workspace: str
    member_id: str
    touch_id: str = ""
    run_id: str = ""
    attempt: int = 1
    verdict: str = ""
    lane: str = ""
    status: str = ""
    kind: str = ""
    actor: str = "human"
    reason: str | None = None
    settled: bool = False


def _counted(about: About) -> bool:
    run_id = about.run_id
    single = run_id in (SEND_RUN, STOP_RUN) or run_id.startswith(REPLY_RUN)
    return bool(about.touch_id and run_id) and not single


def keys(about: About) -> list[str]:
    """State keys a report touches."""
    if not _counted(about):
        return []
    if about.lane == "bulk" and _first_send(about):
        return [share_key(about.workspace, about.run_id)]  # most decisions of a broadcast: no touch's state is needed
    return [
        touch_key(about.touch_id),
        share_key(about.workspace, about.run_id),
        absorbed_key(about.workspace, about.member_id),
    ]


def on_report(
    what: str, about: About, raw: bytes, cause: str, states: States, now: int, hops: int = 0
) -> Iterator[Outcome]:
    """A report: `what` is decision, delivery or engagement, `raw` the record's bytes."""
    if not _counted(about):
        yield Drop("not_counted")
        return
    run = shares.find(states, about.workspace, about.run_id)
    broadcast = run is not None and run.kind == "broadcast"
    if run is not None and broadcast and _first_send(about):
        yield from shares.keep(states, about.workspace, let_through(run, now), now, before=run)
        return
    touch: TouchState | None = states.get(touch_key(about.touch_id))
    if touch is None and run is not None and broadcast and _written_here(about):
        if not on_their_way(run):
            yield Drop("not_counted")  # at its end, so long ago that its state is deleted
            return
        touch = TouchState(run.run_id)
    if touch is None:
        yield from _elsewhere(what, about, raw, cause, states, now, hops)
        return
    if run is None or touch.run_id != about.run_id:
        yield DeadLetter("foreign_run", f"{about.run_id} is not the run of {about.touch_id}")
        return
    report = _report(what, about)
    if isinstance(report, Report):
        moved = advance(run, touch, report, now, kept=not broadcast)
    else:
        moved = engaged(run, touch, report)
    if moved is None:
        yield Drop("known")
        return
    after, touch_after = moved
    yield Save(touch_key(about.touch_id), touch_after)
    if after is not run:
        yield from shares.keep(states, about.workspace, after, now, before=run)


def _first_send(about: About) -> bool:
    """Whether it is a first decision, and to send."""
    return about.verdict == "send" and about.attempt == 1


def _written_here(about: About) -> bool:
    """Whether the touch of a broadcast is one of the member the report names, so that this partition wrote
    it: else it is of one who was merged into that member."""
    return about.touch_id.partition(":")[0] == ids.touch_id(about.run_id, STEP, about.member_id, OCCURRENCE)


def _report(what: str, about: About) -> Report | str:
    """A step of the touch, or the name of an engagement ("" for none)."""
    if what == "decision":
        return decided(about.attempt, about.verdict, about.reason)
    if what == "delivery":
        return delivered(about.attempt, about.status, about.reason, about.settled) or about.status
    return engagement_name(about.kind, about.actor)


def _elsewhere(
    what: str, about: About, raw: bytes, cause: str, states: States, now: int, hops: int
) -> Iterator[Outcome]:
    key = absorbed_key(about.workspace, about.member_id)
    absorbed: Absorbed = states.get(key) or Absorbed()
    message = _moved(what, raw)
    if absorbed.origins:
        yield from passed_on(about.workspace, about.member_id, absorbed.origins, message, cause, now, hops)
    elif hops:
        yield Drop("not_counted")
    elif len(absorbed.waiting) < MOST_WAITING:
        yield Save(key, replace(absorbed, waiting=(*absorbed.waiting, message)))
    else:
        yield Drop("not_counted")


def passed_on(
    workspace: str, member_id: str, origins: dict[str, int], message: msgspec.Raw, cause: str, now: int, hops: int
) -> Iterator[Outcome]:
    """Send a report to where the touches of merged members were written."""
    if hops >= MOST_HOPS:
        yield Drop("hops")
        return
    for origin in origins:
        move = Move("campaigns", workspace, member_id, origin, now, message, hops + 1)
        id = ids.derived(cause, f"report:{origin}")
        yield Emit(topics.MOVES, ids.member_key(workspace, origin), move, "state.moved", id, origin)


def _moved(what: str, raw: bytes) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({what: msgspec.Raw(raw)}))
