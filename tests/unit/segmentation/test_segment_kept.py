"""A member's state in pieces has the bytes of the whole one."""

import msgspec

from services.segmentation import kept, series
from services.segmentation.model import KNOWN, Inside, Member, Series, Suppressed

MEMBER = Member(
    KNOWN,
    1_700_000_000_000,
    "u1",
    {"plan": [(1, "gold"), (2, None)], "address": [(3, {"city": "Zürich", "zip": [1, 2.5]})]},
    {"Viewed": Series([1, 2], [7, 8], {"price": [1.5, None]}), "page:Home": Series([5], [9], {})},
    {"email:offers": [(1, True), (2, False)]},
    {"sent": Series([4], [11], {"campaign": ["spring"]})},
    [Suppressed("sms", 3, "a1")],
    {"gold": Inside(1, 2)},
    {"gold": 99},
    None,
    3,
    {"m2": 1},
)
RAW = msgspec.json.encode(MEMBER)


def read() -> kept.Kept:
    return msgspec.json.decode(RAW, type=kept.Kept)


def test_the_fields_are_those_of_a_member_in_its_order() -> None:
    assert [f.name for f in msgspec.structs.fields(kept.Kept)] == [f.name for f in msgspec.structs.fields(Member)]
    assert msgspec.json.encode(kept.Kept()) == msgspec.json.encode(Member())


def test_what_nobody_asked_for_and_what_was_looked_at_are_written_as_they_came() -> None:
    member = kept.opened(read())
    assert msgspec.json.encode(kept.state_of(member)) == RAW
    assert dict(member.events) == MEMBER.events and dict(member.traits.items()) == MEMBER.traits
    assert member.consents.get("email:offers") == [(1, True), (2, False)] and member.consents.get("sms:x", ()) == ()
    assert msgspec.json.encode(kept.state_of(member)) == RAW
    assert kept.whole(read()) == MEMBER


def test_an_entry_more_leaves_the_others_and_the_map_before_alone() -> None:
    member = kept.opened(read())
    added = series.add(member.messages.get("sent"), 6, 12, {"campaign": "may"})
    after = msgspec.structs.replace(member, messages=kept.put(member.messages, "sent", added))
    plain = msgspec.structs.replace(MEMBER, messages=kept.put(MEMBER.messages, "sent", added))
    assert msgspec.json.encode(kept.state_of(after)) == msgspec.json.encode(plain)
    assert msgspec.json.encode(kept.state_of(member)) == RAW
    # a state that was saved earlier in the batch is opened again as it is
    again = kept.opened(kept.state_of(after))
    assert again.messages.get("sent") == added and len(again.events) == 2 and "Viewed" in again.events
