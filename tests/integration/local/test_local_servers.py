"""The two local servers are real, configured as the services need, and end when their parent dies."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import redis

from rondo_cli import broker
from rondo_cli.local import ports, process

pytestmark = pytest.mark.integration


def test_kafka_takes_the_catalogue_and_any_time(kafka, topics):
    from kafka import KafkaProducer

    names = topics.catalogue()
    with broker.admin(kafka) as client:
        made = broker.partitions(client, names)
    assert set(made) == set(names)
    assert len(made["rondo.events.v1"]) == 8
    name = topics("any-time", partitions=1, message_timestamp_after_max_ms=str(2**63 - 1))
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
    future = 4_000_000_000_000  # the year 2096: a test clock may be there
    producer.send(name, b"x", timestamp_ms=future).get(10)
    producer.close()
    with broker.admin(kafka) as client:
        where = broker.all_partitions(client, [name])
        ends = broker.ends(client, where)
    [record] = broker.records(kafka, {where[0]: (0, ends[where[0]])})
    assert (record.value, record.timestamp) == (b"x", future)


def test_create_topics_again_changes_nothing(kafka, topics):
    name = topics("again", partitions=3)
    assert broker.create_topics(kafka, {name: (5, 1, {})}) == []
    with broker.admin(kafka) as client:
        assert broker.partitions(client, [name]) == {name: [0, 1, 2]}


def test_redis_never_evicts_and_keeps_nothing_on_disk(redis_flushed):
    with redis.Redis.from_url(redis_flushed) as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("appendonly")["appendonly"] == "no"
        assert client.config_get("save")["save"] == ""
        assert client.config_get("bind")["bind"] == "127.0.0.1"


def test_a_server_dies_with_its_parent_even_by_kill_9(tmp_path, free_port):
    port = free_port()
    program = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from rondo_cli.local import process, redis
        s = redis.Server(Path({str(tmp_path)!r}), {port})
        s.prepare()
        child = process.spawn(s.command(), Path({str(tmp_path / "out")!r}))
        while not redis.ready({port}): time.sleep(0.02)
        print(child.pid, flush=True)
        time.sleep(60)
    """)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout
    child = int(parent.stdout.readline())
    begun = process.started_at(child)
    assert ports.held_by(port, {child})
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert process.wait_gone(child, begun, 10)


def test_the_guard_ends_children_of_children(tmp_path):
    """A grandchild in the group of a child outlives the kernel's death signal, but not the guard."""
    program = textwrap.dedent("""
        import subprocess, sys, time
        from pathlib import Path
        from rondo_cli.local import process
        guard = process.Guard()
        grand = "import subprocess,time; print(subprocess.Popen(['sleep','60']).pid, flush=True); time.sleep(60)"
        child = process.spawn([sys.executable, "-c", grand], Path(sys.argv[1]))
        guard.watch(child.pid)
        while not Path(sys.argv[1]).read_text().strip(): time.sleep(0.02)
        print(Path(sys.argv[1]).read_text(), flush=True)
        time.sleep(60)
    """)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True, env=env
    )
    assert parent.stdout
    grandchild = int(parent.stdout.readline())
    begun = process.started_at(grandchild)
    assert begun
    time.sleep(0.2)
    assert process.started_at(grandchild) == begun
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert process.wait_gone(grandchild, begun, 10)
