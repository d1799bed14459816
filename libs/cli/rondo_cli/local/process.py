"""Child processes that never outlive us.

Each child leads a process group of its own, so its children can be ended with it, and asks the
kernel to be killed when its parent dies (PR_SET_PDEATHSIG), so that kill -9 of the supervisor
leaves nothing behind. Children's children that would survive that are ended by `Guard`.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the call above
        os._exit(1)


def in_child() -> Callable[[], None]:
    """What a child does between fork and exec. Made before the fork, so that the child only makes
    system calls."""
    parent = os.getpid()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def prepare() -> None:
        die_with(parent)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    return prepare


def spawn(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Collection[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child with its output appended to the file `log`; it keeps the descriptors `pass_fds`. Call from the
    main thread: the kernel ties the death signal to the thread that forked."""
    with log.open("ab") as out:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            pass_fds=pass_fds,
            preexec_fn=in_child(),
        )


def stop(child: subprocess.Popen[bytes], timeout_s: float = 5.0) -> int:
    """End a child of ours and its group: SIGTERM, then SIGKILL. Returns its exit code."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout_s)
    kill_group(child.pid)
    return child.wait()


def kill_group(pgid: int) -> None:
    """SIGKILL to everything in the process group, if anything is left of it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal.SIGKILL)


def group(pgid: int) -> set[int]:
    """The processes of a group."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ProcessLookupError):
                if os.getpgid(int(entry.name)) == pgid:
                    found.add(int(entry.name))
    return found


def started_at(pid: int) -> int:
    """The kernel's start time of a process in clock ticks since boot, 0 when there is none. Together
    with the pid it names a process for ever, where pids are used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])


def wait_gone(pid: int, start: int, timeout_s: float) -> bool:
    """Wait until the process that began at `start` is gone; False when it is still there."""
    deadline = time.monotonic() + timeout_s
    while started_at(pid) == start:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Guard:
    """A small process that ends our process groups when we die without a word.

    It reads lines "+pgid" and "-pgid" from a pipe; at the pipe's end, which the kernel brings about
    however we die, it kills what is still listed.
    """

    _PROGRAM = (
        "import os,signal,sys\n"
        "groups=set()\n"
        "for line in sys.stdin:\n"
        "    (groups.add if line[0]=='+' else groups.discard)(int(line[1:]))\n"
        "for g in groups:\n"
        "    try: os.killpg(g, signal.SIGKILL)\n"
        "    except OSError: pass\n"
    )

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", self._PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def _tell(self, line: str) -> None:
        assert self._child.stdin
        with suppress(OSError):  # somebody killed the guard: PR_SET_PDEATHSIG still holds for the children themselves
            self._child.stdin.write(line.encode())
            self._child.stdin.flush()

    def watch(self, pgid: int) -> None:
        """End this group when we die."""
        self._tell(f"+{pgid}\n")

    def forget(self, pgid: int) -> None:
        """This group has ended."""
        self._tell(f"-{pgid}\n")

    def close(self) -> None:
        """End the guard; what is still listed is killed."""
        assert self._child.stdin
        self._child.stdin.close()
        self._child.wait(5)
