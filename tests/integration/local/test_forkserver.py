"""The fork server: what it starts is a process like any other of the supervisor's."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rondo_cli.local import process
from rondo_cli.local.forkserver import ForkServer, Gone
from services.__main__ import SERVICES
from tests.support.slowness import PATIENT

MAIN = """
import sys
SERVICES = {"toy": "toys.toy", "other": "toys.broken"}
def main(arguments):
    from toys import toy
    return toy.run(arguments[0])
"""
TOY = """
import json, os, random, signal, sys, time
WORD = "first"
def run(name):
    if os.environ.get("TOY_CODE"):
        return int(os.environ["TOY_CODE"])
    said = {"name": name, "word": WORD, "argv": sys.argv, "mine": os.environ.get("TOY_MINE"), "group": os.getpgid(0),
            "inherited": os.environ.get("TOY_SERVER"), "cwd": os.getcwd(), "random": random.random()}
    print(json.dumps(said), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def toys(tmp_path):
    folder = tmp_path / "toys"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "__main__.py").write_text(MAIN)
    (folder / "toy.py").write_text(TOY)
    return tmp_path


@pytest.fixture
def server(toys):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(toys), *sys.path]), "TOY_SERVER": "1"}
    made = ForkServer(["toy"], toys / "server.log", env, toys, "toys")
    yield made
    made.close()


def said(log: Path, lines: int = 1) -> list[dict]:
    deadline = time.monotonic() + PATIENT * 10
    while time.monotonic() < deadline:
        if log.exists() and log.read_text().count("\n") >= lines:
            return [json.loads(line) for line in log.read_text().splitlines()]
        time.sleep(0.02)
    raise AssertionError(log.read_text() if log.exists() else "no log")


def spawn(server, log, **env):
    return asyncio.run(server.spawn("toy", log, {"PATH": os.environ["PATH"], **env}))


def test_a_service_has_its_own_environment_output_group_and_name(server, toys):
    children = [spawn(server, toys / f"{i}.log", TOY_MINE=str(i)) for i in range(2)]
    words = [said(toys / f"{i}.log")[0] for i in range(2)]
    for i, (child, told) in enumerate(zip(children, words, strict=True)):
        assert (told["name"], told["mine"], told["inherited"], told["cwd"]) == ("toy", str(i), None, str(toys))
        assert told["group"] == child.pid
        assert Path(f"/proc/{child.pid}/cmdline").read_bytes().rstrip(b"\0").endswith(b"-m toys toy")
        assert child.poll() is None
        child.terminate()
        assert child.wait() == -signal.SIGTERM
        assert child.poll() == -signal.SIGTERM
    assert words[0]["random"] != words[1]["random"]


def test_its_exit_code_is_known(server, toys):
    assert spawn(server, toys / "log", TOY_CODE="3").wait() == 3
    assert spawn(server, toys / "log", TOY_CODE="0").wait() == 0


def test_it_outlives_the_server_which_is_then_known_to_be_gone(server, toys):
    child = spawn(server, toys / "log")
    said(toys / "log")
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(Gone):
        spawn(server, toys / "log")
    assert child.poll() is None
    child.terminate()
    child.wait()


def test_code_that_was_edited_is_what_the_next_one_runs(server, toys):
    child = spawn(server, toys / "log")
    said(toys / "log")
    child.terminate()
    child.wait()
    (toys / "toys" / "toy.py").write_text(TOY.replace("first", "second, longer"))
    child = spawn(server, toys / "log")
    assert [told["word"] for told in said(toys / "log", 2)] == ["first", "second, longer"]
    child.terminate()
    child.wait()


def test_a_server_that_cannot_import_says_why(toys):
    made = ForkServer(["other"], toys / "server.log", {**os.environ, "PYTHONPATH": str(toys)}, toys, "toys")
    with pytest.raises(Gone):
        asyncio.run(made.spawn("other", toys / "log", {}))
    made.close()


def test_it_dies_with_the_supervisor(toys):
    """Even when that is killed without a word."""
    program = (
        "import asyncio, os, sys, time\n"
        "from pathlib import Path\n"
        "from rondo_cli.local.forkserver import ForkServer\n"
        "at = Path(sys.argv[1])\n"
        "server = ForkServer(['toy'], at / 'server.log', os.environ, at, 'toys')\n"
        "child = asyncio.run(server.spawn('toy', at / 'log', {}))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(toys), *sys.path])}
    supervisor = subprocess.Popen([sys.executable, "-c", program, str(toys)], stdout=subprocess.PIPE, env=env)
    assert supervisor.stdout
    pid = int(supervisor.stdout.readline())
    began = process.started_at(pid)
    said(toys / "log")
    supervisor.kill()
    supervisor.communicate()
    assert process.wait_gone(pid, began, PATIENT * 10)


def test_importing_the_services_starts_no_thread_and_opens_nothing():
    """A fork would take neither along."""
    program = (
        "import os, sys\n"
        "from importlib import import_module\n"
        "for module in sys.argv[1:]: import_module(module)\n"
        "links = [f'/proc/self/fd/{fd}' for fd in os.listdir('/proc/self/fd')]\n"
        "opened = [os.readlink(link) for link in links if os.path.islink(link)]\n"
        "print(len(os.listdir('/proc/self/task')), [one for one in opened if one.startswith('socket')])\n"
    )
    command = [sys.executable, "-c", program, *sorted(set(SERVICES.values()))]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert told.stdout.split(maxsplit=1) == ["1", "[]\n"]
