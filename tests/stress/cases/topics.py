"""Topics that are missing, have another partition count, or lost records nobody had read."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx

from rondo_cli import broker
from rondo_cli.local import ports, process
from rondo_cli.topics import create_catalogue
from rondo_common import ids
from rondo_common.catalogue import TOPICS
from rondo_common.partition import PARTITIONS
from tests.stress import servers
from tests.stress.eye import EVENTS, MEMBER_EVENTS
from tests.stress.lab import Lab
from tests.stress.registry import Outcome, case
from tests.stress.writer import writer
from tests.support.spine_api import until

ROUTED = "rondo.routed.v1"
REFUSED, FATAL = 2, 1
SECRET = "one secret of the stress runs"


@case("28", "topic missing, wrong partition count, unread records deleted", least=200, alone=True)
def wrong_topics(lab: Lab, n: int) -> Outcome:
    """A worker refuses to start on topics that are not as they should be, and ends with a word rather than
    skip records that were deleted before it had read them."""
    folder = lab.folder / "topics"
    for name in ("kafka", "redis", "data"):
        (folder / name).mkdir(parents=True)
    kafka, where = servers.start_kafka(folder / "kafka")
    redis = servers.Redis(folder / "redis")
    try:
        return _run(folder, where.bootstrap, redis.url, n)
    finally:
        redis.server.stop()
        kafka.stop()


def _run(folder: Path, bootstrap: str, redis: str, n: int) -> Outcome:
    out = Outcome(n)
    create_catalogue(bootstrap, PARTITIONS, 1)
    one = _Profiles(folder, bootstrap, redis)
    with broker.admin(bootstrap) as admin:
        admin.delete_topics([ROUTED])
        until(lambda: ROUTED not in broker.topic_names(admin), "the topic is gone", 20)
        codes = []
        code, words = one.refused()
        codes.append(code)
        out.must(code == REFUSED and ROUTED in words, f"without a topic: exit {code}: {words[-300:]}")
        broker.create_topics(bootstrap, {ROUTED: (3, 1, {})})
        code, words = one.refused()
        codes.append(code)
        out.must(code == REFUSED and ROUTED in words, f"with 3 partitions: exit {code}: {words[-300:]}")
        admin.delete_topics([ROUTED])
        until(lambda: ROUTED not in broker.topic_names(admin), "the topic is gone", 20)
        create_catalogue(bootstrap, PARTITIONS, 1)
        with one:
            one.ready()
            first = _events(bootstrap, 0, n)
            until(lambda: first <= _applied(bootstrap), "the first events", 60, 0.3)
        second = _events(bootstrap, n, n // 2)
        where = broker.all_partitions(admin, [EVENTS])
        ends = broker.ends(admin, where)
        begun = {tp.partition: o for tp, o in broker.committed(admin, ["rondo.profiles"])["rondo.profiles"].items()}
        # all but the last record that was not read yet
        broker.delete_before(admin, {tp: max(end - 1, 0) for tp, end in ends.items()})
        code, words = one.refused()
        out.must(code == FATAL and "deleted before they were processed" in words, f"exit {code}: {words[-300:]}")
        again, _ = one.refused()
        codes += [code, again]
        out.must(again == FATAL, f"the second time: exit {again}")
        after = {tp.partition: o for tp, o in broker.committed(admin, ["rondo.profiles"])["rondo.profiles"].items()}
    skipped = second & _applied(bootstrap)
    out.lost = len(first - _applied(bootstrap))
    out.must(not skipped, f"{len(skipped)} records beyond the hole were processed")
    out.must(begun == after, "the committed offsets moved over the hole")
    out.figure = (
        f"exit {', '.join(map(str, codes))}; {len(second)} records deleted or behind the hole, none passed over"
    )
    return out


class _Profiles:
    """The profiles worker by itself."""

    def __init__(self, folder: Path, kafka: str, redis: str):
        http, grpc = ports.free_ports(2)
        mine = {k: v for k, v in os.environ.items() if not k.startswith("RONDO_")}
        self._env = {
            **mine,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "RONDO_SERVICE": "profiles",
            "RONDO_KAFKA": kafka,
            "RONDO_REDIS": redis,
            "RONDO_SECRET": SECRET,
            "RONDO_HTTP_PORT": str(http),
            "RONDO_GRPC_PORT": str(grpc),
            "RONDO_DATA_DIR": str(folder / "data"),
        }
        self._url, self._log = f"http://127.0.0.1:{http}/readyz", folder / "profiles.log"
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_Profiles":
        self._log.write_bytes(b"")
        command = [sys.executable, "-m", "services", "profiles"]
        self._child = process.spawn(command, self._log, self._env, Path(__file__).parents[3])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child
        process.stop(self._child, 15.0)

    def ready(self) -> None:
        def look() -> bool:
            with suppress(httpx.HTTPError):
                return httpx.get(self._url, timeout=2.0, trust_env=False).status_code == 200
            return False

        until(look, "profiles is ready", 60)

    def refused(self) -> tuple[int | None, str]:
        """Start it; its exit code (None when it lived on for 40 s) and its words."""
        with self:
            assert self._child
            with suppress(subprocess.TimeoutExpired):
                return self._child.wait(40), self._log.read_text(errors="replace")
        return None, self._log.read_text(errors="replace")


def _events(bootstrap: str, start: int, n: int) -> set[str]:
    """Write n events; their ids."""
    secret = ids.workspace_secret(SECRET, "demo")
    made = set()
    with writer(bootstrap) as out:
        for i in range(start, start + n):
            sender = ids.identifier_id(secret, "user_id", f"t-{i % 40}")
            at = "2026-11-20T10:00:00.000Z"
            body = {"workspace": "demo", "type": "track", "message_id": f"t-{i}", "sender": sender, "timestamp": at}
            body |= {"received_at": at, "user_id": f"t-{i % 40}", "event": "Order Completed"}
            out.put(EVENTS, f"demo:{sender}", json.dumps(body).encode())
            made.add(f"t-{i}")
    return made


def _applied(bootstrap: str) -> set[str]:
    assert MEMBER_EVENTS in TOPICS
    with broker.admin(bootstrap) as admin:
        where = broker.all_partitions(admin, [MEMBER_EVENTS])
        spans = {tp: (0, end) for tp, end in broker.ends(admin, where).items()}
    found = (json.loads(r.value) for r in broker.records(bootstrap, spans))
    return {v["event_id"] for v in found if v.get("event_id")}
