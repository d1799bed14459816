"""Conversations as events: opened by a member, answered, closed; repeats change nothing."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.community.dialogue import decide, fold
from services.community.model import Conversation, Work


def work(kind, id, at="2026-01-01T10:00:00Z", **more):
    return Work(kind, id, "demo", "m1", at, more.pop("channel", "sms"), **more)


def play(works):
    """Fold each work's events; (conversations in order, events)."""
    by_id, latest, events = {}, None, []
    for w in works:
        for e in decide(w, latest):
            events.append(e)
            found = fold(by_id.get(e.conversation_id), e)
            by_id[e.conversation_id] = latest = found
    return list(by_id.values()), events


def test_a_message_opens_an_answer_goes_on_and_closing_ends():
    (c,), _ = play([work("inbound", "w1", text="when?")])
    assert (c.status, c.channel, [m.direction for m in c.messages], c.first_response_s) == ("open", "sms", ["in"], None)
    reply = work(
        "reply", "w2", "2026-01-01T10:05:00Z", text="At nine.", conversation_id=c.id, actor="k1", touch_id="t1"
    )
    (c,), _ = play([work("inbound", "w1", text="when?"), reply])
    assert (c.first_response_s, c.assignee, c.messages[-1].touch_id) == (300.0, "k1", "t1")
    close = work("close", "w3", conversation_id=c.id)
    found, events = play([work("inbound", "w1"), reply, close, work("inbound", "w4")])
    assert [x.status for x in found] == ["closed", "open"]
    assert [e.kind for e in events] == [
        "conversation.opened", "conversation.message", "conversation.message", "conversation.closed",
        "conversation.opened", "conversation.message",
    ]  # fmt: skip


def test_a_reply_to_or_closing_of_what_is_not_open_does_nothing():
    for w in (work("reply", "x", conversation_id="c1", text="hi"), work("close", "x", conversation_id="c1")):
        assert decide(w, None) == []
    (c,), _ = play([work("inbound", "w1")])
    closed = Conversation("c9", "demo", "m1", "sms", "closed", "2026-01-01T00:00:00Z", 3)
    assert decide(work("reply", "x", conversation_id="c9"), closed) == []
    assert decide(work("close", "x", conversation_id="other"), c) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["inbound", "reply", "close"]), st.integers(0, 20)), max_size=15))
def test_sequences_rise_and_repeated_events_change_nothing(steps):
    latest, by_id, sequences, seen = None, {}, {}, set()
    for kind, n in steps:
        w = work(kind, f"w{n}-{kind}", text="x", conversation_id=latest.id if latest else "none")
        for e in decide(w, latest):
            if e.id in seen:  # as the agent does
                continue
            seen.add(e.id)
            assert e.sequence == sequences.get(e.conversation_id, 0) + 1
            sequences[e.conversation_id] = e.sequence
            once = fold(by_id.get(e.conversation_id), e)
            assert fold(once, e) == once
            by_id[e.conversation_id] = latest = once
    assert sum(c.status == "open" for c in by_id.values()) <= 1
