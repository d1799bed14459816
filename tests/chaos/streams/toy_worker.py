"""A worker process of the toy stage, to be killed.

Arguments: stage, bootstrap, Redis URL, slot, folder, partitions.
"""

import logging
import os
import signal
import sys
import threading

from rondo_common.clock import system_clock
from rondo_common.settings import Settings
from rondo_common.streams.runtime import run_stage
from tests.support.toy_stage import ToyStage


def main() -> int:
    name, kafka, redis_url, slot, folder, partitions = sys.argv[1:]
    logging.basicConfig(
        level=os.environ.get("TOY_LOG", "WARNING"), stream=sys.stderr, format="%(asctime)s %(process)d %(message)s"
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = Settings(
        service=name, slot=slot, kafka=kafka, redis=redis_url, partitions=int(partitions), data_dir=folder
    )
    return run_stage(ToyStage(name), settings, system_clock(), stop_event=stop)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
