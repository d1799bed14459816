"""`rondo up` as people use it: order, restarts on the same ports, taken ports, and an end without leftovers."""

import json
import os
import re
import signal
import socket
import time
import urllib.request

import pytest

from rondo_cli.local import ports, process, topology
from rondo_common.clock import Clock, from_iso
from tests.support.slowness import PATIENT
from tests.support.toy_stack import ToyStack

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One toy stack for the tests that leave it as it was."""
    stack = ToyStack(tmp_path_factory.mktemp("toy"))
    stack.order("campaigns", "child")
    stack.up("--scale", "profiles=2")
    yield stack
    stack.end()


def until(check, timeout_s=30.0):
    deadline = time.monotonic() + PATIENT * timeout_s
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError("did not happen in time")


def gone(pids_and_starts, timeout_s=15.0):
    return all(process.wait_gone(pid, start, timeout_s) for pid, start in pids_and_starts)


def test_the_state_file_has_the_shape_others_rely_on(running):
    state = running.state()
    assert state["version"] == 1
    assert state["status"] == "ready"
    assert state["workspace"] == "demo"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", state["kafka"])
    assert re.fullmatch(r"redis://127\.0\.0\.1:\d+/0", state["redis"])
    assert state["keys"]["write"].startswith("wk_")
    assert state["keys"]["admin"].startswith("rk_")
    assert set(state["services"]) == {p.name for p in topology.SERVICES}
    for process_ in topology.SERVICES:
        service = state["services"][process_.name]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", service["http"])
        assert service["metrics"] == service["http"] + "/metrics"
        assert ("grpc" in service) == bool(process_.grpc)
        assert service["pid"] == service["instances"][0]["pid"]
        assert ports.held_by(int(service["http"].rpartition(":")[2]), {service["pid"]})
    assert [i["slot"] for i in state["services"]["profiles"]["instances"]] == [0, 1]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", state["capture"]["smtp"])
    for kind in ("sendgrid", "twilio", "telegram"):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", state["capture"][kind])


def env_of(instance):
    with urllib.request.urlopen(instance["http"] + "/env", timeout=5) as answer:
        return json.loads(answer.read())


def test_each_process_is_told_where_the_others_are(running):
    state = running.state()
    first, second = (env_of(i) for i in state["services"]["profiles"]["instances"])
    assert (first["RONDO_SLOT"], second["RONDO_SLOT"]) == ("0", "1")
    assert first["RONDO_HTTP_PORT"] != second["RONDO_HTTP_PORT"]
    assert first["RONDO_GRPC_PORT"] != second["RONDO_GRPC_PORT"]
    assert first["RONDO_KAFKA"] == state["kafka"]
    assert first["RONDO_SMTP_URL"] == f"smtp://{state['capture']['smtp']}"
    assert first["RONDO_TWILIO_BASE_URL"] == state["capture"]["twilio"]
    assert first["RONDO_URL_LINKS"] == state["services"]["links"]["http"]
    assert first["RONDO_WRITE_KEY"] == state["keys"]["write"]
    assert first["RONDO_GRPC_RHYTHM"] == state["services"]["rhythm"]["grpc"]
    assert "RONDO_SENDGRID_PRIVATE_KEY" not in first
    two = [i["grpc"] for i in state["services"]["profiles"]["instances"]]
    assert first["RONDO_GRPC_PROFILES"] == "ipv4:" + ",".join(two)
    capture = env_of(state["capture"])
    assert capture["RONDO_SENDGRID_PRIVATE_KEY"]
    assert capture["RONDO_CAPTURE_SMTP_PORT"] == state["capture"]["smtp"].rpartition(":")[2]


def test_what_dies_comes_back_on_the_same_ports(running):
    before = running.state()
    victims = [before["services"]["rhythm"], before["services"]["profiles"]["instances"][1]]
    for victim in victims:
        os.kill(victim["pid"], signal.SIGKILL)

    def back():
        now = running.state()
        fresh = [now["services"]["rhythm"], now["services"]["profiles"]["instances"][1]]
        good = now["status"] == "ready" and all(
            f["pid"] not in (None, v["pid"]) for f, v in zip(fresh, victims, strict=True)
        )
        return fresh if good else None

    fresh = until(back)
    for old, new in zip(victims, fresh, strict=True):
        assert new["http"] == old["http"]
        assert new["grpc"] == old["grpc"]


def test_kafka_and_redis_come_back_too(running):
    before = running.state()
    for name in ("kafka", "redis"):
        os.kill(before["servers"][name]["pid"], signal.SIGKILL)

    def back():
        now = running.state()
        fresh = all(now["servers"][n]["pid"] not in (None, before["servers"][n]["pid"]) for n in ("kafka", "redis"))
        return now if now["status"] == "ready" and fresh else None

    now = until(back, 60)
    assert (now["kafka"], now["redis"]) == (before["kafka"], before["redis"])
    assert running.rondo("topics", "describe", "events").returncode == 0


def test_status_and_doctor_tell_what_is_not_ready(running):
    assert running.rondo("status").returncode == 0
    answer = running.rondo("doctor", "--json")
    assert answer.returncode == 0, answer.stdout
    running.order("links", "unready")
    try:
        shown = running.rondo("status", "--json")
        assert shown.returncode == 1
        [row] = [r for r in json.loads(shown.stdout)["readiness"] if r["process"] == "links"]
        assert (row["status"], row["detail"]) == ("not ready", "told so")
        assert "told so" in running.rondo("doctor").stdout
    finally:
        (running.orders / "links.unready").unlink()


def test_one_service_is_stopped_and_let_run_again(running):
    before = running.state()["services"]["profiles"]
    assert running.rondo("stop", "profiles").returncode == 0
    now = running.state()
    assert now["status"] == "degraded"
    assert [i["status"] for i in now["services"]["profiles"]["instances"]] == ["held", "held"]
    assert [i["pid"] for i in now["services"]["profiles"]["instances"]] == [None, None]
    assert not ports.listening(int(before["http"].rpartition(":")[2]))
    assert running.rondo("status").returncode == 1
    assert running.rondo("start", "profiles").returncode == 0
    after = running.state()
    assert (after["status"], after["services"]["profiles"]["http"]) == ("ready", before["http"])
    assert running.rondo("stop", "nobody").returncode == 2


def test_a_second_stack_in_the_same_folder_is_refused(running):
    answer = running.rondo("up")
    assert answer.returncode == 1
    assert "already running" in answer.stderr


def test_ports_keys_and_data_survive_and_nothing_outlives_the_end(tmp_path):
    stack = ToyStack(tmp_path)
    stack.order("campaigns", "child")
    stack.order("segmentation", "stubborn")
    first = stack.up()
    grandchild = int((stack.orders / "campaigns.child.pid").read_text())
    everything = [(pid, process.started_at(pid)) for pid in (*stack.pids(), grandchild)]
    assert len(everything) == len(topology.PROCESSES) + 3
    began = time.monotonic()
    assert stack.end() == 0
    assert time.monotonic() - began < 30  # seconds are allowed to the stubborn one
    assert gone(everything)
    assert stack.state()["status"] == "stopped"
    assert stack.rondo("status").returncode == 1

    second = stack.up()
    try:
        for key in ("kafka", "redis", "keys"):
            assert second[key] == first[key]
        for name, service in second["services"].items():
            assert service["http"] == first["services"][name]["http"]
    finally:
        # and now without a chance to say good-bye
        everything = [(pid, process.started_at(pid)) for pid in stack.pids()]
        grandchild = int((stack.orders / "campaigns.child.pid").read_text())
        everything.append((grandchild, process.started_at(grandchild)))
        stack.process.kill()
        stack.process.communicate()
    assert gone(everything)
    answer = stack.rondo("down")
    assert (answer.returncode, answer.stdout.strip()) == (0, "nothing is running here")


@pytest.fixture
def external(tmp_path, kafka, redis_url):
    """A toy stack on the session's own Kafka and Redis."""
    stack = ToyStack(tmp_path)
    stack.env |= {"RONDO_KAFKA": kafka, "RONDO_REDIS": redis_url}
    yield stack
    if stack.process:
        stack.end()


FROZEN = ("--external", "--test-clock", "2026-12-01T09:00:00Z")


def test_external_servers_are_used_and_left_alone(external, kafka, redis_url):
    state = external.up("--external")
    assert (state["kafka"], state["redis"], state["servers"]) == (kafka, redis_url, {})
    assert external.rondo("topics", "ls", "--json").returncode == 0
    assert external.rondo("down").returncode == 0
    external.process.communicate(timeout=20)
    assert external.process.returncode == 0


def test_a_service_that_never_starts_fails_the_whole_with_its_own_words(external):
    external.order("egress", "fail")
    out, _ = external.begin("--external").communicate(timeout=90)
    assert external.process.returncode == 1
    assert "egress does not start" in out
    assert "told to fail" in out
    assert external.state()["status"] == "failed"
    assert not external.pids()


def test_a_taken_port_is_named_and_never_talked_to(external):
    external.up(*FROZEN)
    external.end()
    port = int(external.state()["services"]["links"]["http"].rpartition(":")[2])
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.0.0.1", port))
        foreign.listen()
        foreign.settimeout(0.0)
        out, _ = external.begin(*FROZEN).communicate(timeout=90)
        assert external.process.returncode == 1
        assert f"port {port} is held by pid {os.getpid()}" in out
        with pytest.raises(BlockingIOError):
            foreign.accept()

    wrong = external.rondo("up", "--any-ports", "--external")
    assert wrong.returncode == 2
    assert "made under a test clock" in wrong.stderr


def test_a_test_clock_reaches_every_process_and_only_moves_on(external):
    env = env_of(external.up(*FROZEN)["services"]["rhythm"])
    assert Clock(env["RONDO_CLOCK_FILE"]).now() == from_iso("2026-12-01T09:00:00Z")
    external.end()
    back = external.rondo("up", "--any-ports", "--external", "--test-clock", "2026-11-01T09:00:00Z")
    assert back.returncode == 2
    assert "never goes backwards" in back.stderr
