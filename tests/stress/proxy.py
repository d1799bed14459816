"""A way for TCP that can be cut: connections stay open, nothing is carried any more, as when a cable is pulled."""

import selectors
import socket
import threading
from contextlib import suppress


class Proxy:
    """Carries connections from port `near` to port `far` of 127.0.0.1, in a thread."""

    def __init__(self, near: int, far: int):
        self._far = far
        self._cut = threading.Event()
        self._over = threading.Event()
        self._door = socket.create_server(("127.0.0.1", near))
        self._door.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]

    def cut(self) -> None:
        self._cut.set()

    def mend(self) -> None:
        self._cut.clear()

    def _run(self) -> None:
        while not self._over.is_set():
            if self._cut.is_set():
                self._over.wait(0.02)
                continue
            for key, _ in self._selector.select(0.05):
                if self._cut.is_set():
                    break
                if key.data is None:
                    self._accept()
                else:
                    self._carry(key.fileobj, key.data)  # type: ignore[arg-type]

    def _accept(self) -> None:
        with suppress(OSError):
            near, _ = self._door.accept()
            far = socket.create_connection(("127.0.0.1", self._far), timeout=5)
            for one, other in ((near, far), (far, near)):
                one.setblocking(True)
                self._selector.register(one, selectors.EVENT_READ, other)

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        try:
            data = one.recv(65_536)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for end in (one, other):
            with suppress(KeyError, OSError):
                self._selector.unregister(end)
            end.close()
