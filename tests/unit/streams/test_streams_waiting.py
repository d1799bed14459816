"""A worker whose Kafka or Redis is not there: it says so at once, not only when it gives up."""

import logging
import socket
import threading
import time

import pytest

from rondo_common.settings import Settings
from rondo_common.streams import runtime
from rondo_common.streams.runner import Ended, StageRunner
from tests.support.slowness import PATIENT
from tests.support.toy_stage import ToyStage


class _Clock:
    def now(self) -> int:
        return 0


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def test_a_worker_without_kafka_says_whom_it_waits_for_and_then_ends(nowhere, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(runtime, "KAFKA_S", 0.2)
    monkeypatch.setattr(runtime, "START_S", 2.0)
    settings = Settings(service="toy", kafka=nowhere, redis=f"redis://{nowhere}", data_dir=str(tmp_path))
    runner = StageRunner(ToyStage("toy"), settings, _Clock())
    assert runner.ready() == (False, "waiting for Kafka to assign partitions")
    ended: list[BaseException] = []

    def work() -> None:
        try:
            runner.run()
        except Ended as e:
            ended.append(e)

    with caplog.at_level(logging.WARNING):
        thread = threading.Thread(target=work)
        thread.start()
        deadline = time.monotonic() + PATIENT * 10
        while nowhere not in runner.ready()[1] and thread.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not runner.ready()[0]
        assert runner.ready()[1].startswith((f"Kafka at {nowhere} does not answer", "the stage ended"))
        thread.join(PATIENT * 20)
    said = [r.getMessage() for r in caplog.records if r.name == "rondo.streams"]
    assert [m.split(":")[0] for m in said] == ["toy", "toy ends"]
    assert all(f"Kafka at {nowhere} does not answer" in m for m in said)
    assert [e.exit_code for e in ended] == [1]
