"""The command line itself: errors in words, exit codes, what needs no running stack."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rondo_cli import backlog, paths, state
from rondo_cli.backlog import Lag
from rondo_cli.commands import dlq, up
from rondo_cli.errors import Failure
from rondo_common.catalogue import TOPICS
from rondo_common.clock import Clock


@pytest.fixture
def rondo(tmp_path):
    """Run the command in an empty folder."""

    def run(*arguments):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RONDO_")}
        env = {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"}
        command = [sys.executable, "-m", "rondo_cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.mark.parametrize("arguments", [("status",), ("lag",), ("tail", "events"), ("topics", "ls"), ("dlq", "ls")])
def test_without_a_stack_commands_say_so(rondo, arguments):
    answer = rondo(*arguments)
    assert answer.returncode == 1
    assert "rondo up" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_down_without_a_stack_is_fine(rondo):
    assert rondo("down").returncode == 0


@pytest.mark.parametrize("name", ["simulate", "rehearse"])
def test_what_is_not_served_yet_says_so(rondo, name):
    answer = rondo(name, "--some", "thing")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "not served yet" in answer.stderr


def test_wrong_calls_exit_2(rondo):
    assert rondo("up", "--scale", "profiles").returncode == 2
    assert rondo("up", "--test-clock", "yesterday").returncode == 2
    answer = rondo("serve", "nobody")
    assert answer.returncode == 2
    assert "delivery-email" in answer.stderr


def test_the_stack_is_found_from_any_folder_inside(tmp_path, monkeypatch):
    monkeypatch.delenv("RONDO_DIR", raising=False)
    (tmp_path / ".rondo").mkdir()
    (tmp_path / ".rondo" / "state.json").write_text("{}")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert paths.rondo_dir(deep) == tmp_path / ".rondo"
    assert paths.rondo_dir(paths.CODE / "libs") == paths.CODE / ".rondo"
    monkeypatch.setenv("RONDO_DIR", str(tmp_path / "x"))
    assert paths.rondo_dir(deep) == tmp_path / "x"


def test_a_dead_supervisor_is_not_taken_for_a_living_one(tmp_path):
    from rondo_cli.local.process import started_at

    mine = {"pid": os.getpid(), "started": started_at(os.getpid())}
    state.write(tmp_path, {"status": "ready", "supervisor": mine})
    assert state.alive(state.read(tmp_path))
    state.write(tmp_path, {"status": "ready", "supervisor": {**mine, "started": mine["started"] - 1}})
    assert not state.alive(state.read(tmp_path))
    with pytest.raises(Failure, match="not running"):
        state.running(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def lag(behind=0, open=0):
    return Lag("g", "t", 0, 0, 0, behind, open, False)


class Looks:
    """What a stack looks like at each look."""

    def __init__(self, *seen):
        self.seen = list(seen)
        self.looks = 0
        self.now = 0.0

    def look(self):
        self.looks += 1
        return self.seen[min(self.looks, len(self.seen)) - 1]

    def sleep(self, seconds):
        self.now += seconds

    def wait(self, timeout=10.0):
        return backlog.wait_drained(self.look, timeout, lambda: self.now, self.sleep)[0]


def test_drained_is_nothing_behind_twice_in_a_row():
    clean, behind = ([lag()], []), ([lag(behind=1)], [])
    looks = Looks(behind, clean, behind, clean, clean)
    assert looks.wait()
    assert looks.looks == 5


@pytest.mark.parametrize("seen", [([lag(behind=1)], []), ([lag(open=1)], []), ([lag()], [("delivery", "tasks", 1)])])
def test_anything_left_is_not_drained(seen):
    assert not Looks(seen).wait(1.0)


def test_expected_consumers_come_from_the_catalogue():
    wanted = backlog.expected(["profiles", "rhythm", "delivery-email"])
    assert "rondo.events.v1" in wanted["rondo.profiles"]
    assert "rondo.identities.v1" not in wanted["rondo.profiles"], "its own state is replayed, not consumed"
    assert "rondo.routed.v1" in wanted["rondo.profiles"], "what it sends itself is consumed"
    assert "rondo.touches.bulk.v1" in wanted["rondo.rhythm"]
    assert {t for t in wanted["rondo.delivery-email"] if ".sends." in t} == {
        t for t in TOPICS if t.startswith("rondo.sends.email.") and not t.endswith(".dlq")
    }


def test_a_replayed_record_is_its_old_self_with_a_note():
    record = SimpleNamespace(
        topic="t.dlq",
        partition=2,
        offset=7,
        key=b"k",
        value=b"v",
        timestamp=5,
        headers=[
            ("ce_id", b"1"),
            ("rondo-dlq-reason", b"x"),
            ("rondo-dlq-partition", b"3"),
            ("rondo-replay-attempt", b"1"),
        ],
    )
    again = dlq.replayed(record)
    assert (again["key"], again["value"], again["partition"], again["timestamp_ms"]) == (b"k", b"v", 3, 5)
    assert dict(again["headers"]) == {
        "ce_id": b"1",
        "rondo-replay-of": b"t.dlq:2:7",
        "rondo-replay-attempt": b"2",
    }


def test_reset_wipes_its_own_things_only(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("x")
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "mine.txt").write_text("mine")
    up._wipe(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_one_folder_one_kind_of_time(tmp_path):
    up._clock(tmp_path, 1_000)
    assert Clock(str(tmp_path / "clock")).now() == 1_000
    up._clock(tmp_path, 2_000)
    assert Clock(str(tmp_path / "clock")).now() == 2_000
    with pytest.raises(Failure, match="never goes backwards"):
        up._clock(tmp_path, 1_500)
    with pytest.raises(Failure, match="under a test clock"):
        up._clock(tmp_path, None)
    assert json.loads((tmp_path / "meta.json").read_text()) == {"test_clock": True}


def test_help_is_quick_because_nothing_is_imported_for_it():
    heavy = "('kafka', 'httpx', 'grpc', 'asyncio', 'rich')"
    heavy = f"import sys; import rondo_cli.main; print([m for m in {heavy} if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run([sys.executable, "-c", heavy], env=env, capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"
