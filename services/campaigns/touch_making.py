"""The touches of one member of a run. Pure."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from rondo_common import active, ids, topics
from rondo_common.clock import iso
from rondo_common.outcomes import Emit, Outcome, Save
from rondo_common.records import Definition, Touch
from rondo_common.stage import States
from services.campaigns.bodies import CampaignBody, campaign_of
from services.campaigns.model import RunShare, TouchState, touch_key

STEP = "main"
OCCURRENCE = "1"
"""Of a broadcast's touches."""
TOUCH_TYPE = "touch.planned"


def template_version(states: States, workspace: str, template: str) -> int | None:
    """The newest version of a template in this partition; a deleted one's last is still good for what
    was begun with it."""
    d = states.get(active.latest_key(workspace, "template", template))
    if d is None:
        return None
    return d.version - 1 if d.deleted else d.version


def make_touches(
    states: States,
    workspace: str,
    run: RunShare,
    body: CampaignBody,
    member_id: str,
    occurrence: str,
    at: int,
    lane: str,
    now: int,
    data: Any = None,
    event: Any = None,
) -> Iterator[Outcome]:
    """Write the touch of a member, under channel_rule `all` one a channel, and note each as pending.
    `at` (ms) is when the gate is to decide; `data` and `event` are Raw or None."""
    version = template_version(states, workspace, body.template)
    for channels in _each(body):
        id = ids.touch_id(run.run_id, STEP, member_id, occurrence, channels[0] if body.several else None)
        touch = _touch(workspace, run, body, channels, occurrence, at, lane, version, data)
        touch.touch_id, touch.member_id, touch.event = id, member_id, event
        key = ids.member_key(workspace, member_id)
        yield Emit(topics.touches(lane), key, touch, TOUCH_TYPE, id, member_id)
        yield Save(touch_key(id), TouchState(run.run_id, at=now))


def broadcast_touches(
    states: States, workspace: str, run: RunShare, definition: Definition, member_id: str
) -> Iterator[Outcome]:
    """The touches of a broadcast, whose campaign's version is `definition`, for one member. No state is kept for them: that they are pending follows
    from the share, which counts them (see `touch_progress`)."""
    body = campaign_of(definition)
    version = template_version(states, workspace, body.template)
    place = workspace, run.run_id
    known = _made.get(place)
    # of one partition they are the same objects for all members of a part of the run
    if known is None or known[0] is not definition or known[1] != version or known[2] is not run.data:
        if len(_made) >= _MOST_MADE:
            _made.clear()
        known = _made[place] = definition, version, run.data, _moulds(workspace, run, definition, version)
    moulds = known[3]
    key = ids.member_key(workspace, member_id)
    topic = topics.touches(run.lane)
    for mould in moulds:
        id = ids.touch_id(run.run_id, STEP, member_id, OCCURRENCE, mould.channel)
        value = b"".join((mould.head, id.encode(), mould.middle, member_id.encode(), mould.tail))
        yield Emit(topic, key, value, TOUCH_TYPE, id, member_id)


class Mould(NamedTuple):
    """A run's touch as JSON with two gaps, for the touch's id and the member's. `channel` only where the
    touch is one of several."""

    channel: str | None
    head: bytes
    middle: bytes
    tail: bytes


_MOST_MADE = 256
_made: dict[tuple[str, str], tuple[Definition, int | None, Any, tuple[Mould, ...]]] = {}


def _moulds(workspace: str, run: RunShare, definition: Definition, template: int | None) -> tuple[Mould, ...]:
    """Made once a run: what differs between members is only the two ids (encoding each touch took a third
    of an expansion's time)."""
    body = campaign_of(definition)
    made = []
    for channels in _each(body):
        touch = _touch(workspace, run, body, channels, OCCURRENCE, run.due, run.lane, template, run.data)
        touch.touch_id, touch.member_id = "<touch>", "<member>"
        head, _, rest = msgspec.json.encode(touch).partition(b"<touch>")
        middle, _, tail = rest.partition(b"<member>")
        made.append(Mould(channels[0] if body.several else None, head, middle, tail))
    return tuple(made)


def _each(body: CampaignBody) -> list[list[str]]:
    """The channels of each touch of one member."""
    listed: list[str] = [*body.channels]
    return [[c] for c in listed] if body.several else [listed]


def _touch(
    workspace: str,
    run: RunShare,
    body: CampaignBody,
    channels: list[str],
    occurrence: str,
    at: int,
    lane: str,
    template: int | None,
    data: Any,
) -> Touch:
    """A touch of a run without the ids of touch and member."""
    expires = body.expires_ms
    return Touch(
        workspace=workspace,
        touch_id="",
        run_id=run.run_id,
        campaign=run.campaign,
        version=run.version,
        step=STEP,
        member_id="",
        occurrence=occurrence,
        class_=body.class_,
        topic=body.topic,
        lane=lane,
        channels=channels,
        channel_rule=body.channel_rule,
        decide_at=iso(at),
        template=body.template,
        template_version=template,
        priority=body.priority,
        value=body.value,
        not_after=iso(at + expires) if expires else None,
        tags=body.tags,
        data=data,
    )


def end_marker(states: States, workspace: str, run: RunShare, body: CampaignBody) -> Emit:
    """Says that all touches of the run's share are out."""
    marker = Touch(
        workspace=workspace,
        touch_id="",
        run_id=run.run_id,
        campaign=run.campaign,
        version=run.version,
        step=STEP,
        member_id="",
        occurrence="",
        class_=body.class_,
        topic=body.topic,
        lane=run.lane,
        channels=list(body.channels),
        decide_at=iso(run.due),
        kind="end",
    )
    id = ids.derived(f"{workspace}:{run.run_id}:{states.partition}", "end")
    key = f"{workspace}:run:{run.run_id}"
    return Emit(topics.touches(run.lane), key, marker, "run.expanded", id, partition=states.partition)
