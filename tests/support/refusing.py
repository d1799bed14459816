"""A broker that refuses a producer's first write to a partition and takes the second.

A partition whose leader is just being made does that: it answers "not the leader" to one request and
takes the next one, which was already on its way. Everything else is carried to the real broker.

with Refusing(kafka, topic) as door:
    producer = clients.producer(door.bootstrap)
    producer.produce(topic, b"first", partition=0)
    door.held.wait(10)  # the first write is here; it is refused when the second comes, or 3 s later
"""

import socket
import struct
import threading
from contextlib import suppress

NEXT_S = 3.0
"""How long the next write is waited for before the first is refused."""
PRODUCE = 0
NOT_LEADER = 6


class Refusing:
    """Listens on a port of its own. `held` is set when the write to partition 0 of `topic` is there that is refused."""

    def __init__(self, bootstrap: str, topic: str):
        host, port = bootstrap.split(":")
        self._far = host, int(port)
        self._topic = topic.encode()
        self._door = socket.create_server((host, 0))
        self._port: int = self._door.getsockname()[1]
        self.bootstrap = f"{host}:{self._port}"
        self._ends: list[socket.socket] = [self._door]
        self.held = threading.Event()

    def __enter__(self) -> "Refusing":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._door.accept()
                far = socket.create_connection(self._far)
                self._ends += near, far
                threading.Thread(target=self._requests, args=(near, far), daemon=True).start()
                threading.Thread(target=self._answers, args=(far, near), daemon=True).start()

    def _requests(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while frame := _frame(near):
                if self.held.is_set() or not self._is_write(frame):
                    _send(far, frame)
                    continue
                self.held.set()
                following = self._following(near, far)
                _send(near, self._refusal(frame))
                if following:
                    _send(far, following)

    def _is_write(self, frame: bytes) -> bool:
        return struct.unpack_from(">h", frame)[0] == PRODUCE and self._topic in frame

    def _following(self, near: socket.socket, far: socket.socket) -> bytes:
        """The next write, if one comes while the first is not answered."""
        near.settimeout(NEXT_S)
        try:
            while (frame := _frame(near)) and not self._is_write(frame):
                _send(far, frame)
            return frame
        except TimeoutError:
            return b""
        finally:
            near.settimeout(None)

    def _answers(self, far: socket.socket, near: socket.socket) -> None:
        # where the broker tells its own address, tell ours
        host, port = self._far
        theirs, ours = (host.encode() + struct.pack(">i", p) for p in (port, self._port))
        with suppress(OSError):
            while frame := _frame(far):
                _send(near, frame.replace(theirs, ours))

    def _refusal(self, frame: bytes) -> bytes:
        """The answer to Produce, version 9 to 12: one topic, one partition, an error, no offset."""
        _, version, correlation = struct.unpack_from(">hhi", frame)
        assert 9 <= version <= 12, f"the answer to version {version} of Produce is not known here"
        name = bytes([len(self._topic) + 1]) + self._topic
        partition = struct.pack(">ihqqq", 0, NOT_LEADER, -1, -1, -1) + b"\x01\x00\x00"
        return struct.pack(">i", correlation) + b"\x00\x02" + name + b"\x02" + partition + b"\x00" + bytes(4) + b"\x00"


def _frame(end: socket.socket) -> bytes:
    """The next message without its length, empty at the end of the connection."""
    (size,) = struct.unpack(">i", _exactly(end, 4) or b"\x00\x00\x00\x00")
    return _exactly(end, size)


def _exactly(end: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = end.recv(size - len(found))
        if not more:
            return b""
        found += more
    return found


def _send(end: socket.socket, frame: bytes) -> None:
    end.sendall(struct.pack(">i", len(frame)) + frame)
