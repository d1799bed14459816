"""A process's life: servers, health, signals, exit codes. Run as real processes."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

PROGRAM = """
import asyncio, sys, time, threading
from rondo_common import lifecycle
from rondo_common.settings import Settings
mode = sys.argv[1]
ready = False
stop = threading.Event()

def loop():
    if mode == "crash":
        time.sleep(0.2)
        raise RuntimeError("mail to ann@example.com broke")
    stop.wait()

async def start(life):
    global ready
    port = await life.http(lifecycle.health_app(lambda: (ready, "" if ready else "not yet")), 0)
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
        deadline = time.monotonic() + 5
        while get(port, "/readyz")[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert get(port, "/healthz")[0] == 200
        assert json.loads(get(port, "/readyz")[1]) == {"ready": True, "detail": ""}
        assert b"process_resident_memory_bytes" in get(port, "/metrics")[1]
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10)
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
        out, _ = process.communicate(timeout=15)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "RuntimeError" in out
    assert "ann@example.com" not in out
