"""A worker whose Kafka is not there: it says so at once, not only when it gives up."""

import logging
import threading

from rondo_common.clock import system_clock
from rondo_common.settings import Settings
from rondo_common.streams import runtime
from rondo_common.streams.runner import Ended, StageRunner
from tests.support.slowness import PATIENT
from tests.support.stream_rig import wait_until
from tests.support.toy_stage import ToyStage


def test_a_worker_without_kafka_says_whom_it_waits_for_and_then_ends(free_port, tmp_path, monkeypatch, caplog):
    nowhere = f"127.0.0.1:{free_port()}"
    monkeypatch.setattr(runtime, "KAFKA_S", 0.2)
    monkeypatch.setattr(runtime, "START_S", 2.0)
    settings = Settings(service="toy", kafka=nowhere, redis=f"redis://{nowhere}", data_dir=str(tmp_path))
    runner = StageRunner(ToyStage("toy"), settings, system_clock())
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
        wait_until(lambda: nowhere in runner.ready()[1] or not thread.is_alive(), "it says whom it waits for")
        assert not runner.ready()[0]
        assert runner.ready()[1].startswith((f"Kafka at {nowhere} does not answer", "the stage ended"))
        thread.join(PATIENT * 20)
    said = [r.getMessage() for r in caplog.records if r.name == "rondo.streams"]
    assert [m.split(":")[0] for m in said] == ["toy", "toy ends"]
    assert all(f"Kafka at {nowhere} does not answer" in m for m in said)
    assert [e.exit_code for e in ended] == [1]
