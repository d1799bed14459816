"""The loop on real servers, undisturbed."""

from collections import Counter

import pytest

from rondo_common.partition import partition_of
from tests.support.stream_rig import Rig, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def rig(kafka: str, redis_url: str, tmp_path) -> Rig:
    return Rig(kafka, redis_url, data_dir=str(tmp_path))


def test_counts_exactly_and_says_lag_zero(rig: Rig) -> None:
    expected: Counter[str] = Counter()
    with rig.worker():
        for i in range(3000):
            key = f"k{i % 37}"
            rig.ask(key)
            expected[key] += 1
        rig.settle()
        rig.check_exact(dict(expected))
    first = rig.read(rig.stage.output)[0]
    headers = {k: v.decode() for k, v in first.headers()}
    assert headers["ce_type"] == "toy.counted" and headers["depth"] == "1" and headers["ce_id"]
    states = [m for m in rig.read(rig.stage.state_topic) if m.key().startswith(b"c:")]
    assert states
    for m in states:
        assert m.partition() == partition_of(m.key().decode()[2:], rig.partitions)


def test_a_second_worker_takes_over(rig: Rig) -> None:
    with rig.worker():
        rig.ask("a")
        rig.settle()
    with rig.worker():
        rig.ask("a")
        rig.settle()
        rig.check_exact({"a": 2})


def test_idle_latency_is_a_poll_not_a_batch_window(rig: Rig) -> None:
    with rig.worker() as runner:
        for i in range(5):
            rig.ask("a")
            rig.flush()
            wait_until(lambda n=i: rig.view().get("a", "c:a") and rig.view().get("a", "c:a").n == n + 1, "applied")
        assert runner.ready()[0]
