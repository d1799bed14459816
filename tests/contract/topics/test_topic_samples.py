"""Records of the first version, captured from a running system, against today's readers.

tests/samples/topics holds them (python -m tools.samples makes them). A topic's version promises that what
was written once can be read as long as the version stands: fields are added as optional, never renamed,
retyped or made to be required; readers leave alone what they don't know.
"""

import importlib
import json
from pathlib import Path

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

from rondo_common import topics
from rondo_common.active import GLOBAL_TYPES
from rondo_common.catalogue import TOPICS
from rondo_common.streams.codec import Codec
from services.community.model import Work

FOLDER = Path(__file__).parents[2] / "samples" / "topics"
STATES = {
    topics.IDENTITIES: "profiles",
    topics.SEGMENTATION_STATE: "segmentation",
    topics.JOURNEYS: "campaigns",
    topics.RHYTHM: "rhythm",
    topics.SENDS_STATE: "delivery",
    topics.EGRESS_STATE: "egress",
}
"""State topics and the service whose stage reads them."""
NOBODY_WRITES = {topics.sends("social", lane) for lane in topics.LANES}
"""Topics of the catalogue that no service of this version writes."""
NO_EVENTS = {*STATES, topics.DEFINITIONS, topics.CAPTURED, topics.AUDIT}
"""Topics that are no events: states, definitions, and what only operators read. They need no CloudEvents headers."""
FUTURE = "x_added_later"
KEPT = sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def stored(topic):
    return [json.loads(line) for line in (FOLDER / f"{topic}.jsonl").read_text().splitlines()]


def samples(topic):
    """Every stored sample that has a value."""
    return [one for one in stored(topic) if one["value"] is not None]


def codec(service):
    """How a service reads its states: by its Stage's `types`, which campaigns makes of its STATE_TYPES."""
    module = importlib.import_module(f"services.{service}.streams")
    stages = [c for c in vars(module).values() if isinstance(c, type) and hasattr(c, "touches")]
    (types,) = [c.types for c in stages if isinstance(getattr(c, "types", None), dict)] or [
        {**module.STATE_TYPES, **GLOBAL_TYPES}
    ]
    return Codec(types)


def reader(topic, key):
    """What decodes a value of a topic today."""
    if topic in STATES:
        mine = codec(STATES[topic])
        return lambda value: mine.decode(key, value)
    kind = Work if topic == topics.COMMUNITY_WORK else TOPICS[topic].value
    return msgspec.json.Decoder(kind).decode


def encode(value):
    return json.dumps(value).encode()


def plain(read):
    """What a reader has, as JSON values: every field of every Struct under its name on the wire."""
    if isinstance(read, msgspec.Struct):
        values = [plain(getattr(read, name)) for name in read.__struct_fields__]
        return (
            values
            if read.__struct_config__.array_like
            else dict(zip(read.__struct_encode_fields__, values, strict=True))
        )
    if isinstance(read, msgspec.Raw):
        return json.loads(bytes(read))
    if isinstance(read, dict):
        return {key: plain(value) for key, value in read.items()}
    if isinstance(read, (list, tuple)):
        return [plain(value) for value in read]
    return msgspec.to_builtins(read)


def kept(was, now):
    """Whether all that a sample says is there in what today's reader has. A field that said nothing may be
    unknown by now."""
    if isinstance(was, dict):
        return isinstance(now, dict) and all((k in now and kept(v, now[k])) or not v for k, v in was.items())
    if isinstance(was, list):
        return isinstance(now, list) and len(was) <= len(now) and all(map(kept, was, now))
    return was == now


def grown(value, read):
    """`value` as a later version may write it: with one more field in every Struct that `read` has."""
    if isinstance(read, msgspec.Struct):
        if isinstance(value, list):
            return [*map(grown, value, (getattr(read, f) for f in read.__struct_fields__)), FUTURE]
        names = dict(zip(read.__struct_encode_fields__, read.__struct_fields__, strict=True))
        more = {k: grown(v, getattr(read, names[k])) if k in names else v for k, v in value.items()}
        return {**more, FUTURE: {"deep": [1]}}
    if isinstance(read, (list, tuple)) and isinstance(value, list):
        return [grown(v, r) for v, r in zip(value, read, strict=True)]
    if isinstance(read, dict) and isinstance(value, dict):
        return {k: grown(v, read[k]) if k in read else v for k, v in value.items()}
    return value


def test_every_topic_has_samples():
    there = {path.stem for path in FOLDER.glob("*.jsonl")}
    wanted = {name for name in TOPICS if not name.endswith(".dlq")} - NOBODY_WRITES
    assert wanted - there == set()
    assert there - set(TOPICS) == set()


@pytest.mark.parametrize("topic", KEPT)
def test_a_sample_is_read_whole(topic):
    for one in samples(topic):
        read = reader(topic, one["key"])(one["value"].encode())
        assert kept(json.loads(one["value"]), plain(read)), "a field is gone or has another name"


@pytest.mark.parametrize("topic", KEPT)
def test_fields_of_a_later_version_are_left_alone(topic):
    for one in samples(topic):
        decode = reader(topic, one["key"])
        now = decode(one["value"].encode())
        later = grown(json.loads(one["value"]), now)
        if isinstance(now, msgspec.Struct):
            assert later != json.loads(one["value"])
        assert plain(decode(encode(later))) == plain(now)


@pytest.mark.parametrize("topic", [topic for topic in KEPT if topic not in STATES])
def test_what_is_optional_may_be_missing(topic):
    """As records of a version that did not have it yet."""
    for one in samples(topic):
        decode = reader(topic, one["key"])
        value = json.loads(one["value"])
        for field in msgspec.structs.fields(decode(one["value"].encode())):
            if not field.required and field.encode_name in value:
                decode(encode({k: v for k, v in value.items() if k != field.encode_name}))


@pytest.mark.parametrize("topic", [topic for topic in KEPT if topic not in NO_EVENTS])
def test_the_cloudevents_sdk_reads_our_headers(topic):
    """The SDK as it is, in Kafka's binary mode."""
    for one in stored(topic):
        headers = {name: value.encode() for name, value in one["headers"]}
        value = None if one["value"] is None else one["value"].encode()
        event = from_kafka_event(KafkaMessage(headers=headers, key=one["key"], value=value or b""))
        assert event.get_specversion() == "1.0"
        assert event.get_id() and event.get_type()
        assert event.get_source().startswith("/rondo/")
        assert event.get_time().tzinfo is not None
        if value is not None:
            assert event.get_datacontenttype() == "application/json"
            assert event.get_data() == json.loads(value)


def test_a_renamed_field_would_be_noticed():
    """The comparison itself: it fails for what it is there for."""
    was = {"workspace": "w", "traits": {"a": 1}, "list": [1, {"b": 2}], "empty": None}
    assert kept(was, {"workspace": "w", "traits": {"a": 1}, "list": [1, {"b": 2}, 3], "new": 1})
    assert not kept(was, {"workspace": "w", "trait": {"a": 1}, "list": [1, {"b": 2}]})
    assert not kept(was, {"workspace": "w", "traits": {"a": "1"}, "list": [1, {"b": 2}]})
    assert not kept(was, {"workspace": "w", "traits": {"a": 1}, "list": [1]})
