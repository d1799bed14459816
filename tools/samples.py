"""`python -m tools.samples`: tells a fixed story to a fresh stack and stores what every topic then holds.

A sample is a line of JSON: key, headers, and the value as text (null: a tombstone). One line for each
shape (which fields, which kind), so a file stays small. Samples are what later versions must still read:
a topic's file is written once and then only grows, when a version adds fields (--add keeps what is there).
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rondo_cli import broker, state
from rondo_common.catalogue import TOPICS
from tools.samples_story import Story

FOLDER = Path(__file__).parents[1] / "tests" / "samples" / "topics"
MOST = 12
"""Samples of one topic."""
_KINDS = ("type", "kind", "status", "verdict", "change", "event")


def shape(topic: str, key: str, value: Any) -> str:
    """What makes two records of a topic alike: the fields they have and what kind they say they are."""
    state_of = TOPICS[topic].key in ("state key", "o:send id")
    prefix = ":".join(key.split(":")[: 2 if key.startswith("g:") else 1]) if state_of else ""
    if not isinstance(value, dict):
        return f"{prefix} {type(value).__name__}"
    said = [f"{name}={value[name]}" for name in _KINDS if isinstance(value.get(name), str)]
    return f"{prefix} {sorted(value)} {said}"


def samples(bootstrap: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(topic, sample) of the first record of each shape."""
    with broker.admin(bootstrap) as client:
        where = broker.all_partitions(client, broker.topic_names(client) & set(TOPICS))
        first, end = broker.starts(client, where), broker.ends(client, where)
    seen: dict[str, set[str]] = {}
    for record in broker.records(bootstrap, {tp: (first[tp], end[tp]) for tp in where}):
        key = (record.key or b"").decode()
        text = None if record.value is None else record.value.decode()
        known = seen.setdefault(record.topic, set())
        mine = shape(record.topic, key, json.loads(text) if text else None)
        if mine not in known and len(known) < MOST:
            known.add(mine)
            headers = [[name, value.decode()] for name, value in record.headers or ()]
            yield record.topic, {"key": key, "headers": headers, "value": text}


def store(found: list[tuple[str, dict[str, Any]]], add: bool) -> dict[str, int]:
    """Write the files; lines by topic."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    by_topic: dict[str, list[str]] = {}
    for topic, sample in found:
        by_topic.setdefault(topic, []).append(json.dumps(sample, ensure_ascii=False))
    for topic, lines in by_topic.items():
        path = FOLDER / f"{topic}.jsonl"
        kept = path.read_text().splitlines() if add and path.exists() else []
        path.write_text("\n".join([*kept, *lines]) + "\n")
    return {topic: len(lines) for topic, lines in sorted(by_topic.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--add", action="store_true", help="add to the files instead of writing them anew")
    arguments = parser.parse_args()
    running = state.running()
    Story(running).tell()
    time.sleep(5)  # what the last steps set going; there is nothing to wait for that would not be a sample itself
    for topic, count in store(list(samples(running["kafka"])), arguments.add).items():
        print(f"{count:3} {topic}")


if __name__ == "__main__":
    main()
