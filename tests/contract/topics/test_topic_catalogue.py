"""The catalogue against the code, its generated document, and Kafka's own rules."""

import ast
import re
from pathlib import Path

import pytest

from rondo_common import topics
from rondo_common.catalogue import DAY, TOPICS
from tools import asyncapi

ROOT = Path(__file__).parents[3]
STAGES = ("profiles", "segmentation", "campaigns", "rhythm", "egress")


def test_the_document_is_the_catalogue():
    assert asyncapi.TARGET.read_text() == asyncapi.text(), "run python -m tools.asyncapi"


def test_every_contracted_topic_exists_with_its_dead_letter_topic():
    for name in (topics.EVENTS, topics.MEMBER_EVENTS, topics.DECISIONS, topics.DELIVERIES, topics.touches("bulk"),
                 topics.sends("sms", "transactional")):  # fmt: skip
        assert name in TOPICS
        assert topics.dlq(name) in TOPICS
    assert TOPICS[topics.CRM_EVENTS].cleanup == "delete"
    assert TOPICS[topics.CONTACTS].cleanup == "compact"


def test_member_keyed_topics_share_one_partition_count():
    for topic in TOPICS.values():
        if topic.key == "workspace:member":
            assert topic.count(8) == 8
            assert topic.count(64) == 64


def test_timestamps_of_a_test_clock_are_allowed():
    config = TOPICS[topics.EVENTS].config(keep_all=True)
    assert config["message.timestamp.after.max.ms"] == str(2**63 - 1)
    assert TOPICS[topics.ROUTED].config(keep_all=True)["retention.ms"] == "-1"
    assert "min.insync.replicas" not in config
    assert TOPICS[topics.EVENTS].config(replication=3)["min.insync.replicas"] == "2"
    assert TOPICS[topics.ROUTED].config()["retention.ms"] == str(7 * DAY)


def test_no_code_spells_a_topic_itself():
    """Names come from the catalogue; docstrings and comments may name them."""
    found = []
    for path in [*ROOT.glob("services/**/*.py"), *ROOT.glob("libs/**/*.py")]:
        if path.name == "topics.py":
            continue
        tree = ast.parse(path.read_text())
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        attributes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docs | attributes
            and re.fullmatch(r"rondo\.[a-z.-]+\.v\d+", node.value)
        ]
    assert not found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_what_the_catalogue_says(stage):
    """Each stage's lanes and state topic against the catalogue's readers."""
    import importlib

    module = importlib.import_module(f"services.{stage}.streams")
    (found,) = (c for c in vars(module).values() if isinstance(c, type) and getattr(c, "state_topic", None))
    lanes = {t for lane in found.lanes for t in lane}
    wanted = {t.name for t in TOPICS.values() if stage in t.readers and t.name != found.state_topic}
    assert lanes <= {t.name for t in TOPICS.values() if stage in t.readers or "all" in t.readers}, "read but not listed"
    assert wanted <= lanes, "listed but not read"
