"""A disk that takes nothing: said, survived, made up for within seconds; damaged parts of the warehouse."""

import resource
import time

from rondo_common import topics as catalogue
from services.insights.engine import Engine
from tests.integration.insights.test_insights_warehouse import W, _events, _produce, insights, pytestmark  # noqa: F401


def test_while_no_file_can_grow_the_feed_waits_and_says_so(insights, kafka, tmp_path):  # noqa: F811
    said = tmp_path / "said.log"
    counted = f"SELECT count(), uniqExact(id) FROM rondo.member_events WHERE workspace = '{W}'"
    before = 0
    with said.open("wb") as out:
        insights.start(stdout=out)
        insights.until("SELECT count() FROM rondo.people WHERE workspace = 'none'", "0")
        before = int(insights.sql(counted).split()[1])
        _produce(kafka, catalogue.MEMBER_EVENTS, _events(100_000, 3_000))
        insights.until(counted, f"{before + 3_000}\t{before + 3_000}")
        pid = insights.process.pid
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        try:
            _produce(kafka, catalogue.MEMBER_EVENTS, _events(103_000, 3_000))
            time.sleep(4)
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        insights.until(counted, f"{before + 6_000}\t{before + 6_000}", 60)
        assert insights.process.poll() is None
        facts = (
            f"SELECT count() >= 6000, count() = uniqExact(_partition, _offset) FROM rondo.facts WHERE workspace = '{W}'"
        )
        insights.until(facts, "1\t1")
    words = said.read_text()
    assert "the warehouse is not fed" in words
    assert "the warehouse is fed again" in words


def _parts(engine, table):
    found = engine.run(f"SELECT path FROM system.parts WHERE table = '{table}' AND active FORMAT TSVRaw")
    return found.decode().split()


def test_a_damaged_part_empties_its_table_only_when_rows_are_missing(tmp_path):
    engine = Engine(str(tmp_path))
    engine.run("CREATE DATABASE rondo")
    for table in ("merged", "lost", "whole"):
        engine.run(f"CREATE TABLE rondo.{table} (n UInt64) ENGINE = MergeTree ORDER BY n")
        engine.run(f"INSERT INTO rondo.{table} SELECT number FROM numbers(100)")
        engine.run(f"INSERT INTO rondo.{table} SELECT number FROM numbers(100)")
    engine.run("OPTIMIZE TABLE rondo.merged FINAL")
    for part in (*_parts(engine, "merged"), _parts(engine, "lost")[0]):
        with open(f"{part}/data.cmrk4", "w"):
            pass  # the end that did not find place
    engine.reopen()
    for table, rows in (("merged", "200"), ("lost", "0"), ("whole", "200")):
        assert engine.run(f"SELECT count() FROM rondo.{table}").decode().strip() == rows, table
    assert engine.run("SELECT count() FROM system.detached_parts").strip() == b"0"
    engine.close()
