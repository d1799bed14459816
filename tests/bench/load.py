"""A light HTTP load generator: one process, one epoll loop, requests prepared beforehand.

    python tests/bench/load.py '{"url": ..., "bodies": FILE, "connections": 64, "seconds": 8, "warm": 1, "key": ...}'

FILE has one body a line; they are sent in turn, each connection waits for its answer before the next
request. Prints one line of JSON: see Load. `drive` runs it, or wrk where that is installed, in a
process of its own, so that its cost shows apart from what is measured.

Why not an asyncio client: at 15,000 calls a second it would take more of the two cores than the server.
This loop costs about 10 microseconds a call.
"""

import base64
import json
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.I)


@dataclass(frozen=True)
class Load:
    """What a run of load did. `calls`: answered with 200 within the measured `seconds`; `answered`: with
    200 in all, warm-up and the last answers included; `failed`: any other status or a broken
    connection. Latencies in ms over the measured part. `cpu_s`: of the generator itself."""

    calls: int
    seconds: float
    answered: int
    failed: int
    p50: float
    p99: float
    cpu_s: float
    tool: str

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


def drive(url: str, bodies: Path, connections: int, seconds: float, key: str = "", warm: float = 1.0) -> Load:
    """Load `url` with the bodies of a file, from a process of its own."""
    if tool := shutil.which("wrk"):
        return _wrk(tool, url, bodies, connections, seconds, key, warm)
    plan = {"url": url, "bodies": str(bodies), "connections": connections, "seconds": seconds, "warm": warm, "key": key}
    out = subprocess.run(
        [sys.executable, __file__, json.dumps(plan)], stdout=subprocess.PIPE, timeout=seconds + warm + 60, check=True
    )
    return Load(**json.loads(out.stdout))


def authorization(key: str) -> str:
    """The Basic header of a write key."""
    return "Basic " + base64.b64encode(f"{key}:".encode()).decode()


class _Connection:
    __slots__ = ("begun", "buffer", "left", "socket")

    def __init__(self, address: tuple[str, int]):
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.begun = 0
        self.left = memoryview(b"")
        self.buffer = b""

    def send(self) -> bool:
        """Send what is left; whether all of it is gone."""
        try:
            self.left = self.left[self.socket.send(self.left) :]
        except BlockingIOError:
            return False
        return not self.left

    def answer(self) -> int | None:
        """The status once the whole answer is there, else None. ConnectionError when it never comes."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError
        if self.buffer:
            data = self.buffer + data
        head = data.find(_END)
        found = _LENGTH.search(data, 0, head) if head > 0 else None
        if found is None or len(data) < head + 4 + int(found[1]):
            self.buffer = data
            return None
        self.buffer = b""
        return int(data[9:12])


def run(url: str, bodies: str, connections: int, seconds: float, warm: float, key: str) -> Load:
    """Load one address from this process."""
    where = urlsplit(url)
    assert where.hostname and where.port
    address = (where.hostname, where.port)
    head = f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: {authorization(key)}\r\n" if key else ""
    lines = Path(bodies).read_bytes().splitlines()
    requests = [memoryview(f"{head}Content-Length: {len(b)}\r\n\r\n".encode() + b) for b in lines]
    poll = select.epoll()
    open_: dict[int, _Connection] = {}
    turn = 0

    def begin(c: _Connection) -> None:
        nonlocal turn
        c.left = requests[turn % len(requests)]
        turn += 1
        c.begun = time.perf_counter_ns()
        if not c.send():
            poll.modify(c.socket, select.EPOLLIN | select.EPOLLOUT)

    def connect() -> None:
        c = _Connection(address)
        open_[c.socket.fileno()] = c
        poll.register(c.socket, select.EPOLLIN)
        begin(c)

    calls = answered = failed = 0
    waits = array("q")
    for _ in range(connections):
        connect()
    first = time.perf_counter_ns() + int(warm * 1e9)
    last = first + int(seconds * 1e9)
    waiting = connections
    while waiting:
        for fd, event in poll.poll(1.0):
            c = open_[fd]
            if event & select.EPOLLOUT and c.send():
                poll.modify(fd, select.EPOLLIN)
            if not event & (select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP):
                continue
            now = time.perf_counter_ns()
            try:
                status = c.answer()
            except OSError:
                failed += 1
                poll.unregister(fd)
                c.socket.close()
                del open_[fd]
                waiting -= 1
                if now < last:
                    connect()
                    waiting += 1
                continue
            if status is None:
                continue
            if status == 200:
                answered += 1
                if first <= now < last:
                    calls += 1
                    waits.append(now - c.begun)
            else:
                failed += 1
            if now < last:
                begin(c)
            else:
                waiting -= 1
        if time.perf_counter_ns() > last + 30_000_000_000:
            failed += waiting
            break
    ranked = sorted(waits)
    ms = [ranked[int(q * len(ranked))] / 1e6 if ranked else 0.0 for q in (0.5, 0.99)]
    return Load(calls, seconds, answered, failed, *ms, time.process_time(), "own epoll loop")


_LUA = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
%s
local requests, n = {}, 0
function init() for line in io.lines("%s") do requests[#requests + 1] = wrk.format(nil, nil, nil, line) end end
function request() n = n %% #requests + 1; return requests[n] end
function done(s, l, r)
  local e = s.errors
  io.write(string.format("FOUND %%d %%.3f %%d %%.3f %%.3f\\n", s.requests, s.duration / 1e6,
    e.status + e.timeout + e.read + e.write + e.connect, l:percentile(50) / 1000, l:percentile(99) / 1000))
end
"""


def _wrk(tool: str, url: str, bodies: Path, connections: int, seconds: float, key: str, warm: float) -> Load:
    header = f'wrk.headers["Authorization"] = "{authorization(key)}"' if key else ""
    script = bodies.with_suffix(".lua")
    script.write_text(_LUA % (header, bodies))
    answered = failed = 0
    found = [""] * 5
    spent = 0.0
    for length in (warm, seconds):
        command = [
            tool,
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(length))}s",
            "--timeout",
            "30s",
            "-s",
            str(script),
        ]
        begun = _children_cpu()
        out = subprocess.run([*command, url], capture_output=True, text=True, timeout=length + 60, check=True).stdout
        spent = _children_cpu() - begun
        found = out[out.index("FOUND ") :].split()[1:6]
        failed += int(found[2])
        answered += int(found[0]) - int(found[2])
    good = int(found[0]) - int(found[2])
    return Load(good, float(found[1]), answered, failed, float(found[3]), float(found[4]), spent, "wrk")


def _children_cpu() -> float:
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    print(json.dumps(run(**json.loads(sys.argv[1])).__dict__))
