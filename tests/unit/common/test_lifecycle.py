"""A process's life: servers, health, signals, exit codes. Run as real processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from rondo_common import health, http_server, lean
from tests.support.slowness import PATIENT

PROGRAM = """
import asyncio, sys, time, threading
from rondo_common import health, lifecycle, telemetry
from rondo_common.settings import Settings
mode = sys.argv[1]
ready = False
telemetry.gauge("rondo_toy", "a toy").set(7)
stop = threading.Event()

def loop():
    if mode == "crash":
        time.sleep(0.2)
        raise RuntimeError("mail to ann@example.com broke")
    stop.wait()

async def start(life):
    global ready
    port = await life.http(health.app(lambda: (ready, "" if ready else "not yet")), 0)
    if mode == "start":
        raise RuntimeError("no")
    life.thread("loop", loop, stop=stop.set)
    life.on_stop(lambda: print("closed", flush=True))
    print("port", port, flush=True)
    ready = mode != "unready"

sys.exit(lifecycle.run(Settings(service="toy"), start))
"""


def start(mode: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, mode], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout
    for line in process.stdout:
        if line.startswith("port "):
            return int(line.split()[1])
    raise AssertionError("the process ended before it listened")


def get(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def test_health_metrics_and_a_clean_end_at_sigterm():
    process = start("good")
    try:
        port = port_of(process)
        deadline = time.monotonic() + PATIENT * 5
        while get(port, "/readyz")[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert get(port, "/healthz")[0] == 200
        assert json.loads(get(port, "/readyz")[1]) == {"ready": True, "detail": ""}
        assert b"process_resident_memory_bytes" in get(port, "/metrics")[1]
        one = get(port, "/metrics?name[]=rondo_toy&name[]=unheard_of")[1]
        assert one.splitlines()[-1] == b"rondo_toy 7.0" and b"process_resident" not in one
        assert get(port, "/metrics?name[]=unheard_of") == (200, b"")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10 * PATIENT)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "closed" in out
    assert "ended by itself" not in out


def test_readyz_says_what_is_missing():
    process = start("unready")
    try:
        status, body = get(port_of(process), "/readyz")
        assert status == 503
        assert json.loads(body)["detail"] == "not yet"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("mode", ["crash", "start"])
def test_a_failure_ends_the_process_with_1_and_logs_no_address(mode):
    process = start(mode)
    try:
        out, _ = process.communicate(timeout=15 * PATIENT)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "RuntimeError" in out
    assert "ann@example.com" not in out


class Wire:
    """A transport that notes what is written to it."""

    def __init__(self):
        self.written, self.closed = [], False

    def write(self, data):
        self.written.append(data)

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed


async def test_head_and_body_of_an_answer_leave_in_one_write():
    wire = Wire()
    joined = http_server._Joined(wire, asyncio.get_running_loop())
    joined.write(b"head")
    joined.write(b"body")
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [b"headbody"]
    joined.write(b"last")
    joined.close()
    assert wire.written[1:] == [b"last"] and joined.is_closing()
    await asyncio.sleep(0)
    assert len(wire.written) == 2


async def test_a_large_piece_meets_the_transports_own_limit_at_once():
    wire = Wire()
    joined = http_server._Joined(wire, asyncio.get_running_loop())
    joined.write(b"head")
    joined.write(b"x" * 100_000)
    assert [len(w) for w in wire.written] == [100_004]


def test_a_shared_port_is_taken_twice_a_plain_one_once():
    first = http_server.listening_socket("127.0.0.1", 0, shared=True)
    port = first.getsockname()[1]
    with first, http_server.listening_socket("127.0.0.1", port, shared=True), pytest.raises(OSError, match=str(port)):
        http_server.listening_socket("127.0.0.1", port)


def test_what_is_only_beside_is_not_imported(monkeypatch):
    code = "import sys, rondo_common.telemetry, rondo_common.redis_client; print({'rich', 'opentelemetry.sdk.metrics'} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert out == "set()\n"
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with lean.without("colorsys"), pytest.raises(ImportError):
        import colorsys
    import colorsys  # noqa: F401


def test_a_service_of_several_parts_is_ready_when_all_are_and_says_who_is_not():
    said = {"stage": (True, "processing 8 partitions"), "definitions": (False, "definitions are being read")}
    ready = health.all_ready(lambda: said["stage"], lambda: said["definitions"])
    assert ready() == (False, "definitions are being read")
    said["definitions"] = (True, "")
    assert ready() == (True, "processing 8 partitions")
    said["stage"] = (False, "restoring 1 of 8 partitions (20%)")
    assert ready() == (False, "restoring 1 of 8 partitions (20%)")
