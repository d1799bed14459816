"""One Faust worker of the comparison: `python worker.py stock|safe BOOTSTRAP TOPIC GROUP EFFECTS`.

Eight at a time, never raising; each event's id is appended to the file EFFECTS once its work is done. Most
work is short, some takes seconds: what is killed then is an event in flight with later ones done.
"""

import asyncio
import os
import sys

from faust.transport.drivers import aiokafka as driver

from rondo_common.faust_safe import make_app

CONCURRENCY = 8
SHORT_S, LONG_S, EVERY = 0.004, 1.5, 25
PARTITIONS = 6


async def run(kind: str, bootstrap: str, topic: str, group: str, effects: str) -> None:
    app = make_app(group, bootstrap, PARTITIONS, asyncio.get_running_loop())
    if kind == "stock":
        app.transport = driver.Transport(app.conf.broker_consumer, app)
    log = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def work(stream):
        async for event in stream.events():
            number = int(event.value)
            await asyncio.sleep(LONG_S if number % EVERY == 0 else SHORT_S)
            os.write(log, b"%d\n" % number)

    app.agent(app.topic(topic, key_type=bytes, value_type=bytes), name="work", concurrency=CONCURRENCY)(work)
    await app.start()
    while not app.should_stop:
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
