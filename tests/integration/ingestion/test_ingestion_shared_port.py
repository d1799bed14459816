"""Two ingestion processes on one port: both are used, kill -9 of one costs its callers a retry and no
answered event, and it takes its part again when it is back."""

import base64
import http.client
import json
import threading
import time
import uuid
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from rondo_common import kafka as clients
from rondo_common import topics as names
from rondo_common.records import Event
from tests.support.ingestion_app import WRITE_KEY, eventually
from tests.support.service_process import ServiceProcess
from tests.support.slowness import PATIENT

pytestmark = pytest.mark.integration

CALLERS = 8
HEADERS = {"Authorization": "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()}


class Caller(threading.Thread):
    """Sends events one after the other until told to stop, a few on each connection, and sends anew
    whatever was not answered."""

    def __init__(self, address, run):
        super().__init__(daemon=True)
        self.address, self.run_id = address, run
        self.answered, self.retries, self.failure = [], 0, None
        self.stopping = threading.Event()

    def run(self):
        try:
            while not self.stopping.is_set():
                self._send(f"{self.run_id}-{uuid.uuid4()}")
        except Exception as e:
            self.failure = e

    def _send(self, message_id):
        body = json.dumps({"userId": self.run_id, "event": "Shared", "messageId": message_id})
        deadline = time.monotonic() + PATIENT * 30
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection(self.address, timeout=10)
            try:
                connection.request("POST", "/v1/track", body, HEADERS)
                if connection.getresponse().status == 200:
                    self.answered.append(message_id)
                    return
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            self.retries += 1
            time.sleep(0.01)
        raise AssertionError(f"{message_id} was never answered")


def taken(service):
    """Calls this very process has answered 200."""
    text = httpx.get(service.http + "/metrics", timeout=5).text
    lines = [x for x in text.splitlines() if x.startswith('rondo_ingest_requests_total{call="track",status="200"}')]
    return sum(float(x.rpartition(" ")[2]) for x in lines)


def logged(bootstrap, run):
    """Message ids of this run on the topic."""
    reader = clients.reader(bootstrap, f"shared-port-{run}")
    ends = clients.assign_from_start(reader, names.EVENTS)
    found, left = [], {p for p, end in ends.items() if end}
    while left:
        message = reader.poll(10)
        assert message is not None, "the log can't be read"
        if message.error():
            left.discard(message.partition())
        elif run.encode() in message.value():
            found.append(msgspec.json.decode(message.value(), type=Event).message_id)
    reader.close()
    return found


def test_one_port_two_processes_and_a_kill(kafka, topics, tmp_path, free_port):
    topics.catalogue(names.EVENTS, names.REJECTED, names.DEFINITIONS)
    run, port = f"shared{uuid.uuid4().hex[:10]}", free_port()
    env = {"RONDO_KAFKA": kafka, "RONDO_WRITE_KEY": WRITE_KEY, "RONDO_SHARED_PORT": str(port)}
    folders = [tmp_path / str(i) for i in range(2)]
    for folder in folders:
        folder.mkdir()
    with (
        ServiceProcess("ingestion", {**env, "RONDO_SLOT": "0"}, folders[0], free_port) as first,
        ServiceProcess("ingestion", {**env, "RONDO_SLOT": "1"}, folders[1], free_port) as second,
    ):
        callers = [Caller(urlsplit(f"http://127.0.0.1:{port}").netloc, run) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        both = (first, second)
        eventually(lambda: all(taken(s) > 50 for s in both) or any(c.failure for c in callers))
        second.kill()
        before = sum(len(c.answered) for c in callers)
        eventually(lambda: sum(len(c.answered) for c in callers) > before + 200)
        second.start()
        eventually(lambda: taken(second) > 20)
        for caller in callers:
            caller.stopping.set()
        for caller in callers:
            caller.join(40)
            assert caller.failure is None
    answered = [m for c in callers for m in c.answered]
    assert set(answered) <= set(logged(kafka, run))
