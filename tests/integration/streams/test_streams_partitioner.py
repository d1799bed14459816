"""One partitioner (STREAMS 5): a key lies in the same partition whichever of our three clients wrote it."""

import aiokafka
import pytest
from aiokafka.partitioner import DefaultPartitioner as AioPartitioner
from kafka import KafkaProducer

from rondo_common import kafka as clients
from rondo_common.partition import partition_of
from tests.support.stream_rig import Rig

pytestmark = pytest.mark.integration
KEYS = [f"demo:{i:08x}-ü-{'x' * (i % 5)}" for i in range(60)]


@pytest.mark.parametrize("count", [4])
async def test_three_clients_one_partition(kafka: str, redis_url: str, tmp_path, count: int) -> None:
    rig = Rig(kafka, redis_url, count, data_dir=str(tmp_path))
    topic = rig.stage.output
    confluent = clients.producer(kafka)
    for key in KEYS:
        confluent.produce(topic, b"confluent", key)
    assert confluent.flush(30) == 0
    python = KafkaProducer(bootstrap_servers=kafka)
    for key in KEYS:
        python.send(topic, b"kafka-python", key.encode())
    python.flush(30)
    python.close()
    aio = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka, partitioner=AioPartitioner())
    await aio.start()
    for key in KEYS:
        await aio.send_and_wait(topic, b"aiokafka", key.encode())
    await aio.stop()
    found: dict[str, set[int]] = {}
    for m in rig.read(topic):
        found.setdefault(m.key().decode(), set()).add(m.partition())
    assert found == {key: {partition_of(key, count)} for key in KEYS}


def test_librdkafkas_own_default_is_another(kafka: str, redis_url: str, tmp_path) -> None:
    """Why the setting is needed."""
    rig = Rig(kafka, redis_url, data_dir=str(tmp_path))
    crc = clients.producer(kafka, partitioner="consistent_random")
    for key in KEYS:
        crc.produce(rig.stage.output, b"", key)
    crc.flush(30)
    assert any(m.partition() != partition_of(m.key(), rig.partitions) for m in rig.read(rig.stage.output))
