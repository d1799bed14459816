"""An ASGI app on a port of its own, in a thread, that can be stopped and started again."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import uvicorn

from rondo_common.http_server import listening_socket


class WebThread:
    """`port` stays the same over stop() and start(). `beside`: coroutines that run as long as it does."""

    def __init__(self, app: Any, beside: Any = None):
        self._app, self._beside = app, beside
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        sock = listening_socket("127.0.0.1", self.port)
        self.port = sock.getsockname()[1]
        config = uvicorn.Config(
            self._app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        began = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            more = [asyncio.ensure_future(c) for c in (self._beside() if self._beside else [])]
            began.set()
            try:
                await self._server.serve(sockets=[sock])
            finally:
                for task in more:
                    task.cancel()
                await asyncio.gather(*more, return_exceptions=True)

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        assert began.wait(10)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
