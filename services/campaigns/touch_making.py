"""The touches of one member of a run. Pure."""

from collections.abc import Iterator
from typing import Any

from rondo_common import active, ids, topics
from rondo_common.clock import iso
from rondo_common.outcomes import Emit, Outcome, Save
from rondo_common.records import Touch
from rondo_common.stage import States
from services.campaigns.bodies import CampaignBody
from services.campaigns.model import RunShare, TouchState, touch_key

STEP = "main"
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
    expires = body.expires_ms
    several = body.channel_rule == "all"
    listed: list[str] = [*body.channels]
    for channels in [[c] for c in listed] if several else [listed]:
        id = ids.touch_id(run.run_id, STEP, member_id, occurrence, channels[0] if several else None)
        touch = Touch(
            workspace=workspace,
            touch_id=id,
            run_id=run.run_id,
            campaign=run.campaign,
            version=run.version,
            step=STEP,
            member_id=member_id,
            occurrence=occurrence,
            class_=body.class_,
            topic=body.topic,
            lane=lane,
            channels=channels,
            channel_rule=body.channel_rule,
            decide_at=iso(at),
            template=body.template,
            template_version=version,
            priority=body.priority,
            value=body.value,
            not_after=iso(at + expires) if expires else None,
            tags=body.tags,
            data=data,
            event=event,
        )
        key = ids.member_key(workspace, member_id)
        yield Emit(topics.touches(lane), key, touch, TOUCH_TYPE, id, member_id)
        yield Save(touch_key(id), TouchState(run.run_id, at=now))


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
