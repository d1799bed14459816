"""Services forked from a process that has imported everything, instead of each importing it again.

A service imports for a second or two of CPU before it does anything; fifteen of them on two cores take half
a minute, and one that died comes back that much later. So the supervisor keeps a server beside it that imports
all services once (while Kafka starts) and forks one when asked:

    supervisor  --- name, environment, log file --->  server  ---fork--->  middle  ---fork--->  the service
                <------------- pid -----------------

The one in the middle ends at once, and the kernel gives its child to the supervisor (PR_SET_CHILD_SUBREAPER): the
service is the supervisor's own child as if it had been spawned, and outlives the server. The server starts no
thread, opens no connection and holds no secret; a library that does at import has no place in a service's imports
(a test counts the threads). Code that was edited since is imported anew before the next fork. Without the server, a
service is spawned as it is everywhere else: `python -m services NAME`.
"""

import asyncio
import ctypes
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from setproctitle import setproctitle

from rondo_cli.local import process

_PR_SET_CHILD_SUBREAPER = 36
_ADOPTED_S = 5.0
"""How long a service waits to become the supervisor's child; it takes less than a millisecond."""
_MESSAGE = 1 << 20
_AGAIN = b"again"
"""The server's answer while it starts itself anew: ask once more."""
_MODULE = "rondo_cli.local.forkserver"


class Gone(RuntimeError):
    """The server has ended."""


class Adopted:
    """A child that somebody else forked for us: what of subprocess.Popen the supervisor uses."""

    def __init__(self, pid: int):
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal's; None while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """The same, when it has ended."""
        code = self._wait(0)
        assert code is not None
        return code

    def terminate(self) -> None:
        """SIGTERM, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def _wait(self, how: int) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, how)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


class ForkServer:
    """The supervisor's side, one per supervisor. `names`: what it is to fork; the package's `__main__` has SERVICES,
    a module for each name, and main, which runs one."""

    def __init__(self, names: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path, package: str = "services"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError("this kernel gives us no children of children")
        with theirs:
            command = [sys.executable, "-m", _MODULE, str(theirs.fileno()), package, *names]
            self._child = process.spawn(command, log, env, cwd, pass_fds=[theirs.fileno()])
        self._socket = ours
        self._one = asyncio.Lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    async def spawn(self, name: str, log: Path, env: Mapping[str, str]) -> Adopted:
        """Fork a service with its output appended to `log`. Waits for the imports, the first time. Gone when
        there is no server any more."""
        async with self._one:
            return await asyncio.to_thread(self._spawn, name, log, env)

    def _spawn(self, name: str, log: Path, env: Mapping[str, str]) -> Adopted:
        request = json.dumps({"name": name, "env": dict(env), "parent": os.getpid()}).encode()
        answer = _AGAIN
        try:
            with log.open("ab") as out:
                while answer == _AGAIN:
                    socket.send_fds(self._socket, [request], [out.fileno()])
                    answer = self._socket.recv(_MESSAGE)
        except OSError as e:
            raise Gone(f"the fork server does not answer: {e}") from e
        if not answer:
            raise Gone("the fork server has ended")
        return Adopted(int(answer))

    def close(self) -> None:
        """End the server; what it has forked lives on."""
        self._socket.close()
        self._child.kill()
        self._child.wait()


def serve(connection: socket.socket, package: str, names: Sequence[str]) -> int:
    """The server's side: import, then fork one service a request until the supervisor hangs up. In a forked
    service it returns that one's exit code."""
    setproctitle(f"rondo fork server of {package}")
    began = time.time()
    entry = import_module(f"{package}.__main__")
    for module in {entry.SERVICES[name] for name in names}:
        import_module(module)
    gc.collect()
    gc.freeze()  # what is imported stays as it is, so its memory stays shared
    while True:
        data, fds, _, _ = socket.recv_fds(connection, _MESSAGE, 1)
        if not data:
            return 0
        if _edited_since(began):
            os.close(fds[0])
            connection.sendall(_AGAIN)
            os.execv(sys.executable, [sys.executable, "-m", _MODULE, str(connection.fileno()), package, *names])
        request = json.loads(data)
        pid = _fork_twice()
        if pid:
            os.close(fds[0])
            connection.sendall(str(pid).encode())
            continue
        connection.close()
        _become(request, fds[0], package)
        return int(entry.main([request["name"]]))


def _edited_since(began: float) -> bool:
    """Whether a module outside the installed packages has changed since it was imported. A time to come (another
    clock wrote the file) says nothing: it would be newer after every start."""
    now = time.time()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and not file.startswith(sys.prefix):
            try:
                if began < os.stat(file).st_mtime <= now:
                    return True
            except OSError:
                return True  # it is gone
    return False


def _fork_twice() -> int:
    """Fork a child that is nobody's here: its pid, 0 in the child."""
    read, write = os.pipe()
    middle = os.fork()
    if middle:
        os.close(write)
        with open(read, "rb") as told:
            pid = int(told.read())
        os.waitpid(middle, 0)
        return pid
    os.close(read)
    pid = os.fork()
    if pid:
        os.write(write, str(pid).encode())
        os._exit(0)
    os.close(write)
    return 0


def _become(request: Mapping[str, object], log: int, package: str) -> None:
    """Be what `python -m services NAME` would be: a process group, output, environment and name of its own."""
    os.setsid()
    deadline = time.monotonic() + _ADOPTED_S
    while os.getppid() != request["parent"]:  # until the one in the middle is gone
        if time.monotonic() > deadline:
            os._exit(1)
        time.sleep(0.0005)
    process.die_with(int(str(request["parent"])))
    for fd in (1, 2):
        os.dup2(log, fd)
    os.close(log)
    setproctitle(f"{sys.executable} -m {package} {request['name']}")
    sys.argv = [f"{package}/__main__.py", str(request["name"])]
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:]))
