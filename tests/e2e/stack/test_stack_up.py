"""The system as `rondo up` starts it: every process answers as the contract says."""

import json
import urllib.error
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from rondo_cli.local import topology

pytestmark = pytest.mark.e2e


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


@pytest.mark.parametrize("name", [p.name for p in topology.PROCESSES])
def test_health_readiness_and_metrics(stack, name):
    base = stack.http(name)
    assert get(f"{base}/healthz")[0] == 200
    status, body = get(f"{base}/readyz")
    assert status == 200, body
    status, body = get(f"{base}/metrics")
    assert status == 200
    assert b"process_resident_memory_bytes" in body


@pytest.mark.parametrize("name", [p.name for p in topology.PROCESSES if p.grpc])
def test_grpc_health_and_reflection(stack, name):
    with grpc.insecure_channel(stack.grpc(name)) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        [listed] = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]), timeout=5)
        names = {s.name for s in listed.list_services_response.service}
        assert any(n.startswith("rondo_protos.") for n in names), names


def test_the_tools_agree_that_all_is_well(stack):
    status = stack.rondo("status", "--json")
    assert status.returncode == 0, status.stdout
    doctor = stack.rondo("doctor", "--json")
    assert doctor.returncode == 0, doctor.stdout
    assert {"check": "topics", "result": "ok", "detail": "as in the catalogue"} in json.loads(doctor.stdout)
    stack.drain()
    lag = stack.rondo("lag", "--json")
    assert json.loads(lag.stdout)["drained"] is True


def test_no_process_listens_to_the_outside(stack):
    """Everything is bound to 127.0.0.1."""
    import pathlib

    from rondo_cli.local import process
    from tests.support.toy_stack import pids_of

    inodes = set()
    for pid in pids_of(stack.state) | {stack.state["supervisor"]["pid"]}:
        for member in process.group(pid):
            for fd in pathlib.Path(f"/proc/{member}/fd").iterdir():
                target = str(fd.readlink()) if fd.is_symlink() else ""
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    open_to_all = []
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            local = fields[1].rpartition(":")[0]
            mine = fields[9] in inodes and fields[3] == "0A"
            if mine and local not in (
                "0100007F",
                "0000000000000000FFFF00000100007F",
                "00000000000000000000000001000000",
            ):
                open_to_all.append(fields[1])
    assert not open_to_all
