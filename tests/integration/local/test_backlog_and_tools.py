"""lag, tail and dlq on a real broker, with transactions, whose commit markers are no records."""

import json
import uuid

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from rondo_cli import backlog, broker
from rondo_cli.commands import dlq, records
from rondo_common.catalogue import Topic

pytestmark = pytest.mark.integration


@pytest.fixture
def stage(kafka, topics, monkeypatch):
    """One topic that one process reads, as the whole catalogue. Its group commits through `commit`."""
    name = topics("lag-in", partitions=2)
    reader = f"toy-{uuid.uuid4().hex[:6]}"
    topic = Topic(name, "k", None, ("test",), (reader,), "test")
    monkeypatch.setattr(backlog, "TOPICS", {name: topic})

    class Stage:
        topic = name
        process = reader

        def commit(self, *offsets):
            with broker.admin(kafka) as client:
                wanted = {TopicPartition(name, p): OffsetAndMetadata(o, "", -1) for p, o in enumerate(offsets)}
                broker.patiently(lambda: client.alter_group_offsets(f"rondo.{reader}", wanted))

        def lags(self):
            return {x.partition: x for x in backlog.measure(kafka, [reader])}

        def send(self, partition, *values, abort=False, end=True):
            producer = KafkaProducer(bootstrap_servers=kafka, acks="all", transactional_id=f"{name}-{uuid.uuid4().hex}")
            producer.init_transactions()
            producer.begin_transaction()
            for value in values:
                producer.send(name, value, partition=partition)
            producer.flush()
            if end:
                (producer.abort_transaction if abort else producer.commit_transaction)()
            return producer

    return Stage()


def test_commit_markers_count_nothing(stage):
    stage.send(0, b"a", b"b").close()  # 2 records, 1 marker
    stage.send(0, b"c", abort=True).close()  # an aborted record and its marker
    assert {p: x.behind for p, x in stage.lags().items()} == {0: 2, 1: 0}
    stage.commit(1, 0)
    assert stage.lags()[0].behind == 1
    stage.commit(2, 0)  # the last record is processed; markers and aborted records lie behind it
    lag = stage.lags()[0]
    assert (lag.behind, lag.end - lag.committed) == (0, 3)
    assert lag.zero


def test_a_topic_that_was_never_read_is_behind_by_all_of_it(stage):
    stage.send(1, b"a").close()
    assert stage.lags()[1].behind == 1


def test_an_open_transaction_is_not_drained(stage):
    producer = stage.send(0, b"a", end=False)
    try:
        lag = stage.lags()[0]
        assert (lag.behind, lag.zero) == (0, False)
    finally:
        producer.abort_transaction()
        producer.close()
    assert stage.lags()[0].zero


def test_long_backlogs_are_estimated(stage, monkeypatch):
    monkeypatch.setattr(backlog, "EXACT_BELOW", 2)
    stage.send(0, *(b"x" for _ in range(5))).close()
    lag = stage.lags()[0]
    assert (lag.behind, lag.estimated) == (6, True)


@pytest.fixture
def cli(kafka, monkeypatch, tmp_path):
    monkeypatch.setenv("RONDO_DIR", str(tmp_path / ".rondo"))
    monkeypatch.setenv("RONDO_KAFKA", kafka)


def test_tail_shows_the_last_records_as_json(cli, kafka, topics, capsys):
    name = topics("tail", partitions=2)
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
    for i in range(5):
        producer.send(name, f'{{"n":{i}}}'.encode(), key=b"k", partition=0, headers=[("ce_type", b"t")]).get(10)
    producer.send(name, b"\xff", key=None, partition=1).get(10)
    producer.close()
    assert records.tail(name, 2, False, None, True) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [s["value"] for s in shown if s["partition"] == 0] == [{"n": 3}, {"n": 4}]
    assert [s["value"] for s in shown if s["partition"] == 1] == ["\ufffd"]
    assert shown[0]["headers"] == {"ce_type": "t"}


def dead(n, partition):
    about = {"reason": "handler_error", "detail": "no", "stage": "toy", "partition": str(partition), "offset": str(n)}
    return [("ce_id", b"id%d" % n), *((f"rondo-dlq-{k}", v.encode()) for k, v in about.items())]


def test_dead_letters_are_listed_replayed_and_dropped(cli, kafka, topics, capsys):
    name = topics("dead", partitions=4)
    broker.create_topics(kafka, {f"{name}.dlq": (4, 1, {})})
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
    for n in range(3):
        producer.send(f"{name}.dlq", b"v%d" % n, key=b"k%d" % n, partition=1, headers=dead(n, 3)).get(10)
    producer.close()
    dlq.ls(True)
    assert {"topic": name, "stage": "toy", "reason": "handler_error", "count": 3} in json.loads(capsys.readouterr().out)
    dlq.show(name, 10, "another_reason", True)
    assert json.loads(capsys.readouterr().out) == []

    assert dlq.replay(name, 2, True) == 0
    where = [TopicPartition(name, 3)]
    with broker.admin(kafka) as client:
        end = broker.ends(client, where)[where[0]]
    back = list(broker.records(kafka, {where[0]: (0, end)}))
    assert [(r.key, r.value) for r in back] == [(b"k0", b"v0"), (b"k1", b"v1")]
    headers = dict(back[0].headers)
    assert headers["ce_id"] == b"id0"
    assert headers["rondo-replay-of"] == f"{name}.dlq:1:0".encode()
    assert headers["rondo-replay-attempt"] == b"1"
    assert not [h for h in headers if h.startswith("rondo-dlq-")]

    capsys.readouterr()
    dlq.show(name, 10, None, True)
    assert [r["value"] for r in json.loads(capsys.readouterr().out)] == ["v2"]
    assert dlq.drop(name, 10, True) == 0
    capsys.readouterr()
    dlq.show(name, 10, None, True)
    assert json.loads(capsys.readouterr().out) == []


def test_topics_are_found_by_short_names():
    there = {"rondo.events.v1", "rondo.events.rejected.v1"}
    assert records.full_name("events", there) == "rondo.events.v1"
    assert records.full_name("rondo.events.v1", there) == "rondo.events.v1"
    with pytest.raises(Exception, match="did you mean"):
        records.full_name("reject", there)
