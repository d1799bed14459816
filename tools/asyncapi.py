#!/usr/bin/env python3
"""Writes docs/asyncapi.yaml from the topic catalogue: `python -m tools.asyncapi [--check]`.

AsyncAPI 3.0: one channel a topic with its key, retention, headers and the JSON schema of its value.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml

from rondo_common.catalogue import TOPICS, Topic

TARGET = Path(__file__).parent.parent / "docs" / "asyncapi.yaml"
_DAY_MS = 86_400_000

HEADERS = {
    "type": "object",
    "description": "CloudEvents 1.0 binary mode. traceparent is W3C Trace Context.",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"],
    "properties": {
        name: {"type": "string"}
        for name in (
            "ce_specversion",
            "ce_id",
            "ce_source",
            "ce_type",
            "ce_subject",
            "ce_time",
            "content-type",
            "traceparent",
        )
    },
}


def _schemas() -> tuple[dict[type, dict[str, Any]], dict[str, Any]]:
    values = sorted({t.value for t in TOPICS.values() if t.value}, key=lambda v: v.__name__)
    found, components = msgspec.json.schema_components(values, ref_template="#/components/schemas/{name}")
    return dict(zip(values, found, strict=True)), components


def _channel(topic: Topic, message: str | None) -> dict[str, Any]:
    keep = "for ever" if topic.retention_days is None else f"{topic.retention_days} days"
    if topic.cleanup == "compact":
        keep = "the newest record of each key"
    kafka: dict[str, Any] = {"partitions": topic.count(), "topicConfiguration": {"cleanup.policy": [topic.cleanup]}}
    if topic.cleanup == "delete" and topic.retention_days is not None:
        kafka["topicConfiguration"]["retention.ms"] = topic.retention_days * _DAY_MS
    channel: dict[str, Any] = {
        "address": topic.name,
        "description": (
            f"{topic.about[0].upper()}{topic.about[1:]}. Key: {topic.key}. Kept: {keep}. "
            f"Written by {', '.join(topic.writers)}; read by {', '.join(topic.readers)}."
        ),
        "bindings": {"kafka": kafka},
    }
    if message:
        channel["messages"] = {message: {"$ref": f"#/components/messages/{message}"}}
    return channel


def document() -> dict[str, Any]:
    """The whole AsyncAPI document."""
    schemas, components = _schemas()
    messages = {
        value.__name__: {
            "name": value.__name__,
            "summary": (value.__doc__ or "").strip().splitlines()[0],
            "contentType": "application/json",
            "headers": {"$ref": "#/components/schemas/CloudEventsHeaders"},
            "payload": schemas[value],
        }
        for value in schemas
    }
    topics = [t for t in TOPICS.values() if not t.name.endswith(".dlq")]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Rondo's topics",
            "version": "1.0.0",
            "description": (
                "Generated from rondo_common.catalogue. rondo.crm.events.v1 is the public contract for CRMs; the others are "
                "for operators and for Rondo's own services. Each topic with readers inside has a dead-letter topic <name>.dlq."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {t.name: _channel(t, t.value.__name__ if t.value else None) for t in topics},
        "operations": {
            "receiveCrmEvents": {"action": "receive", "channel": {"$ref": "#/channels/rondo.crm.events.v1"}},
        },
        "components": {"messages": messages, "schemas": {"CloudEventsHeaders": HEADERS, **components}},
    }


def text() -> str:
    """The document as YAML."""
    return yaml.safe_dump(document(), sort_keys=False, width=140, allow_unicode=True)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text() == text() else "docs/asyncapi.yaml is stale: run python -m tools.asyncapi")
    TARGET.write_text(text())
