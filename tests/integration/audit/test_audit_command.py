"""`rondo audit` against a broker: a clean log, planted holes and repeats, ranges, offsets, transactions."""

import json
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime

import confluent_kafka
import pytest

from rondo_cli import broker
from rondo_cli.broker import TopicPartition
from rondo_common import kafka as clients
from rondo_common import topics as catalogue
from rondo_common.catalogue import TOPICS
from tests.support.audit_story import SENDS, TOUCHES, Story
from tests.support.servers import start_kafka

pytestmark = pytest.mark.integration
READ = {"rondo.profiles": [catalogue.EVENTS], "rondo.rhythm": [TOUCHES], "rondo.delivery-email": [SENDS]}


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory):
    """A broker of its own: what the auditor says of offsets concerns everything on it."""
    server, _ = start_kafka(tmp_path_factory.mktemp("audit"))
    where = f"127.0.0.1:{server.port}"
    names = [catalogue.EVENTS, catalogue.MEMBER_EVENTS, catalogue.IDENTITIES, TOUCHES, catalogue.DECISIONS, SENDS,
             catalogue.DELIVERIES, catalogue.RHYTHM, catalogue.SENDS_STATE, catalogue.dlq(catalogue.EVENTS)]  # fmt: skip
    broker.create_topics(where, {n: (1, 1, TOPICS[n].config(True)) for n in names})
    yield where
    server.stop()


def write(bootstrap, story, at=1_767_258_000_000):
    producer = clients.producer(bootstrap, "audit-test")
    for topic, key, value, headers in story.encoded():
        producer.produce(topic, key=key, value=value, headers=headers, timestamp=at, partition=0)
    assert producer.flush(30) == 0
    with broker.admin(bootstrap) as client:
        for group, names in READ.items():
            where = [TopicPartition(n, 0) for n in names]
            ends = broker.ends(client, where)
            broker.patiently(lambda group=group, ends=ends: client.alter_group_offsets(group, {tp: _at(o) for tp, o in ends.items()}), 30)  # fmt: skip


def _at(offset):
    from kafka.structs import OffsetAndMetadata

    return OffsetAndMetadata(offset, "", -1)


def audit(bootstrap, tmp_path, *arguments, stdin=None):
    env = {**os.environ, "RONDO_KAFKA": bootstrap, "RONDO_DIR": str(tmp_path / ".rondo")}
    env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-m", "rondo_cli", "audit", *arguments]
    return subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def found(done):
    return [(f["check"], f["id"], f["topic"], f["partition"]) for f in json.loads(done.stdout)["data"]]


def test_a_clean_log_then_a_hole_and_a_repeat(bootstrap, tmp_path):
    w = f"w{uuid.uuid4().hex[:8]}"
    write(bootstrap, Story(w))
    accepted = tmp_path / "accepted.txt"
    accepted.write_text("".join(f"m-{n}\n" for n in range(5)))
    clean = audit(bootstrap, tmp_path, "--workspace", w, "--accepted", str(accepted), "--json")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    body = json.loads(clean.stdout)
    assert body["clean"] is True
    assert {k: body["counts"][k] for k in ("accepted", "logged", "applied", "touches", "answered")} == {
        "accepted": 5, "logged": 6, "applied": 5, "touches": 4, "answered": 4}  # fmt: skip

    w = f"w{uuid.uuid4().hex[:8]}"
    story = Story(w)
    story.drop(catalogue.MEMBER_EVENTS, "m-3")
    story.again(SENDS, "t-1")
    with broker.admin(bootstrap) as client:
        before = {tp.topic: o for tp, o in broker.ends(client, broker.all_partitions(client, [catalogue.EVENTS, SENDS])).items()}  # fmt: skip
    write(bootstrap, story)
    spoilt = audit(bootstrap, tmp_path, "--workspace", w, "--accepted", "-", "--json", stdin="m-1\nm-nowhere\n")
    assert spoilt.returncode == 1, spoilt.stdout + spoilt.stderr
    places = {(f["check"], f["id"], f["offset"]) for f in json.loads(spoilt.stdout)["data"]}
    assert places == {
        ("accepted_not_logged", "m-nowhere", -1),
        ("logged_not_applied", "m-3", before[catalogue.EVENTS] + 3),
        ("send_repeated", "t-1", before[SENDS] + 4),
    }
    told = audit(bootstrap, tmp_path, "--workspace", w)
    assert told.returncode == 1
    assert "2 findings" in told.stdout
    assert f"{catalogue.EVENTS}:0:{before[catalogue.EVENTS] + 3}" in told.stdout


def test_a_range_cuts_causes_and_keeps_what_came_of_them(bootstrap, tmp_path):
    w, day = f"w{uuid.uuid4().hex[:8]}", 86_400_000
    at = 1_777_000_000_000
    early, late = Story(w, 3, 0), Story(w, 0, 3)
    early.drop(catalogue.MEMBER_EVENTS, "m-1")
    late.drop(catalogue.DECISIONS, "t-2")
    write(bootstrap, early, at)
    write(bootstrap, late, at + day)
    middle = datetime.fromtimestamp((at + day // 2) / 1000, UTC).isoformat().replace("+00:00", "Z")
    first = audit(bootstrap, tmp_path, "--workspace", w, "--to", middle, "--json")
    assert [c for c, *_ in found(first)] == ["logged_not_applied", "sent_undecided"], first.stdout + first.stderr
    second = audit(bootstrap, tmp_path, "--workspace", w, "--from", middle, "--json")
    assert [c for c, *_ in found(second)] == ["touch_not_decided", "sent_undecided"]


def test_offsets_that_do_not_fit_the_log(bootstrap, tmp_path):
    w = f"w{uuid.uuid4().hex[:8]}"
    write(bootstrap, Story(w, 2, 0))
    with broker.admin(bootstrap) as client:
        tp = TopicPartition(catalogue.EVENTS, 0)
        end = broker.ends(client, [tp])[tp]
        client.alter_group_offsets("rondo.profiles", {tp: _at(end - 2)})
        broker.delete_before(client, {tp: end})
    done = audit(bootstrap, tmp_path, "--workspace", w, "--json")
    assert done.returncode == 1
    (one,) = [f for f in json.loads(done.stdout)["data"] if f["check"] == "deleted_unread"]
    assert (one["id"], one["topic"], one["offset"]) == ("rondo.profiles", catalogue.EVENTS, end - 2)
    with broker.admin(bootstrap) as client:
        client.alter_group_offsets("rondo.profiles", {tp: _at(end)})
    assert audit(bootstrap, tmp_path, "--workspace", w, "--json").returncode == 0


def test_an_open_transaction_hides_nothing_committed_and_is_named_once_it_hangs(bootstrap, tmp_path, monkeypatch):
    w = f"w{uuid.uuid4().hex[:8]}"
    write(bootstrap, Story(w, 2, 0))
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "transactional.id": f"audit-{w}"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(catalogue.DELIVERIES, key=f"{w}:m", value=b"{}", partition=0)
    producer.flush(30)
    try:
        assert audit(bootstrap, tmp_path, "--workspace", w).returncode == 0, "a young transaction is no finding"
        from rondo_cli.audit import reading

        monkeypatch.setattr(reading, "HANG_MS", -10 * 60_000)  # kafka-python adds five minutes of its own
        log = reading.look(bootstrap, reading.Range())
        named = [f for f in reading.broker_findings(log) if f.check == "hanging_transaction"]
        assert [f.id for f in named] == [f"audit-{w}"]
        assert catalogue.DELIVERIES in named[0].detail
    finally:
        producer.abort_transaction(30)


@pytest.mark.parametrize(
    "arguments", [("--from", "yesterday"), ("--accepted", "nowhere.txt"), ("--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"), ("--colour", "red")]
)  # fmt: skip
def test_asked_wrongly(bootstrap, tmp_path, arguments):
    done = audit(bootstrap, tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr
